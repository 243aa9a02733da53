"""``groups``: learning rates and decays of single arrays of parameters."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose, gaps
from pynn.backends.contract import Data, TrainerSettings, UpdateSettings
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from pynn.spec.groups import Group, Groups
from pynn.training import fit as training
from pynn.training.job import Arguments
from tests.networks import make
from tests.parity import (
    BF16_GRADIENT,
    OPTIMIZERS,
    SEED,
    VARIANTS,
    Case,
    Problem,
    assert_follows_reference,
    assert_identical,
    compressed,
    instruction_set,
    mostly_zeros,
    of_weights,
    problem,
    some_weights,
    train,
)

ISAS = [isa for backend, isa in VARIANTS if backend == "cython"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def groups_of(net: Architecture, coupled: float = 0.3, decoupled: float = 1.7) -> Groups:
    """Different rates and decays of all arrays, one of each kind 0."""
    layers = []
    for k in range(net.n_layers):
        n = 2 + net.norm_vectors(k)
        layers.append(
            tuple(
                Group(
                    rate=(k + j) % 4 * 0.6,
                    decay=(k + 2 * j) % 3 * coupled,
                    decoupled=(2 * k + j) % 3 * decoupled,
                )
                for j in range(n)
            )
        )
    return tuple(layers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend, isa", VARIANTS)
def test_backends_follow_the_reference(backend: str, isa: str | None, dtype: str) -> None:
    """Every optimizer, and all other settings, for layers of odd sizes and any threads."""
    net = Architecture.build([17, 33, 3, 40, 1, 5], "tanh", dropout=0.1, dtype=dtype)
    given, groups = problem(net, 73), groups_of(net)
    more: dict[str, Any] = {
        "l1": 0.002, "clip_norm": 0.3, "max_norm": 0.9, "frozen": (1,), "ema": 0.9,
        "sample_weight": some_weights(73),
    }  # fmt: skip
    with instruction_set(isa) if isa else nullcontext():
        for optimizer, rate in OPTIMIZERS:
            case = Case(optimizer=optimizer, rate=rate, groups=groups, steps=20)
            run = assert_follows_reference(backend, net, given, case)
            assert_identical(train(backend, net, given, case.but(threads=1)), run)
        for batch_size in (10, 2):
            case = case.but(batch_size=batch_size, **more)
            run = assert_follows_reference(backend, net, given, case)
            assert_identical(train(backend, net, given, case.but(threads=3, slices=7)), run)
        case = Case(
            batch_size=1300, steps=5, optimizer=optimizers.Adam(), groups=groups, rate=0.003
        )
        assert_follows_reference(backend, net, problem(net, 1499), case)


@pytest.mark.parametrize("isa", ISAS)
def test_other_paths_of_the_core_follow_the_reference(isa: str) -> None:
    """Normalisation; first layers that skip zeros; layers of several blocks."""
    rng = np.random.default_rng(5)
    # A small ε would enlarge rounding errors of gradients that are nearly 0.
    rules: Any = [(optimizers.SGD(), 0.03), (optimizers.Adam(epsilon=1e-4), 0.003)]
    with instruction_set(isa):
        for norm in ("batch", "layer", "rms"):
            net = Architecture.build([9, 17, 12, 3], norm=norm, dtype="float64")
            for optimizer, rate in rules:
                case = Case(optimizer=optimizer, rate=rate, groups=groups_of(net), clip_norm=0.4)
                assert_follows_reference("cython", net, problem(net, 70), case)
        for width in (20, 70):
            net = Architecture.build([90, width, 5], "relu", dtype="float64")
            given = mostly_zeros(net, 73, share=0.95)
            rows = Problem(given.parameters, compressed(given.x, rng, "float64"), given.y)
            for optimizer, rate in rules:
                for decoupled in (0.0, 1.7):
                    groups = groups_of(net, decoupled=decoupled)
                    case = Case(optimizer=optimizer, rate=rate, groups=groups)
                    run = assert_follows_reference("cython", net, given, case)
                    assert_identical(train("cython", net, given, case.but(threads=3)), run)
                    assert_follows_reference("cython", net, rows, case.but(batch_size=7))
        net = Architecture.build([300, 300, 260], "tanh", dtype="float64")
        for optimizer, rate in rules:
            case = Case(
                batch_size=30, steps=4, optimizer=optimizer, rate=rate, groups=groups_of(net)
            )
            run = assert_follows_reference("cython", net, problem(net, 60), case)
            assert_identical(train("cython", net, problem(net, 60), case.but(threads=3)), run)


@pytest.mark.parametrize("backend", ["numpy", *dict.fromkeys(name for name, _ in VARIANTS)])
def test_an_update_with_a_gradient_has_groups(backend: str) -> None:
    for settings in ({}, {"norm": "layer"}):
        net = Architecture.build([20, 17, 3], dtype="float64", **settings)
        if gaps.lacking_of(backend, net):
            continue
        given, groups = problem(net, 24), groups_of(net)
        engine = choose.create(backend, net, 2)
        _, gradient = engine.objective(
            Data(given.x, given.y), TrainerSettings(optimizer=optimizers.Adam(), batch_size=24)
        )(given.parameters)
        case = Case(optimizer=optimizers.AdamW(), rate=0.01, groups=groups, batch_size=24, steps=1)
        parameters = given.parameters.copy()
        state = [np.zeros_like(parameters) for _ in range(2)]
        rule = UpdateSettings(optimizer=case.optimizer, rate=0.01, updates=0, groups=groups)
        engine.update(parameters, state, gradient, rule)
        want = train("numpy", net, given, case)
        for found, expected in zip((parameters, *state), want.vectors, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        # Without groups the next update has the optimizer's own decay again.
        same = [v.copy() for v in (parameters, *state)]
        plain = UpdateSettings(optimizer=case.optimizer, rate=0.01, updates=1)
        engine.update(parameters, state, gradient, plain)
        choose.create("numpy", net, 1).update(same[0], same[1:], gradient, plain)
        np.testing.assert_allclose(parameters, same[0], rtol=0, atol=1e-12)


def test_rounded_products() -> None:
    try:
        net = Architecture.build([20, 40, 5], precision="bf16")
        choose.create("cython", net, 2)
    except ImportError:
        pytest.skip("needs bfloat16")
    given = problem(net, 64)
    groups = ((Group(0.5, 0.3), Group()), (Group(2.0, 0.1, 1.7), Group(0.1)))
    case = Case(optimizer=optimizers.SGD(), groups=groups, batch_size=32, steps=1)
    got, want = train("cython", net, given, case), train("numpy", net, given, case)
    errors = of_weights(net, got.parameters, want.parameters, given.parameters)
    assert max(errors) < 10 * BF16_GRADIENT


def test_groups_replace_the_decay_of_the_optimizer() -> None:
    net = Architecture.build([4, 6, 3], dtype="float64")
    given = problem(net, 30)
    groups = tuple((Group(decoupled=0.1), Group()) for _ in range(2))
    rule = optimizers.AdamW(weight_decay=0.1)
    whole = train("numpy", net, given, Case(optimizer=rule, rate=0.01))
    for optimizer in (optimizers.AdamW(weight_decay=7.0), optimizers.Adam()):
        found = train("numpy", net, given, Case(optimizer=optimizer, rate=0.01, groups=groups))
        np.testing.assert_allclose(found.parameters, whole.parameters, rtol=0, atol=1e-12)


def arguments_of(net: pynn.Network, **settings: Any) -> Arguments:
    """Arguments of ``fit`` with settings that only interfaces to other libraries have."""
    given: dict[str, Any] = {
        **dict.fromkeys(Arguments.__dataclass_fields__),
        "x": X,
        "y": Y,
        "missing_targets": "error",
        "epochs": 2,
        "batch_size": 16,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "l2": 0.0,
        "l1": 0.0,
        "label_smoothing": 0.0,
        "training_metrics": False,
        "stratify": True,
        "shuffle": True,
        "callbacks": (),
        "progress": False,
        "resume": False,
        "groups": (),
    }
    return Arguments(**{**given, **settings})


def fit(net: pynn.Network, **settings: Any) -> Any:
    given = arguments_of(net, **settings)
    return training.fit(net, net._model, net._engine, net._lock, given)


def test_a_run_resumes_with_equal_groups_only(tmp_path: Path) -> None:
    groups = groups_of(make((4, 6, 3)).architecture)
    whole, resumed, again = make((4, 6, 3)), make((4, 6, 3)), make((4, 6, 3))
    fit(whole, epochs=4, groups=groups)
    run: dict[str, Any] = {"checkpoint": pynn.Checkpoint(tmp_path / "run", epochs=1)}
    fit(resumed, groups=groups, **run)
    with pytest.raises(ValueError, match=r"groups: found None, but the run in .* \[\[\[0.0"):
        fit(again, epochs=4, resume=True, **run)
    fit(again, epochs=4, resume=True, groups=groups, **run)
    np.testing.assert_array_equal(again.parameters, whole.parameters)


def test_groups_that_are_refused() -> None:
    net, groups = make((4, 6, 3)), groups_of(make((4, 6, 3)).architecture)
    with pytest.raises(ValueError, match=r"groups: found \[2\] groups .* expected \[2, 2\]"):
        fit(net, groups=groups[:1])
    with pytest.raises(TypeError, match=r"groups\[0\]\[1\]: found 1, expected a Group"):
        fit(net, groups=((Group(), 1), groups[1]))
    with pytest.raises(ValueError, match="l2: found 0.1 with groups"):
        fit(net, groups=groups, l2=0.1)
    with pytest.raises(ValueError, match=r"layer_rates: found \(1.0, 2.0\) with groups"):
        fit(net, groups=groups, layer_rates=[1, 2])
    with pytest.raises(ValueError, match="groups: found .* with the convention 'sklearn'"):
        TrainerSettings(
            optimizer=optimizers.SGD(), batch_size=1, groups=groups, convention="sklearn", seed=SEED
        )
    with pytest.raises(ValueError, match=r"Group.decay: found -1, expected a finite number of 0"):
        Group(decay=-1)


# --- PyTorch --------------------------------------------------------------------------------------

TORCH: list[tuple[str, dict[str, Any], optimizers.Optimizer, str]] = [
    ("SGD", {}, optimizers.SGD(), "decay"),
    ("Adam", {}, optimizers.Adam(), "decay"),
    ("Adam", {"amsgrad": True}, optimizers.AMSGrad(), "decay"),
    ("AdamW", {}, optimizers.Adam(), "decoupled"),
    ("AdamW", {"amsgrad": True}, optimizers.AMSGrad(weight_decay=0.3), "decoupled"),
    ("NAdam", {}, optimizers.NAdam(), "decay"),
    ("NAdam", {"decoupled_weight_decay": True}, optimizers.NAdam(), "decoupled"),
    ("RMSprop", {"alpha": 0.9}, optimizers.RMSProp(), "decay"),
    ("Adagrad", {}, optimizers.Adagrad(), "decay"),
]


@pytest.mark.parametrize("backend", ["numpy", *dict.fromkeys(name for name, _ in VARIANTS)])
def test_parameter_groups_of_pytorch(backend: str) -> None:
    """With and without a limit of the gradient, which precedes the decays."""
    torch = pytest.importorskip("torch")
    x, y = torch.tensor(X), torch.tensor(Y)
    for i, (name, options, rule, kind) in enumerate(TORCH):
        clip_norm = 0.2 if i % 2 else None
        net = make((4, 6, 3), activation="tanh", dtype="float64", backend=backend)
        layers = [torch.nn.Linear(*shape, dtype=torch.float64) for shape in ((4, 6), (6, 3))]
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight.data, layer.bias.data = torch.tensor(w.T), torch.tensor(b)
        groups = tuple(
            tuple(Group(**{"rate": k + 0.5 * j, kind: 0.03 * k + 0.02 * j}) for j in range(1, 3))
            for k in range(2)
        )
        arrays = [p for layer in layers for p in layer.parameters()]
        parts = [
            {"params": [p], "lr": 0.01 * g.rate, "weight_decay": getattr(g, kind)}
            for p, g in zip(arrays, [g for layer in groups for g in layer], strict=True)
        ]
        theirs = getattr(torch.optim, name)(parts, **options)
        for _ in range(100):
            theirs.zero_grad()
            z = layers[1](torch.tanh(layers[0](x)))
            torch.nn.functional.cross_entropy(z, y).backward()
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(arrays, clip_norm)
            theirs.step()
        fit(net, epochs=100, batch_size=None, optimizer=rule, groups=groups, clip_norm=clip_norm)
        # PyTorch keeps NAdam's product of momenta in the default dtype, float32.
        limit = 1e-8 if name == "NAdam" else 1e-9
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            np.testing.assert_allclose(w, layer.weight.detach().numpy().T, rtol=0, atol=limit)
            np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=0, atol=limit)
