"""The command line: ``pynn train`` and the commands that use its runs."""

from . import compare, pages, predict, train, use
from .app import app

_ORDER = ("train", "predict", "evaluate", "report", "compare", "info")
app.registered_commands.sort(key=lambda each: _ORDER.index(getattr(each.callback, "__name__", "")))

__all__ = ["app", "compare", "pages", "predict", "train", "use"]
