"""Exponential, sigmoid, tanh, logarithm and the normal distribution.

Plain arithmetic without calls or branches, so that loops over these functions become vector code.
"""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .plan import FUSED, INLINED, fused_kernel, inlined_kernel


def by_dtype(single: Any, double: Any) -> Callable[[Any], Any]:
    """Return a function for kernels: a constant that depends on the type of the argument."""

    def constant(x: Any) -> Any:
        raise NotImplementedError("only for kernels")

    @overload(constant, jit_options=INLINED)
    def _constant(x):
        return (lambda x: single) if x == types.float32 else (lambda x: double)

    return constant


def polynomial(single: list[float], double: list[float]) -> Callable[[Any], Any]:
    """Return a function for kernels: the polynomial with these coefficients, lowest power first."""
    of = {types.float32: np.array(single[::-1], np.float32), types.float64: np.array(double[::-1])}

    def value(x: Any) -> Any:
        raise NotImplementedError("only for kernels")

    @overload(value, jit_options=FUSED)
    def _value(x):
        series = of[x]

        def horner(x):
            y = series[0]
            for i in range(1, len(series)):
                y = y * x + series[i]
            return y

        return horner

    return value


ONE, HALF = by_dtype(np.float32(1), 1.0), by_dtype(np.float32(0.5), 0.5)
TWO = by_dtype(np.float32(2), 2.0)

# e^x = 2^n·e^r with x = n·ln 2 + r and |r| <= ½·ln 2, and e^r by its Taylor series. Adding 1.5·2^23
# (1.5·2^52 in float64) to x / ln 2 rounds it to n and leaves n in the low bits of the sum, which
# are shifted into the exponent of 2^n. ln 2 is split into two parts, the first short enough for n
# times it to be exact. Below EXP_LIMIT, 2^n would be subnormal and e^x is set to 0; above EXP_TOP,
# e^x is infinite; 2^n beyond MOST_POWER is reached by a last doubling.
EXP_LIMIT = by_dtype(np.float32(-87.5), -708.5)
EXP_TOP = by_dtype(np.float32(89), 710.0)
MOST_POWER = by_dtype(np.float32(2.0**127), 2.0**1023)
EXP_ROUND = by_dtype(np.float32(1.5 * 2**23), 1.5 * 2**52)
PER_LN2 = by_dtype(np.float32(1 / math.log(2)), 1 / math.log(2))
LN2_FIRST = by_dtype(np.float32(0.693115234375), 0.6931471803691238)
LN2_REST = by_dtype(np.float32(3.194618494530942e-05), 1.908214929270588e-10)
exp_series = polynomial(*([1 / math.factorial(i) for i in range(2, n)] for n in (8, 14)))


def power_of_two(shifted: Any) -> Any:
    """2^n, with n in the low bits of a sum with EXP_ROUND."""
    raise NotImplementedError("only for kernels")


@overload(power_of_two, jit_options=INLINED)
def _power_of_two(shifted):
    def single(shifted):
        bits = (np.float32(shifted).view(np.int32) << 23) + (127 << 23)
        return np.int32(bits).view(np.float32)

    def double(shifted):
        bits = (np.float64(shifted).view(np.int64) << 52) + (1023 << 52)
        return np.int64(bits).view(np.float64)

    return single if shifted == types.float32 else double


@fused_kernel
def exp_parts(x):
    """2^n and e^r − 1, for x up to EXP_TOP."""
    vanishes = x < EXP_LIMIT(x)
    x = EXP_LIMIT(x) if vanishes else x
    shifted = x * PER_LN2(x) + EXP_ROUND(x)
    n = shifted - EXP_ROUND(x)
    r = x - n * LN2_FIRST(x) - n * LN2_REST(x)
    power = x - x if vanishes else power_of_two(shifted)
    return power, exp_series(r) * r * r + r


@inlined_kernel
def exp(x):
    """e^x for x <= 0."""
    power, rest = exp_parts(x)
    return (ONE(x) + rest) * power


@inlined_kernel
def exp_of_any(x):
    """e^x for any x."""
    power, rest = exp_parts(EXP_TOP(x) if x > EXP_TOP(x) else x)
    large = power > MOST_POWER(x)
    scaled = (ONE(x) + rest) * (MOST_POWER(x) if large else power)
    return scaled * (TWO(x) if large else ONE(x))


@inlined_kernel
def expm1(x):
    """e^x − 1 for x up to EXP_TOP, with full relative precision near 0."""
    power, rest = exp_parts(x)
    return (power - ONE(x)) + power * rest


@inlined_kernel
def sigmoid_from(e, negative):
    """sigmoid(x) from e = e^-|x|: e − e·q equals q, with smaller rounding errors for small e."""
    q = e / (ONE(e) + e)
    return e - e * q if negative else ONE(e) - q


# (tanh(x)/x − 1) / x² in x² for |x| <= ½·ln 2: the Chebyshev series, computed to 60 digits and
# summed until the remainder is below 1/30 of a unit in the last place of tanh(x).
# fmt: off
tanh_series = polynomial(
    [
        -0.33333333317766481566, 0.13333326847191532673, -0.053963912025196616291,
        0.02176712884858695726, -0.0078645945996405782397,
    ],
    [
        -0.3333333333333333333, 0.13333333333333327191, -0.05396825396823707197,
        0.021869488534350503521, -0.0088632354318825774631, 0.0035921249730682944541,
        -0.0014557759330449634172, 0.00058933378581985214105, -0.00023410705368356484702,
        0.000076306339166520422811,
    ],
)
# fmt: on
TANH_SMALL = by_dtype(np.float32(0.34657), 0.34657)
TANH_LARGE = by_dtype(np.float32(40), 40.0)  # tanh(x) rounds to 1 far below


