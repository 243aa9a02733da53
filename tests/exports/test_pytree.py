"""Parameters with the names of Flax."""

from __future__ import annotations

import numpy as np
import pytest

import pynn

X = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def network(**settings) -> pynn.Network:
    net = pynn.Network([5, 7, 6, 3], **{"activation": "tanh", "seed": 1, **settings})
    net.fit(X, Y, epochs=2, batch_size=10, progress=False)
    return net


@pytest.mark.parametrize("norm", [None, "layer", "rms", "batch", ["batch", None]])
def test_parameters_return(norm) -> None:
    net = network(norm=norm)
    tree = net.to_pytree()
    assert tree["params"]["Dense_0"]["kernel"].shape == (5, 7)
    assert tree["params"]["Dense_2"]["bias"].shape == (3,)
    assert ("batch_stats" in tree) == bool(net.architecture.batch_layers)
    for given in (tree, tree["params"]) if "batch_stats" not in tree else (tree,):
        back = pynn.Network.from_pytree(given, activation="tanh", norm=norm)
        assert np.array_equal(back.parameters, net.parameters)
        assert np.array_equal(back.predict_proba(X), net.predict_proba(X))
    tree["params"]["Dense_0"]["kernel"][...] = 0  # a copy
    assert net.weights[0].any()


def test_the_average_and_the_dtype() -> None:
    net = pynn.Network([5, 4, 3], dtype="float64")
    net.fit(X, Y, epochs=2, ema=0.9, progress=False)
    tree = net.to_pytree()
    back = pynn.Network.from_pytree(dict(reversed(tree["params"].items())))
    assert back.dtype == np.float64
    assert np.array_equal(back.predict_proba(X), net.predict_proba(X))
    half = {"Dense_0": {"kernel": np.ones((2, 3), np.float16), "bias": [0, 0, 0]}}
    assert pynn.Network.from_pytree(half, loss="mse").dtype == np.float32


def dense(m: int, n: int) -> dict[str, np.ndarray]:
    return {"kernel": np.ones((m, n)), "bias": np.zeros(n)}


@pytest.mark.parametrize(
    "tree, settings, message",
    [
        ({}, {}, "found no modules, expected Dense_0 too"),
        (
            {"Dense_0": dense(2, 3), "Dense_2": dense(3, 2)},
            {},
            "found Dense_0, Dense_2, expected De",
        ),
        (
            {"Dense_0": dense(2, 3), "Conv_0": dense(3, 2)},
            {},
            "found the module 'Conv_0', expected",
        ),
        ({"net": {"Dense_0": dense(2, 3)}}, {}, "found the module 'net/Dense_0' within another"),
        (
            {"Dense_0": {"kernel": np.ones((2, 3))}},
            {},
            r"found no 'Dense_0/bias', expected .*zeros",
        ),
        (
            {"Dense_0": {"bias": np.ones(3)}},
            {},
            r"found 'Dense_0/kernel' of shape \(0,\), expected tw",
        ),
        (
            {"Dense_0": dense(2, 3), "Dense_1": dense(4, 2)},
            {},
            r"found 'Dense_1/kernel' of shape \(4, 2\), expected \(3, 2\) for layer 1",
        ),
        (
            {"Dense_0": {**dense(2, 3), "scale": np.ones(3)}},
            {},
            "found 'Dense_0/scale', expected only kernel",
        ),
        (
            {"Dense_0": dense(2, 3), "Dense_1": dense(3, 2), "LayerNorm_0": {"scale": np.ones(3)}},
            {},
            r"found LayerNorm_0, expected no norms by norm=; Flax's norms are .*LayerNorm\(1e-6\)",
        ),
        (
            {"Dense_0": dense(2, 3), "Dense_1": dense(3, 2)},
            {"norm": "batch"},
            "found no norms, expected BatchNorm_0 by norm=",
        ),
        ({"params": {"Dense_0": dense(2, 3)}, "cache": {}}, {}, "found the collection 'cache'"),
        (
            {"params": {"Dense_0": dense(2, 3)}, "batch_stats": {"BatchNorm_0": {}}},
            {},
            "found statistics of 'BatchNorm_0', expected those of no norm",
        ),
        (
            {"Dense_0": {**dense(2, 3), "bias": [0, np.nan, 0]}},
            {},
            "found a value in 'Dense_0/bias' that is not finite",
        ),
    ],
)
def test_trees_that_do_not_fit(tree, settings, message: str) -> None:
    with pytest.raises(ValueError, match=f"params: {message}"):
        pynn.Network.from_pytree(tree, **settings)


def test_what_is_no_tree_and_what_has_no_place() -> None:
    with pytest.raises(TypeError, match="params: found a list, expected nested dictionaries"):
        pynn.Network.from_pytree([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="params: found an ndarray as 'Dense_0', expected a dict"):
        pynn.Network.from_pytree({"Dense_0": np.ones((2, 3))})
    for name in ("standardize", "standardize_targets"):
        net = pynn.Network([4, 3, 1], loss="mse", **{name: True})
        with pytest.raises(ValueError, match=f"^{name}: found True, expected False: the variables"):
            net.to_pytree()


def test_flax_predicts_the_same() -> None:
    linen = pytest.importorskip("flax.linen")
    import jax

    class Perceptron(linen.Module):
        @linen.compact
        def __call__(self, x):
            for width in (7, 6):
                x = linen.Dense(width)(x)
                x = linen.BatchNorm(use_running_average=True, epsilon=1e-5)(x)
                x = jax.nn.tanh(x)
            return jax.nn.softmax(linen.Dense(3)(x))

    net = network(norm="batch")
    found = Perceptron().apply(net.to_pytree(), X)
    assert np.abs(np.asarray(found) - net.predict_proba(X)).max() < 1e-6
    variables = Perceptron().init(jax.random.key(0), X)
    back = pynn.Network.from_pytree(variables, activation="tanh", norm="batch")
    expected = np.asarray(Perceptron().apply(variables, X))
    assert np.abs(back.predict_proba(X) - expected).max() < 1e-6
    half = jax.tree.map(lambda a: a.astype("bfloat16"), variables["params"])
    pynn.Network.from_pytree({**variables, "params": half}, norm="batch")


def test_standardised_networks_and_sizes_are_refused() -> None:
    tree = pynn.Network([2, 3]).to_pytree()
    with pytest.raises(ValueError, match="standardize: found True for from_pytree, which has no"):
        pynn.Network.from_pytree(tree, standardize=True)
    with pytest.raises(TypeError, match=r"sizes: found \[2, 3\], expected no sizes"):
        pynn.Network.from_pytree(tree, sizes=[2, 3])
    with pytest.raises(TypeError, match="params: found None, expected nested"):
        pynn.Network.from_pytree(None)  # type: ignore[arg-type]
    net = pynn.Network([2, 1], loss="mse", standardize_targets=True)
    with pytest.raises(ValueError, match="standardize_targets: found True for load_state_dict"):
        net.load_state_dict({"weight": np.ones((1, 2)), "bias": np.ones(1)})
