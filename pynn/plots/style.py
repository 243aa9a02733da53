"""Colours, figures and text that all plots share."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..files.disk import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), distinguishable with every kind of colour blindness.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"
# Without its yellow, which is hard to see on white.
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^DvPX*"


# --- Figures --------------------------------------------------------------------------------------


def require() -> None:
    """Raise an ImportError that says what to install if matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"plots need matplotlib, which is not installed ({error}): "
            "pip install 'pynn-mlp[plots]'"
        ) from error


def new_axes(width: float, height: float) -> Axes:
    """Return the only Axes of a new figure; sizes in inches."""
    return new_figure(width, height).add_subplot()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes in inches."""
    require()
    from matplotlib.figure import Figure

    ipython = sys.modules.get("IPython")
    interactive = "matplotlib.pyplot" in sys.modules or (ipython and ipython.get_ipython())
    if interactive and not _for_files.get():
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    return Figure(figsize=(width, height), layout="constrained")


_for_files: ContextVar[bool] = ContextVar("_for_files", default=False)


@contextlib.contextmanager
def for_files() -> Iterator[None]:
    """Draw with matplotlib's default settings, but with the user's fonts.

    A style that suits a notebook, such as a dark one, may not suit paper or a web page. ``pyplot``
    does not register these figures, so it neither shows nor keeps them.
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


def label_axes(ax: Axes, x: str, y: str) -> None:
    """Label both axes, and draw a faint grid instead of a frame."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def ramp(*colors: str) -> Any:
    """Return a colour map through `colors` at equal distances."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("-".join(colors), colors)


# --- Text -----------------------------------------------------------------------------------------


def plain_text(name: object, most: int = 24) -> str:
    """Return a name that matplotlib can draw: one line of at most `most` characters, no formula."""
    # Labels from files may hold characters that cannot be drawn.
    text = shown(" ".join(str(name).split()), 1000)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


def percent(share: float) -> str:
    """Return a share in percent with one decimal, never rounded to 0 % or 100 %."""
    if math.isnan(share):
        return "NaN"
    if share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"
