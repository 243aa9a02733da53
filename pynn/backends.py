"""The contract between ``Network`` and what computes, and the choice of a backend.

An ``Engine`` computes for one architecture; its ``Trainer`` holds one run of ``fit``. Arrays come
in checked: ``x`` is a two-dimensional uint8, float32 or float64 array in native byte order with
any strides, or :class:`Sparse`; ``y`` is either int32 labels (n,), contiguous, or targets
(n, n_out), C-contiguous, in the network's dtype; ``sample_weight`` is float64 (n,), of 0 or more
and contiguous. ``parameters`` and ``state`` are flat vectors of the network's dtype.

What ``convention="sklearn"`` changes stands in ``reference.loss_and_output_gradient`` and
``reference.weigh``. Sparse rows, sample weights and that convention are not for the backend numba,
which says so; functions of the user's own (``Architecture.functions``) are for it and for numpy.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .spec import Architecture, Optimizer, choose

BACKENDS = ("cython", "numba", "numpy")


@dataclass(frozen=True, eq=False)
class Sparse:
    """Compressed rows of a sparse matrix.

    Parameters
    ----------
    data
        The values that are stored, (nnz,), float32 or float64, contiguous.
    indices
        Their columns, (nnz,), int32, each in 0 … shape[1] − 1, rising within a row, contiguous.
    indptr
        Where each row starts in them, (rows + 1,), int64, rising, contiguous.
    shape
        (rows, columns).
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @staticmethod
    def of(matrix: Any, name: str = "x") -> Sparse:
        """Take a sparse matrix or array of SciPy; one in CSR format without a copy where it fits.

        Numbers that are no floats become float64.

        Raises
        ------
        ValueError
            If its parts do not fit each other.
        """
        # SciPy trusts places, and would read past the end with a wrong one when it converts.
        try:
            fresh = _checked(matrix)
            if fresh.format != "csr":
                fresh = _checked(fresh.tocsr())
        except ValueError as error:
            raise ValueError(f"{name}: found a broken sparse matrix: {error}") from error
        if not fresh.has_canonical_format:
            fresh = fresh.copy()
            fresh.sum_duplicates()
        data = fresh.data
        if data.dtype not in (np.float32, np.float64):
            data = data.astype(np.float64)
        return Sparse(
            np.ascontiguousarray(data),
            np.ascontiguousarray(fresh.indices, dtype=np.int32),
            np.ascontiguousarray(fresh.indptr, dtype=np.int64),
            fresh.shape,
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, mask: np.ndarray) -> Sparse:
        """Return the rows for which a mask (rows,) is true."""
        counts = np.diff(self.indptr)
        stored = np.repeat(mask, counts)
        indptr = np.concatenate([[0], np.cumsum(counts[mask])])
        shape = len(indptr) - 1, self.shape[1]
        return Sparse(self.data[stored], self.indices[stored], indptr, shape)

    def dense(self, rows: np.ndarray | slice, dtype: str) -> np.ndarray:
        """Return some rows as an ordinary array."""
        chosen = np.arange(len(self))[rows]
        out = np.zeros((len(chosen), self.shape[1]), dtype)
        for row, i in zip(out, chosen, strict=True):
            part = slice(self.indptr[i], self.indptr[i + 1])
            row[self.indices[part]] = self.data[part]
        return out


def _checked(matrix: Any) -> Any:
    """Return a matrix of SciPy, or raise ValueError if its places are out of it."""
    if matrix.format in ("csr", "csc", "bsr"):
        # Made anew, so that nothing is taken on trust that was known of it before.
        parts = matrix.data, matrix.indices, matrix.indptr
        matrix = type(matrix)(parts, shape=matrix.shape, copy=False)
        matrix.check_format(full_check=True)
    elif matrix.format == "coo":
        for places, size in zip((matrix.row, matrix.col), matrix.shape, strict=True):
            if len(places) != len(matrix.data):
                raise ValueError(f"{len(matrix.data)} values and {len(places)} places")
            if len(places) and not 0 <= places.min() <= places.max() < size:
                raise ValueError(f"places from {places.min()} to {places.max()} of {size}")
    return matrix


