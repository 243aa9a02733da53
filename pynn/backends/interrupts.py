"""Exceptions that another thread sets for this one, as ``fit_many`` does after Ctrl-C."""

from __future__ import annotations


def raise_pending() -> None:
    """Raise an exception that another thread has set for this one.

    The interpreter raises it when a Python function begins, which this one does for compiled code.
    ``PyErr_CheckSignals`` only handles signals, and only in the main thread.
    """
