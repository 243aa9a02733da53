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

# Pickles and representations name the public module, so that earlier versions load the pickles too.
for _class in (MLPClassifier, MLPRegressor):
    _class.__module__ = __name__
