"""pynn trains dense neural networks on the CPU: a thin ``Network`` on compiled kernels.

Examples
--------
>>> import pynn
>>> (x_train, y_train), (x_test, y_test) = pynn.datasets.mnist()  # doctest: +SKIP
>>> net = pynn.Network([784, 256, 128, 10])
>>> history = net.fit(x_train, y_train, epochs=10)  # doctest: +SKIP
>>> net.evaluate(x_test, y_test)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import callbacks
from .callbacks import Callback, EarlyStopping, Every, Norms
from .checkpoint import Checkpoint
from .divergence import DivergenceError
from .functions import Activation, Loss
from .history import History, Record
from .network import Network, load
from .spec import (
    SGD,
    Adagrad,
    Adam,
    AdamHat,
    AdamW,
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    Momentum,
    Nesterov,
    OneCycle,
    RMSProp,
    StepDecay,
    WarmUp,
)

if TYPE_CHECKING:
    from . import data, datasets, plots

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamHat",
    "AdamW",
    "Callback",
    "Checkpoint",
    "Constant",
    "Cosine",
    "DivergenceError",
    "EarlyStopping",
    "Every",
    "Exponential",
    "History",
    "InverseTime",
    "Loss",
    "Momentum",
    "Nesterov",
    "Network",
    "Norms",
    "OneCycle",
    "RMSProp",
    "Record",
    "StepDecay",
    "WarmUp",
    "callbacks",
    "data",
    "datasets",
    "info",
    "load",
    "plots",
]


def __getattr__(name: str) -> Any:
    # Rooms that take time to import, or need a package that may not be there, are opened when asked
    # for.
    if name in ("data", "datasets", "nielsen", "plots", "sklearn"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def info() -> dict[str, Any]:
    """Return what is at work here.

    Returns
    -------
    A dictionary of ``version``, ``python``, ``numpy``, ``backend`` (what ``"auto"`` stands for),
    ``backends`` (for each an empty string, or why it cannot be used) and what the compiled core
    says of itself, if it is there.
    """
    import platform

    import numpy as np

    from . import backends

    reasons = backends.available()
    found = {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": backends.resolve("auto"),
        "backends": reasons,
    }
    if not reasons["cython"]:
        from . import _core

        found.update(_core.info())
    return found
