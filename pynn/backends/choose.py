"""The choice of a backend: which ones can be used here, and which one to use."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING

from ..spec.architecture import Architecture
from ..spec.arguments import choose
from ..spec.names import BACKENDS
from . import gaps
from .limits import default_threads, useful

if TYPE_CHECKING:
    from .contract import Engine


@functools.cache
def available() -> dict[str, str]:
    """Return for each backend why it cannot be used, or an empty string if it can."""
    reasons = {}
    for name in BACKENDS:
        reasons[name] = ""
        if name == "cython":
            try:
                importlib.import_module("pynn.backends.cython._core")
            except ImportError as error:
                reasons[name] = f"the compiled core is missing ({error})"
        elif name == "numba" and importlib.util.find_spec("numba") is None:
            reasons[name] = "the package numba is not installed"
    return reasons


def resolve(name: str) -> str:
    """Return the backend of a name; ``"auto"`` selects the fastest one that can be used.

    Raises
    ------
    ValueError
        If no backend has that name.
    ImportError
        If it cannot be used here.
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
    """Warn once that the slower backend ``found`` replaces the compiled one."""
    import warnings
    from pathlib import Path

    package = Path(__file__).parents[1]
    if (package.parent / "csrc").is_dir() and not list(package.glob("backends/cython/_core*")):
        reason += (
            f"; {package} is the source tree, which hides an installed pynn: run from another "
            "folder, or install with pip install -e ."
        )
    warnings.warn(
        f"pynn uses the backend {found!r}: {reason}. Training will be several times slower.",
        stacklevel=4,
    )


def capable_name(net: Architecture) -> str:
    """Return a backend that implements the whole contract: the compiled one, or NumPy's."""
    reason = available()["cython"]
    if reason:
        _warn_without_core("numpy", reason)
    return "numpy" if reason or gaps.lacking_of("cython", net) else "cython"


def capable(net: Architecture, threads: int | None) -> Engine:
    """Return an engine of the backend ``capable_name``."""
    return create(capable_name(net), net, threads)


def _check_bf16(name: str, net: Architecture) -> None:
    """Raise ImportError if a backend cannot round to bfloat16 here."""
    if gaps.lacks(name, "bf16"):
        from .contract import why_numba

        found = f"the backend {name!r}{why_numba(net)}, which does not support it"
    elif name == "cython":
        from .cython import _core  # type: ignore[attr-defined]

        info = _core.info()
        if info["bf16"]:
            return
        found = f"the instruction set {info['isa']}, without AVX512-BF16"
    else:
        return
    raise ImportError(
        f"precision: found 'bf16' with {found}; expected 'full', or backend='numpy', which gives "
        "similar results at a fraction of the speed"
    )


def _resolve_for_functions(name: str, net: Architecture) -> str:
    """Return the backend of a name for a network with custom functions.

    Raises
    ------
    ValueError
        If it is the compiled core, which cannot call Python functions.
    """
    reason = available()["numba"]
    if name != "auto" and gaps.lacks(name, "functions"):
        raise ValueError(
            f"backend: found {name!r} and {net.functions[0]!r}, a custom function, which the "
            "compiled core does not support; expected 'numba'"
            + (f" ({reason}: pip install 'pynn-mlp[numba]')" if reason else "")
            + ", which compiles it, 'numpy', or 'auto' for the faster of the two"
        )
    if name != "auto":
        return resolve(name)
    if reason:
        reason += " (pip install 'pynn-mlp[numba]')"
    elif net.norms and gaps.lacks("numba", "norm"):
        reason = "the backend 'numba' does not support normalisation"
    elif net.noisy and gaps.lacks("numba", "noise"):
        reason = "the backend 'numba' does not support noise"
    if reason:
        _warn_without_numba(reason)
    return "numpy" if reason else "numba"


@functools.cache
def _warn_without_numba(reason: str) -> None:
    """Warn once that the slowest backend is used for custom functions."""
    import warnings

    warnings.warn(
        f"pynn uses the backend 'numpy' for custom functions: {reason}. Training will be several "
        "times slower.",
        stacklevel=6,
    )


def create(name: str, net: Architecture, threads: int | None) -> Engine:
    """Return an engine of the backend ``name`` for one architecture.

    Raises
    ------
    ValueError
        If no backend has that name, it lacks what the network uses (``gaps``), or
        ``PYNN_NUM_THREADS`` is not a number of threads.
    ImportError
        If it cannot be used here, or does not support the precision of the architecture here.
    """
    if net.functions:
        name = _resolve_for_functions(name, net)
    elif name == "auto" and net.norms:
        name = capable_name(net)
    else:
        name = resolve(name)
    if threads is None:
        default_threads()  # raises now rather than in training if PYNN_NUM_THREADS is wrong
    else:
        threads = useful(threads)
    if net.precision == "bf16":
        _check_bf16(name, net)
    gaps.check_network(name, net)
    if name == "cython":
        from .cython import _core  # type: ignore[attr-defined]

        return _core.Engine(net, threads)
    if name == "numba":
        from .numba import engine

        return engine.Engine(net, threads)
    from . import reference

    return reference.Engine(net, threads)