class Trainer(Protocol):
    """Parameters and optimizer state at work on one data set."""

    done: int
    """Updates that the last call of ``steps`` made, whether it returned or was interrupted."""
    diverged: bool
    """Whether it ended before an update, for a loss that was not finite (with ``watch``)."""
    sums: tuple[float, float]
    """What ``steps`` returns, for the whole batches of an epoch that was broken off; or, set in a
    new trainer, what a later ``steps`` with ``first`` above 0 goes on from."""

    finite: bool
    """Whether all that was last taken in, or stored, is known to be finite."""
    apart: bool
    """Whether it works on copies of the vectors it was made with, which only ``store`` changes."""

    def steps(self, epoch: int, first: int, rates: np.ndarray, updates: int) -> tuple[float, float]:
        """Train on batches ``first``, ``first + 1``, … of ``epoch``, one for each learning rate.

        ``epoch`` keys the permutation and dropout; ``rates`` is float64; ``updates`` is how many
        updates the optimizer state has seen before. Returns the sum of the rows' losses, without
        the L2 term, and the number of rows classified rightly (NaN for regression), both as the
        network stood at each batch and both since batch 0 of the epoch, so that they do not depend
        on how an epoch is cut into calls. Answers KeyboardInterrupt within a second, between two
        updates; ``store`` then gives the parameters of the last whole one. A batch of weighed rows
        adds their weighed mean, times their number, to the sum.
        """
        ...

    def order(self, rows: np.ndarray) -> None:
        """Take the rows in this order (n,), int64, from the next epoch on, instead of shuffling."""
        ...

    def evaluate(self, x: np.ndarray | Sparse, y: np.ndarray) -> tuple[float, float]:
        """Sum of losses and number right with the parameters as they stand, without dropout."""
        ...

    def sound(self) -> bool:
        """Whether all that ``store`` would write is known to be finite."""
        ...

    def store(self) -> None:
        """Write parameters and state back to the vectors the trainer was made with."""
        ...


class Engine(Protocol):
    """One architecture on one backend."""

    name: str
    threads: int

    def forward(self, parameters: np.ndarray, x: np.ndarray | Sparse) -> np.ndarray:
        """Outputs (n, n_out), after the output activation."""
        ...

    def evaluate(
        self, parameters: np.ndarray, x: np.ndarray | Sparse, y: np.ndarray
    ) -> tuple[float, float]:
        """Sum of the rows' losses and number of rows classified rightly (NaN for regression)."""
        ...

    def objective(
        self,
        x: np.ndarray | Sparse,
        y: np.ndarray,
        *,
        l2: float,
        sample_weight: np.ndarray | None = None,
        convention: str = "pynn",
    ) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """Return a function of the parameters: mean loss over the rows plus ½·l2·Σw², and its
        gradient, flat, without dropout."""
        ...

    def trainer(
        self,
        parameters: np.ndarray,
        state: list[np.ndarray],
        x: np.ndarray | Sparse,
        y: np.ndarray,
        *,
        optimizer: Optimizer,
        batch_size: int,
        l2: float,
        seed: int,
        shuffle: bool,
        sample_weight: np.ndarray | None = None,
        convention: str = "pynn",
        watch: bool = False,
    ) -> Trainer:
        """Set up a run of ``fit``."""
        ...


@functools.cache
def available() -> dict[str, str]:
    """Return, for each backend, an empty string where it can be used and the reason where not."""
    reasons = {}
    for name in BACKENDS:
        reasons[name] = ""
        if name == "cython":
            try:
                from . import _core  # noqa: F401
            except ImportError as error:
                reasons[name] = f"the compiled core is not there ({error})"
        elif name == "numba" and importlib.util.find_spec("numba") is None:
            reasons[name] = "the package numba is not installed"
    return reasons


