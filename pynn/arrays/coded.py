"""Multiples of a number, such as pixels divided by 255, as codes of one byte."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray

MOST = 255
"""The largest code."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Rows whose elements are codes c of one byte, each for the number fma(c, high, c · low).

    Parameters
    ----------
    codes
        (n, columns), uint8, C-contiguous.
    factors
        high and low, whose sum is the step of which the numbers are multiples.
    memory
        The object to which the memory of ``codes`` belongs.
    """

    codes: Array
    factors: tuple[float, float]
    memory: Any

    def __len__(self) -> int:
        return len(self.codes)


def step_of(numbers: Array) -> Fraction | None:
    """Return the step of which some numbers (k,) seem to be the multiples 0 … 255, or None.

    It is the reciprocal of a whole number, or a whole number, if it is close to one.
    """
    distinct = np.unique(numbers.astype(np.float64))
    if len(distinct) > MOST + 1 or distinct[0] < 0 or distinct[-1] == 0:
        return None
    gaps = np.diff(distinct, prepend=0.0)
    most = np.rint(distinct[-1] / gaps[gaps > 0].min())
    if most > MOST:
        return None
    step = Fraction(float(distinct[-1])) / int(most)
    for exact in (Fraction(round(step)), Fraction(1, max(1, round(1 / step)))):
        if abs(exact - step) < step / 10_000:
            step = exact
    return step


def factors_of(step: Fraction, dtype: Any) -> list[tuple[float, float]]:
    """Return the pairs of high and low, numbers of a dtype, for exact multiples of a step that are
    rounded, and for multiples of the step rounded.
    """
    number = np.dtype(dtype).type
    high = float(number(float(step)))
    low = float(number(float(step - Fraction(high))))
    return [(high, low), (high, 0.0)]
