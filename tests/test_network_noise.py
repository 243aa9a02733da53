"""``Network(input_dropout=, input_noise=, hidden_noise=)``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from tests.training.runs import BACKENDS, Data, assert_same, broken_off, fit, make

OPTIONS: dict[str, Any] = {"input_dropout": 0.2, "input_noise": 0.1, "hidden_noise": 0.2}


def options_of(backend: str) -> dict[str, Any]:
    return {"input_dropout": 0.2} if backend == "numba" else OPTIONS


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resumed_run_ends_identically(tmp_path: Path, blobs: Data, backend: str) -> None:
    network = {"backend": backend, "standardize": True, **options_of(backend)}
    whole, resumed = make(**network), make(**network, threads=3)
    fit(whole, blobs, validation=0.1)
    broken_off(tmp_path / "a", blobs, 6, network=network | {"threads": 1}, validation=0.1)
    kept = pynn.Checkpoint(tmp_path / "a", steps=1)
    fit(resumed, blobs, validation=0.1, checkpoint=kept, resume=True)
    assert_same(resumed, whole)
    with pytest.raises(ValueError, match="input_dropout: found 0.3, but the run"):
        other = make(**network | {"input_dropout": 0.3})
        fit(other, blobs, validation=0.1, checkpoint=kept, resume=True)


def test_a_saved_network_has_its_noise(tmp_path: Path, blobs: Data) -> None:
    for noise in (0.2, [0.0], [0.3]):
        net = make(backend="auto", **OPTIONS | {"hidden_noise": noise})
        net.save(tmp_path / "model")
        again = pynn.load(tmp_path / "model")
        assert again.architecture == net.architecture
        for each in (net, again):
            fit(each, blobs)
        assert_same(again, net)
        assert net.activations(blobs[0], 0).shape == (150, 8)


def test_noise_acts_in_training_only(blobs: Data) -> None:
    plain, noisy = (make(dropout=0, **options) for options in ({}, OPTIONS))
    x, y = blobs
    np.testing.assert_array_equal(noisy.predict_proba(x), plain.predict_proba(x))
    assert noisy.evaluate(x, y) == plain.evaluate(x, y)
    history = fit(noisy, blobs, validation=blobs)
    assert history.validation_loss[-1] == noisy.evaluate(x, y)["loss"]
    assert history.loss != fit(plain, blobs, validation=blobs).loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dropout": 1.0}, r"input_dropout: found 1.0, expected a number in \[0, 1\)"),
        ({"input_dropout": [0.1]}, r"input_dropout: found \[0.1\]"),
        ({"input_noise": -1}, "input_noise: found -1, expected a finite number of 0 or more"),
        ({"hidden_noise": [0.1, 0.2]}, "hidden_noise: found 2 values, expected one or 1"),
        ({"hidden_noise": [-0.1]}, r"hidden_noise\[0\]: found -0.1"),
        ({"hidden_noise": "much"}, "hidden_noise: found 'much'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_noise_of_sparse_rows_is_refused(blobs: Data) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x, y = blobs
    with pytest.raises(ValueError, match="x: found sparse rows for a network with input_noise"):
        fit(make(input_noise=0.1), (sparse.csr_matrix(x), y))
    fit(make(input_dropout=0.1, hidden_noise=0.1), (sparse.csr_matrix(x), y))


def test_custom_functions_with_noise_use_numpy(blobs: Data) -> None:
    """Numba has no noise, and the compiled core has no custom functions."""
    square = pynn.Activation("square", lambda z: z * z, lambda z: 2 * z)
    choose._warn_without_numba.cache_clear()
    with pytest.warns(UserWarning, match="pynn uses the backend 'numpy' for custom functions"):
        net = make(backend="auto", activation=square, hidden_noise=0.1)
    assert net.backend == "numpy"
    fit(net, blobs, epochs=1)


def test_lbfgs_needs_the_exact_loss(blobs: Data) -> None:
    pytest.importorskip("scipy")
    for options, name in ((OPTIONS, "noise"), ({"input_dropout": 0.1}, "dropout")):
        with pytest.raises(ValueError, match=f"found 'lbfgs' with .*{name}"):
            fit(make(dropout=0, **options), blobs, optimizer="lbfgs")
