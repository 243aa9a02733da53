"""Threads, processes, signals and the end of the interpreter, while networks train.

Code that could hang or end a process runs in a separate one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose

BACKENDS = [name for name, reason in choose.available().items() if not reason]
LINUX = Path("/proc/self/task").is_dir()
POSIX = hasattr(os, "fork")

# What every script begins with.
PROLOGUE = """
import atexit, gc, hashlib, multiprocessing, os, pickle, signal, sys, threading, time, weakref
import numpy as np
import pynn

backend = sys.argv[1]

def data(rows=600):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 30)).astype(np.float32), rng.integers(0, 3, rows)

def network(threads=2, seed=1):
    return pynn.Network([30, 50, 20, 3], dropout=0.1, seed=seed, threads=threads, backend=backend)

def trained(threads=2, epochs=3, seed=1):
    net = network(threads, seed)
    net.fit(*data(), epochs=epochs, batch_size=20)
    return net

def bits(net):
    return hashlib.sha256(net.parameters.tobytes() + repr(net.history.loss).encode()).hexdigest()

def tasks():
    \"\"\"The state of every other thread of this process: S is asleep.\"\"\"
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except OSError:  # it has just ended
            continue
        if int(task) != threading.get_native_id():
            found.append(state)
    return found

def settle(most):
    \"\"\"Wait until no other thread runs, and there are no more of them than ``most``.\"\"\"
    for _ in range(30_000):
        found = tasks()
        if set(found) <= {"S"} and len(found) <= most:
            return
        time.sleep(0.01)
    raise AssertionError(f"{len(found)} threads, {found}; at most {most} before")
"""


def start(tmp_path: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"  # a file, since spawned processes read it again
    script.write_text(PROLOGUE + textwrap.dedent(code), encoding="utf-8")
    # The pynn that is tested, wherever it is; and nothing else that is new here.
    path = [str(Path(pynn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


def end(
    process: subprocess.Popen[str], code: int = 0, says: str = "well", limit: int = 500
) -> None:
    """See that a script ends with this exit code, having said this and no other word."""
    try:
        out, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
        pytest.fail(f"still running after {limit} s: {out}\n{errors}")
    assert (process.returncode, out.strip(), errors) == (code, says, "")


# --- Processes ------------------------------------------------------------------------------------

METHODS = """
def child(net, pipe):
    \"\"\"Train from scratch, and go on with a network that came with its optimizer's state.\"\"\"
    net.fit(*data(), epochs=2)
    pipe.send((bits(trained()), net))

def ask(context, net):
    here, there = context.Pipe()
    process = context.Process(target=child, args=(net, there))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    assert process.exitcode == 0, process.exitcode
    return found

if __name__ == "__main__":
    want, net = bits(trained()), trained()
    context = multiprocessing.get_context(sys.argv[2])
    for _ in range(2):
        found, longer = ask(context, net)
        assert found == want
        assert longer.epochs == 5 and net.epochs == 3
    net.fit(*data(), epochs=2)
    assert bits(longer) == bits(net)
    assert longer.predict_proba(data()[0]).tobytes() == net.predict_proba(data()[0]).tobytes()
    print("well")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_multiprocessing_start_methods_train(tmp_path: Path, backend: str, method: str) -> None:
    """A child process that trains, or continues a pickled network, gets its parent's results."""
    if not POSIX and method != "spawn":
        pytest.skip("needs fork")
    end(start(tmp_path, METHODS, backend, method))


FORK_MEANWHILE = """
want, before = bits(trained()), network()
proba = before.predict_proba(data()[0]).tobytes()
busy, stop = network(), threading.Event()
started = threading.Event()

def keep_training():
    def look(net, record):
        started.set()
        return stop.is_set()
    busy.fit(*data(4000), epochs=10**9, batch_size=500, callbacks=look)

thread = threading.Thread(target=keep_training, daemon=True)
thread.start()
started.wait()
for k in range(20):
    time.sleep(0.003 * k)
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            signal.alarm(60)
            assert bits(trained(1 + k % 3)) == want
            assert before.predict_proba(data()[0]).tobytes() == proba
            # Whose training went on in the parent alone.
            try:
                busy.fit(*data(), epochs=1)
            except RuntimeError as error:
                found = f"by process {os.getppid()} when it forked process {os.getpid()}"
                assert found in str(error)
                assert "fork before fit or after it" in str(error)
                failed = 0
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(failed)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, (k, status)
stop.set()
thread.join()
assert bits(trained()) == want
print("well")
"""


@pytest.mark.skipif(not POSIX, reason="needs fork")
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"])
def test_fork_while_another_thread_trains(tmp_path: Path, backend: str) -> None:
    """The child works; the network that was in training says that it is, and so hangs nobody."""
    end(start(tmp_path, FORK_MEANWHILE, backend))


FORK_IN_A_CALLBACK = """
def fork(net, record):
    global child
    if record.epoch == 2:
        child = os.fork()

net = network()
net.fit(*data(), epochs=4, callbacks=fork)
twin = network()
twin.fit(*data(), epochs=4)
same = bits(net) == bits(twin)
if child == 0:
    os._exit(0 if same else 3)
assert same
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("well")
"""


