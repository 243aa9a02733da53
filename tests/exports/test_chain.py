"""Parts of other frameworks become layers of networks, or the part that does not fit is named."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pynn
from pynn.exports import chain
from pynn.exports.chain import Activate, Dense, Drop, Flatten, Noise, Normalize, Part, Place, Scale
from pynn.spec.norms import BatchNorm, LayerNorm, RMSNorm

RNG = np.random.default_rng(0)


def parts(*texts: str) -> list[Part]:
    """Return parts from texts such as "dense 4 3", "relu", "drop" and "layer 3"."""
    found: list[Part] = []
    for position, text in enumerate(texts):
        kind, *numbers = text.split()
        place = Place(position, f"l{position}", kind)
        widths = [int(n) for n in numbers]
        if kind == "dense":
            found.append(Dense(place, RNG.normal(size=widths), RNG.normal(size=widths[1])))
        elif kind == "unbiased":
            found.append(Dense(place, RNG.normal(size=widths), None))
        elif kind in ("layer", "rms", "batch"):
            norm = {"layer": LayerNorm(), "rms": RMSNorm(), "batch": BatchNorm()}[kind]
            names = ("scale", "shift", "mean", "variance")[: 4 if kind == "batch" else norm.vectors]
            arrays = {name: RNG.uniform(1, 2, widths[0]) for name in names}
            found.append(Normalize(place, norm, widths[0], **arrays))
        elif kind == "drop":
            found.append(Drop(place, 0.5))
        elif kind == "noise":
            found.append(Noise(place, 0.1))
        elif kind == "scale":
            found.append(Scale(place, np.array(1.0), np.array(2.0)))
        elif kind == "flatten":
            found.append(Flatten(place))
        else:
            found.append(Activate(place, kind))
    return found


def network(*texts: str, loss: str | None = None) -> pynn.Network:
    return chain.network(pynn.Network, chain.assemble(parts(*texts)), loss, backend="numpy")


def test_all_parts_in_their_order() -> None:
    net = network(
        *("flatten", "scale", "scale", "noise", "drop", "dense 4 5", "batch 5", "relu", "noise"),
        *("drop", "unbiased 5 5", "rms 5", "flatten", "dense 5 3", "log_softmax"),
    )
    a = net.architecture
    assert (a.sizes, a.activations) == ((4, 5, 5, 3), ("relu", "identity", "softmax"))
    assert (a.norms, a.norm_after) == ((BatchNorm(), RMSNorm(), None), False)
    assert (a.dropout, a.hidden_noise) == ((0.5, 0.0), (0.1, 0.0))
    assert (a.input_dropout, a.input_noise, a.dtype) == (0.5, 0.1, "float64")
    assert a.loss == "cross_entropy"
    assert net.pixels is False
    # ((x − 1) / 2 − 1) / 2
    np.testing.assert_array_equal(net.input_mean, np.full(4, 3.0))
    np.testing.assert_array_equal(net.input_scale, np.full(4, 4.0))


def test_the_values_of_parts_reach_their_places() -> None:
    read = parts("dense 4 5", "tanh", "batch 5", "unbiased 5 2")
    found = chain.assemble(read)
    assert found.settings()["norm_after"]
    net = chain.network(pynn.Network, found, None, backend="numpy")
    first, _, norm, last = read
    np.testing.assert_array_equal(net.weights[0], first.weights)
    np.testing.assert_array_equal(net.biases[0], first.biases)
    np.testing.assert_array_equal(net.scales[0], norm.scale)
    np.testing.assert_array_equal(net.shifts[0], norm.shift)
    np.testing.assert_array_equal(net.running_means[0], norm.mean)
    np.testing.assert_array_equal(net.running_variances[0], norm.variance)
    np.testing.assert_array_equal(net.weights[1], last.weights)
    np.testing.assert_array_equal(net.biases[1], np.zeros(2))
    slots = found.slots(net.architecture, net._model.flat)
    assert [s.name for s in slots if s.array is None] == ["biases"]
    assert [(s.layer, s.place.position) for s in slots][::3] == [(0, 0), (0, 2), (1, 3)]


@pytest.mark.parametrize(
    "last, loss, output, chosen",
    [
        ("softmax", None, "softmax", "cross_entropy"),
        ("sigmoid", None, "sigmoid", "binary_cross_entropy"),
        ("tanh", None, "tanh", "mse"),
        ("flatten", None, "identity", "mse"),
        ("flatten", "cross_entropy", "softmax", "cross_entropy"),
        ("sigmoid", "mse", "sigmoid", "mse"),
    ],
)
def test_the_loss_completes_the_outputs(
    last: str, loss: str | None, output: str, chosen: str
) -> None:
    a = network("dense 4 3", last, loss=loss).architecture
    assert (a.activations[-1], a.loss) == (output, chosen)


def test_dropouts_combine_and_may_precede_relu() -> None:
    a = network("dense 4 4", "drop", "relu", "drop", "dense 4 2").architecture
    assert a.dropout == (0.75,)


@pytest.mark.parametrize(
    "texts, position, found",
    [
        (("relu", "dense 4 2"), 0, "before the first nn.Linear"),
        (("layer 4", "dense 4 2"), 0, "before the first nn.Linear"),
        (("drop", "noise", "dense 4 2"), 1, "after drop 'l0'"),
        (("dense 4 3", "dense 4 2"), 1, "with 4 inputs"),
        (("dense 4 3", "layer 4", "dense 3 2"), 1, "for 4 units"),
        (("dense 4 3", "relu", "tanh", "dense 3 2"), 2, "after relu 'l1'"),
        (("dense 4 3", "layer 3", "relu", "rms 3", "dense 3 2"), 3, "after layer 'l1'"),
        (("dense 4 3", "drop", "tanh", "dense 3 2"), 1, "before tanh 'l2'"),
        (("dense 4 3", "noise", "relu", "dense 3 2"), 1, "before an activation"),
        (("dense 4 3", "drop", "noise", "dense 3 2"), 2, "after drop 'l1'"),
        (("dense 4 3", "relu", "drop", "batch 3", "dense 3 2"), 3, "after drop 'l2'"),
        (("dense 4 3", "softmax", "dense 3 2"), 1, "in a hidden layer"),
        (("dense 4 3", "layer 3"), 1, "after the last dense layer"),
        (("dense 4 3", "drop"), 1, "after the last dense layer"),
        (("dense 4 3", "scale", "dense 3 2"), 1, "after a dense layer"),
        (
            ("dense 4 3", "rms 3", "relu", "dense 3 3", "relu", "rms 3", "dense 3 2"),
            *(5, "after the activation"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_part_that_does_not_fit_is_named(
    texts: tuple[str, ...], position: int, found: str
) -> None:
    message = f"module: found {texts[position].split()[0]} 'l{position}' at position {position} "
    with pytest.raises(ValueError, match=re.escape(message) + ".*" + re.escape(found) + ".*expec"):
        chain.assemble(parts(*texts))


def test_chains_without_dense_layers_and_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="module: found no nn.Linear, expected one at least"):
        chain.assemble(parts("flatten"))
    read = parts("dense 4 3", "batch 3", "dense 3 2")
    read[1].variance[1] = -1
    with pytest.raises(ValueError, match="batch 'l1' .* negative running variance, expected 0"):
        chain.network(pynn.Network, chain.assemble(read), None)
    read[0].weights[1, 1] = np.inf
    with pytest.raises(ValueError, match="dense 'l0' .* weights that are NaN or infinite"):
        chain.network(pynn.Network, chain.assemble(read), None)


def test_the_table_of_layers() -> None:
    assert chain.table({"`A`": "with a bias"}, {"`B`": "no"}).splitlines()[2:] == [
        "| `A` | yes | with a bias |",
        "| `B` | no | no |",
    ]
