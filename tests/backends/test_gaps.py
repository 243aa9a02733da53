"""Each gap of a backend is refused, and every backend without the gap has the feature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn.backends import choose, gaps
from pynn.backends.contract import Data, ObjectiveSettings
from pynn.spec.architecture import Architecture
from pynn.spec.names import BACKENDS

X, Y = np.eye(6, 4, dtype=np.float32), np.arange(6) % 2


def train(backend: str, x: object = X, sizes: tuple[int, ...] = (4, 3, 2), **more: object) -> None:
    net = pynn.Network(sizes, backend=backend, seed=0, **more)
    net.fit(x, Y, epochs=1, batch_size=4, progress=False)


def custom(backend: str) -> None:
    double = pynn.Activation("double", lambda z: 2 * z, lambda z: 2.0 + 0 * z)
    train(backend, activation=double)


def sparse(backend: str) -> None:
    train(backend, pytest.importorskip("scipy.sparse").csr_matrix(X))


def convention(backend: str) -> None:
    net = Architecture.build([4, 3, 2], dtype="float64")
    engine = choose.create(backend, net, 1)
    data = Data(X.astype(np.float64), Y.astype(np.int32))
    engine.objective(data, ObjectiveSettings(convention="sklearn"))(np.zeros(net.n_parameters))


def profile(backend: str) -> None:
    with pynn.Network([4, 3, 2], backend=backend).profile():
        pass


USES: dict[str, Callable[[str], None]] = {
    "functions": custom,
    "bf16": lambda backend: train(backend, precision="bf16"),
    "layers": lambda backend: train(backend, sizes=(4, *[2] * gaps.MOST_LAYERS, 2)),
    "norm": lambda backend: train(backend, norm="rms"),
    "noise": lambda backend: train(backend, input_noise=0.1, hidden_noise=0.1),
    "sparse": sparse,
    "convention": convention,
    "profile": profile,
}
"""For each gap, a function that uses the feature on a backend."""


@pytest.mark.parametrize("gap", gaps.GAPS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gap_is_refused_and_everything_else_runs(backend: str, gap: str) -> None:
    reason = choose.available()[backend]
    if reason:
        pytest.skip(reason)
    if gaps.lacks(backend, gap):
        with pytest.raises((ValueError, ImportError), match=f"found .*'{backend}'.*expected"):
            USES[gap](backend)
        return
    try:
        USES[gap](backend)
    except ImportError as error:
        if backend not in gaps.GAPS[gap].partly:
            raise
        pytest.skip(str(error))


def test_the_table_names_every_gap_and_backend() -> None:
    head, _, *rows = gaps.table().splitlines()
    assert head == "| | cython | numba | numpy |"
    assert len(rows) == len(gaps.GAPS) == len(USES)
    assert "| sparse rows | yes | no | yes |" in rows
    assert "| more than 64 layers | no | yes | yes |" in rows


def test_the_documentation_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "backends.md"
    _, rest = page.read_text(encoding="utf-8").split("<!-- gaps: begin -->\n\n")
    assert rest.split("\n\n<!-- gaps: end -->")[0] == gaps.table().strip()


def test_errors_name_the_backends_that_have_all_of_it() -> None:
    with pytest.raises(
        ValueError,
        match="'cython', which does not support more than 64 layers; expected 'numba' or 'numpy'",
    ):
        USES["layers"]("cython")