@pytest.mark.skipif(not POSIX, reason="needs fork")
@pytest.mark.parametrize("backend", BACKENDS)
def test_fork_in_the_middle_of_training(tmp_path: Path, backend: str) -> None:
    """Both the parent and the child go on to the end."""
    end(start(tmp_path, FORK_IN_A_CALLBACK, backend))


# --- The end of the interpreter -------------------------------------------------------------------

EXIT = """
net, started = network(), threading.Event()
def look(net, record):
    started.set()
    # A daemon never ends; another thread is waited for, and ends of itself.
    return sys.argv[2] == "waited for" and net.epochs >= 50

def work():
    net.fit(*data(4000), epochs=10**9, batch_size=500, callbacks=look)

thread = threading.Thread(target=work, daemon=sys.argv[2] == "daemon")
thread.start()
started.wait()
time.sleep(float(sys.argv[3]))
atexit.register(print, "well", flush=True)
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["daemon", "waited for"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_interpreter_exits_while_a_thread_trains(
    tmp_path: Path, backend: str, kind: str
) -> None:
    """The exit code is the one asked for, and nothing hangs, crashes or complains."""
    for seconds in (0.0, 0.03, 0.1) if backend == "cython" else (0.03,):
        end(start(tmp_path, EXIT, backend, kind, str(seconds)), 3)


TERMINATE = """
if sys.argv[2] == "handled":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    atexit.register(print, "well", flush=True)
net = network()
def ready(net, record):
    if record.epoch == 3:
        print("training", file=sys.stderr, flush=True)
try:
    net.fit(*data(4000), epochs=10**9, batch_size=500, callbacks=ready)
except SystemExit:
    assert len(net.history) == net.epochs > 0
    assert len(net.fit(*data(), epochs=1)) == 1
    raise
"""


@pytest.mark.skipif(not POSIX, reason="needs SIGTERM")
@pytest.mark.parametrize("handled", ["handled", "not handled"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sigterm(tmp_path: Path, backend: str, handled: str) -> None:
    """It ends the process, or does what a handler says, with a network that can be used."""
    process = start(tmp_path, TERMINATE, backend, handled)
    assert process.stderr is not None
    assert process.stderr.readline() == "training\n"
    process.send_signal(signal.SIGTERM)
    if handled == "handled":
        end(process, 7)
    else:
        end(process, -signal.SIGTERM, "")


# --- Interrupts -----------------------------------------------------------------------------------

INTERRUPT = """
if sys.argv[2] == "a batch of many rows":
    rows, batch = 20_000, None
else:
    rows, batch = 3000, 7
x, y = data(rows)
x = np.tile(x, (1, 20))
seed = 1

def make():
    return pynn.Network([600, 300, 100, 3], dropout=0.1, threads=2, seed=seed, backend=backend)

class Failed(Exception):
    pass

def until(count):
    \"\"\"Raise at this update.\"\"\"
    def look(net, record):
        if net.updates == count:
            raise Failed
    return pynn.Every(1, look)

