"""The default number of threads respects limits set by other software."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn.backends import limits
from pynn.spec.arguments import MOST_THREADS
from tests.child import python

HERE = limits.processors()


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch):
    for name in (limits.VARIABLE, *limits._LIMITS, *limits._BLAS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def many(monkeypatch):
    """Pretend that there are 64 processors."""
    monkeypatch.setattr(limits, "processors", lambda: 64)
    monkeypatch.setattr(limits, "_pool_limits", lambda most: [])


@pytest.mark.parametrize("backend", ["cython", "numba"])
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT", limits.VARIABLE])
def test_variables_limit_an_existing_network_too(backend, name, monkeypatch):
    if pynn.info()["backends"][backend]:
        pytest.skip(f"needs {backend}")
    net = pynn.Network([784, 10], backend=backend)
    monkeypatch.setenv(name, "1")
    assert net.threads == pynn.Network([784, 10], backend=backend).threads == 1
    assert pynn.Network([784, 10], backend=backend, threads=3).threads == 3
    assert "1 thread" in repr(net)


def test_more_threads_than_can_be_useful_are_not_started(monkeypatch):
    monkeypatch.setattr(limits, "processors", lambda: 2)
    for count in 64, 65, MOST_THREADS:
        assert limits.useful(count) == 64
        monkeypatch.setenv(limits.VARIABLE, str(count))
        assert limits.default_threads() == 64
    assert limits.useful(3) == 3
    if not pynn.info()["backends"]["cython"]:
        assert pynn.Network([4, 2], threads=MOST_THREADS, backend="cython").threads == 64
    monkeypatch.setattr(limits, "processors", lambda: 100)
    assert limits.useful(MOST_THREADS) == 400


def test_info_shows_the_limit(monkeypatch):
    monkeypatch.setenv(limits.VARIABLE, "3")
    if not pynn.info()["backends"]["cython"]:
        assert pynn.info()["threads"] == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), (" 3 ", 3), ("4,2,1", 4), ("0", 64), ("-1", 64), ("two", 64), ("", 64), ("²", 64)],
)
def test_omp_num_threads_as_openmp_reads_it(text, expected, many, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert limits.default_threads() == expected


def test_the_smallest_limit_applies_and_pynn_num_threads_overrides_it(many, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OMP_THREAD_LIMIT", "6")
    assert limits.default_threads() == 6
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "5")
    assert limits.default_threads() == 5
    monkeypatch.setenv(limits.VARIABLE, "100")
    assert limits.default_threads() == 100


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", str(MOST_THREADS + 1), "9" * 5000])
def test_a_wrong_pynn_num_threads_is_refused(text, monkeypatch):
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(ValueError, match=r"PYNN_NUM_THREADS: found .* whole number from 1 to 4096"):
        pynn.Network([4, 2])


def test_training_under_a_limit_gives_identical_results(monkeypatch):
    x, y = np.random.default_rng(0).random((200, 20), np.float32), np.arange(200) % 3
    free = pynn.Network([20, 30, 3])
    free.fit(x, y, epochs=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    limited = pynn.Network([20, 30, 3])
    limited.fit(x, y, epochs=2)
    np.testing.assert_array_equal(free.parameters, limited.parameters)


# --- Limits set within the process --------------------------------------------------------------


UNDER_THREADPOOLCTL = """
import pynn
from pynn.backends import limits
from threadpoolctl import threadpool_limits

limits.processors = lambda: 2
net = pynn.Network([784, 10])
before = net.threads
with threadpool_limits(1):  # only NumPy's BLAS is loaded
    assert limits.default_threads() == 1
import sklearn.cluster  # loads OpenMP
with threadpool_limits(1):
    assert limits.default_threads() == 1
with threadpool_limits(1, user_api="blas"):
    assert net.threads == before
