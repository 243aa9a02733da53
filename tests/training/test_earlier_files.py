"""Pickles, model files and checkpoints written when pynn was one package without subpackages.

``earlier_files`` was written by commit 94f5bfd with Python 3.11, NumPy and pickle protocol 4.
``expected.npz`` holds the results of continuing with the program that wrote them.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.training.profile import Profile

FILES = Path(__file__).parent / "earlier_files"

# Multiples of 1/8: every machine computes the same data, so that their fingerprints agree.
X = ((np.arange(60) * 7) % 16 / 8 - 1).reshape(20, 3)
Y = np.array(["no", "yes"])[(X.sum(axis=1) > 0).astype(int)]

# BLAS libraries differ in the order of their sums.
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def unpickled(name: str) -> Any:
    return pickle.loads((FILES / name).read_bytes())


@pytest.fixture
def expected() -> dict[str, np.ndarray]:
    with np.load(FILES / "expected.npz") as file:
        return dict(file)


def new_network() -> pynn.Network:
    return pynn.Network([3, 4, 2], activation="tanh", dtype="float64", backend="numpy", seed=7)


def fit(net: pynn.Network, **others: Any) -> pynn.History:
    arguments = {"epochs": 2, "batch_size": 4, "optimizer": "adam", "learning_rate": 0.01}
    return net.fit(X, Y, **{**arguments, **others})


def check_continued(net: pynn.Network, expected: dict[str, np.ndarray]) -> None:
    """Check a network that was trained for two epochs, and train it for two more."""
    np.testing.assert_array_equal(net.parameters, expected["before"])
    np.testing.assert_allclose(net.predict_proba(X), expected["probabilities"], **CLOSE)
    assert net.classes is not None
    assert net.classes.tolist() == ["no", "yes"]
    assert (net.epochs, net.updates, net.seed, len(net.history)) == (2, 10, 7, 2)
    fit(net)
    assert (net.epochs, net.updates) == (4, 20)
    np.testing.assert_allclose(net.parameters, expected["after"], **CLOSE)
    np.testing.assert_allclose(np.array(net._model.optimizer_state), expected["state"], **CLOSE)
    np.testing.assert_allclose(net.history.loss, expected["loss"], **CLOSE)


def test_pickled_network_continues_training(expected: dict[str, np.ndarray]) -> None:
    net = unpickled("network.pickle")
    assert net.backend == "numpy"
    assert np.shares_memory(net.weights[0], net.parameters)
    check_continued(net, expected)


def test_pickled_network_can_be_copied_and_pickled_again(expected: dict[str, np.ndarray]) -> None:
    net = unpickled("network.pickle")
    for twin in (copy.deepcopy(net), copy.copy(net), pickle.loads(pickle.dumps(net))):
        assert not np.shares_memory(twin.parameters, net.parameters)
        check_continued(twin, expected)
    assert net.updates == 10


def test_attributes_that_a_user_added_to_a_network_are_kept() -> None:
    old = unpickled("network.pickle")
    state = {"architecture": old.architecture, "seed": 7, "history": old.history, "epochs": 2}
    state |= {"updates": 10, "_flat": old.parameters, "_task": None, "_optimizer": None}
    state |= {"_state": [], "_state_began": 0, "_asked": ("numpy", None), "note": "kept"}
    net = pynn.Network.__new__(pynn.Network)
    net.__setstate__(state)
    assert net.note == "kept"
    assert pickle.loads(pickle.dumps(net)).note == "kept"


def test_model_file_continues_training(expected: dict[str, np.ndarray]) -> None:
    check_continued(pynn.load(FILES / "model.safetensors", backend="numpy"), expected)


def test_continuing_gives_identical_results_from_every_file() -> None:
    pickled = unpickled("network.pickle")
    loaded = pynn.load(FILES / "model.safetensors", backend="numpy")
    for net in (pickled, loaded):
        fit(net)
    np.testing.assert_array_equal(pickled.parameters, loaded.parameters)
    assert pickled.history.loss == loaded.history.loss


# The versions of NumPy and pynn are compared with those that wrote the checkpoint.
@pytest.mark.filterwarnings("ignore:fit. the run in:RuntimeWarning")
def test_checkpoint_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes((FILES / "run.checkpoint").read_bytes())
    assert pynn.load(path, backend="numpy").updates == 7
    resumed, unbroken = new_network(), new_network()
    calls = [pynn.EarlyStopping("loss", patience=3)]
    checkpoint = pynn.Checkpoint(path, steps=7)
    history = fit(resumed, epochs=4, callbacks=calls, checkpoint=checkpoint, resume=True)
    fit(unbroken, epochs=4, callbacks=[pynn.EarlyStopping("loss", patience=3)])
    assert (resumed.epochs, resumed.updates, len(history)) == (4, 20, 4)
    np.testing.assert_allclose(resumed.parameters, unbroken.parameters, **CLOSE)
    np.testing.assert_allclose(history.loss, unbroken.history.loss, **CLOSE)


def test_pickled_history(expected: dict[str, np.ndarray]) -> None:
    history = unpickled("history.pickle")
    assert isinstance(history, pynn.History)
    assert isinstance(history[0], pynn.Record)
    assert history.loss == expected["loss"][:2].tolist()
    assert history.epoch == [1, 2]


def test_pickled_early_stopping_continues() -> None:
    early = unpickled("early_stopping.pickle")
    assert isinstance(early, pynn.EarlyStopping)
    assert early.best_epoch == 2
    fit(new_network(), callbacks=early)
    assert early.best_epoch == 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pickled_classifier_continues_training(expected: dict[str, np.ndarray]) -> None:
    pytest.importorskip("sklearn")
    classifier = unpickled("classifier.pickle")
    probabilities = expected["classifier"]
    np.testing.assert_allclose(classifier.predict_proba(X), probabilities, rtol=1e-9)
    classifier.partial_fit(X, Y)
    probabilities = expected["classifier_after"]
    np.testing.assert_allclose(classifier.predict_proba(X), probabilities, rtol=1e-9)


def test_pickled_profile_of_a_network_is_read() -> None:
    profile = Profile.__new__(Profile)
    profile.__setstate__({"_net": new_network(), "_runs": []})
    assert profile.steps == 0
    assert profile.seconds.shape == (2, 0)
