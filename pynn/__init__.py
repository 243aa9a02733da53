"""Train dense neural networks on the CPU, with compiled kernels.

``Network`` trains, predicts and saves; ``fit_many`` trains many networks at once, and ``Ensemble``
combines their predictions. ``pynn.data`` and ``pynn.datasets`` read data, ``pynn.callbacks`` and
``pynn.plots`` follow and draw a training. ``pynn.sklearn``, ``pynn.torch`` and ``pynn.keras`` are
interfaces of other libraries, and ``pynn.nielsen`` has the programs of Nielsen's book.

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

from . import _interrupt, callbacks, renamed  # noqa: F401
from .backends.machine import info
from .network import Network, from_onnx, load
from .spec import (
    ELU,
    LBFGS,
    SGD,
    Activation,
    Adagrad,
    Adam,
    AdamHat,
    AdamW,
    AMSGrad,
    BatchNorm,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    FlatCosine,
    Focal,
    Huber,
    InverseTime,
    LayerNorm,
    LeakyReLU,
    Lion,
    Loss,
    Momentum,
    NAdam,
    Nesterov,
    OneCycle,
    Quantile,
    ReduceOnPlateau,
    RMSNorm,
    RMSProp,
    Softplus,
    StepDecay,
    Tweedie,
    WarmUp,
)
from .training.callbacks import Callback, EarlyStopping, Every, Norms, SaveBest
from .training.checkpoint import Checkpoint
from .training.history import History, Record
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import data, datasets, plots
    from .many import Each, Ensemble, FitManyError, fit_many
    from .metrics.metric import Metric
    from .training.divergence import DivergenceError

__all__ = [
    "ELU",
    "LBFGS",
    "SGD",
    "AMSGrad",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamHat",
    "AdamW",
    "BatchNorm",
    "Callback",
    "Checkpoint",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "DivergenceError",
    "Each",
    "EarlyStopping",
    "Ensemble",
    "Every",
    "Exponential",
    "FitManyError",
    "FlatCosine",
    "Focal",
    "History",
    "Huber",
    "InverseTime",
    "LayerNorm",
    "LeakyReLU",
    "Lion",
    "Loss",
    "Metric",
    "Momentum",
    "NAdam",
    "Nesterov",
    "Network",
    "Norms",
    "OneCycle",
    "Quantile",
    "RMSNorm",
    "RMSProp",
    "Record",
    "ReduceOnPlateau",
    "SaveBest",
    "Softplus",
    "StepDecay",
    "Tweedie",
    "WarmUp",
    "callbacks",
    "data",
    "datasets",
    "fit_many",
    "from_onnx",
    "info",
    "load",
    "plots",
]

renamed.install()


def __getattr__(name: str) -> Any:
    # Imported on first use: they take time to import or need an optional package.
    if name == "DivergenceError":
        from .training.divergence import DivergenceError

        return DivergenceError
    if name == "Metric":
        from .metrics.metric import Metric

        return Metric
    if name in ("Each", "Ensemble", "FitManyError", "fit_many"):
        from . import many

        return getattr(many, name)
    if name in ("data", "datasets", "keras", "nielsen", "plots", "sklearn", "torch"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
