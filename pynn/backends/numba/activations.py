"""Activations and their derivatives."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...spec.names import OUTPUTS
from .maths import exp, exp_of_any, expm1, gelu_tanh, log1p, mish, normal, sigmoid_from, tanh
from .plan import CUSTOM, kernel

ACTIVATION = {name: number for number, name in enumerate(OUTPUTS)}
"""The number of each activation. Numba compiles the constants below into the kernels."""
SIGMOID, TANH, RELU = (ACTIVATION[name] for name in ("sigmoid", "tanh", "relu"))
LEAKY_RELU, ELU, SELU = (ACTIVATION[name] for name in ("leaky_relu", "elu", "selu"))
GELU, GELU_TANH, SOFTPLUS = (ACTIVATION[name] for name in ("gelu", "gelu_tanh", "softplus"))
SILU, MISH, SOFTSIGN = (ACTIVATION[name] for name in ("silu", "mish", "softsign"))
RELU6, HARD_SIGMOID = (ACTIVATION[name] for name in ("relu6", "hard_sigmoid"))
HARD_SWISH, HARD_TANH = (ACTIVATION[name] for name in ("hard_swish", "hard_tanh"))
SOFTMAX, EXP = (ACTIVATION[name] for name in ("softmax", "exp"))

SATURATED = 1000.0  # beyond it sigmoid is 0 or 1 in both dtypes; z is clipped, as 0 · ∞ is NaN
SELU_SCALE, SELU_LOWEST = 1.0507009873554804934, 1.7580993408473768599  # λ and λ·α


def _call_address(context, builder, address, result, arrays, kinds, numbers):
    """Call machine code at an address, with pointers to arrays and with numbers."""
    places = [
        context.make_array(kind)(context, builder, array).data
        for kind, array in zip(kinds, arrays, strict=True)
    ]
    given = [*places, *numbers]
    function = ir.FunctionType(result, [value.type for value in given])
    return builder.call(builder.inttoptr(address, function.as_pointer()), given)


@intrinsic
def custom_activation(typing_context, address, z, h, n):
    """h = f(z), then z = f'(z), by machine code from ``custom.activation_loop``."""

    def codegen(context, builder, signature, args):
        address, z_, h_, n = args
        _call_address(context, builder, address, ir.VoidType(), (z_, h_), (z, h), (n,))
        return context.get_dummy_value()

    return types.void(types.int64, z, h, types.int64), codegen


@intrinsic
def custom_loss(typing_context, address, a, t, d, label, n):
    """Return the sum of the losses of a row's outputs a, and multiply d by ∂loss/∂a.

    The targets are t, or with a label of 0 or more one-hot. Machine code from ``custom.loss_loop``.
    """

    def codegen(context, builder, signature, args):
        address, a_, t_, d_, label, n = args
        arrays, kinds = (a_, t_, d_), (a, t, d)
        return _call_address(context, builder, address, ir.DoubleType(), arrays, kinds, (label, n))

    return types.float64(types.int64, a, t, d, types.int64, types.int64), codegen


