"""The version of pynn."""

__version__ = "0.1.0"
