"""``fit_many`` and searches of scikit-learn on real workers of joblib, Dask and Ray."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import limits
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
    """A cluster of two processes, each with one thread."""
    distributed = pytest.importorskip("distributed", reason="needs pynn-mlp[distributed]")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, with two processors."""
    ray = pytest.importorskip("ray", reason="needs pynn-mlp[distributed]")
    pytest.importorskip("ray.util.joblib", reason="needs a Ray with its joblib backend")
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    path = os.pathsep.join(p for p in sys.path if p)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield ray
    ray.shutdown()


def search(backend: str, kinds: tuple[str, ...] = ("grid", "halving")) -> None:
    """Search with scikit-learn on a backend; compare with one process."""
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

    from pynn.sklearn import MLPClassifier

    estimator = MLPClassifier((8,), max_iter=3, random_state=0, tol=0)
    grid = {"learning_rate_init": [0.001, 0.01], "alpha": [0.0, 0.1]}
    searches = {"grid": (GridSearchCV, {}), "halving": (HalvingGridSearchCV, {"random_state": 0})}
    for kind, more in map(searches.__getitem__, kinds):
        alone = kind(estimator, grid, cv=2, **more).fit(X, Y)
        with joblib.parallel_config(backend=backend):
            found = kind(estimator, grid, cv=2, n_jobs=-1, **more).fit(X, Y)
        assert found.best_params_ == alone.best_params_
        scores = found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
        assert np.array_equal(*scores)


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


def test_dask(dask, tmp_path):
    dask.wait_for_workers(2)
    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, parallel="dask", **SETTINGS)
    assert_equal(found, expected())
    search("dask")
    # Each worker has one thread, whatever the machine has.
    assert set(dask.run(lambda: __import__("pynn").info()["threads"]).values()) == {1}
    _kill_a_worker(tmp_path, "dask")


def test_a_task_of_dask_in_this_process_has_one_thread(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs pynn-mlp[distributed]")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(limits, "processors", lambda: 8)
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        assert client.submit(lambda: pynn.Network([2, 2]).threads).result() == 1
    assert not limits._in_dask_task()


def _kill_a_worker(folder: Path, parallel: str) -> None:
    """Kill the worker of one network once, in the middle of its training."""
    mark, main = str(folder / "killed"), os.getpid()

    def kill(net: pynn.Network, record: pynn.Record) -> None:
        if net.seed != 1 or record.epoch != 2 or os.getpid() == main:
            return
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, parallel=parallel, callbacks=kill, **SETTINGS)
    assert os.path.exists(mark)
    assert_equal(found, expected())


def test_a_search_goes_on_after_the_loss_of_a_worker(dask, tmp_path):
    from sklearn.model_selection import GridSearchCV

    from pynn.sklearn import MLPClassifier

    mark, main = str(tmp_path / "killed"), os.getpid()
    dask.wait_for_workers(2)  # with one alone, joblib would train in this process

    class Killer(MLPClassifier):
        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            if self.alpha == 0.1 and os.getpid() != main and not os.path.exists(mark):
                open(mark, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().fit(x, y, sample_weight)

    grid = {"alpha": [0.0, 0.1, 0.2]}
    with joblib.parallel_config(backend="dask", scatter=[X, Y]):
        found = GridSearchCV(Killer((8,), max_iter=3, random_state=0), grid, cv=2, n_jobs=-1)
        found.fit(X, Y)
    assert os.path.exists(mark)
    alone = GridSearchCV(MLPClassifier((8,), max_iter=3, random_state=0), grid, cv=2).fit(X, Y)
    scores = found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    assert np.array_equal(*scores)


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
    found = networks()
    pynn.fit_many(found, X, Y, learning_rate=RATES, parallel="ray", **SETTINGS)
    assert_equal(found, expected())
    search("ray", ("grid",))
    _kill_a_worker(tmp_path, "ray")


@pytest.mark.slow  # Ray starts its workers again in every iteration
def test_halving_on_ray(ray):
    search("ray", ("halving",))


def test_ray_tune(ray, tmp_path):
    tune = pytest.importorskip("ray.tune", reason="needs ray[tune]")

    def loss(rate: float) -> float:
        net = pynn.Network([5, 8, 2], seed=0)
        return net.fit(X, Y, learning_rate=rate, **SETTINGS)[-1].validation_loss

    def train(settings: dict[str, float]) -> dict[str, float]:
        return {"loss": loss(settings["rate"]), "threads": pynn.info()["threads"]}

    tuner = tune.Tuner(
        train,
        param_space={"rate": tune.grid_search([0.001, 0.01])},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    found = tuner.fit()
    losses = {result.config["rate"]: result.metrics["loss"] for result in found}
    assert losses == {rate: loss(rate) for rate in (0.001, 0.01)}
    # A trial gets one processor unless it asks for more.
    assert {result.metrics["threads"] for result in found} == {1}
