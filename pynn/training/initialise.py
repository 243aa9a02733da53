"""Initial weights and biases."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..backends.choose import available
from ..spec import philox
from ..spec.architecture import Architecture
from ..spec.arguments import choose
from ..spec.names import INITIALISERS, RECTIFIERS

_SCALE: dict[str, Callable[[int, int], float]] = {
    "he_normal": lambda m, n: math.sqrt(2 / m),  # He et al. 2015, eq. 10
    "he_uniform": lambda m, n: math.sqrt(6 / m),
    "glorot_normal": lambda m, n: math.sqrt(2 / (m + n)),  # Glorot and Bengio 2010, eq. 12, 16
    "glorot_uniform": lambda m, n: math.sqrt(6 / (m + n)),
    "lecun_normal": lambda m, n: math.sqrt(1 / m),  # LeCun et al. 1998, section 4.6
    "lecun_uniform": lambda m, n: math.sqrt(3 / m),
    "normal": lambda m, n: 1.0,  # Nielsen 2015, chapter 1
}
"""Standard deviation (normal) or half-width (uniform) of the weights from m inputs to n outputs."""


def names(net: Architecture, init: str | Sequence[str | None] | None) -> list[str]:
    """Return the initialiser of every layer: as given, or chosen by the layer's activation.

    Raises
    ------
    ValueError
        If a name is unknown, or the list has not one name per layer.
    """
    if not (init is None or isinstance(init, (str, Sequence))):
        raise TypeError(f"init: found {init!r}, expected a name, a list of names or None")
    given: list[str | None]
    given = [init] * net.n_layers if init is None or isinstance(init, str) else list(init)
    if len(given) != net.n_layers:
        raise ValueError(
            f"init: found {len(given)} names, expected one or {net.n_layers}, one for each layer"
        )
    chosen = []
    for k, name in enumerate(given):
        if name is None:
            name = _default(net, k)
        chosen.append(choose("init", name, INITIALISERS))
    return chosen


def _default(net: Architecture, layer: int) -> str:
    """Return the initialiser of a layer for which none was given."""
    name = net.activations[layer]
    custom = net.custom(name)
    if layer == net.n_layers - 1:
        return "glorot_uniform"
    if name == "selu" and not custom:
        return "lecun_normal"  # Klambauer et al. 2017, section 2, "Initialization"
    rectifier = custom.rectifies if custom else name in RECTIFIERS
    return "he_normal" if rectifier else "glorot_uniform"


def draw(
    name: str, n_in: int, n_out: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (n_in, n_out) and biases (n_out,) drawn from NumPy's generator, float64."""
    scale = _SCALE[name](n_in, n_out) if name != "zeros" else 0.0
    size = n_in, n_out
    uniform = name.endswith("uniform")
    w = random.uniform(-1, 1, size) if uniform else random.standard_normal(size)
    b = random.standard_normal(n_out) if name == "normal" else np.zeros(n_out)
    return scale * w, b


def fill(net: Architecture, init: Sequence[str], seed: int, parameters: np.ndarray) -> None:
    """Write the initial weights and biases into the flat vector ``parameters``.

    Each layer draws float64 numbers from its own Philox streams, so that neither the dtype nor the
    other layers change them. Biases are zero except with ``"normal"``.
    """
    weights, biases = net.views(parameters)
    for norm in net.norm_views(parameters):
        for start, values in zip((1, 0), norm, strict=False):
            values[...] = start
    for running in net.running_views(parameters):
        for start, values in zip((0, 1), running, strict=False):
            values[...] = start
    words = _words()
    for k, name in enumerate(init):
        w, b = weights[k], biases[k]
        b[...] = 0
        if name == "zeros":
            w[...] = 0
            continue
        stream = philox.INITIAL + 2 * k
        scale = _SCALE[name](*w.shape)
        if name.endswith("uniform"):
            draw = 2 * philox.uniform(seed, w.size, stream, words) - 1
        else:
            draw = philox.normal(seed, w.size, stream, words)
        w[...] = (scale * draw).reshape(w.shape)
        if name == "normal":
            b[...] = philox.normal(seed, b.size, stream + 1, words)


@functools.cache
def _words() -> philox.Words:
    """Return the function for random words: of the compiled core, which is ten times as fast, if it
    can be used."""
    if available()["cython"]:
        return philox.words
    from ..backends.cython import _core  # type: ignore[attr-defined]

    return _core.philox_words
