"""Images with the contributions of their pixels to an output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .pictures import _draw_image, _images
from .style import new_axes, paint, plain_text, ramp, styled, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


@styled
def attributions(
    values: ArrayLike,
    x: np.ndarray,
    titles: ArrayLike | None = None,
    count: int = 8,
    ax: Axes | None = None,
    style: str | None = None,
) -> Axes:
    """Draw images, and below each one what its pixels contributed to an output.

    Parameters
    ----------
    values : array_like, shape (n, pixels) or (n, height, width)
        The result of :meth:`pynn.Network.attributions`.
    x : ndarray, shape (n, height, width) or (n, pixels)
        The images; without height and width the number of pixels must be a square.
    titles : array_like, shape (n,), optional
        A title for each image, such as its predicted class.
    count : int, default 8
        The maximum number of images; the first ones are drawn.
    ax : Axes, optional
        Where to draw.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of what is drawn in `ax`; None chooses the
        colours that suit the background.

    Returns
    -------
    Axes
        Holds the images and the maps of their contributions, alternating, in ``child_axes``. The
        maps have one scale, up to the 99.8th percentile of the magnitudes.

    Raises
    ------
    ValueError
        If `x` holds no images, or shapes differ.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> found = net.attributions(x_test[:8])  # doctest: +SKIP
    >>> pynn.plots.attributions(found, x_test[:8], net.predict(x_test[:8]))  # doctest: +SKIP
    """
    images = _images(x)
    maps = np.asarray(values, dtype=float)
    if maps.size != images.size or len(maps) != len(images):
        raise ValueError(
            f"values: found shape {maps.shape}, expected {images.shape} or "
            f"({len(images)}, {images[0].size}), one value for each pixel of x"
        )
    names = [""] * len(images) if titles is None else [plain_text(t) for t in np.asarray(titles)]
    if len(names) != len(images):
        raise ValueError(f"titles: found {len(names)}, expected {len(images)}, one for each image")
    drawn = min(max(1, count), len(images))
    maps = maps.reshape(images.shape)[:drawn]
    sizes = np.abs(maps[np.isfinite(maps)])
    limit = (float(np.percentile(sizes, 99.8)) if sizes.size else 0.0) or 1.0
    if ax is None:
        ax = new_axes(1.3 * drawn + 0.9, 3.2)
    ax.set_axis_off()
    shown: Any = None
    for k in range(drawn):
        left, width = k / drawn, 0.9 / drawn
        picture = ax.inset_axes((left, 0.5, width, 0.42))
        _draw_image(picture, images[k])
        picture.set_title(names[k], fontsize="medium", pad=3)
        below = ax.inset_axes((left, 0.02, width, 0.42))
        shown = below.imshow(
            maps[k], cmap=ramp(*theme().diverging), vmin=-limit, vmax=limit, interpolation="nearest"
        )
        below.set_anchor("NW")
        below.set_xticks([])
        below.set_yticks([])
        below.spines[:].set_color(theme().line)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.8, pad=0.02, extend="both")
    bar.set_label("blue lowers, orange raises the output")
    bar.outline.set_visible(False)
    paint(bar.ax)
    return ax
