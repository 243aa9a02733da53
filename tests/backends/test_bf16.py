"""``precision="bf16"``: what is rounded, in the reference and the compiled core, and who refuses.

Where every sum comes out on the same side of the edge between two bfloat16, the core and the
reference differ by the order of float32 sums alone, a millionth. Where one does not, an operand
differs by 2⁻⁸ of itself; in networks as small as these that happens in one run of a few. So a
trajectory is run from five seeds, most of which must be alike; and one gradient, in which the few
values on an edge cannot add up, is held to less than any operand left unrounded would make.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn.backends import choose, reference
from pynn.files.tensors import load_tensors, save_tensors
from pynn.spec import names, optimizers
from pynn.spec.architecture import Architecture
from tests.parity import (
    BF16_GRADIENT,
    OPTIMIZERS,
    Case,
    Problem,
    assert_identical,
    compressed,
    mostly_zeros,
    new_trainer,
    objective,
    of_weights,
    problem,
    some_weights,
    train,
)

norm = np.linalg.norm
HERE = not choose.available()["cython"] and pynn.info()["bf16"]
needs_bf16 = pytest.mark.skipif(not HERE, reason="needs AVX512-BF16")
ISAS = [isa for isa in ("avx512", "amx") if HERE and isa in pynn.info()["isas"]]

SIZES = [[17, 33, 20, 16], [70, 64, 33, 17], [3, 17, 33, 70], [33, 70, 17, 16], [33, 65, 16, 3]]
PENALTIES = {"l1": 0.002, "clip_norm": 0.3, "max_norm": 0.9}
OFF = dict.fromkeys(PENALTIES, 0.0)
# Of the way that the weights of each layer have gone: of most seeds, and of any.
MOST, ANY = 5e-4, 0.2


@pytest.fixture(params=ISAS)
def core(request):
    """The compiled core with one of its sets of kernels, and its scratch memory poisoned."""
    from pynn.backends.cython import _core

    before, poisoned = _core.use_isa(request.param), _core.poison(True)
    yield _core
    _core.poison(poisoned)
    _core.use_isa(before)


# --- The reference -------------------------------------------------------------------------------


def test_rounding_to_the_nearest_bfloat16() -> None:
    rng = np.random.default_rng(0)
    a = (rng.normal(size=1000) * 2.0 ** rng.integers(-120, 120, 1000)).astype(np.float32)
    a = np.concatenate([a, np.float32([1.00390625, 1.01171875, -1.00390625, 0, 255.5])])
    m, e = np.frexp(a.astype(np.float64))
    want = np.ldexp(np.round(m * 2**8), e - 8)  # np.round takes the even one of two as near
    assert (reference.to_bf16(a) == want).all()
    assert reference.to_bf16(a[-5:]).tolist() == [1, 1.015625, -1, 0, 256]
    assert (reference.to_bf16(reference.to_bf16(a)) == reference.to_bf16(a)).all()
    odd = np.float32([np.nan, -np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -0.0])
    odd = np.concatenate([odd, np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)])
    with np.errstate(all="raise"):
        found = reference.to_bf16(odd)
    assert np.isnan(found[[0, 1, 6, 7]]).all()
    assert found[2:5].tolist() == [np.inf, -np.inf, np.inf]
    assert np.signbit(found[5])


def test_a_layer_of_few_outputs_is_not_rounded() -> None:
    net = Architecture.build([40, 16, 15, 17], precision="bf16")
    assert [net.rounds(k) for k in range(3)] == [True, False, True]
    assert not any(Architecture.build([40, 16, 15, 17]).rounds(k) for k in range(3))
    few = Architecture.build([40, 15, 10], precision="bf16")
    data = problem(few, 50)
    full = Architecture.build([40, 15, 10])
    for name in ["numpy", *(["cython"] if HERE else [])]:
        rounded, exact = (train(name, net, data, Case()) for net in (few, full))
        assert (rounded.parameters == exact.parameters).all()


# --- The compiled core against it -----------------------------------------------------------------


def gradients(net: Architecture, seed: int, engine) -> np.ndarray:
    return objective(engine, problem(net, 73, seed=seed))[1]


@needs_bf16
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_bf16_gradient_follows_the_reference(core, sizes, activation) -> None:
    net = Architecture.build(sizes, activation, precision="bf16")
    for seed in range(5):
        got = gradients(net, seed, core.Engine(net, 2))
        want = gradients(net, seed, reference.Engine(net))
        assert max(of_weights(net, got, want)) <= BF16_GRADIENT
        assert norm(got - want) / norm(want) <= BF16_GRADIENT


@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
@pytest.mark.parametrize("product", ["forward", "backward", "gradient"])
@pytest.mark.parametrize("sizes", SIZES[:4], ids=str)
def test_the_gradient_test_detects_an_operand_that_is_not_rounded(
    monkeypatch, sizes, product, left
) -> None:
    net = Architecture.build(sizes, "tanh", precision="bf16")
    honest = reference.multiply
    done: list[str] = []

    def multiply(net, layer, a, b):
        turn = len(done) - net.n_layers
        done.append("forward" if turn < 0 else "backward" if turn % 2 else "gradient")
        if done[-1] != product:
            return honest(net, layer, a, b)
        return a @ reference.to_bf16(b) if left else reference.to_bf16(a) @ b

    for seed in range(5):
        want = gradients(net, seed, reference.Engine(net))
        with monkeypatch.context() as patch:
            patch.setattr(reference, "multiply", multiply)
            found = gradients(net, seed, reference.Engine(net))
        assert done == ["forward"] * 3 + ["gradient", "backward"] * 2 + ["gradient"]
        done.clear()
        assert max(of_weights(net, found, want)) > 1.5 * BF16_GRADIENT


def assert_same_way(net, of_data, case, most=MOST) -> None:
    """Five runs on the compiled core and on the reference go the same way."""
    found = []
    for seed in range(5):
        data = of_data(seed)
        got, want = (train(name, net, data, case) for name in ("cython", "numpy"))
        found.append(max(of_weights(net, got.parameters, want.parameters, data.parameters)))
        for g, w in zip(got.state, want.state, strict=True):
            found[-1] = max(found[-1], norm(g - w) / norm(w))
        assert np.abs(got.sums[:, 0] / want.sums[:, 0] - 1).max() <= 0.05
    assert np.median(found) <= most, found
    assert max(found) <= ANY, found


@needs_bf16
@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
@pytest.mark.parametrize("batch_size", [1, 3, 17, 33, 73])
def test_bf16_follows_the_reference_with_every_optimizer(core, optimizer, rate, batch_size) -> None:
    net = Architecture.build([17, 33, 3, 21], "tanh", dropout=[0.3, 0.1], precision="bf16")
    case = Case(optimizer=optimizer, rate=rate, l2=0.01, batch_size=batch_size, steps=20, threads=3)
    assert_same_way(net, lambda seed: problem(net, 73, seed=seed), case)


@needs_bf16
@pytest.mark.parametrize(
    "penalties",
    [{"l1": 0.002}, {"clip_norm": 0.3}, {"max_norm": 0.9}, PENALTIES],
    ids=lambda given: "-".join(given),
)
def test_bf16_follows_the_reference_with_penalties_and_limits(core, penalties) -> None:
    """Gradients and weights are float32 there; weights are rounded again after ``max_norm``."""
    net = Architecture.build([17, 33, 20, 16], "tanh", precision="bf16")
    case = Case(optimizer=optimizers.Adam(), rate=0.003, l2=0.01, steps=20, threads=1, **penalties)
    assert_same_way(net, lambda seed: problem(net, 73, seed=seed), case)
    given = problem(net, 73)
    alone, without = (train("cython", net, given, one) for one in (case, case.but(**OFF)))
    assert (alone.parameters != without.parameters).any()
    assert_identical(train("cython", net, given, case.but(threads=3, slices=7)), alone)


@needs_bf16
@pytest.mark.parametrize("sizes", [[1, 16], [1, 1, 16], [3, 17, 3, 16], *SIZES], ids=str)
@pytest.mark.parametrize("activation", ["sigmoid", "gelu"])
def test_bf16_follows_the_reference_at_odd_sizes(core, sizes, activation) -> None:
    dropout = 0.2 if len(sizes) > 2 else 0.0
    net = Architecture.build(sizes, activation, dropout=dropout, precision="bf16")
    for optimizer, rate in ((optimizers.SGD(), 0.1), (optimizers.Adam(), 0.003)):
        case = Case(optimizer=optimizer, rate=rate, batch_size=15, steps=12)
        assert_same_way(net, lambda seed: problem(net, 40, seed=seed), case)


@pytest.mark.slow
@needs_bf16
@pytest.mark.parametrize(
    "sizes, rows, batch_size", [([20, 40, 3], 1499, 1299), ([300, 301, 260], 60, 31)]
)
def test_bf16_follows_the_reference_in_chunks_and_blocks(core, sizes, rows, batch_size) -> None:
    # So many values that some are always on an edge.
    net = Architecture.build(sizes, "tanh", dropout=0.2, precision="bf16")
    for optimizer, rate in ((optimizers.SGD(), 0.02), (optimizers.Adam(), 0.003)):
        case = Case(optimizer=optimizer, rate=rate, batch_size=batch_size, l2=0.1, steps=6)
        assert_same_way(net, lambda seed: problem(net, rows, seed=seed), case, most=3e-3)


@needs_bf16
@pytest.mark.parametrize("convention", names.CONVENTIONS)
def test_bf16_follows_the_reference_with_weights_and_conventions(core, convention) -> None:
    net = Architecture.build([9, 33, 18], "tanh", None, "binary_cross_entropy", precision="bf16")
    case = Case(sample_weight=some_weights(45), convention=convention, l2=0.3, steps=12, rate=0.05)
    assert_same_way(net, lambda seed: problem(net, 45, "yes-no", seed), case)


def pixels(net: Architecture, seed: int):
    parameters, _, y = problem(net, 90, seed=seed)
    x = np.random.default_rng(seed).integers(0, 256, (90, net.n_in), np.uint8)
    return Problem(parameters, x, y)


@needs_bf16
def test_pixels(core) -> None:
    net = Architecture.build([33, 20, 16], "tanh", precision="bf16")
    case = Case(batch_size=15, steps=12, rate=0.05)
    assert_same_way(net, lambda seed: pixels(net, seed), case)


@needs_bf16
@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("batch_size", [31, 64, 200])
@pytest.mark.parametrize("kind", ["zeros", "compressed"])
def test_zeros_of_x_are_skipped(core, kind, optimizer, batch_size) -> None:
    net = Architecture.build([150, 270, 5], "tanh", precision="bf16")

    def data(seed):
        parameters, x, y = mostly_zeros(net, 1150)
        parameters = parameters + np.float32(0.001 * seed)
        if kind == "compressed":
            x = compressed(x, np.random.default_rng(2), "float32")
        return Problem(parameters, x, y)

    # Tiles of AMX are done with all of these before a list of what is not zero is made.
    skips = kind == "compressed" or core.info()["isa"] != "amx"
    assert new_trainer(core.Engine(net, 2), data(0), Case(batch_size=9)).sparse == skips
    case = Case(batch_size=batch_size, optimizer=optimizer, rate=0.01, l2=0.01, steps=5)
    assert_same_way(net, data, case, most=3e-3)
    one = train("cython", net, data(0), case.but(threads=1))
    for threads in (2, 3, 5):
        assert_identical(train("cython", net, data(0), case.but(threads=threads)), one)
    for scale in (1.0, -0.5):
        given = data(0)._replace(parameters=data(0).parameters * np.float32(scale))
        got, want = (objective(e.Engine(net, 3), given, Case(l2=0.1)) for e in (core, reference))
        assert got[0] == pytest.approx(want[0], rel=1e-4)
        assert max(of_weights(net, got[1], want[1])) <= BF16_GRADIENT


@needs_bf16
@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_bf16_results_do_not_depend_on_the_number_of_threads(core, optimizer, rate) -> None:
    net = Architecture.build([70, 33, 64, 17, 5], "gelu", dropout=0.2, precision="bf16")
    data = problem(net, 711)
    for batch_size in (1, 2, 3, 32, 699):  # fewer rows, and pairs of them, than threads
        case = Case(optimizer=optimizer, rate=rate, batch_size=batch_size, l2=0.01, steps=8)
        one = train("cython", net, data, case.but(threads=1))
        for change in ({"threads": 2, "slices": 3}, *({"threads": n} for n in (2, 3, 5, 9))):
            assert_identical(train("cython", net, data, case.but(**change)), one)


@needs_bf16
@pytest.mark.parametrize("sizes", [[40, 16, 17, 4], [300, 64, 32], [7, 33, 16]], ids=str)
@pytest.mark.parametrize("zeros", [False, True], ids=["dense", "zeros"])
def test_a_bf16_prediction_does_not_depend_on_the_other_rows(core, sizes, zeros) -> None:
    net = Architecture.build(sizes, "gelu", precision="bf16")
    parameters, x, y = mostly_zeros(net, 600) if zeros else problem(net, 600)
    engine, ref = core.Engine(net, 2), reference.Engine(net)
    many = engine.forward(parameters, x)
    for count in (1, 3, 16, 17):
        assert engine.forward(parameters, x[:count]).tobytes() == many[:count].tobytes()
    want = ref.forward(parameters, x)
    assert norm(many - want) <= BF16_GRADIENT * norm(want)
    full = reference.Engine(Architecture.build(sizes, "gelu")).forward(parameters, x)
    assert norm(many - full) > 2 * BF16_GRADIENT * norm(want)
    np.testing.assert_allclose(
        engine.evaluate(parameters, x, y), ref.evaluate(parameters, x, y), rtol=1e-3
    )


@needs_bf16
@pytest.mark.parametrize("place", ["x", "weights"])
def test_nan_reaches_every_bf16_output(core, place) -> None:
    net = Architecture.build([20, 19, 17], "tanh", precision="bf16")
    parameters, x, y = problem(net, 4)
    if place == "x":
        x[:, 7] = np.nan
    else:
        net.views(parameters)[0][0][2, 5] = np.array([0x7F800001], np.uint32).view(np.float32)[0]
    engine = core.Engine(net, 1)
    assert np.isnan(engine.forward(parameters, x)).all()
    assert np.isnan(engine.evaluate(parameters, x, y)[0])


# --- Networks -------------------------------------------------------------------------------------


@pytest.fixture(params=["numpy", pytest.param("cython", marks=needs_bf16)])
def backend(request):
    return request.param


def network(backend: str, precision: str = "bf16", **more) -> pynn.Network:
    return pynn.Network([6, 16, 3], backend=backend, precision=precision, threads=1, **more)


def data_of_three_classes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    return rng.normal(size=(120, 6)) + np.eye(6)[y] * 4, y


def test_a_network_shows_and_keeps_its_precision(backend, tmp_path) -> None:
    net = network(backend)
    assert "float32, bf16, seed 0" in repr(net)
    assert "bf16" not in repr(network(backend, "full"))
    x, y = data_of_three_classes()
    net.fit(x, y, epochs=20, learning_rate=0.01)
    assert net.evaluate(x, y)["accuracy"] > 0.9
    want = net.predict_proba(x)
    net.save(tmp_path / "net.safetensors")
    again = pynn.load(tmp_path / "net.safetensors", backend=backend)
    for other in (again, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.precision == "bf16"
        assert other.predict_proba(x).tobytes() == want.tobytes()
    full = pynn.load(tmp_path / "net.safetensors", backend=backend, precision="full")
    assert full.architecture.precision == "full"
    assert full.parameters.tobytes() == net.parameters.tobytes()
    assert 0 < np.abs(full.predict_proba(x) - want).max() < 0.05
    both = [copy.deepcopy(net).fit(x, y, epochs=3).loss for _ in range(2)]
    assert both[0] == both[1]


def test_files_without_a_precision_load_with_full_precision(backend, tmp_path) -> None:
    network(backend, "full").save(tmp_path / "net.safetensors")
    text = (tmp_path / "net.safetensors").read_bytes()

    tensors, about = load_tensors(tmp_path / "net.safetensors")
    assert about["architecture"].pop("precision") == "full"
    save_tensors(tmp_path / "old.safetensors", tensors, about)
    assert pynn.load(tmp_path / "old.safetensors").architecture.precision == "full"
    assert (tmp_path / "net.safetensors").read_bytes() == text
    about["architecture"]["precision"] = "int4"
    save_tensors(tmp_path / "odd.safetensors", tensors, about)
    with pytest.raises(ValueError, match="not a model .* precision: found 'int4'"):
        pynn.load(tmp_path / "odd.safetensors")


def test_a_checkpoint_of_another_precision_is_refused(backend, tmp_path) -> None:
    pytest.importorskip("safetensors")
    x, y = data_of_three_classes()

    class Stop(Exception):
        pass

    def stop(net, record):
        if record.epoch == 3:
            raise Stop

    def run(precision, path, **more):
        net = network(backend, precision)
        net.fit(x, y, epochs=6, checkpoint=pynn.Checkpoint(path, epochs=1), **more)
        return net

    whole = run("bf16", tmp_path / "whole")
    with pytest.raises(Stop):
        run("bf16", tmp_path / "run", callbacks=[stop])
    with pytest.raises(ValueError, match="precision: found full.*bf16"):
        run("full", tmp_path / "run", resume=True)
    resumed = run("bf16", tmp_path / "run", resume=True)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_wrong_precisions_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="precision: found 'bf61', expected one of full, bf16"):
        network("numpy", "bf61")
    with pytest.raises(ValueError, match="precision: found 'bf16' with dtype float64, expected"):
        network("numpy", dtype="float64")
    network("numpy").save(tmp_path / "net")
    with pytest.raises(ValueError, match="^precision: found 8"):
        pynn.load(tmp_path / "net", precision=8)


@pytest.mark.skipif(choose.available()["numba"] != "", reason="needs numba")
def test_numba_refuses_bf16(tmp_path) -> None:
    with pytest.raises(ImportError, match="precision: found 'bf16' with the backend 'numba'"):
        network("numba")


@pytest.mark.skipif(choose.available()["cython"] != "", reason="needs the compiled core")
def test_instruction_sets_without_bf16_refuse_it(tmp_path) -> None:
    from pynn.backends.cython import _core

    network("numpy").save(tmp_path / "net")
    before = _core.use_isa("plain")
    try:
        assert not pynn.info()["bf16"]
        for backend in ("auto", "cython"):
            for ask in (lambda b: network(b), lambda b: pynn.load(tmp_path / "net", backend=b)):
                with pytest.raises(
                    ImportError, match="precision: found 'bf16' with the instruction set plain"
                ):
                    ask(backend)
        assert pynn.load(tmp_path / "net", precision="full").backend == "cython"
    finally:
        _core.use_isa(before)


@needs_bf16
def test_only_avx512_and_amx_have_bf16_kernels() -> None:
    from pynn.backends.cython import _core

    found = {}
    for isa in _core.info()["isas"]:
        before = _core.use_isa(isa)
        found[isa] = _core.info()["bf16"]
        _core.use_isa(before)
    assert [isa for isa, there in found.items() if there] == ISAS


def _trained_bytes(threads: int) -> bytes:
    x, y = data_of_three_classes()
    net = pynn.Network([6, 48, 32, 3], precision="bf16", threads=threads, seed=1)
    net.fit(x, y, epochs=3, batch_size=50)
    return net.parameters.tobytes()


@needs_bf16
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_keeps_the_instruction_set(core) -> None:
    want = _trained_bytes(2)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_trained_bytes, (2,)).get(60) == want


def _has_amx() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags and "amx_tile" in flags


@needs_bf16
@pytest.mark.skipif(not _has_amx(), reason="needs AMX")
def test_a_build_for_a_machine_with_amx_has_it() -> None:
    # What a compiler is found not to have is left out without a word.
    assert "amx" in pynn.info()["isas"]
