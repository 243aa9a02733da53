"""``MLP``: a multilayer perceptron of pynn as a module of PyTorch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..backends import choose
from ..backends.contract import Pass
from ..exports import pytorch
from ..exports.chain import Activate, Dense, Drop, Normalize, Part, Place
from ..exports.pytorch import DTYPES
from ..spec import arguments
from ..spec.architecture import ActivationLike, Architecture
from ..spec.norms import NormLike
from ..training import initialise
from . import operations
from .passes import Call, Passes, Pool, divided, running, running_slots, slots


class Layer(nn.Module):
    """The parameters of one layer, and the running statistics of its batch norm."""

    weight: nn.Parameter
    bias: nn.Parameter


class MLP(nn.Module):
    """A multilayer perceptron that computes with pynn's kernels.

    Its parameters are ``layers.<k>.weight`` (n_out, n_in) and ``layers.<k>.bias`` (n_out,), as of
    ``nn.Linear``, and with normalisations ``layers.<k>.scale`` and ``shift``. They are views of one
    flat tensor. Optimizers, schedulers, ``clip_grad_norm_``, ``state_dict``, copying and pickling
    work as with other modules. Forward and backward passes run on pynn's threads and are identical
    with any number of them. Second derivatives are exact; not with batch norm.

    On other devices than the CPU, for other dtypes than float32 and float64, in ``torch.func``, in
    ``torch.compile``, for batched gradients, forward-mode derivatives, and derivatives of second
    derivatives, the module computes with operations of PyTorch, with one warning.

    Parameters
    ----------
    sizes : sequence of int
        Number of units of every layer, from inputs to outputs.
    activation, norm, norm_after, residual, dropout, init
        As of :class:`pynn.Network`, without custom activations. Dropout draws a key from PyTorch's
        generator in each call.
    output : str, LeakyReLU, ELU or Softplus
        Activation of the last layer; losses of PyTorch for classes expect ``"identity"``.
    dtype : torch.dtype, optional
        ``torch.float32`` or ``torch.float64``; None takes PyTorch's default.
    backend, threads
        As of :class:`pynn.Network`.

    Raises
    ------
    ValueError
        If an argument is not one of those above.

    Examples
    --------
    >>> import torch
    >>> from pynn.torch import MLP
    >>> model = MLP([4, 32, 3], activation="tanh")
    >>> model(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: ActivationLike | Sequence[ActivationLike] = "relu",
        *,
        output: ActivationLike = "identity",
        norm: NormLike | Sequence[NormLike] = None,
        norm_after: bool = False,
        residual: bool = False,
        dropout: float | Sequence[float] = 0.0,
        init: str | Sequence[str | None] | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        super().__init__()
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in DTYPES:
            raise ValueError(f"dtype: found {dtype}, expected torch.float32 or torch.float64")
        net = Architecture.build(
            *(sizes, activation, output, "mse", dropout, DTYPES[dtype], "full", residual),
            *(norm, norm_after),
        )
        if net.functions:
            raise ValueError(
                f"activation: found {net.functions[0]!r}, a custom function, expected a name or an "
                "activation with a parameter"
            )
        self.architecture, self._asked = net, (backend, arguments.threads(threads))
        self._count = len(slots(net))
        self._clear()
        flat = torch.empty(net.n_values, dtype=dtype, device="cpu")
        seed = int(torch.randint(2**62, (), device="cpu"))
        initialise.fill(net, initialise.names(net, init), seed, flat.numpy())
        self.layers = nn.ModuleList(Layer() for _ in range(net.n_layers))
        for (k, name), view in zip(slots(net), divided(net, flat), strict=True):
            self.layers[k].register_parameter(name, nn.Parameter(view))
        for k, values in zip(net.batch_layers, running(net, flat), strict=True):
            for name, view in zip(("running_mean", "running_var"), values, strict=True):
                self.layers[k].register_buffer(name, view)
        self._adopt(flat)
        self._pool()  # refuses a backend that cannot be used
        device = torch.empty(0).device  # the default one
        if device.type != "cpu":
            self.to(device)

    def _clear(self) -> None:
        """Forget what is not copied or pickled."""
        self._pools: dict[torch.dtype, Pool] = {}
        self._flat: Tensor | None = None
        self._places: list[int] = []
        self._owners: list[tuple[dict[str, Any], str]] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        left_out = "_pools", "_flat", "_places", "_owners", "_lock"
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        twin._flatten()
        return twin

    def extra_repr(self) -> str:
        net = self.architecture
        names = [*map(str, net.given_activations())]
        norm = f", norm={net.norm_text}" if net.norms else ""
        return f"{'-'.join(map(str, net.sizes))}, activations={'/'.join(names)}{norm}"

    # --- The flat tensor ------------------------------------------------------------------------

    def _tensors(self) -> list[Tensor]:
        """Parameters in the order of ``slots``, then running statistics."""
        if self._owners is None:  # attributes of modules are slow
            layers, net = self.layers, self.architecture
            self._owners = [
                *((layers[k]._parameters, name) for k, name in slots(net)),
                *((layers[k]._buffers, name) for k, name in running_slots(net)),
            ]
        try:
            return [owner[name] for owner, name in self._owners]
        except KeyError:
            return self._computed()

    def _computed(self) -> list[Tensor]:
        """Return the same if some are computed from others, as by ``parametrizations.weight_norm``.

        Hooks of layers compute them for ``weight_norm``, ``spectral_norm`` and ``prune``.
        """
        for layer in self.layers:
            for hook in layer._forward_pre_hooks.values():
                hook(layer, ())
        net = self.architecture
        names = (*slots(net), *running_slots(net))
        return [getattr(self.layers[k], name) for k, name in names]

    def _views(self, flat: Tensor) -> list[Tensor]:
        pairs = running(self.architecture, flat)
        return [*divided(self.architecture, flat), *(view for pair in pairs for view in pair)]

    def _adopt(self, flat: Tensor) -> None:
        """Take a tensor whose views the parameters are."""
        self._flat = flat
        self._places = [view.data_ptr() for view in self._views(flat)]

    def _known(self, tensors: list[Tensor]) -> Tensor | None:
        """Return the flat tensor if the parameters are its views."""
        flat = self._flat
        known = flat is not None and self._places == [t.data_ptr() for t in tensors]
        return flat if known else None

    def _values(self, tensors: list[Tensor]) -> Tensor:
        """Return parameters and statistics as one tensor (n_values,).

        Copying, unpickling, ``to`` and others give a module new tensors, which become views of one
        again here. Tensors that somebody else put in their place are copied, and so are those that
        processes share, which stay where they are.
        """
        with self._lock, torch.no_grad():  # the first call can be that of several threads
            found = self._known(tensors)
            if found is None:
                found = self._in_one_storage(tensors)
                if found is not None:
                    self._adopt(found)
            if found is not None:
                return found
            flat = torch.empty(self.architecture.n_values, dtype=tensors[0].dtype, device="cpu")
            views = self._views(flat)
            for view, tensor in zip(views, tensors, strict=True):
                view.copy_(tensor)
            ours = all(isinstance(tensor, nn.Parameter) for tensor in tensors[: self._count])
            if ours and not any(tensor.is_shared() for tensor in tensors):
                for view, tensor in zip(views, tensors, strict=True):
                    tensor.data = view
                self._adopt(flat)
            return flat

    def _in_one_storage(self, tensors: list[Tensor]) -> Tensor | None:
        """Return the flat tensor of which these tensors still are views, if there is one."""
        storage, dtype, n = (
            tensors[0].untyped_storage(),
            tensors[0].dtype,
            self.architecture.n_values,
        )
        if storage.nbytes() != n * dtype.itemsize:
            return None
        flat = torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, (n,), (1,))
        for view, tensor in zip(self._views(flat), tensors, strict=True):
            if view.data_ptr() != tensor.data_ptr() or view.stride() != tensor.stride():
                return None
        return flat

    def _apply(self, *given: Any, **more: Any) -> MLP:
        super()._apply(*given, **more)
        self._flatten()
        return self

    def _flatten(self) -> None:
        """Make the parameters views of one tensor now if they can be."""
        tensors = self._tensors()
        first = tensors[0]
        if first.dtype in DTYPES and all(t.is_cpu and t.dtype is first.dtype for t in tensors):
            self._values(tensors)

    def _pool(self, dtype: torch.dtype | None = None) -> Pool:
        net = self.architecture
        if dtype is None:
            dtype = next(known for known, name in DTYPES.items() if name == net.dtype)
        if dtype not in self._pools:
            net = replace(net, dtype=DTYPES[dtype])
            self._pools[dtype] = Pool(net, choose.create(self._asked[0], net, self._asked[1]))
        return self._pools[dtype]

    def to_sequential(self) -> nn.Sequential:
        """Return modules of PyTorch that compute the same, with copies of the parameters.

        For ``torch.export``, ONNX, quantisation and other tools that read the layers of a module.

        Raises
        ------
        ValueError
            If the network has residual connections or the activation ``exp``.
        """
        net = self.architecture
        tensors: list[dict[str, Tensor]] = [{} for _ in self.layers]
        for k, name in (*slots(net), *running_slots(net)):
            tensors[k][name] = getattr(self.layers[k], name)
        return pytorch.sequential(net, tensors, "to_sequential").train(self.training)

    def parts_of_chain(self, place: Place) -> list[Part]:
        """Return its layers as :func:`fit` and ``Network.from_torch`` take them."""
        net = self.architecture
        if any(net.residual):
            place.refuse("with residual=True", "False")
        parts: list[Part] = []
        for k, layer in enumerate(self.layers):
            here = replace(place, name=f"{place.name}.layers.{k}", source=layer)
            weights, *vectors = (
                pytorch.array_of(layer, name, here)
                for name in ("weight", "bias", "scale", "shift", "running_mean", "running_var")
            )
            assert weights is not None
            parts.append(Dense(here, weights.T, vectors[0]))
            kind, function = net.norm(k), Activate(here, net.given_activations()[k])
            norm = [] if kind is None else [Normalize(here, kind, net.sizes[k + 1], *vectors[1:])]
            activation = [function] if net.activations[k] != "identity" else []
            parts += [*activation, *norm] if net.norm_after else [*norm, *activation]
            if k < net.n_layers - 1 and net.dropout[k]:
                parts.append(Drop(here, net.dropout[k]))
        return parts

    # --- Passes ---------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (…, n_out) of rows x (…, n_in).

        Raises
        ------
        TypeError, ValueError
            If x is no tensor of floating-point numbers, or has another shape.
        """
        net = self.architecture
        if not isinstance(x, Tensor):
            kind = type(x).__name__
            hint = "; for torch.fx, use to_sequential()" if kind == "Proxy" else ""
            raise TypeError(f"x: found a {kind}, expected a torch.Tensor{hint}")
        if not x.is_floating_point():
            raise TypeError(f"x: found {x.dtype}, expected floating-point numbers")
        if x.ndim == 0 or x.shape[-1] != net.n_in:
            raise ValueError(f"x: found shape {tuple(x.shape)}, expected (…, {net.n_in})")
        rows = x if x.ndim == 2 else x.reshape(-1, net.n_in)
        if len(rows) < 2 and self.training and net.batch_layers:
            raise ValueError(
                f"x: found {len(rows)} rows, expected two or more, since batch norm is used"
            )
        tensors = self._tensors()
        # Tensors of transforms have no addresses.
        reason, known = _beyond_passes(), None
        if not reason:
            known = self._known(tensors)
            reason = _beyond_kernels(rows, tensors if known is None else [known])
        if reason:
            operations.warn(reason)
        if reason or len(rows) == 0:
            out = operations.forward(net, list(self.layers), rows, self.training)
        else:
            out = self._passes(rows, tensors, known)
        return out if x.ndim == 2 else out.reshape(*x.shape[:-1], net.n_out)

    def _passes(self, rows: Tensor, tensors: list[Tensor], known: Tensor | None) -> Tensor:
        net = self.architecture
        flat = self._values(tensors) if known is None else known
        count, how = self._count, Pass()
        if self.training and (net.norms or any(net.dropout)):
            seed = int(torch.randint(2**62, (), device="cpu")) if any(net.dropout) else 0
            how = Pass(training=True, seed=seed)
        call = Call(self._pool(rows.dtype), flat.numpy(), how)
        out: Tensor = Passes.apply(call, rows, *tensors[:count])
        if flat is not self._flat and how.training and net.batch_layers:
            with torch.no_grad():
                views = self._views(flat)[count:]
                for view, tensor in zip(views, tensors[count:], strict=True):
                    tensor.copy_(view)
        return out


def _beyond_passes() -> str:
    """Return what transforms or records this call, or an empty string."""
    if torch.compiler.is_compiling():
        return "torch.compile"
    if torch.jit.is_tracing():
        return "torch.jit.trace"
    if operations.in_transform():
        return "a transform of torch.func"
    if forward_ad._current_level >= 0:
        return "forward-mode derivatives"
    return ""


def _beyond_kernels(rows: Tensor, tensors: list[Tensor]) -> str:
    """Return why pynn's kernels cannot compute this call, or an empty string."""
    dtype = rows.dtype
    if dtype not in DTYPES:
        return f"dtype {dtype}"
    if rows.layout is not torch.strided:
        return f"layout {rows.layout}"
    for tensor in (rows, *tensors):
        if not tensor.is_cpu:
            return f"device {tensor.device}"
        if tensor.dtype is not dtype:
            return f"x of {dtype} and parameters of {tensor.dtype}"
    return ""
