"""The benchmark of small steps: it runs, and the libraries compute the same gradients."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import small


def test_the_table_has_a_row_for_each_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "CASES", small.CASES[1:4])
    monkeypatch.setattr(small, "contestants", lambda compiled: {"pynn": small.tape_step})
    small.main(["--seconds", "0"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| µs per step, one thread | pynn |"
    assert [row.split(" | ")[0] for row in rows] == [f"| {case}" for case in small.CASES]


def test_modules_of_pytorch_and_pynn_take_the_same_steps() -> None:
    torch = pytest.importorskip("torch")
    from pynn.torch import MLP

    case = small.Case((5, 8, 2), 10, "tanh")
    layers, module = small.torch_layers(case), MLP(case.sizes, case.activation)
    with torch.no_grad():
        for mine, its in zip(module.parameters(), layers.parameters(), strict=True):
            mine.copy_(its)
    for model in (layers, module):
        step = small.torch_step(case, model)
        for _ in range(3):
            step()
    for mine, its in zip(module.parameters(), layers.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach(), its.detach(), atol=1e-5)