@kernel
def activation(name, address, z, h, parameter):
    """h = f(z), then z = f'(z). parameter: that of leaky_relu, elu or softplus."""
    number = h.dtype.type
    zero, one, three, six = number(0), number(1), number(3), number(6)
    least, most = number(-SATURATED), number(SATURATED)
    if name == CUSTOM:
        custom_activation(address, z, h, len(z))
    elif name == SIGMOID:
        for i in range(len(z)):
            a = sigmoid_from(exp(-abs(z[i])), z[i] < zero)
            h[i] = a
            z[i] = a * (one - a)
    elif name == TANH:
        for i in range(len(z)):
            a = tanh(z[i])
            h[i] = a
            z[i] = one - a * a
    elif name == RELU:
        for i in range(len(z)):
            h[i] = zero if z[i] < zero else z[i]
            z[i] = one if z[i] > zero else zero
    elif name == LEAKY_RELU:
        for i in range(len(z)):
            d = one if z[i] > zero else parameter
            h[i] = d * z[i]
            z[i] = d
    elif name == ELU:
        for i in range(len(z)):
            e = expm1(zero if z[i] > zero else z[i])
            h[i] = z[i] if z[i] > zero else parameter * e
            z[i] = one if z[i] > zero else parameter * (e + one)
    elif name == SELU:
        scale, lowest = number(SELU_SCALE), number(SELU_LOWEST)
        for i in range(len(z)):
            e = expm1(zero if z[i] > zero else z[i])
            h[i] = scale * z[i] if z[i] > zero else lowest * e
            z[i] = scale if z[i] > zero else lowest * (e + one)
    elif name == GELU:
        for i in range(len(z)):
            below, density = normal(z[i])
            h[i] = z[i] * below
            z[i] = below + z[i] * density
    elif name == GELU_TANH:
        for i in range(len(z)):
            h[i], z[i] = gelu_tanh(z[i])
    elif name == SOFTPLUS:
        for i in range(len(z)):
            x = parameter * z[i]
            e = exp(-abs(x))
            h[i] = ((zero if x < zero else x) + log1p(e)) / parameter
            z[i] = sigmoid_from(e, x < zero)
    elif name == SILU:
        for i in range(len(z)):
            low = least if z[i] < least else z[i]
            x = most if low > most else low
            s = sigmoid_from(exp(-abs(x)), x < zero)
            h[i] = low * s
            z[i] = s + x * s * (one - s)
    elif name == MISH:
        for i in range(len(z)):
            h[i], z[i] = mish(z[i], least, most)
    elif name == SOFTSIGN:
        for i in range(len(z)):
            a = abs(z[i])
            a = number(1e30) if a > number(1e30) else a  # then the result is ±1
            q = one / (one + a)
            h[i] = -a * q if z[i] < zero else a * q
            z[i] = q * q
    elif name == RELU6:
        for i in range(len(z)):
            low = zero if z[i] < zero else z[i]
            h[i] = six if low > six else low
            z[i] = one if z[i] > zero and z[i] < six else zero
    elif name == HARD_SIGMOID:
        for i in range(len(z)):
            x = z[i] + three
            low = zero if x < zero else x
            h[i] = (six if low > six else low) / six
            z[i] = one / six if x > zero and x < six else zero
    elif name == HARD_SWISH:
        for i in range(len(z)):
            x = -three if z[i] < -three else z[i]
            h[i] = x * ((six if x > three else x + three) / six)
            inner = (x + x + three) / six
            z[i] = (one if x >= three else inner) if x > -three else zero
    elif name == HARD_TANH:
        for i in range(len(z)):
            low = -one if z[i] < -one else z[i]
            h[i] = one if low > one else low
            z[i] = one if z[i] > -one and z[i] < one else zero
    elif name == EXP:
        for i in range(len(z)):
            e = exp_of_any(z[i])
            h[i] = e
            z[i] = e
    else:
        for i in range(len(z)):
            h[i] = z[i]
            z[i] = one


@kernel
def largest(z, n):
    """Index of the largest of n numbers, or of the first NaN, as NumPy's argmax."""
    best = 0
    for j in range(1, n):
        if z[j] > z[best] or (z[j] != z[j] and z[best] == z[best]):
            best = j
    return best


@kernel
def softmax(z, a, n):
    """Write the softmax of a row's n logits z to a.

    Returns log Σ exp(z − max z), the sum of all probabilities but the largest, and the index of the
    largest. Both sums keep their relative precision near 0.
    """
    best = largest(z, n)
    for j in range(len(z)):
        a[j] = exp(z[j] - z[best])
    rest = a.dtype.type(0)
    for j in range(n):
        rest += a[j] if j != best else a.dtype.type(0)
    total = rest + a[best]
    for j in range(len(z)):
        a[j] /= total
    for j in range(n, len(z)):
        a[j] = a.dtype.type(0)
    return math.log1p(np.float64(rest)), rest / total, best