make().fit(x[:500], y[:500], epochs=1, batch_size=100)  # compiles, and starts threads
settle(99)
most = len(tasks()) + 2  # some teams of two may be kept for the next training
interrupted = 0
for seed in range(3):
    net = make()
    def ask():
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Timer(0.1 + 0.2 * seed, ask)
    timer.start()
    try:
        net.fit(x, y, epochs=10**6, batch_size=batch, learning_rate=1e-6)
    except KeyboardInterrupt:
        interrupted += 1
    timer.join()
    settle(most)
    # As an exception in a callback would have left it, at the same update.
    twin = make()
    if net.updates:
        try:
            twin.fit(x, y, epochs=10**6, batch_size=batch, learning_rate=1e-6,
                     callbacks=until(net.updates))
        except Failed:
            pass
    settle(most)
    assert net.updates == twin.updates
    whole, rest = divmod(net.updates, -(-rows // (batch or rows)))
    for one in (net, twin):
        # After its last step an epoch may have been counted, or not yet.
        assert one.epochs == len(one.history), (one.epochs, len(one.history))
        assert one.epochs == whole or (rest == 0 and one.epochs == whole - 1), one.updates
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    if net.updates:
        assert all(map(np.array_equal, net._model.vectors, twin._model.vectors))
    # And usable.
    proba = net.predict_proba(x[:50]).tobytes()
    net.weights[0][0, 0] += 0
    assert len(net.fit(x[:500], y[:500], epochs=2)) == 2
    assert pickle.loads(pickle.dumps(net)).predict_proba(x[:50]).tobytes() != proba
assert interrupted == 3
print("well")
"""


@pytest.mark.skipif(not LINUX, reason="needs Linux's /proc")
@pytest.mark.parametrize("what", ["a batch of many rows", "small batches"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c(tmp_path: Path, backend: str, what: str) -> None:
    """It ends training between two updates and leaves nothing running; so does an exception."""
    end(start(tmp_path, INTERRUPT, backend, what))


# --- What is left behind --------------------------------------------------------------------------

LEAKS = """
count, alive = int(sys.argv[2]), weakref.WeakSet()
x, y = data(64)

def once(k):
    sizes = [30, 200, 100, 3]
    net = pynn.Network(sizes, dropout=0.1, threads=1 + k % 3, seed=k, backend=backend)
    net.fit(x, y, epochs=1, batch_size=40, validation=0.2)
    net.predict(x)
    net.evaluate(x, y)
    net.loss_and_gradient(x, y)
    alive.add(net)

def measure():
    gc.collect()
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return memory, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

for k in range(count // 5):
    once(k)
gc.collect()
settle(99)
before = measure()
for k in range(count):
    once(k)
gc.collect()
settle(before[1] - 1)
after = measure()
assert not alive, len(alive)
assert after[1:] <= before[1:], (before, after)
# A network and its training take 0.1 MB each, or more.
assert after[0] - before[0] < 1e6 + 0.01e6 * count, (before, after)
print("well")
"""


@pytest.mark.slow
@pytest.mark.skipif(not LINUX, reason="needs Linux's /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_dropped_networks_leave_nothing_behind(tmp_path: Path, backend: str) -> None:
    """Neither memory, nor threads, nor open files."""
    count = {"cython": 1000, "numba": 40, "numpy": 100}[backend]
    end(start(tmp_path, LEAKS, backend, str(count)))


# --- Many threads of Python -----------------------------------------------------------------------


def in_threads(*jobs: Callable[[], object]) -> list[Any]:
    """Run all at once, and return what each returned."""
    found: list[object] = [None] * len(jobs)
    gate = threading.Barrier(len(jobs))

    def work(k: int) -> None:
        gate.wait()
        try:
            found[k] = jobs[k]()
        except BaseException as error:
            found[k] = error

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("threads", [3, None])
@pytest.mark.parametrize("backend", BACKENDS)
def test_some_train_while_others_predict(backend: str, threads: int | None) -> None:
    """Two networks in training, and one that many predict from, few rows and many."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 40)).astype(np.float32)
    y = rng.integers(0, 3, 1500)

    def network(seed: int) -> pynn.Network:
        return pynn.Network([40, 64, 32, 3], seed=seed, threads=threads, backend=backend)

    def train(seed: int) -> bytes:
        net = network(seed)
        net.fit(x, y, epochs=3, batch_size=50)
        return net.parameters.tobytes()

    asked = network(9)
    asked.fit(x, y, epochs=1)

    def predict(rows: int) -> list[object]:
        found = []
        for _ in range(20):
            part = x[:rows]
            found += [asked.predict_proba(part).tobytes(), asked.evaluate(part, y[:rows])]
        return found

    jobs: list[Callable[[], object]] = [partial(train, s) for s in (1, 2)]
    jobs += [partial(predict, n) for n in (1, 7, 16, 17, 700, 1500)]
    alone = [job() for job in jobs]
    assert in_threads(*jobs) == alone


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_is_trained_by_one_thread_at_a_time(backend: str) -> None:
    """Each of many threads trains whole epochs or gets an error: no epoch is lost or mixed."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)), rng.integers(0, 3, 200)
    net = pynn.Network([5, 8, 3], backend=backend)

    def train() -> int:
        try:
            return len(net.fit(x, y, epochs=20))
        except RuntimeError as error:
            if "fit: found another call of fit on this network" not in str(error):
                raise
            return 0

    done = in_threads(*[train] * 6)
    assert set(done) <= {0, 20}
    assert net.epochs == len(net.history) == sum(done) >= 20
    twin = pynn.Network([5, 8, 3], backend=backend)
    twin.fit(x, y, epochs=net.epochs)
    assert twin.parameters.tobytes() == net.parameters.tobytes()


def test_training_between_two_runs_is_detected() -> None:
    """Another thread trains the network while this one still looks at its data."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 5)), rng.integers(0, 3, 50)
    net = pynn.Network([5, 8, 3], backend="numpy")

    class Slow:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            in_threads(lambda: net.fit(x, y, epochs=2))
            return x

    with pytest.raises(RuntimeError, match="fit: found another call of fit on this network"):
        net.fit(Slow(), y, epochs=3, schedule="cosine")
    assert net.epochs == len(net.history) == 2
    assert len(net.fit(x, y, epochs=3, schedule="cosine")) == 3


# --- Without the GIL ------------------------------------------------------------------------------


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL for good"
)
def test_the_gil_stays_off(tmp_path: Path) -> None:
    """A free-threaded Python turns it on for a module that does not say it can do without."""
    pytest.importorskip("pynn.backends.cython._core")
    code = """
        assert not sys._is_gil_enabled()
        import pynn.backends.cython._core
        trained()
        assert not sys._is_gil_enabled()
        print("well")
    """
    end(start(tmp_path, code, "cython"))
