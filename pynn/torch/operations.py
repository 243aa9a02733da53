"""The layers of ``MLP`` in operations of PyTorch, for what pynn's kernels do not compute."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..spec.architecture import Architecture
from ..spec.norms import BatchNorm, Norm

ACTIVATION: dict[str, Callable[..., Tensor]] = {
    "identity": lambda z, _: z,
    "sigmoid": lambda z, _: torch.sigmoid(z),
    "tanh": lambda z, _: torch.tanh(z),
    "relu": lambda z, _: functional.relu(z),
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": lambda z, _: functional.gelu(z),
    "softplus": lambda z, beta: functional.softplus(z, beta, threshold=100.0),
    "silu": lambda z, _: functional.silu(z),
    "mish": lambda z, _: functional.mish(z),
    "selu": lambda z, _: functional.selu(z),
    "softsign": lambda z, _: functional.softsign(z),
    "relu6": lambda z, _: functional.relu6(z),
    "hard_sigmoid": lambda z, _: functional.hardsigmoid(z),
    "hard_swish": lambda z, _: functional.hardswish(z),
    "hard_tanh": lambda z, _: functional.hardtanh(z),
    "gelu_tanh": lambda z, _: functional.gelu(z, approximate="tanh"),
    "exp": lambda z, _: torch.exp(z),
    "softmax": lambda z, _: torch.softmax(z, -1),
}
"""Activations, with their parameter."""


def normalize(norm: Norm, layer: Any, z: Tensor, training: bool) -> Tensor:
    """The normalisation of a layer with the parameters ``scale`` and ``shift``."""
    if isinstance(norm, BatchNorm):
        if not training:
            mean, variance = layer.running_mean, layer.running_var
        else:
            variance, mean = torch.var_mean(z, 0, unbiased=False)
            with torch.no_grad():
                correction = len(z) / (len(z) - 1) if norm.unbiased else 1.0
                layer.running_mean.lerp_(mean, norm.momentum)
                layer.running_var.lerp_(variance * correction, norm.momentum)
        return (z - mean) * torch.rsqrt(variance + norm.epsilon) * layer.scale + layer.shift
    if norm.centers:
        return functional.layer_norm(z, z.shape[-1:], layer.scale, layer.shift, norm.epsilon)
    inverse = torch.rsqrt(z.square().mean(-1, keepdim=True) + norm.epsilon)
    return z * inverse * layer.scale


def in_transform() -> bool:
    """Whether vmap, grad or another transform of torch.func is active."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return bool(active is not None and active())


def is_batched(*tensors: Tensor | None) -> bool:
    """Whether a gradient stands for several, as with ``is_grads_batched``."""
    legacy = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
    if in_transform():
        return True
    return legacy is not None and any(legacy(t) for t in tensors if t is not None)


@functools.cache
def warn(reason: str) -> None:
    """Say once why a call is computed here."""
    warnings.warn(
        f"pynn.torch.MLP computes with operations of PyTorch: found {reason}; pynn's kernels "
        "compute float32 and float64 on the CPU, and first and second derivatives, outside "
        "torch.func and torch.compile",
        stacklevel=4,
    )


def forward(
    net: Architecture,
    layers: Sequence[Any],
    x: Tensor,
    training: bool,
    masks: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return the outputs for rows x (n, n_in); ``masks`` are the factors of dropout, if drawn."""
    h = x
    for k, layer in enumerate(layers):
        a = functional.linear(h, layer.weight, layer.bias)
        norm, after = net.norm(k), net.norm_after
        if norm is not None and not after:
            a = normalize(norm, layer, a, training)
        a = ACTIVATION[net.activations[k]](a, net.activation_parameter(k))
        if norm is not None and after:
            a = normalize(norm, layer, a, training)
        if masks:
            a = a * masks[k] if k < len(masks) else a
        elif k < net.n_layers - 1:
            a = functional.dropout(a, net.dropout[k], training)
        h = a + h if net.adds_input(k) else a
    return h
