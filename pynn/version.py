"""The version of pynn."""

__version__ = "0.2.0"
