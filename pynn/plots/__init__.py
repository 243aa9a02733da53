"""Plots of runs and predictions, drawn with matplotlib (the extra ``plots``).

Every function draws on the Axes it is given and returns it. Without Axes it makes a new figure, the
current one of ``pyplot``: ``plt.show()`` displays it, ``plt.savefig("a.png")`` writes it, and
``plt.close()`` frees it. ``ax.figure.savefig`` writes it too. Within ``unregistered()`` figures
stay out of ``pyplot`` and are freed with their last reference.

``style="dark"`` draws on a dark background. Without it plots follow matplotlib's settings: after
``plt.style.use("dark_background")`` they take colours for a dark background.

The colours are distinguishable with every kind of colour blindness, and no information depends on
colour alone: lines also differ in dashes, bars and images in labels. The plots therefore work when
printed in greyscale.
"""

from .attributions import attributions
from .classes import confusion_matrix
from .curves import comparison, learning_curves, learning_rates, norms
from .pictures import first_layer_weights, mistakes, predictions, side_of
from .reliability import calibration
from .style import COLORS, DASHES, MARKERS, for_files, percent, require, unregistered
from .values import error_histogram, predicted_against_true, residuals

__all__ = [
    "COLORS",
    "DASHES",
    "MARKERS",
    "attributions",
    "calibration",
    "comparison",
    "confusion_matrix",
    "error_histogram",
    "first_layer_weights",
    "for_files",
    "learning_curves",
    "learning_rates",
    "mistakes",
    "norms",
    "percent",
    "predicted_against_true",
    "predictions",
    "require",
    "residuals",
    "side_of",
    "unregistered",
]
