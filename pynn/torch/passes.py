"""Forward and backward passes of pynn's kernels as functions of PyTorch's autograd."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..backends import tangents
from ..backends.contract import Engine, Pass, Tape
from ..backends.draws import Draws
from ..spec.architecture import Architecture
from . import operations

Array = np.ndarray


class Pool:
    """Tapes of one engine, which are used again when no graph needs them any more."""

    def __init__(self, net: Architecture, engine: Engine) -> None:
        self.net, self.engine, self.places = net, engine, _places(net)
        self.tapes: list[Tape] = []


class Call:
    """One call of a module: a tape, and what its passes need.

    Parameters
    ----------
    pool
        Of the engine.
    values
        The parameters and running statistics (n_values,).
    how
        Of the forward pass.
    """

    def __init__(self, pool: Pool, values: Array, how: Pass) -> None:
        self.net, self.values, self.how, self._pool = pool.net, values, how, pool
        self.places = pool.places
        self.tape = pool.tapes.pop() if pool.tapes else pool.engine.tape()

    def __del__(self) -> None:
        self._pool.tapes.append(self.tape)

    def forward(self, x: Tensor) -> Tensor:
        self.tape.forward(self.values, x.detach().numpy(), self.how)
        return torch.from_numpy(self.tape.outputs())

    def backward(self, d: Tensor, inputs: bool, parameters: bool) -> list[Tensor | None]:
        """Return the gradients of x and of the parameters that autograd asked for."""
        tape = self.tape
        d_logits = tape.output_gradient(as_array(d))
        dx = tape.backward(d_logits, inputs)
        parts: list[Tensor | None] = [None] * len(self.places)
        if parameters:
            flat = torch.from_numpy(tape.gradient())
            parts = [flat.as_strided(*place) for place in self.places]
        return [None if dx is None else torch.from_numpy(dx), *parts]

    def backward_twice(
        self, d: Tensor, t_x: Tensor | None, t_parameters: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Return gradients of d, x and parameters, given those of ``backward``'s results."""
        net = self.net
        rows = self.tape.inputs()
        along_x = np.zeros_like(rows) if t_x is None else as_array(t_x)
        along = torch.zeros(net.n_parameters, dtype=d.dtype, device="cpu")
        for view, given in zip(divided(net, along), t_parameters, strict=True):
            if given is not None:
                view.copy_(given)
        found = tangents.backward_twice(
            net, self.values, rows, self.how, as_array(d), True, along_x, along.numpy()
        )
        of_parameters = divided(net, torch.from_numpy(found.parameters))
        return [torch.from_numpy(found.d), torch.from_numpy(found.x), *of_parameters]

    def require_second_derivatives(self) -> None:
        """Raise RuntimeError if the network has no gradients of gradients."""
        lacking = tangents.unsupported(self.net)
        if lacking:
            raise RuntimeError(
                f"backward: found a second derivative through {lacking}, expected a network "
                "without one"
            )

    def outputs(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Return the outputs of the same pass, computed with operations of PyTorch."""
        net, how = self.net, self.how
        layers = [SimpleNamespace() for _ in range(net.n_layers)]
        for (k, name), values in zip(slots(net), parameters, strict=True):
            setattr(layers[k], name, values)
        # Copies, since a pass in training changes them.
        statistics = torch.from_numpy(self.values).clone()
        for k, found in zip(net.batch_layers, running(net, statistics), strict=True):
            layers[k].running_mean, layers[k].running_var = found
        masks = None
        if how.training and any(net.dropout):
            drawn = Draws(net, how.seed).masks(how.epoch, how.first_row, len(x))
            masks = [torch.from_numpy(mask) for mask in drawn]
        return operations.forward(net, layers, x, how.training, masks)


def running(net: Architecture, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return mean and variance of the batch norms as views of a flat tensor (n_values,)."""
    start, views = net.n_parameters, []
    for k in net.batch_layers:
        n = net.sizes[k + 1]
        views.append((flat[start : start + n], flat[start + n : start + 2 * n]))
        start += 2 * n
    return views


def as_array(values: Tensor) -> Array:
    """Return a contiguous array of a tensor's values."""
    return values.detach().contiguous().numpy()


def slots(net: Architecture) -> list[tuple[int, str]]:
    """Return layer and name of every parameter, in the order of ``MLP.parameters``."""
    names = ("weight", "bias", "scale", "shift")
    return [(k, name) for k in range(net.n_layers) for name in names[: 2 + net.norm_vectors(k)]]


def running_slots(net: Architecture) -> list[tuple[int, str]]:
    """Return layer and name of every running statistic, in the order of ``MLP.buffers``."""
    return [(k, name) for k in net.batch_layers for name in ("running_mean", "running_var")]


def divided(net: Architecture, flat: Tensor) -> list[Tensor]:
    """Return the parameters as views of a flat tensor: weights (n_out, n_in), then vectors."""
    return [flat.as_strided(*place) for place in _places(net)]


@functools.cache
def _places(net: Architecture) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """Return shape, strides and offset of every parameter in the flat tensor."""
    places: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
    for k, (w, b) in enumerate(net.offsets()):
        n_in, n_out = net.sizes[k], net.sizes[k + 1]
        places.append(((n_out, n_in), (1, n_out), w))
        places += [((n_out,), (1,), b + i * n_out) for i in range(1 + net.norm_vectors(k))]
    return places


class Passes(torch.autograd.Function):
    """The outputs (n, n_out) of rows x (n, n_in), from the parameters in the order of ``slots``."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.call = call
        # PyTorch refuses a backward pass if one of them was changed since.
        ctx.save_for_backward(x, *parameters)
        return call.forward(x)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        _, inputs, *wanted = ctx.needs_input_grad
        if operations.is_batched(d):
            operations.warn("batched gradients")
            return None, *_first(ctx.call, d, x, parameters)
        if torch.is_grad_enabled():  # with create_graph=True
            return None, *Gradients.apply(ctx.call, d, x, *parameters)
        return None, *ctx.call.backward(d, inputs, any(wanted))


class Gradients(torch.autograd.Function):
    """The gradients of ``Passes``, as a function that has gradients itself."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, d: Tensor, x: Tensor, *parameters: Tensor
    ) -> tuple[Tensor | None, ...]:
        ctx.call = call
        ctx.save_for_backward(d, x, *parameters)
        return tuple(call.backward(d, inputs=True, parameters=True))

    @staticmethod
    def backward(
        ctx: Any, t_x: Tensor | None, *t_parameters: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        d, x, *parameters = ctx.saved_tensors
        ctx.call.require_second_derivatives()
        batched = operations.is_batched(d, t_x, *t_parameters)
        if batched or torch.is_grad_enabled():
            operations.warn("batched gradients" if batched else "derivatives of second derivatives")
            return None, *_second(ctx.call, d, x, parameters, (t_x, *t_parameters))
        return None, *ctx.call.backward_twice(d, t_x, t_parameters)


def _ends(tensors: Sequence[Tensor], graph: bool) -> list[Tensor]:
    """Return tensors at which derivatives end, although some of the tensors may depend on others.

    With ``graph``, derivatives of derivatives continue to what the tensors depend on.
    """
    return [
        t.view_as(t) if graph and t.requires_grad else t.detach().requires_grad_() for t in tensors
    ]


def _first(
    call: Call, d: Tensor, x: Tensor, parameters: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``Passes``, computed with operations of PyTorch."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        ends = _ends([x, *parameters], graph)
        out = call.outputs(ends[0], ends[1:])
        return torch.autograd.grad(out, ends, d, create_graph=graph, allow_unused=True)


def _second(
    call: Call,
    d: Tensor,
    x: Tensor,
    parameters: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``Gradients``, computed with operations of PyTorch."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        ends = _ends([d, x, *parameters], graph)
        out = call.outputs(ends[1], ends[2:])
        first = torch.autograd.grad(out, ends[1:], ends[0], create_graph=True)
        pairs = [pair for pair in zip(first, tangents, strict=True) if pair[1] is not None]
        values, along = zip(*pairs, strict=True)
        return torch.autograd.grad(values, ends, along, create_graph=graph, allow_unused=True)
