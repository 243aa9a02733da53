"""Callbacks for ``Network.fit``: ``EarlyStopping``, ``Every``, ``Norms`` and their base class."""

from .training.callbacks import Callback, EarlyStopping, Every, Norms

__all__ = ["Callback", "EarlyStopping", "Every", "Norms"]
