"""Data sets that are installed with pynn."""

from .bundled import mnist

__all__ = ["mnist"]
