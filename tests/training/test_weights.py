"""Sample weights, class weights and missing targets in ``Network.fit`` and ``evaluate``."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.training.split import held_out
from tests.training.runs import BACKENDS, assert_same, broken_off, figures, fit, make

N, N_IN = 60, 5
rng = np.random.default_rng(1)
X = rng.normal(size=(N, N_IN))
LABELS = np.append(rng.integers(0, 3, N - 3), [0, 1, 2])
VALUES = rng.normal(size=(N, 4))
TIMES = rng.integers(0, 4, N)
"""How often each row is repeated."""
REPEATED = np.repeat(np.arange(N), TIMES)
KNOWN = rng.random((N, 4)) < 0.7
KNOWN[7] = False
MISSING = np.where(KNOWN, VALUES, np.nan)

PROBLEMS: dict[str, tuple[int, dict[str, Any], np.ndarray]] = {
    "labels": (3, {}, LABELS),
    "soft": (3, {}, abs(VALUES[:, :3]) / abs(VALUES[:, :3]).sum(axis=1, keepdims=True)),
    "yes-no": (1, {"loss": "binary_cross_entropy"}, LABELS > 0),
    "multilabel": (4, {"loss": "binary_cross_entropy"}, (VALUES > 0).astype(float)),
    "values": (4, {"loss": "mse", "output": "tanh"}, VALUES),
    "counts": (4, {"loss": "poisson"}, np.floor(abs(VALUES) * 3)),
}


def network(n_out: int, backend: str, **more: Any) -> pynn.Network:
    settings = {"activation": "tanh", "dtype": "float64", "seed": 3} | more
    return pynn.Network([N_IN, 7, n_out], backend=backend, **settings)


def full_batch(net: pynn.Network, x: Any, y: Any, **more: Any) -> pynn.Network:
    """Train with the gradients of whole data sets, whose order does not matter."""
    settings = {"batch_size": "full", "optimizer": "sgd", "learning_rate": 0.1, "l2": 0.01}
    net.fit(x, y, epochs=6, progress=False, **settings | more)
    return net


def assert_close(found: pynn.Network, expected: pynn.Network, tolerance: float = 1e-12) -> None:
    """Assert that parameters and history agree."""
    np.testing.assert_allclose(found.parameters, expected.parameters, rtol=0, atol=tolerance)
    for name, column in figures(found.history).items():
        want = figures(expected.history)[name]
        assert [v is None for v in column] == [v is None for v in want]
        close = [(v, w) for v, w in zip(column, want, strict=True) if v is not None]
        np.testing.assert_allclose(*np.array(close or [(0, 0)]).T, rtol=tolerance, err_msg=name)


# --- Repetition -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", PROBLEMS)
def test_whole_weights_are_repetitions_of_rows(backend: str, kind: str) -> None:
    n_out, settings, y = PROBLEMS[kind]
    held = X[:20] + 0.1, y[:20]
    twice = np.repeat(np.arange(20), TIMES[:20])
    weighted = full_batch(
        network(n_out, backend, **settings),
        *(X, y),
        sample_weight=TIMES,
        validation=(*held, TIMES[:20]),
    )
    repeated = full_batch(
        network(n_out, backend, **settings),
        *(X[REPEATED], y[REPEATED]),
        validation=(held[0][twice], held[1][twice]),
    )
    assert_close(weighted, repeated)
    found = weighted.evaluate(X, y, sample_weight=TIMES)
    want = repeated.evaluate(X[REPEATED], y[REPEATED])
    assert found == {name: pytest.approx(value, rel=1e-12) for name, value in want.items()}


def test_lbfgs_has_weights_and_missing_targets() -> None:
    pytest.importorskip("scipy")
    for y in (VALUES, MISSING):
        weighted, repeated = (network(4, "numpy", loss="mse") for _ in range(2))
        settings = {"optimizer": "lbfgs", "epochs": 5, "missing_targets": "ignore"}
        weighted.fit(X, y, sample_weight=TIMES, progress=False, **settings)
        repeated.fit(X[REPEATED], y[REPEATED], progress=False, **settings)
        assert_close(weighted, repeated, 1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_without_weight_are_left_out(backend: str) -> None:
    """Also rows whose loss would be infinite, and batches of them, which count as steps."""
    x, y, w = X.copy(), VALUES.copy(), (TIMES > 0).astype(float)
    y[w == 0] = 1e300
    w[10:20] = 0
    settings = {"batch_size": 10, "shuffle": False, "optimizer": "adam"}
    weighted = full_batch(network(4, backend, loss="mse"), x, y, sample_weight=w, **settings)
    assert np.isfinite(weighted.history.loss).all()
    assert weighted.updates == 6 * 6
    seen: list[np.ndarray] = []
    calls = [pynn.Every(1, lambda net, record: seen.append(net.parameters.copy()))]
    again = network(4, backend, loss="mse")
    full_batch(again, x, y, sample_weight=w, callbacks=calls, **settings)
    assert_same(again, weighted)
    changed = [not np.array_equal(a, b) for a, b in itertools.pairwise(seen)]
    assert changed == [i % 6 != 0 for i in range(35)]  # the second batch of every epoch


def test_loss_and_accuracy_are_weighted_means_of_the_epoch() -> None:
    """Each batch is measured before its update; at a rate of almost 0 that is one measurement."""
    net = network(3, "numpy")
    w = rng.gamma(1.0, size=N)
    net.fit(X, LABELS, sample_weight=w, batch_size=7, learning_rate=1e-14, epochs=1, progress=False)
    p = net.predict_proba(X)
    losses = -np.log(p[np.arange(N), LABELS])
    assert net.history[0].loss == pytest.approx((losses * w).sum() / w.sum())
    accuracy = (w * (p.argmax(axis=1) == LABELS)).sum() / w.sum()
    assert net.history[0].accuracy == pytest.approx(accuracy)
    found = net.evaluate(X, LABELS, sample_weight=w)
    assert found == pytest.approx({"loss": net.history[0].loss, "accuracy": accuracy})


# --- Class weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [None, np.array(["a", "b", "c"])], ids=["numbers", "strings"])
def test_class_weights_are_sample_weights_by_label(names: Any) -> None:
    y = LABELS if names is None else names[LABELS]
    classes = np.unique(y).tolist()
    by_class = N / (3 * np.bincount(LABELS))
    uneven = np.array([0.5, 1.0, 3.0])
    for class_weight, weights in (
        ("balanced", by_class),
        (dict(zip(classes, by_class.tolist(), strict=True)), by_class),
        ({classes[0]: 0.5, np.array(classes)[2]: 3}, uneven),
    ):
        found, expected = network(3, "numpy"), network(3, "numpy")
        fit(found, (X, y), class_weight=class_weight, sample_weight=TIMES, label_smoothing=0.1)
        weights = weights[LABELS] * TIMES
        fit(expected, (X, y), sample_weight=weights, label_smoothing=0.1)
        assert_same(found, expected)


def test_balanced_weights_agree_with_scikit_learn() -> None:
    utils = pytest.importorskip("sklearn.utils")
    y = LABELS % 2 == 0
    w = utils.compute_sample_weight("balanced", y)
    for n_out, loss in ((1, "binary_cross_entropy"), (2, "cross_entropy")):
        found, expected = (network(n_out, "numpy", loss=loss) for _ in range(2))
        fit(found, (X, y), class_weight="balanced")
        fit(expected, (X, y), sample_weight=w)
        assert_close(found, expected)
    # A class without a row does not count.
    found, expected = network(3, "numpy"), network(3, "numpy")
    fit(found, (X, y.astype(int)), class_weight="balanced")
    fit(expected, (X, y.astype(int)), sample_weight=w)
    assert_close(found, expected)


def test_class_weights_count_training_rows_only() -> None:
    """The rows held out keep their sample weights, and have no class weights."""
    net = network(3, "numpy")
    net.fit(
        *(X, LABELS),
        sample_weight=TIMES,
        class_weight="balanced",
        validation=0.3,
        stratify=False,
        epochs=1,
        progress=False,
    )
    out = held_out(N, 0.3, net.seed)
    expected = network(3, "numpy")
    kept = LABELS[~out]
    w = len(kept) / (3 * np.bincount(kept))[kept] * TIMES[~out]
    held = X[out], LABELS[out], TIMES[out]
    expected.fit(X[~out], kept, sample_weight=w, validation=held, epochs=1, progress=False)
    assert_same(net, expected)
    found = net.evaluate(*held[:2], sample_weight=held[2])
    assert net.history[-1].validation_loss == found["loss"]
    assert net.history[-1].validation_accuracy == found["accuracy"]


# --- Missing targets ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["multilabel", "values", "counts"])
def test_missing_targets_have_no_influence(backend: str, kind: str) -> None:
    """The gradient is that of a network of one output per target, trained on known targets only."""
    _, settings, y = PROBLEMS[kind]
    missing = np.where(KNOWN, y, np.nan)
    together = pynn.Network([N_IN, 4], backend=backend, dtype="float64", seed=3, **settings)
    weights, biases = together.weights[0].copy(), together.biases[0].copy()
    w = 0.5 + TIMES
    together.fit(
        *(X, missing),
        missing_targets="ignore",
        sample_weight=w,
        validation=(X, missing),
        batch_size="full",
        optimizer="sgd",
        learning_rate=0.1,
        epochs=1,
        progress=False,
    )
    share = w @ KNOWN / (w @ KNOWN).sum()  # of the weight of all known targets, for each output
    losses, right = [], []
    for k in range(4):
        one = pynn.Network([N_IN, 1], backend="numpy", dtype="float64", **settings)
        one.weights, one.biases = [weights[:, k : k + 1]], [biases[k : k + 1]]
        rows = KNOWN[:, k]
        data = X[rows], y[rows, k]
        found = one.evaluate(*data, sample_weight=w[rows])
        losses.append(found["loss"])
        right.append(found.get("accuracy", np.nan))
        full_batch(one, *data, sample_weight=w[rows], learning_rate=0.1 * share[k], l2=0)
        one.weights, one.biases = [weights[:, k : k + 1]], [biases[k : k + 1]]
        one.fit(
            *data,
            sample_weight=w[rows],
            batch_size="full",
            optimizer="sgd",
            learning_rate=0.1 * share[k],
            epochs=1,
            progress=False,
        )
        np.testing.assert_allclose(together.weights[0][:, k], one.weights[0][:, 0], rtol=1e-12)
        np.testing.assert_allclose(together.biases[0][k], one.biases[0][0], rtol=1e-12)
    record = together.history[0]
    assert record.loss == pytest.approx(share @ losses, rel=1e-12)
    found = together.evaluate(X, missing, missing_targets="ignore")
    assert record.validation_loss == found["loss"]
    if kind == "multilabel":
        assert record.accuracy == pytest.approx(share @ right, rel=1e-12)
        decided = (together.predict_proba(X) > 0.5) == y
        assert found["accuracy"] == pytest.approx(decided[KNOWN].mean(), rel=1e-12)
        assert record.validation_accuracy == found["accuracy"]


def test_complete_targets_train_as_without_the_option() -> None:
    for backend, kind in itertools.product(BACKENDS, ["multilabel", "values", "labels"]):
        n_out, settings, y = PROBLEMS[kind]
        found, expected = (network(n_out, backend, **settings) for _ in range(2))
        fit(found, (X, y), missing_targets="ignore", validation=0.2)
        fit(expected, (X, y), validation=0.2)
        assert_same(found, expected)


# --- Everything together --------------------------------------------------------------------------

ALL: dict[str, Any] = {
    "sample_weight": np.where(np.arange(N) % 5 == 0, 0, 0.1 + TIMES),
    "missing_targets": "ignore",
    "validation": (X, MISSING, 0.5 + TIMES),
    "batch_size": 3,
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path, backend: str) -> None:
    """Also from the middle of an epoch, with another number of threads."""
    settings = {"backend": backend, "sizes": [N_IN, 8, 4], "loss": "mse"}
    whole, resumed = _regression(settings), _regression(settings | {"threads": 3})
    fit(whole, (X, MISSING), **ALL)
    path = tmp_path / "a"
    broken_off(path, (X, MISSING), 33, make=lambda: _regression(settings), **ALL)
    kept = pynn.Checkpoint(path, steps=1)
    fit(resumed, (X, MISSING), checkpoint=kept, resume=True, **ALL)
    assert_same(resumed, whole)


def _regression(settings: dict[str, Any]) -> pynn.Network:
    settings = {"dropout": 0.2, "seed": 3} | settings
    return pynn.Network(settings.pop("sizes"), **settings)


@pytest.mark.parametrize(
    "first, then, message",
    [
        ({}, {"sample_weight": TIMES}, r"sample_weight: found float64 \(60,\), but .* has none"),
        ({"sample_weight": TIMES}, {}, r"sample_weight: found none, but .* has float64 \(60,\)"),
        ({"sample_weight": TIMES}, {"sample_weight": TIMES + 1}, "sample_weight: found numbers of"),
        ({}, {"class_weight": "balanced"}, "class_weight: found balanced, but .* has None"),
        ({"class_weight": {1: 2}}, {"class_weight": {0: 2}}, r"class_weight: found \[2.0, 1.0, 1"),
        ({}, {"missing_targets": "ignore"}, "missing_targets: found ignore, but .* has error"),
        (
            {"validation": (X[:, :4], LABELS, TIMES)},
            {"validation": (X[:, :4], LABELS)},
            r"validation\[2\]: found none, but .* has float64",
        ),
    ],
)
def test_resuming_with_other_weights_is_refused(
    tmp_path: Path, first: dict[str, Any], then: dict[str, Any], message: str
) -> None:
    data = X[:, :4], LABELS
    broken_off(tmp_path / "a", data, 2, **first)
    kept = pynn.Checkpoint(tmp_path / "a", steps=1)
    with pytest.raises(ValueError, match=message):
        fit(make(), data, checkpoint=kept, resume=True, **then)


def test_divergence_is_found_with_weights_and_missing_targets() -> None:
    for backend in BACKENDS:
        net = _regression({"backend": backend, "sizes": [N_IN, 8, 4], "loss": "mse"})
        with pytest.raises(pynn.DivergenceError, match="step"):
            fit(net, (X, MISSING), **ALL | {"optimizer": "sgd", "learning_rate": 1e6, "epochs": 50})
        assert np.isfinite(net.parameters).all()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    for backend in BACKENDS:
        runs = []
        for threads in (1, 2, 5):
            settings = {"backend": backend, "sizes": [N_IN, 8, 4], "loss": "mse"}
            runs.append(_regression(settings | {"threads": threads}))
            fit(runs[-1], (X, MISSING), **ALL | {"batch_size": 17})
        assert_same(runs[1], runs[0])
        assert_same(runs[2], runs[0])


def test_trajectories_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    w, batches = 0.1 + TIMES, [slice(k, k + 20) for k in range(0, N, 20)]
    for kind in ("labels", "multilabel", "values"):
        n_out, settings, y = PROBLEMS[kind]
        y = y if kind == "labels" else np.where(KNOWN, y, np.nan)
        if kind == "values":
            settings = {"loss": "mse"}
        net = network(n_out, BACKENDS[0], **settings)
        parameters = [
            torch.tensor(p, requires_grad=True)
            for pair in zip(net.weights, net.biases, strict=True)
            for p in pair
        ]
        net.fit(
            *(X, y),
            sample_weight=w,
            missing_targets="ignore",
            batch_size=20,
            shuffle=False,
            epochs=34,
            learning_rate=0.01,
            progress=False,
        )
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        for rows in batches * 34:
            w1, b1, w2, b2 = parameters
            z = torch.tanh(torch.tensor(X[rows]) @ w1 + b1) @ w2 + b2
            t, weight = torch.tensor(y[rows]), torch.tensor(w[rows])
            known = ~torch.isnan(t)
            if kind == "labels":
                loss = torch.nn.functional.cross_entropy(z, t, reduction="none")
            elif kind == "values":
                loss = (z[known] - t[known]) ** 2
            else:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    z[known], t[known], reduction="none"
                )
            if kind != "labels":
                weight = weight[:, None].expand_as(t)[known]
            optimizer.zero_grad()
            ((weight * loss).sum() / weight.sum()).backward()
            optimizer.step()
        layers = zip(net.weights, net.biases, strict=True)
        for p, found in zip(parameters, itertools.chain(*layers), strict=True):
            np.testing.assert_allclose(found, p.detach().numpy(), rtol=0, atol=1e-9)


def test_the_code_of_the_guide_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "weights.md"
    block = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```\n", re.M | re.S)
    names: dict[str, Any] = {}
    for code, printed in block.findall(page.read_text(encoding="utf-8")):
        exec(code, names)
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_hinges_leave_out_missing_targets(loss: str, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(20, 3)), np.floor(2 * rng.random((20, 2)))
    y[0] = np.nan
    found = []
    for rows in (slice(None), slice(1, None)):
        net = pynn.Network([3, 2], loss=loss, backend="numpy", dtype="float64")
        net.fit(x[rows], y[rows], missing_targets="ignore", batch_size=None, progress=False)
        found.append(net.parameters)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loss_and_gradient_have_weights(backend: str, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(12, 3)), np.arange(12) % 3
    w, by_class = np.arange(12) % 4, {0: 2, 1: 3}
    net = pynn.Network([3, 4, 3], dtype="float64", backend=backend, seed=0)
    repeated = np.repeat(np.arange(12), w * np.array([2, 3, 1])[y])
    found = net.loss_and_gradient(x, y, 0.1, sample_weight=w, class_weight=by_class)
    expected = net.loss_and_gradient(x[repeated], y[repeated], 0.1)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-14)

    values = pynn.Network([3, 2], loss="mse", dtype="float64", backend=backend, seed=0)
    t = rng.normal(size=(12, 2))
    t[:3] = np.nan
    found = values.loss_and_gradient(x, t, missing_targets="ignore")
    expected = values.loss_and_gradient(x[3:], t[3:])
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-14)
    with pytest.raises(ValueError, match="y: found nan at row 0"):
        values.loss_and_gradient(x, t)


def test_errors_name_the_rows_without_a_known_target(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(40, 3)), np.full((40, 1), np.nan)
    more = {"missing_targets": "ignore", "progress": False, "epochs": 1}
    net = pynn.Network([3, 1], loss="mse", backend="numpy", seed=0)
    y[0] = 1.0
    with pytest.raises(ValueError, match="^y: found no known target among 8 rows that validation="):
        net.fit(x, y, validation=0.2, **more)
    held = pynn.training.split.held_out(40, 0.2, net.seed)
    y[0], y[np.flatnonzero(held)[0]] = np.nan, 1.0
    with pytest.raises(ValueError, match="^y: found no known target among 32 rows to train on"):
        net.fit(x, y, validation=0.2, **more)
