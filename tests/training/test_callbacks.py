"""``Norms``: what it keeps, and that keeping it changes nothing; what functions have to take. The
other callbacks are tested with ``fit`` in test_network.py."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

import pynn

Data = tuple[np.ndarray, np.ndarray]


def fit(net: pynn.Network, data: Data, **more) -> pynn.History:
    settings = {"epochs": 3, "batch_size": 32, "progress": False}
    return net.fit(*data, **settings | more)


def test_norms_of_every_epoch_and_of_the_start(net: pynn.Network, blobs: Data) -> None:
    norms = pynn.Norms(*blobs)
    seen = []

    def look(net: pynn.Network, record: pynn.Record | None = None) -> None:
        _, flat = net.loss_and_gradient(*blobs)
        # 4 x 8 weights, 8 biases, 8 x 3 weights, 3 biases.
        gradients = flat[:32], flat[40:64]
        lengths = [[float(np.sqrt((a**2).sum())) for a in g] for g in (net.weights, gradients)]
        seen.append((net.updates, *lengths))

    look(net)
    fit(net, blobs, callbacks=[norms, look])
    updates, weights, gradients = zip(*seen, strict=True)
    assert norms.updates == list(updates) == [0, 5, 10, 15]
    assert norms.sizes == (4, 8, 3)
    np.testing.assert_allclose(np.transpose(norms.weights), weights, rtol=1e-6)
    np.testing.assert_allclose(np.transpose(norms.gradients), gradients, rtol=1e-5)


def test_norms_every_so_many_updates(net: pynn.Network, blobs: Data) -> None:
    norms = pynn.Norms(*blobs, steps=4)
    fit(net, blobs, callbacks=norms)
    assert norms.updates == [0, 4, 8, 12]
    assert [len(column) for column in norms.weights + norms.gradients] == [4] * 4


def test_norms_are_plain_numbers(net: pynn.Network, blobs: Data) -> None:
    norms = pynn.Norms(*blobs)
    fit(net, blobs, callbacks=norms)
    kept = [norms.updates, norms.weights, norms.gradients]
    assert json.loads(json.dumps(kept)) == kept


def test_norms_do_not_change_results(blobs: Data) -> None:
    with_norms, without = (
        pynn.Network([4, 8, 3], backend="numpy", dropout=0.2, seed=3) for _ in range(2)
    )
    fit(with_norms, blobs, callbacks=pynn.Norms(*blobs, steps=2))
    fit(without, blobs)
    np.testing.assert_array_equal(with_norms.parameters, without.parameters)


def test_norms_continue_in_the_next_fit(net: pynn.Network, blobs: Data) -> None:
    norms = pynn.Norms(*blobs)
    for _ in range(2):
        fit(net, blobs, epochs=1, callbacks=norms)
    assert norms.updates == [0, 5, 10]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_norms_of_large_weights_do_not_overflow(net: pynn.Network, blobs: Data) -> None:
    net.parameters = np.full(len(net.parameters), 1e30)
    norms = pynn.Norms(*blobs)
    fit(net, blobs, epochs=0, callbacks=norms)
    assert norms.weights[0] == [pytest.approx(1e30 * np.sqrt(32), rel=1e-6)]


def test_norms_refuse_an_estimator(blobs: Data) -> None:
    sklearn = pytest.importorskip("pynn.sklearn", exc_type=ImportError)
    one = sklearn.MLPClassifier(max_iter=1, callbacks=pynn.Norms(*blobs))
    with pytest.raises(TypeError, match=r"callbacks: found Norms for a MLPClassifier, expected a"):
        one.fit(*blobs)


@pytest.mark.parametrize("function", [lambda: None, lambda net: None, lambda a, b, c: None])
def test_callbacks_with_a_wrong_signature_are_refused_before_training(
    net: pynn.Network, blobs: Data, function: Any
) -> None:
    with pytest.raises(TypeError, match=r"callbacks: found .*which takes \(.*\), expected .* two"):
        net.fit(*blobs, epochs=1, callbacks=function)
    assert net.updates == 0


def test_a_wrapper_is_checked_by_its_own_signature(net: pynn.Network, blobs: Data) -> None:
    seen: list[int] = []

    @functools.wraps(seen.append)
    def call(net: pynn.Network, record: pynn.Record) -> None:
        seen.append(net.updates)

    net.fit(*blobs, epochs=2, callbacks=call)
    assert len(seen) == 2


def test_norms_belong_to_one_network(net: pynn.Network, blobs: Data) -> None:
    norms = pynn.Norms(*blobs)
    fit(net, blobs, callbacks=norms)
    for other in [4, 8, 3], [4, 3]:
        fresh = pynn.Network(other, backend="numpy")
        with pytest.raises(ValueError, match=r"Norms of a network 4-8-3 with 15 updates, for one"):
            fit(fresh, blobs, callbacks=norms)
        assert fresh.parameters.flags.writeable
    assert norms.updates == [0, 5, 10, 15]


def test_norms_refuse_networks_that_do_not_match(net: pynn.Network, blobs: Data) -> None:
    with pytest.raises(ValueError, match="steps: found 0"):
        pynn.Norms(*blobs, steps=0)
    with pytest.raises(ValueError, match="x: found"):
        fit(net, blobs, callbacks=pynn.Norms(blobs[0][:, 1:], blobs[1]))
