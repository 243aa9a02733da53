"""Callbacks for ``Network.fit``: early stopping, files of models and results, norms, Optuna.

A callback is a function ``f(net, record)``, called after every epoch, or an object with the methods
of ``Callback``. ``net`` is the object whose ``fit`` was called: a ``pynn.Network`` or an
estimator of ``pynn.sklearn``. A callback may read its parameters, predict and evaluate, but not
change the parameters: they are read-only until ``fit`` has ended. Training stops when a callback
returns True.
"""

from .training.callbacks import Callback, EarlyStopping, Every, Norms, SaveBest
from .training.tracking import CSVLogger, ModelCheckpoint, OptunaPruning

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "Every",
    "ModelCheckpoint",
    "Norms",
    "OptunaPruning",
    "SaveBest",
]
