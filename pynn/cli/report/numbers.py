"""Numbers as text, with their units: no exponents, and no more digits than say something."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with a few significant digits: ``31,090``, ``0.0869``, ``1.2 × 10⁻⁷``."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    if value < 0:
        return f"−{number(-value, digits)}"
    if not value:
        return "0"
    size = abs(value)
    if size >= 1e12 or size < 1e-5:
        mantissa, _, exponent = f"{value:.2g}".partition("e")
        if not exponent:  # f"{1e-05:.2g}" always has one
            return mantissa
        return f"{mantissa} × 10{_raised(int(exponent))}"
    if value == round(value):
        return f"{value:,.0f}"
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{places}f}"
    exact = float(text.replace(",", "")) == value
    return text.rstrip("0").rstrip(".") if places and (exact or size < 1) else text


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def percent(share: float | None, places: int = 2) -> str:
    """Return a share in percent; 100 % and 0 % only for all and none."""
    if share is None or math.isnan(share):
        return "–"
    if 0 < share < 1:
        least = 0.01 / 10**places
        share = min(max(share, least), 1 - least)
    return f"{100 * share:.{places}f} %"


def seconds(value: float | None) -> str:
    """Return a time with a unit that suits it: ``0.93 ms``, ``12.3 s``, ``2 h 5 min``."""
    if value is None or not math.isfinite(value) or value < 0:
        return "–"
    if not value:
        return "0 s"
    if value < 0.9995e-3:  # which 999.5 µs would round to
        return f"{1e6 * value:.3g} µs"
    if value < 0.9995:
        return f"{1e3 * value:.3g} ms"
    if value < 59.95:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s"


def count(value: Any, unit: str = "") -> str:
    """Return a whole number with separators, and its unit in the plural if it is not 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        return "–"
    text = f"{value:,}"
    return f"{text} {unit}{'' if value == 1 else 's'}" if unit else text


def measure(name: str, value: float | None) -> str:
    """Return the value of a loss, an accuracy or a metric as text."""
    return percent(value) if name.endswith("accuracy") else number(value)


def tick(value: float) -> str:
    """Return a value of a scale, without zeros at its end."""
    return f"{value:,.10g}".replace("-", "−") if 1e-4 <= abs(value) < 1e9 else number(value)


def percent_tick(share: float) -> str:
    """Return a share of a scale in percent, without zeros at its end."""
    return f"{100 * share:.6g} %"


def ticks_of(measure: str) -> Callable[[float], str]:
    """Return the function that writes the scale of a measure."""
    return percent_tick if measure.endswith("accuracy") else tick


_ACRONYMS = ("auc", "f1", "mae", "mse", "rmse", "mape", "mcc")


def label(measure: str) -> str:
    """Return the name of a measure within a sentence: ``loss``, ``AUC``, ``R²``."""
    if measure == "r2":
        return "R²"
    words = measure.split("_")
    return " ".join(word.upper() if word in _ACRONYMS else word for word in words)


def title(measure: str) -> str:
    """Return the name of a measure at the start of a line: ``Loss``, ``AUC``, ``R²``."""
    text = label(measure)
    return text[:1].upper() + text[1:]
