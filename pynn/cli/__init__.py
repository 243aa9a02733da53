"""The command line: ``pynn train``, ``evaluate``, ``report``, ``predict`` and ``info``."""

from . import train, use
from .app import app

__all__ = ["app", "train", "use"]
