"""The command line."""

from . import train, use
from .app import app

__all__ = ["app", "train", "use"]