assert net.threads == before
"""


def test_threadpoolctl_limits_openmp_and_blas():
    pytest.importorskip("threadpoolctl")
    pytest.importorskip("sklearn")
    done = python(UNDER_THREADPOOLCTL)
    assert done.returncode == 0, done.stderr


def test_a_variable_of_blas_alone_is_no_limit(monkeypatch):
    class Blas:
        user_api, num_threads = "blas", 1

    class Controller:
        lib_controllers = (Blas(),)

    fake = type(sys)("threadpoolctl")
    fake.ThreadpoolController = Controller
    monkeypatch.setitem(sys.modules, "threadpoolctl", fake)
    monkeypatch.setattr(limits, "_pools", (-1, []))
    assert limits._pool_limits(8) == [1]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert limits._pool_limits(8) == []
    monkeypatch.setattr(limits, "_pools", (-1, []))


def _threads():
    return limits.default_threads()


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_workers_of_joblib_share_the_processors(backend):
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend=backend):
        workers = max(2, HERE)
        found = joblib.Parallel(n_jobs=workers)(joblib.delayed(_threads)() for _ in range(4))
    assert found == [1] * 4


def test_joblib_may_give_its_workers_several_threads(many, monkeypatch):
    joblib = pytest.importorskip("joblib")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(_threads)() for _ in range(2)) == [3, 3]


# --- cgroups ------------------------------------------------------------------------------------


V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "33 25 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "34 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
OTHER += "22 1 0:1 / / rw - ext4 x\n"


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", None),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 16),
        ("400000 50000", 8),
        ("", None),
        ("garbage", None),
        ("1 0", None),
    ],
)
def test_cpu_max_of_cgroup_version_2(text, expected, tmp_path):
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": OTHER + V2.format(root="/"),
            "sys/fs/cgroup/cpu.max": text + "\n",
        },
    )
    assert limits.cgroup_quota(root) == expected


def test_a_quota_of_a_group_above_applies(tmp_path):
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job/task\n",
            "proc/self/mountinfo": V2.format(root="/"),
            "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/job/task/cpu.max": "800000 100000\n",
        },
    )
    assert limits.cgroup_quota(root) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("250000", 3), ("0", None)])
def test_quota_of_cgroup_version_1(quota, expected, tmp_path):
    folder = "sys/fs/cgroup/cpu,cpuacct/box/"
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/other\n4:cpuacct,cpu:/box\n1:name=systemd:/x\n0::/\n",
            "proc/self/mountinfo": OTHER + V1.format(root="/"),
            folder + "cpu.cfs_quota_us": quota + "\n",
            folder + "cpu.cfs_period_us": "100000\n",
        },
    )
    assert limits.cgroup_quota(root) == expected


@pytest.mark.parametrize("mounted", ["/docker/abc", "/", "/elsewhere"])
def test_a_container_that_sees_paths_of_the_host(mounted, tmp_path):
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/docker/abc\n4:cpu:/docker/abc\n",
            "proc/self/mountinfo": V2.format(root=mounted) + V1.format(root=mounted),
            "sys/fs/cgroup/cpu.max": "700000 100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert limits.cgroup_quota(root) == 4


def test_without_cgroups_there_is_no_quota(tmp_path):
    assert limits.cgroup_quota(tmp_path) is None
    _write(tmp_path, {"proc/self/cgroup": "nonsense\n\n:::\n", "proc/self/mountinfo": " - \nx\n"})
    assert limits.cgroup_quota(tmp_path) is None


def test_the_quota_limits_the_processors(monkeypatch):
    monkeypatch.setattr(limits, "_process_quota", lambda: 1)
    assert limits.processors() == limits.default_threads() == 1
    monkeypatch.setattr(limits, "_process_quota", lambda: 10**6)
    if hasattr(os, "sched_getaffinity"):
        assert limits.processors() == len(os.sched_getaffinity(0))


def test_the_count_that_python_was_given_limits_the_processors(monkeypatch):
    """PYTHON_CPU_COUNT of Python 3.13 reduces the number, but does not raise it."""
    before = limits.processors()
    for given, expected in ((1, 1), (10**6, before), (None, before)):
        monkeypatch.setattr(os, "process_cpu_count", lambda given=given: given, raising=False)
        assert limits.processors() == expected