def resolve(name: str) -> str:
    """Return the backend that ``name`` stands for; ``"auto"`` is the fastest that is there.

    Raises
    ------
    ValueError
        If no backend has that name.
    ImportError
        If the named backend cannot be used here.
    """
    choose("backend", name, ("auto", *BACKENDS))
    reasons = available()
    if name == "auto":
        found = next(b for b in BACKENDS if not reasons[b])
        if reasons["cython"]:
            _warn_without_core(found, reasons["cython"])
        return found
    if reasons[name]:
        usable = [b for b in BACKENDS if not reasons[b]]
        raise ImportError(
            f"backend: found {name!r}, but {reasons[name]}; usable here: {', '.join(usable)}"
        )
    return name


@functools.cache
def _warn_without_core(found: str, reason: str) -> None:
    """Say once that the slower backend ``found`` stands in for the compiled one."""
    import warnings
    from pathlib import Path

    package = Path(__file__).parent
    if (package.parent / "csrc").is_dir() and not list(package.glob("_core*")):
        reason += f"; {package} is the source tree, which hides an installed pynn"
    warnings.warn(
        f"pynn uses the backend {found!r}: {reason}. Training will be several times slower.",
        stacklevel=4,
    )


def capable(net: Architecture, threads: int | None) -> Engine:
    """Return an engine that can do all that the contract has: the compiled one, or NumPy's."""
    reason = available()["cython"]
    if reason:
        _warn_without_core("numpy", reason)
    # The compiled core has room for 64 layers.
    return create("numpy" if reason or net.n_layers > 64 else "cython", net, threads)


def why_numba(net: Architecture) -> str:
    """Return what tells a user who never asked for numba why an error speaks of it."""
    return f" (taken for {net.functions[0]!r}, a function of your own)" if net.functions else ""


def _check_bf16(name: str, net: Architecture) -> None:
    """Raise ImportError if a backend cannot round to bfloat16 here."""
    if name == "numba":
        found = f"the backend 'numba'{why_numba(net)}, which has none"
    elif name == "cython":
        from . import _core

        info = _core.info()  # type: ignore[attr-defined]
        if info["bf16"]:
            return
        found = f"the instruction set {info['isa']} and without AVX512-BF16"
    else:
        return
    raise ImportError(
        f"precision: found 'bf16' with {found}; expected 'full', or, to see what it does at a "
        "fraction of the speed, backend='numpy'"
    )


def _resolve_for_functions(name: str, net: Architecture) -> str:
    """Return the backend that ``name`` stands for where a network has functions of its own.

    Raises
    ------
    ValueError
        If it is the compiled core, which no function in Python can be put into.
    """
    reason = available()["numba"]
    if name == "cython":
        raise ValueError(
            f"backend: found 'cython' and {net.functions[0]!r}, a function of your own, which the "
            "compiled core cannot take in; expected 'numba'"
            + (f" ({reason}: pip install 'pynn-mlp[numba]')" if reason else "")
            + ", which compiles it, 'numpy', or 'auto' for the faster of the two that is there"
        )
    if name != "auto":
        return resolve(name)
    if reason:
        _warn_without_numba(reason)
    return "numpy" if reason else "numba"


@functools.cache
def _warn_without_numba(reason: str) -> None:
    """Say once that the slowest backend computes functions of the user's own."""
    import warnings

    warnings.warn(
        f"pynn uses the backend 'numpy' for functions of your own: {reason} (pip install "
        "'pynn-mlp[numba]'). Training will be several times slower.",
        stacklevel=6,
    )


def create(name: str, net: Architecture, threads: int | None) -> Engine:
    """Return an engine of the backend ``name`` for one architecture.

    Raises
    ------
    ValueError
        If no backend has that name, or it cannot take functions of the user's own.
    ImportError
        If it cannot be used here, or does not have the precision of the architecture here.
    """
    name = _resolve_for_functions(name, net) if net.functions else resolve(name)
    if net.precision == "bf16":
        _check_bf16(name, net)
    if name == "cython":
        from . import _core

        return _core.Engine(net, threads)  # type: ignore[attr-defined]
    if name == "numba":
        from . import numba_kernels

        return numba_kernels.Engine(net, threads)
    from . import reference

    return reference.Engine(net, threads)
