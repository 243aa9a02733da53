"""Ctrl-C and forks while many networks train. The code runs in a process of its own."""

from __future__ import annotations

import os

import pytest

from pynn.backends import choose
from tests.child import python

BACKENDS = [name for name, reason in choose.available().items() if not reason]

INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
import pynn

rng = np.random.default_rng(0)
x, y = rng.normal(size=(60_000, 30)).astype(np.float32), rng.integers(0, 3, 60_000)

def networks(rows):
    return [pynn.Network([30, 40, 20, 3], seed=k, backend=sys.argv[1]) for k in range(4)]

class Failed(Exception):
    pass

for batch in (64, 60_000):
    found, settings = networks(batch), dict(batch_size=batch, learning_rate=1e-5)
    pynn.fit_many(found[:3], x[:200], y[:200], epochs=1)  # compiles
    before, times = [net.updates for net in found], []

    def ask():
        times.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.5, ask).start()
    try:
        pynn.fit_many(found, x, y, epochs=10**6, threads=3, **settings)
    except KeyboardInterrupt:
        print("seconds", time.perf_counter() - times[0])
    assert not [one for one in threading.enumerate() if "fit_many" in one.name]
    assert found[3].updates == 0
    for net in found[:3]:
        # As an exception in a callback would have left it, at the same update.
        twin = networks(batch)[net.seed]
        twin.fit(x[:200], y[:200], epochs=1)

        def until(twin, record):
            if twin.updates == net.updates:
                raise Failed
        if net.updates > before[0]:
            try:
                twin.fit(x, y, epochs=10**6, callbacks=pynn.Every(1, until), **settings)
            except Failed:
                pass
        assert net.parameters.tobytes() == twin.parameters.tobytes()
        assert net.epochs == len(net.history)
        net.weights[0][0, 0] += 0
    pynn.fit_many(found, x[:200], y[:200], epochs=1)
print("well")
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_leaves_every_network_after_a_whole_update(backend):
    done = python(INTERRUPT, backend)
    assert done.stdout.endswith("well\n"), done.stdout + done.stderr
    assert done.stdout.count("seconds") == 2


FORK = """
import os, sys
import numpy as np
import pynn

rng = np.random.default_rng(0)
x, y = rng.normal(size=(300, 5)).astype(np.float32), rng.integers(0, 3, 300)

def networks():
    return [pynn.Network([5, 20, 3], seed=k) for k in range(4)]

def trained():
    found = networks()
    pynn.fit_many(found, x, y, epochs=3, threads=2)
    return [net.parameters.tobytes() for net in found]

expected = trained()
in_training = networks()
children = []

def fork(net, record):
    if net.seed == 0 and record.epoch == 2:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert trained() == expected
                try:
                    pynn.fit_many([net], x, y)
                except pynn.FitManyError as error:
                    code = 0 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        children.append(child)

pynn.fit_many(in_training, x, y, epochs=3, threads=2, callbacks=fork)
assert [net.parameters.tobytes() for net in in_training] == expected
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_in_the_middle_of_training():
    done = python(FORK)
    assert done.stdout == "well\n", done.stdout + done.stderr
