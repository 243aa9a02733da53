"""``fit_many`` and searches of scikit-learn on real workers of joblib, Dask and Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import limits
from tests.many.clusters import again, dask_cluster, ray_cluster, signal_handlers
from tests.many.test_fit_many import assert_equal, data, networks

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.xdist_group("distributed"),
]
joblib = pytest.importorskip("joblib", reason="needs joblib")

X, Y = data(200)
SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 20, "validation": 0.2}
RATES = [0.01, 0.003, 0.03, 0.01]


def expected(**settings: Any) -> list[pynn.Network]:
    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, **SETTINGS, **settings)
    return found


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    with dask_cluster() as client:
        yield client


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with signal_handlers(), ray_cluster() as ray:
        yield ray


def search(
    backend: str, kind: str, folder: Path | None = None, rows: Any = (X, Y), **config: Any
) -> None:
    """Search with scikit-learn on a backend, and compare with one process.

    With ``folder`` the estimator kills its worker once.
    """
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

    from pynn.sklearn import MLPClassifier

    kill, killed = (lambda: None, lambda: True) if folder is None else killing(folder)

    class Estimator(MLPClassifier):
        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            if self.alpha == 0.1:
                kill()
            return super().fit(x, y, sample_weight)

    estimator = Estimator((8,), max_iter=3, random_state=0, tol=0)
    grid = {"learning_rate_init": [0.001, 0.01], "alpha": [0.0, 0.1]}
    searches = {"grid": (GridSearchCV, {}), "halving": (HalvingGridSearchCV, {"random_state": 0})}
    of, more = searches[kind]
    alone = of(estimator, grid, cv=2, **more).fit(*rows)
    with joblib.parallel_config(backend=backend, **config):
        found = of(estimator, grid, cv=2, n_jobs=-1, **more).fit(*rows)
    assert killed()
    assert found.best_params_ == alone.best_params_
    scores = found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    assert np.array_equal(*scores)


def train_and_lose_a_worker(parallel: str, folder: Path) -> None:
    """Kill the worker of one network once, in the middle of its training."""
    kill, killed = killing(folder)

    def call(net: pynn.Network, record: pynn.Record) -> None:
        if net.seed == 1 and record.epoch == 2:
            kill()

    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, parallel=parallel, callbacks=call, **SETTINGS)
    assert killed()
    assert_equal(found, expected())


def killing(folder: Path) -> tuple[Callable[[], None], Callable[[], bool]]:
    """Return a function that kills its process once, if it is another one, and whether it did."""
    mark, main = str(folder / "killed"), os.getpid()

    def kill() -> None:
        if os.getpid() != main and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    return kill, lambda: os.path.exists(mark)


@pytest.mark.parametrize("backend", ["loky", "joblib", "threading"])
def test_joblib(backend):
    found, seen = networks(), []
    stops = [pynn.EarlyStopping(patience=k + 1, min_delta=1.0) for k in range(4)]
    histories = pynn.fit_many(
        found, X, Y, learning_rate=RATES, parallel=backend, threads=2, progress=seen.append,
        callbacks=pynn.Each(stops), **SETTINGS,
    )  # fmt: skip
    own = [pynn.EarlyStopping(patience=k + 1, min_delta=1.0) for k in range(4)]
    assert_equal(found, expected(callbacks=pynn.Each(own)))
    assert [h.loss for h in histories] == [net.history.loss for net in found]
    assert [stop.stopped_epoch for stop in stops] == [stop.stopped_epoch for stop in own]
    assert seen[-1].finished == 4


def test_groups_rows_and_failures_on_other_processes():
    groups = np.arange(200) % 4
    for rows in ({"groups": groups}, {"rows": [groups != k for k in range(4)]}):
        pair = networks(), networks()
        errors = []
        for found, parallel in zip(pair, ("loky", None)):
            with pytest.raises(pynn.FitManyError) as caught:
                pynn.fit_many(
                    found, X, Y, learning_rate=[0.1, 1e30, 0.1, 0.1], optimizer="sgd", epochs=2,
                    parallel=parallel, threads=2, **rows,
                )  # fmt: skip
            errors.append(caught.value)
        assert_equal(*pair)
        assert [str(error) for error in errors] == [str(errors[0])] * 2
        assert isinstance(errors[0].failures[1], pynn.DivergenceError)


def test_backends_that_do_not_exist():
    for parallel, error in ((3, TypeError), ("cluster", ValueError)):
        with pytest.raises(error):
            pynn.fit_many(networks(), X, Y, parallel=parallel)


def test_dask(dask):
    dask.wait_for_workers(2)
    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, parallel="dask", **SETTINGS)
    assert_equal(found, expected())
    search("dask", "grid")
    # Each worker has one thread, whatever the machine has.
    assert set(dask.run(lambda: __import__("pynn").info()["threads"]).values()) == {1}


def test_dask_loses_a_worker(dask, tmp_path):
    dask.wait_for_workers(2)  # with one alone, joblib would train in this process
    train_and_lose_a_worker("dask", tmp_path)


def test_dask_loses_data(dask, monkeypatch):
    """A worker that starts while data are stored does not get them; the other one may be lost."""
    dask.wait_for_workers(2)
    plain, stored = dask.scatter, []

    def scatter(*given: Any, **named: Any) -> Any:
        found = plain(*given, **named)
        stored.append(found)
        if len(stored) == 1:
            dask.cancel(found, force=True)
        return found

    monkeypatch.setattr(dask, "scatter", scatter)
    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, parallel="dask", **SETTINGS)
    assert len(stored) == 2
    assert_equal(found, expected())


def test_a_search_on_dask_loses_a_worker(dask, tmp_path):
    def run(folder: Path) -> None:
        dask.wait_for_workers(2)
        # Dask stores scattered rows under a name by their content: other rows for each attempt.
        rows = data(200, seed=int(folder.name))
        search("dask", "halving", folder, rows, scatter=rows)

    again(run, tmp_path)


def test_a_task_of_dask_in_this_process_has_one_thread(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs pynn-mlp[distributed]")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(limits, "processors", lambda: 8)
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
    ) as client:
        assert client.submit(lambda: pynn.Network([2, 2]).threads).result() == 1
    assert not limits._in_dask_task()


def test_dask_with_one_thread_trains_in_this_process():
    distributed = pytest.importorskip("distributed", reason="needs pynn-mlp[distributed]")
    found = networks()
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ):
        pynn.fit_many(found, X, Y, learning_rate=RATES, parallel="dask", **SETTINGS)
    assert_equal(found, expected())


def test_collections_of_dask_are_refused_where_a_task_would_wait_for_them(dask):
    array = pytest.importorskip("dask.array")
    x, y = array.from_array(X, chunks=(100, 5)), array.from_array(Y, chunks=100)
    for given in ((x, y), ([x] * 4, y), (X, [y] * 4)):
        with pytest.raises(TypeError, match="found a Dask Array and networks that train on Dask"):
            pynn.fit_many(networks(), *given, parallel="dask")
    found, one = networks(2), networks(2)
    pynn.fit_many(found, x, y, epochs=1)  # computed by the workers
    for net in one:
        net.fit(x, y, epochs=1)
    assert_equal(found, one)


def test_optuna_on_dask(dask):
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def loss(rate: float) -> float:
        net = pynn.Network([5, 8, 2], seed=0)
        return net.fit(X, Y, learning_rate=rate, **SETTINGS)[-1].validation_loss

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(4)]
    rates = [trial.suggest_float("rate", 1e-4, 1e-1, log=True) for trial in trials]
    with joblib.parallel_config(backend="dask"):
        losses = joblib.Parallel()(joblib.delayed(loss)(rate) for rate in rates)
    for trial, found in zip(trials, losses):
        study.tell(trial, found)
    assert losses == [loss(rate) for rate in rates]
    assert study.best_value == min(losses)


def test_ray(ray, tmp_path):
    train_and_lose_a_worker("ray", tmp_path)
    search("ray", "grid")


@pytest.mark.slow  # Ray starts its workers again in every iteration
def test_a_search_on_ray_loses_a_worker(ray, tmp_path):
    retries = {"max_restarts": 3, "max_task_retries": 3}
    search("ray", "halving", tmp_path, ray_remote_args=retries)


def test_ray_tune_loses_a_worker(ray, tmp_path):
    tune = pytest.importorskip("ray.tune", reason="needs ray[tune]")
    kill, killed = killing(tmp_path)

    def loss(rate: float) -> float:
        net = pynn.Network([5, 8, 2], seed=0)
        return net.fit(X, Y, learning_rate=rate, **SETTINGS)[-1].validation_loss

    def train(settings: dict[str, float]) -> dict[str, float]:
        if settings["rate"] == 0.01:
            kill()
        return {"loss": loss(settings["rate"]), "threads": pynn.info()["threads"]}

    tuner = tune.Tuner(
        train,
        param_space={"rate": tune.grid_search([0.001, 0.01])},
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    handler = signal.getsignal(signal.SIGINT)
    with signal_handlers():
        found = tuner.fit()
    assert signal.getsignal(signal.SIGINT) is handler
    assert killed()
    losses = {result.config["rate"]: result.metrics["loss"] for result in found}
    assert losses == {rate: loss(rate) for rate in (0.001, 0.01)}
    # A trial gets one processor unless it asks for more.
    assert {result.metrics["threads"] for result in found} == {1}
