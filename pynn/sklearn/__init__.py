"""scikit-learn's multilayer perceptrons on the compiled core."""

from .estimators import (
    MLPClassifier,
    MLPRegressor,
)
from .patching import (
    patch,
    unpatch,
)

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "patch",
    "unpatch",
]
