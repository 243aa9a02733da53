"""Plots of runs and predictions with matplotlib."""

from .classes import (
    confusion_matrix,
)
from .curves import (
    comparison,
    learning_curves,
    norms,
)
from .pictures import (
    first_layer_weights,
    mistakes,
    predictions,
    side_of,
)
from .style import (
    COLORS,
    DASHES,
    MARKERS,
    for_files,
    percent,
    require,
)

__all__ = [
    "COLORS",
    "DASHES",
    "MARKERS",
    "comparison",
    "confusion_matrix",
    "first_layer_weights",
    "for_files",
    "learning_curves",
    "mistakes",
    "norms",
    "percent",
    "predictions",
    "require",
    "side_of",
]