@inlined_kernel
def tanh(x):
    """tanh(x): a series where |x| is small, else e / (e + 2) with e = e^2|x| − 1."""
    a = abs(x)
    e = expm1(TANH_LARGE(x) if a > TANH_LARGE(x) else a + a)
    small = a + a * a * a * tanh_series(a * a)
    t = small if a < TANH_SMALL(x) else e / (e + TWO(x))
    return -t if x < 0 else t


# artanh(s) / s in s², for s up to 1/3 (Taylor series).
artanh_series = polynomial(*([1 / (2 * i + 1) for i in range(n)] for n in (8, 17)))


@inlined_kernel
def log1p(u):
    """ln(1 + u) for u from 0 to 1, as 2·artanh(u / (2 + u))."""
    s = u / (u + ONE(u) + ONE(u))
    return (s + s) * artanh_series(s * s)


# (1 + q)·e^(q²)·erfc(q) for q >= 0 in t = (q − 2.5) / (q + 2.5): the Chebyshev series, computed to
# 60 digits and summed to the first term below a unit in the last place.
# fmt: off
erfc_series = polynomial(
    [
        0.73782227414665513063, -0.24704676461094653944, 0.076344333347199865337,
        0.016298893470634176426, -0.031522361095252886342, 0.014379805004904116611,
        -0.00085463819895897350943, -0.0017394926125912139406, 0.00035850175550056198724,
        0.00022722900711908590065, -0.000059222550199797224596, -0.000024879592717953064292,
        5.9044393793545584579e-6,
    ],
    [
        0.73782227421400253146, -0.24704674851568876743, 0.076344326821923804392,
        0.016298433322187700181, -0.031522258481489064337, 0.01438359605163137689,
        -0.0008552365738881081966, -0.0017530814484562350989, 0.00036012310737665312614,
        0.00025162360948518848727, -0.000061330908718875068337, -0.000047454049218017923041,
        6.9108312444187622561e-6, 0.000010201084189014654192, 3.9525304291351868906e-7,
        -2.0721378477754495967e-6, -5.9585219998689977829e-7, 3.0837712773309654091e-7,
        2.3444738846058213611e-7, -2.7259048434171245565e-9, -6.0320305221148396068e-8,
        -1.6266518891570182297e-8, 1.0073852159744780416e-8, 5.087196820270810473e-9,
        -8.3835154264997100915e-10, -6.1430515153705860037e-10,
    ],
)
# fmt: on


ERFC_MIDDLE = by_dtype(np.float32(2.5), 2.5)
ROOT_HALF = by_dtype(np.float32(math.sqrt(0.5)), math.sqrt(0.5))
DENSITY_PEAK = by_dtype(np.float32(1 / math.sqrt(2 * math.pi)), 1 / math.sqrt(2 * math.pi))


@inlined_kernel
def normal(x):
    """The normal distribution function Φ(x) and its density."""
    q = abs(x) * ROOT_HALF(x)
    e = exp(-HALF(x) * x * x)
    t = (q - ERFC_MIDDLE(x)) / (q + ERFC_MIDDLE(x))
    tail = HALF(x) * e * erfc_series(t) / (ONE(x) + q)
    return (ONE(x) - tail if x > 0 else tail), e * DENSITY_PEAK(x)


# √(8/π) and 0.044715, also three times.
GELU_SCALE = by_dtype(np.float32(math.sqrt(8 / math.pi)), math.sqrt(8 / math.pi))
GELU_CUBE = by_dtype(np.float32(0.044715), 0.044715)
GELU_SLOPE = by_dtype(np.float32(0.134145), 0.134145)
GELU_END = by_dtype(np.float32(40), 40.0)  # beyond it sigmoid(u) is 0 or 1


@inlined_kernel
def gelu_tanh(z):
    """z·sigmoid(u) with u = √(8/π)·(z + 0.044715·z³), and its derivative."""
    low = -GELU_END(z) if z < -GELU_END(z) else z
    x = GELU_END(z) if low > GELU_END(z) else low
    square = x * x
    u = GELU_SCALE(z) * x * (ONE(z) + GELU_CUBE(z) * square)
    s = sigmoid_from(exp(-abs(u)), u < 0)
    return low * s, s + x * s * (ONE(z) - s) * GELU_SCALE(z) * (ONE(z) + GELU_SLOPE(z) * square)


@inlined_kernel
def mish(z, least, most):
    """z·tanh(ln(1 + e^z)) and its derivative, z being clipped where both are 0 or the identity.

    With e = e^-|z|, tanh = top / (top + rest) and 1 − tanh² = rest·(2·top + rest) / (top + rest)².
    """
    low = least if z < least else z
    x = most if low > most else low
    e = exp(-abs(x))
    top = ONE(z) + TWO(z) * e if x > 0 else e * (e + TWO(z))
    rest = TWO(z) * e * e if x > 0 else TWO(z)
    bottom = top + rest
    t = top / bottom
    sigmoid = (ONE(z) if x > 0 else e) / (ONE(z) + e)
    return low * t, t + x * sigmoid * (rest * (top + bottom) / (bottom * bottom))
