"""Parameters of activations in model files, pickles and checkpoints."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.files.tensors import load_tensors

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.abs(X[:, :2])


def make(slope: float = 0.2, **settings: Any) -> pynn.Network:
    hidden = [pynn.LeakyReLU(slope), pynn.ELU(0.5), "silu"]
    settings = {"output": pynn.Softplus(2), "loss": "mse", "dropout": 0.1, "seed": 3} | settings
    return pynn.Network([3, 5, 4, 4, 2], activation=hidden, **settings)


def fit(net: pynn.Network, epochs: int = 2, **more: Any) -> None:
    net.fit(X, Y, epochs=epochs, batch_size=8, progress=False, **more)


def test_they_are_part_of_files_and_pickles(tmp_path: Path) -> None:
    net, path = make(), tmp_path / "net.safetensors"
    fit(net)
    net.save(path)
    saved = load_tensors(path)[1]["architecture"]["activations"]
    assert saved == [
        {"name": "leaky_relu", "slope": 0.2},
        {"name": "elu", "alpha": 0.5},
        "silu",
        {"name": "softplus", "beta": 2.0},
    ]
    for other in (pynn.load(path), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert other.architecture == net.architecture
        assert repr(other) == repr(net)
        fit(other)
        again = pickle.loads(pickle.dumps(net))
        fit(again)
        assert (other.parameters == again.parameters).all()
        assert (other.predict(X) == again.predict(X)).all()


def test_files_of_names_stay_as_they_were(tmp_path: Path) -> None:
    by_object = pynn.Network([3, 4, 2], activation=pynn.LeakyReLU(), seed=3)
    by_name = pynn.Network([3, 4, 2], activation="leaky_relu", seed=3)
    for net, name in ((by_object, "a"), (by_name, "b")):
        net.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    architecture = load_tensors(tmp_path / "a")[1]["architecture"]
    assert architecture["activations"] == ["leaky_relu", "softmax"]
    assert "activation_parameters" not in architecture
    # A pickle of an earlier version lacks the attribute.
    old = copy.copy(by_name.architecture)
    del old.__dict__["activation_parameters"]
    old = pickle.loads(pickle.dumps(old))
    assert old == by_name.architecture
    assert old.activation_parameter(0) == 0.01


@pytest.mark.parametrize(
    "saved", [{"name": "relu", "slope": 1.0}, {"name": "elu", "slope": 1.0}, {"slope": 1.0}, {}]
)
def test_damaged_descriptions_are_refused(tmp_path: Path, saved: Any) -> None:
    from pynn.files.tensors import save_tensors

    path = tmp_path / "net.safetensors"
    make().save(path)
    tensors, document = load_tensors(path)
    document["architecture"]["activations"][0] = saved
    save_tensors(path, tensors, document)
    with pytest.raises(ValueError, match="not a model that pynn can use"):
        pynn.load(path)


def test_they_are_part_of_checkpoints(tmp_path: Path) -> None:
    whole = make()
    fit(whole, 3)

    def stop(net: Any, record: Any) -> None:
        if net.updates == 7:
            raise KeyError("stop")

    def checkpoint() -> pynn.Checkpoint:
        return pynn.Checkpoint(tmp_path / "c", steps=2)

    with pytest.raises(KeyError):
        fit(make(), 3, checkpoint=checkpoint(), callbacks=[pynn.Every(1, stop)])
    other = r"activation: found \[\{.*0\.3.*, but the run in .* has \[\{.*0\.2.*expected the same"
    with pytest.raises(ValueError, match=other):
        fit(make(0.3), 3, checkpoint=checkpoint(), resume=True)
    resumed = make()
    fit(resumed, 3, checkpoint=checkpoint(), resume=True)
    assert (resumed.parameters == whole.parameters).all()
