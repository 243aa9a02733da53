"""Pictures of a training run, drawn with matplotlib (the extra ``plots``).

Every function draws on the Axes it is given and returns it. Given none, it makes a figure of its
own: in a notebook, or where the caller has imported ``matplotlib.pyplot``, one that ``plt.show()``
knows; elsewhere a bare ``Figure``, which needs no display and is closed with its last reference.

Colours can be told apart by people with any kind of colour blindness, and nothing is said by colour
alone: lines differ in their dashes, bars and images in their labels, so that they survive a printer
without colours.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import disk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


# Okabe and Ito (2008): told apart by people with any kind of colour blindness.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"
# Their palette without the yellow, which is lost on white.
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^DvPX*"


def _tidy(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


# --- What they share ------------------------------------------------------------------------------


def require() -> None:
    """Raise an ImportError that says what to install if matplotlib is not there."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib, which is not there ({error}): pip install 'pynn-mlp[plots]'"
        ) from error


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches."""
    require()
    from matplotlib.figure import Figure

    ipython = sys.modules.get("IPython")
    shown = "matplotlib.pyplot" in sys.modules or (ipython and ipython.get_ipython())
    if shown and not _for_files.get():
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    return Figure(figsize=(width, height), layout="constrained")


def _ramp(*colors: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("-".join(colors), colors)


def _text(name: object, most: int = 24) -> str:
    """Return a name as matplotlib can draw it: on one line, cut to so many signs, no formula."""
    # A label from a stranger's file may hold what is no sign at all.
    text = disk.shown(" ".join(str(name).split()), 1000)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


_for_files: ContextVar[bool] = ContextVar("_for_files", default=False)


@contextlib.contextmanager
def for_files() -> Iterator[None]:
    """Draw with matplotlib's own settings, dark on white, but in the user's fonts.

    What is right in a user's notebook can be wrong on paper and on a page. ``pyplot`` never hears
    of these figures, and so neither shows nor keeps them.
    """
    require()
    import matplotlib

    settings: Any = matplotlib.rcParams
    fonts = {k: settings[k] for k in settings if k.startswith("font.") and k != "font.size"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings.update(fonts)
        token = _for_files.set(True)
        try:
            yield
        finally:
            _for_files.reset(token)


def _labels(y: ArrayLike, n: int) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ValueError(f"y: found shape {labels.shape}, expected ({n},), a label for each image")
    return labels


def _names(model: Any, n: int, classes: ArrayLike | None) -> list[Any]:
    classes = getattr(model, "classes", None) if classes is None else classes
    names = list(range(n)) if classes is None else np.asarray(classes).tolist()
    if len(names) != n:
        raise ValueError(f"classes: found {len(names)}, expected {n}, one for each probability")
    return names


def percent(share: float) -> str:
    """Return a share in percent with one decimal, never rounded to nothing or to all."""
    if math.isnan(share):
        return "NaN"
    if share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"
