"""Plots of runs and predictions, drawn with matplotlib (the extra ``plots``).

Every function draws on the Axes it is given and returns it. Without Axes it makes a new figure: in
a notebook, or if the caller has imported ``matplotlib.pyplot``, a figure that ``plt.show()`` shows;
otherwise a plain ``Figure``, which needs no display and is freed with its last reference.

The colours are distinguishable with every kind of colour blindness, and no information depends on
colour alone: lines also differ in dashes, bars and images in labels. The plots therefore work when
printed in greyscale.
"""

from .classes import confusion_matrix
from .curves import comparison, learning_curves, learning_rates, norms
from .pictures import first_layer_weights, mistakes, predictions, side_of
from .style import COLORS, DASHES, MARKERS, for_files, percent, require

__all__ = [
    "COLORS",
    "DASHES",
    "MARKERS",
    "comparison",
    "confusion_matrix",
    "first_layer_weights",
    "for_files",
    "learning_curves",
    "learning_rates",
    "mistakes",
    "norms",
    "percent",
    "predictions",
    "require",
    "side_of",
]
