"""Activations and their derivatives."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .maths import exp, exp_of_any, expm1, log1p, normal, sigmoid_from, tanh
from .plan import CUSTOM, ELU, EXP, GELU, LEAKY_RELU, RELU, SIGMOID, SOFTPLUS, TANH, kernel


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
def activation(name, address, z, h, slope):
    """h = f(z), then z = f'(z)."""
    zero, one = h.dtype.type(0), h.dtype.type(1)
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
            d = one if z[i] > zero else slope
            h[i] = d * z[i]
            z[i] = d
    elif name == ELU:
        for i in range(len(z)):
            e = expm1(zero if z[i] > zero else z[i])
            h[i] = z[i] if z[i] > zero else e
            z[i] = e + one
    elif name == GELU:
        for i in range(len(z)):
            below, density = normal(z[i])
            h[i] = z[i] * below
            z[i] = below + z[i] * density
    elif name == SOFTPLUS:
        for i in range(len(z)):
            e = exp(-abs(z[i]))
            h[i] = (zero if z[i] < zero else z[i]) + log1p(e)
            z[i] = sigmoid_from(e, z[i] < zero)
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
