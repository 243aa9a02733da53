"""Convert user input to arrays that the backends accept, with one clear error for bad input."""

from .targets import (
    Task,
)

__all__ = [
    "Task",
]
