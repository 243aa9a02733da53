"""scikit-learn's multilayer perceptrons, trained by pynn's compiled core.

``from pynn.sklearn import MLPClassifier, MLPRegressor`` replaces ``from sklearn.neural_network
import …``. The parameters, attributes, errors, warnings and results (for the same
``random_state``) are the same, training is faster, and there are more parameters. The classes are
subclasses of scikit-learn's: input checks, labels, random draws and stopping rules are those of the
installed scikit-learn; forward and backward passes, updates and predictions are pynn's.

:func:`patch` replaces scikit-learn's classes in a running program, and
``python -m pynn.sklearn script.py`` runs an unchanged script with pynn's classes.
:func:`register_onnx` lets skl2onnx convert them.
"""

from __future__ import annotations

from .estimators import MLPClassifier, MLPRegressor
from .onnx import register_onnx
from .patching import patch, unpatch

__all__ = ["MLPClassifier", "MLPRegressor", "patch", "register_onnx", "unpatch"]
