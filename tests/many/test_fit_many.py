"""``pynn.fit_many``: every network is as after its own ``fit``."""

from __future__ import annotations

import builtins
import copy
import threading
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose, gaps
from pynn.many.errors import OlderGroup
from pynn.many.settings import take

BACKENDS = [name for name, reason in choose.available().items() if not reason]
TIMES = {"seconds", "samples_per_second"}


def data(rows: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def networks(count: int = 4, **settings: Any) -> list[pynn.Network]:
    return [
        pynn.Network([5, 8 + 4 * (k % 2), 2], dropout=0.1, **{"seed": k, **settings})
        for k in range(count)
    ]


def assert_equal(found: list[pynn.Network], expected: list[pynn.Network]) -> None:
    for one, other in zip(found, expected, strict=True):
        vectors = zip(one._model.vectors, other._model.vectors, strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in vectors)
        columns, others = one.history.to_dict(), other.history.to_dict()
        assert {k: v for k, v in columns.items() if k not in TIMES} == {
            k: v for k, v in others.items() if k not in TIMES
        }
        assert (one.updates, one.pixels, one.columns) == (
            other.updates,
            other.pixels,
            other.columns,
        )
        assert np.array_equal(one.classes, other.classes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_those_of_separate_calls(backend):
    x, y = data()
    rates = [0.01, 0.003, 0.03, 0.01]
    settings = {"epochs": 3, "batch_size": 16, "validation": 0.2, "metrics": ["f1"]}
    found, expected = networks(backend=backend), networks(backend=backend)
    histories = pynn.fit_many(found, x, y, learning_rate=rates, threads=3, **settings)
    again = pynn.fit_many(found, x, y, l2=pynn.Each([0, 1e-3, 0, 0]), threads=1, **settings)
    for k, net in enumerate(expected):
        net.fit(x, y, learning_rate=rates[k], **settings)
        net.fit(x, y, l2=1e-3 * (k == 1), **settings)
    assert_equal(found, expected)
    assert [h.loss + a.loss for h, a in zip(histories, again)] == [n.history.loss for n in expected]


@pytest.mark.parametrize("backend", [name for name in BACKENDS if not gaps.lacks(name, "norm")])
def test_norms_and_their_running_statistics(backend):
    """Scales and shifts, running statistics, and the averages of both."""
    given = {"backend": backend, "norm": ["layer", "batch"], "residual": True}
    found, expected = (
        [pynn.Network([5, 8, 8, 2], seed=k, **given) for k in range(3)] for _ in "ab"
    )
    settings = {"epochs": 3, "batch_size": 16, "ema": 0.9, "validation": data(30)}
    pynn.fit_many(found, *data(), threads=2, **settings)
    for net in expected:
        net.fit(*data(), **settings)
    assert_equal(found, expected)
    with pytest.raises(pynn.FitManyError, match=r"networks\[1\]: .* batch_size: found 17,"):
        pynn.fit_many(found, *data(), batch_size=[16, 17, 16])
    assert [net.epochs for net in found] == [13, 3, 13]


def test_networks_of_several_formats_share_their_data():
    """Each dtype, number of outputs and order of classes has a conversion of its own."""
    # Integers that float32 cannot hold exactly; floats would be converted while they are read.
    x = np.random.default_rng(0).integers(-(2**27), 2**27, (120, 5))
    y = np.where(x[:, 0] > 0, "yes", "no")

    def make() -> list[pynn.Network]:
        found = [
            pynn.Network([5, 8, 2], seed=1),
            pynn.Network([5, 8, 2], seed=1, dtype="float64"),
            pynn.Network([5, 8, 1], seed=1, loss="binary_cross_entropy"),
            pynn.Network([5, 8, 2], seed=1),
            pynn.Network([5, 8, 2], seed=1, pixels=False, standardize=True),
        ]
        found[3].classes = ["yes", "no"]
        return found

    found, expected = make(), make()
    settings = {"epochs": 2, "validation": (x[:50], y[:50]), "sample_weight": np.arange(120)}
    pynn.fit_many(found, x, y, threads=1, **settings)
    for net in expected:
        net.fit(x, y, **settings)
    assert_equal(found, expected)


def test_rates_of_layers_are_one_value_for_all_and_each_has_several():
    found, expected = networks(2), networks(2)
    pynn.fit_many(found, *data(), epochs=2, layer_rates=[1, 0.5])
    pynn.fit_many(found, *data(), epochs=2, layer_rates=pynn.Each([[1, 0], [0.5, 1]]))
    for net, rates in zip(expected, ([1, 0], [0.5, 1])):
        net.fit(*data(), epochs=2, layer_rates=[1, 0.5])
        net.fit(*data(), epochs=2, layer_rates=rates)
    assert_equal(found, expected)


def test_a_list_of_data_sets():
    sets = [data(60 + 20 * k, seed=k) for k in range(3)]
    found, expected = networks(3), networks(3)
    x, y = [x for x, _ in sets], [y for _, y in sets]
    pynn.fit_many(found, x, y, epochs=[1, 2, 3], validation=[None, 0.1, data(30)])
    for net, epochs, held, one in zip(expected, (1, 2, 3), (None, 0.1, data(30)), sets):
        net.fit(*one, epochs=epochs, validation=held)
    assert_equal(found, expected)


def test_one_network_for_each_group():
    x, y = data(90)
    groups = np.array(["b", "a", "c"])[np.arange(90) % 3]
    weight = np.linspace(1, 2, 90)
    ordered, named, expected = networks(3), networks(3), networks(3)
    pynn.fit_many(ordered, x, y, groups=groups, sample_weight=weight, epochs=2)
    by_name = dict(zip("abc", named))
    pynn.fit_many({key: by_name[key] for key in "cab"}, x, y, groups=groups, epochs=2)
    for net, name in zip(expected, "abc"):
        rows = groups == name
        net.fit(x[rows], y[rows], sample_weight=weight[rows], epochs=2)
    assert_equal(ordered, expected)
    for net, name in zip(expected, "abc"):
        alone = pynn.Network(net.sizes, dropout=0.1, seed=net.seed)
        alone.fit(x[groups == name], y[groups == name], epochs=2)
        assert_equal([by_name[name]], [alone])


def test_rows_of_folds_and_of_bootstrap_samples():
    x, y = data()
    folds = [np.arange(120) % 4 != k for k in range(3)]
    rows = [*folds, np.random.default_rng(1).integers(0, 120, 120)]
    found, expected = networks(), networks()
    pynn.fit_many(found, x, y.tolist() and y, rows=rows, epochs=2)
    for net, chosen in zip(expected, rows):
        net.fit(x[chosen], y[chosen], epochs=2)
    assert_equal(found, expected)
    # The same rows of data that each network has for itself.
    others = networks()
    pynn.fit_many(others, [x] * 4, y, rows=rows, epochs=2)
    assert_equal(others, expected)
    with pytest.raises(pynn.FitManyError, match=r"networks\[0\]: ValueError: x: found no rows"):
        pynn.fit_many(networks(1), x, y, rows=[[]])
    assert np.shares_memory(take(x, np.arange(5, 20)), x)
    assert take([1, 2, 3], [2, 0]).tolist() == [3, 1]


def test_data_frames_are_converted_once_and_give_the_names_of_columns(monkeypatch):
    pandas = pytest.importorskip("pandas")
    x, y = data()
    frame = pandas.DataFrame(x.astype(np.float16), columns=list("abcde"))
    conversions = []
    plain = pandas.DataFrame.to_numpy
    monkeypatch.setattr(
        pandas.DataFrame,
        "to_numpy",
        lambda self, *given, **named: conversions.append(1) or plain(self, *given, **named),
    )
    found, expected = networks(), networks()
    pynn.fit_many(found, frame, y, epochs=2, validation=(frame, y))
    assert len(conversions) == 2
    monkeypatch.undo()
    for net in expected:
        net.fit(frame, y, epochs=2, validation=(frame, y))
    assert_equal(found, expected)
    assert found[0].columns == tuple("abcde")
    found[0].classes[0] = 7
    assert found[1].classes[0] == 0


def test_networks_that_fail_do_not_stop_the_others():
    x, y = data()
    found, expected = networks(5), networks(5)

    def fail(net: pynn.Network, record: pynn.Record) -> None:
        if net.seed == 1 and record.epoch == 2:
            raise OSError("disk")

    settings: dict[str, Any] = {"epochs": 3, "optimizer": "sgd", "callbacks": fail}
    rates = [0.1, 0.1, 1e30, 0.1, -1]
    with pytest.raises(pynn.FitManyError) as caught:
        pynn.fit_many(found, x, y, learning_rate=rates, **settings)
    error = caught.value
    assert [type(one) for one in error.exceptions] == [OSError, pynn.DivergenceError, ValueError]
    assert list(error.failures) == [1, 2, 4]
    assert [history is None for history in error.histories] == [k in (1, 2, 4) for k in range(5)]
    assert str(error).startswith("fit_many: 3 of 5 networks failed; the others are trained\n")
    assert "networks[1]: OSError: disk" in str(error)
    for k, net in enumerate(expected):
        if k in error.failures:
            with pytest.raises(type(error.failures[k])) as alone:
                net.fit(x, y, learning_rate=rates[k], **settings)
            assert str(alone.value) == str(error.failures[k])
        else:
            net.fit(x, y, learning_rate=rates[k], **settings)
    assert_equal(found, expected)
    pynn.fit_many([found[k] for k in (0, 1, 3, 4)], x, y, epochs=1)
    # Python 3.10 has no groups.
    older = OlderGroup("text", [OSError("disk")])
    assert (older.message, len(older.exceptions)) == ("text", 1)
    if hasattr(builtins, "ExceptionGroup"):
        matching, rest = error.split(OSError)
        assert len(matching.exceptions) == 1
        assert len(rest.exceptions) == 2


def test_callbacks_of_all_networks_are_copied_and_those_of_each_are_used():
    x, y = data()
    stop = pynn.EarlyStopping(patience=1, min_delta=1.0)
    found, expected = networks(), networks()
    histories = pynn.fit_many(found, x, y, epochs=9, validation=0.2, callbacks=[stop])
    assert [len(h) for h in histories] == [2] * 4
    assert stop.best_epoch is None
    stops = [pynn.EarlyStopping(patience=k + 1, min_delta=1.0) for k in range(4)]
    again = pynn.fit_many(found, x, y, epochs=9, validation=0.2, callbacks=pynn.Each(stops))
    assert [len(h) for h in again] == [2, 3, 4, 5]
    assert [one.stopped_epoch for one in stops] == [4, 5, 6, 7]
    for k, net in enumerate(expected):
        for one in (stop, stops[k]):
            net.fit(x, y, epochs=9, validation=0.2, callbacks=copy.deepcopy(one))
    assert_equal(found, expected)


def test_a_system_exit_of_a_callback_ends_all():
    def leave(net: pynn.Network, record: pynn.Record) -> None:
        if net.seed == 0 and record.epoch == 3:
            raise SystemExit(3)

    found = networks(3)
    with pytest.raises(SystemExit):
        pynn.fit_many(found, *data(), epochs=10**6, callbacks=leave, threads=2)
    assert found[0].epochs == 3
    assert all(net.epochs == len(net.history) for net in found)
    assert found[2].epochs == 0
    pynn.fit_many(found, *data(), epochs=1)


def test_progress():
    seen: list[Any] = []
    wait = threading.Event()
    found = networks(3)

    def report(progress: Any) -> None:
        seen.append(progress)
        wait.set()

    def hold(net: pynn.Network, record: pynn.Record) -> None:
        wait.wait()

    pynn.fit_many(found, *data(), epochs=4, progress=report, callbacks=hold, threads=1)
    assert seen[0].networks == 3
    assert seen[0].share < 1
    assert seen[-1].finished == 3
    assert "3/3 networks" in str(seen[-1])


def test_lines_and_bars_show_all_networks(capsys):
    pynn.fit_many(networks(3), *data(), epochs=1, progress=True)
    assert "3/3 networks" in capsys.readouterr().err


WRONG = {
    "a network twice": lambda a, x, y: pynn.fit_many([a, a], x, y),
    "no network": lambda a, x, y: pynn.fit_many([a, "b"], x, y),
    "a network alone": lambda a, x, y: pynn.fit_many(a, x, y),
    "a dict without groups": lambda a, x, y: pynn.fit_many({0: a}, x, y),
    "a misspelt setting": lambda a, x, y: pynn.fit_many([a], x, y, epoch=2),
    "a short list": lambda a, x, y: pynn.fit_many([a], x, y, epochs=[1, 2]),
    "labels as a list": lambda a, x, y: pynn.fit_many([a], x, y.tolist()),
    "another number of groups": lambda a, x, y: pynn.fit_many([a], x, y, groups=y),
    "a group without a network": lambda a, x, y: pynn.fit_many({0: a}, x, y, groups=y),
    "rows and groups": lambda a, x, y: pynn.fit_many([a], x, y, groups=y * 0, rows=[y]),
    "rows of floats": lambda a, x, y: pynn.fit_many([a], x, y, rows=[[0.5]]),
    "a mask of other rows": lambda a, x, y: pynn.fit_many([a], x, y, rows=[y[:7] > 0]),
    "rows that do not exist": lambda a, x, y: pynn.fit_many([a], x, y, rows=[[118, 119, 120]]),
    "rows from the other end": lambda a, x, y: pynn.fit_many([a], x, y, rows=[[-121]]),
    "few groups": lambda a, x, y: pynn.fit_many([a], x, y, groups=y[:7] * 0),
    "missing groups": lambda a, x, y: pynn.fit_many([a], x, y, groups=[None, *"ab" * 59, "a"]),
    "groups of NaN": lambda a, x, y: pynn.fit_many([a], x, y, groups=y * np.nan),
    "one value in Each": lambda a, x, y: pynn.fit_many([a], x, y, epochs=pynn.Each(3)),
    "rows of one": lambda a, x, y: pynn.fit_many([a], x, y, rows=[[0], [1]]),
    "threads": lambda a, x, y: pynn.fit_many([a], x, y, threads=0),
    "progress": lambda a, x, y: pynn.fit_many([a], x, y, progress="yes"),
}
FOUND = {
    "a network twice": "networks[1]: found the same network as networks[0]",
    "no network": "networks[1]: found str",
    "a network alone": "networks: found Network, expected a list",
    "a dict without groups": "networks: found a dict without groups",
    "a misspelt setting": "did you mean 'epochs'",
    "a short list": "epochs: found a list of 2, expected 1",
    "labels as a list": "y: found a list of 120, expected 1, one value for each network, or numpy",
    "another number of groups": "groups: found 2 different groups, expected 1",
    "a group without a network": "groups: found 1 without a network",
    "rows and groups": "rows: found rows and groups",
    "rows of floats": "rows[0]: found float64",
    "a mask of other rows": "rows[0]: found a mask of 7, expected 120, as many as x has rows",
    "rows that do not exist": "rows[0]: found 120, expected indices of the 120 rows of x",
    "rows from the other end": "rows[0]: found -121, expected indices of the 120 rows",
    "few groups": "groups: found 7, expected 120, as many as x has rows",
    "missing groups": "groups: found None at row 0",
    "groups of NaN": "groups: found nan at row 0",
    "one value in Each": "values: found 3, expected a list with one value for each network",
    "rows of one": "rows: found 2, expected a list of 1",
    "threads": "threads: found 0",
    "progress": "progress: found 'yes'",
}


def test_wrong_arguments_are_refused_before_training():
    (net,) = networks(1)
    before = net.parameters.copy()
    for case, call in WRONG.items():
        with pytest.raises((TypeError, ValueError, IndexError)) as caught:
            call(net, *data())
        assert FOUND[case] in str(caught.value), case
    assert np.array_equal(net.parameters, before)
    assert net.epochs == 0


def test_files_and_states_of_several_networks_are_refused(tmp_path):
    x, y = data()
    one = pynn.Checkpoint(tmp_path / "a", epochs=1)
    best = pynn.SaveBest(tmp_path / "b", "loss")
    stop = pynn.EarlyStopping("loss")
    for text, settings in {
        "checkpoint: found one for 2": {"checkpoint": one},
        "twice": {"checkpoint": [one, pynn.Checkpoint(tmp_path / "a", epochs=1)]},
        "callbacks: found one SaveBest": {"callbacks": best},
        "the same EarlyStopping": {"callbacks": pynn.Each([stop, [stop]])},
    }.items():
        with pytest.raises(ValueError, match=text):
            pynn.fit_many(networks(2), x, y, **settings)
    checkpoints = [pynn.Checkpoint(tmp_path / name, epochs=1) for name in ("c", "d")]
    found = networks(2)
    pynn.fit_many(found, x, y, epochs=2, checkpoint=checkpoints)
    assert_equal([pynn.load(tmp_path / "c"), pynn.load(tmp_path / "d")], found)


def test_no_networks():
    assert pynn.fit_many([], *data()) == []
