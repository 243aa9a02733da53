"""Colours, figures and text that all plots share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

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

# --- Themes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Theme:
    """The colours of plots on a light or on a dark background.

    Parameters
    ----------
    paper, ink, faint, line
        Background, text, less important text, and frames.
    blue, orange, grey
        What is right or first; what is wrong or second; what is neither.
    colors
        Colours of lines, in their order.
    diverging
        Negative weights, zero and positive weights.
    sequential
        First and last colour of ordered lines, as positions in the colour map viridis.
    """

    paper: str
    ink: str
    faint: str
    line: str
    blue: str
    orange: str
    grey: str
    colors: tuple[str, ...]
    diverging: tuple[str, ...]
    sequential: tuple[float, float]


LIGHT = Theme(
    *("#FFFFFF", "#000000", "#5F6770", "#CCCCCC"),
    *(BLUE, ORANGE, GREY),
    colors=COLORS,
    diverging=("#05304F", "#2A7FB8", "#F6F6F6", "#F3A56B", ORANGE),
    sequential=(0.0, 0.8),
)
# Every colour has a contrast of at least 4.5:1 to the background.
DARK = Theme(
    *("#14171A", "#F0F2F4", "#A5AEB7", "#4A525A"),
    *("#56B4E9", "#FF9A4D", "#9AA0A6"),
    colors=("#56B4E9", "#FF9A4D", "#2CCB9B", "#E58FC0", "#F0E442", "#FFFFFF", "#B49BFF"),
    diverging=("#9BD6FF", "#3E8FC4", "#1F2429", "#C26A26", "#FFB27A"),
    sequential=(0.35, 1.0),
)
THEMES = {"light": LIGHT, "dark": DARK}

_theme: ContextVar[Theme] = ContextVar("_theme", default=LIGHT)

Draw = TypeVar("Draw", bound=Callable[..., Any])


def theme() -> Theme:
    """Return the colours of the plot that is being drawn."""
    return _theme.get()


def styled(draw: Draw) -> Draw:
    """Make a function draw with the theme of its argument ``style``.

    With None it takes the theme for the background: of the given ``ax``, or of new figures in
    matplotlib's settings.
    """
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return draw(*args, **kwargs)  # whose error names the function
        with using(given.get("style"), given.get("ax")):
            return draw(*args, **kwargs)

    return cast(Draw, call)


@contextlib.contextmanager
def using(style: str | None = None, ax: Axes | Sequence[Axes] | None = None) -> Iterator[Theme]:
    """Draw with a theme, by its name, or with the one for the background, light or dark.

    Raises
    ------
    ValueError
        If there is no theme of this name.
    """
    if style is not None and style not in THEMES:
        raise ValueError(f"style: found {style!r}, expected 'light', 'dark' or None")
    require()
    import matplotlib

    chosen = THEMES[style or ("dark" if _is_dark(ax) else "light")]
    settings: Any = None if style is None or ax is not None else _settings(chosen)
    token = _theme.set(chosen)
    try:
        with matplotlib.rc_context(settings) if settings else contextlib.nullcontext():
            yield chosen
    finally:
        _theme.reset(token)


def _is_dark(ax: Axes | Sequence[Axes] | None) -> bool:
    """Whether the background of an Axes, or by default of new ones, is dark."""
    import matplotlib
    from matplotlib.colors import to_rgba

    found: Any = ax
    if found is not None and not hasattr(found, "get_facecolor"):
        found = next((one for one in found if hasattr(one, "get_facecolor")), None)
    if found is None:
        settings = matplotlib.rcParams
        colors = [settings["axes.facecolor"], settings["figure.facecolor"]]
    else:
        colors = [found.get_facecolor(), found.figure.get_facecolor()]
    for color in colors:
        red, green, blue, alpha = to_rgba(color)
        if alpha > 0.5:
            return luminance((red, green, blue)) < 0.18
    return False


def _settings(chosen: Theme) -> dict[str, Any]:
    ink = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    paper = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys(ink, chosen.ink),
        **dict.fromkeys(paper, chosen.paper),
        "axes.edgecolor": chosen.faint,
        "grid.color": chosen.faint,
    }


# --- Contrast -------------------------------------------------------------------------------------


def luminance(color: Sequence[float]) -> float:
    """Return the relative luminance of red, green and blue in [0, 1], as WCAG 2 defines it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the contrast of two colours, from 1 to 21, as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def black_or_white(background: Sequence[float]) -> str:
    """Return the name with more contrast to red, green and blue in [0, 1]: 4.58:1 or more."""
    on_black, on_white = contrast(background, (0, 0, 0)), contrast(background, (1, 1, 1))
    return "black" if on_black >= on_white else "white"


def text_color_on(background: Any) -> str:
    """Return black or white, whichever has more contrast to a colour of matplotlib."""
    from matplotlib.colors import to_rgb

    return black_or_white(to_rgb(background))


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


def given_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the given Axes, or the only Axes of a new figure; sizes in inches."""
    return new_axes(width, height) if ax is None else ax


def new_axes(width: float, height: float) -> Axes:
    """Return the only Axes of a new figure; sizes in inches."""
    ax = new_figure(width, height).add_subplot()
    paint(ax)
    return ax


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, the current one of ``pyplot``; sizes in inches."""
    require()
    size: Any = {"figsize": (width, height), "layout": "constrained"}
    if _unregistered.get():
        from matplotlib.figure import Figure

        return Figure(**size)
    import matplotlib.pyplot as plt

    return plt.figure(**size)


def paint(ax: Axes) -> None:
    """Give ticks the colour that they have now; matplotlib creates some when it draws."""
    import matplotlib

    settings: Any = matplotlib.rcParams
    axes: tuple[Literal["x", "y"], ...] = ("x", "y")
    for axis in axes:
        color = settings[f"{axis}tick.color"]
        ax.tick_params(axis=axis, which="both", color=color, labelcolor=color)


_unregistered: ContextVar[bool] = ContextVar("_unregistered", default=False)


@contextlib.contextmanager
def unregistered() -> Iterator[None]:
    """Make figures that ``pyplot`` neither shows nor keeps: freed with their last reference."""
    token = _unregistered.set(True)
    try:
        yield
    finally:
        _unregistered.reset(token)


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
    with matplotlib.rc_context(), unregistered():
        matplotlib.rcdefaults()
        settings.update(fonts)
        yield


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
