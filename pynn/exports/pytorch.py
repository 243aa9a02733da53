"""Modules of PyTorch as networks, and networks as modules.

The chain of a module holds views of its parameters, without copies. ``ACCEPTED`` and ``REFUSED``
are the layers that it may have, from which the table in the docs is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..arrays.standard import Standard
from ..spec.activations import ELU, LeakyReLU, Parametric, Softplus
from ..spec.architecture import Architecture
from ..spec.norms import BatchNorm, LayerNorm, Norm, RMSNorm
from ..training.model import Model
from ..training.standardise import output_unit
from .chain import Activate, Chain, Dense, Drop, Flatten, Normalize, Part, Place, assemble, table
from .state_dict import require_no_standard

Array = np.ndarray

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
"""Attributes of a module with functions that run before and after it."""


@runtime_checkable
class SeveralLayers(Protocol):
    """A module of pynn that contains several layers of a chain."""

    def parts_of_chain(self, place: Place) -> list[Part]:
        """Return its parts; their arrays share memory with its parameters."""
        ...


class Accepted(NamedTuple):
    """How a class of layers is read, and under which condition."""

    read: Callable[[Any, Place], Part | None]
    condition: str = ""


# --- Layers ---------------------------------------------------------------------------------------


def _linear(layer: Any, place: Place) -> Part:
    weights, biases = array_of(layer, "weight", place), array_of(layer, "bias", place)
    if weights is None:
        place.refuse("without weights", "some")
    return Dense(place, weights.T, biases)


def _function(name: str) -> Callable[[Any, Place], Part]:
    return lambda layer, place: Activate(place, name)


def _parametric(kind: type[Parametric], attribute: str) -> Callable[[Any, Place], Part]:
    def read(layer: Any, place: Place) -> Part:
        value = float(getattr(layer, attribute))
        try:
            return Activate(place, kind(value))  # type: ignore[call-arg]
        except ValueError:
            place.refuse(f"with {attribute}={value:g}", f"{attribute} from 1e-6 to 1e6")

    return read


def _leaky_relu(layer: Any, place: Place) -> Part:
    if layer.negative_slope == 0:
        return Activate(place, "relu")
    return _parametric(LeakyReLU, "negative_slope")(layer, place)


def _softplus(layer: Any, place: Place) -> Part:
    if layer.threshold < 20:
        place.refuse(
            f"with threshold={layer.threshold:g}", "20 or more, where it does not change the values"
        )
    return _parametric(Softplus, "beta")(layer, place)


def _gelu(layer: Any, place: Place) -> Part:
    return Activate(place, "gelu_tanh" if layer.approximate == "tanh" else "gelu")


def _celu(layer: Any, place: Place) -> Part:
    if layer.alpha != 1:
        place.refuse(f"with alpha={layer.alpha:g}", "alpha=1, or nn.ELU")
    return Activate(place, "elu")


def _hardtanh(layer: Any, place: Place) -> Part:
    bounds = float(layer.min_val), float(layer.max_val)
    names = {(-1.0, 1.0): "hard_tanh", (0.0, 6.0): "relu6"}
    if bounds not in names:
        place.refuse(f"from {bounds[0]:g} to {bounds[1]:g}", "from -1 to 1, or from 0 to 6")
    return Activate(place, names[bounds])


def _softmax(name: str) -> Callable[[Any, Place], Part]:
    def read(layer: Any, place: Place) -> Part:
        if layer.dim not in (None, 1, -1):
            place.refuse(f"with dim={layer.dim}", "dim=1 or dim=-1, the outputs of a row")
        return Activate(place, name)

    return read


def _dropout(layer: Any, place: Place) -> Part | None:
    if layer.p >= 1:
        place.refuse(f"with p={layer.p:g}", "p below 1")
    return Drop(place, float(layer.p)) if layer.p else None


def _flatten(layer: Any, place: Place) -> Part:
    if layer.start_dim != 1 or layer.end_dim != -1:
        place.refuse(
            f"with start_dim={layer.start_dim} and end_dim={layer.end_dim}",
            "start_dim=1 and end_dim=-1",
        )
    return Flatten(place)


def _batch_norm(layer: Any, place: Place) -> Part:
    if layer.running_mean is None:
        place.refuse("with track_running_stats=False", "True, for predictions")
    if layer.momentum is None:
        place.refuse("with momentum=None, a cumulative average", "a number")
    norm = _norm(BatchNorm, place, momentum=float(layer.momentum), epsilon=float(layer.eps))
    running = [array_of(layer, name, place) for name in ("running_mean", "running_var")]
    scale, shift = array_of(layer, "weight", place), array_of(layer, "bias", place)
    return Normalize(place, norm, layer.num_features, scale, shift, *running)


def _layer_norm(layer: Any, place: Place) -> Part:
    scale, shift = array_of(layer, "weight", place), array_of(layer, "bias", place)
    norm = _norm(LayerNorm, place, epsilon=float(layer.eps))
    return Normalize(place, norm, _units(layer, place), scale, shift)


def _rms_norm(layer: Any, place: Place) -> Part:
    scale, epsilon = array_of(layer, "weight", place), layer.eps
    if epsilon is None and scale is not None:
        epsilon = torch.finfo(layer.weight.dtype).eps
    norm = _norm(RMSNorm, place, epsilon=float(epsilon or torch.finfo(torch.float32).eps))
    return Normalize(place, norm, _units(layer, place), scale)


def _norm(kind: type[Norm], place: Place, **settings: float) -> Norm:
    try:
        return kind(**settings)
    except ValueError as error:
        place.refuse(f"({str(error).split(', expected')[0]})", "a norm of pynn")


def _units(layer: Any, place: Place) -> int:
    shape = tuple(layer.normalized_shape)
    if len(shape) != 1:
        place.refuse(f"with normalized_shape={shape}", "one axis")
    return int(shape[0])


_AT_THE_END = "as the last layer"
ACCEPTED: dict[str, Accepted] = {
    "Linear": Accepted(_linear, "with or without bias"),
    "Flatten": Accepted(_flatten, "all axes but the first"),
    "Identity": Accepted(lambda layer, place: None),
    "Dropout": Accepted(
        _dropout, "on inputs, or last in a hidden layer; before `ReLU` or `LeakyReLU` too"
    ),
    "BatchNorm1d": Accepted(
        _batch_norm, "in hidden layers, before or after the activation; with running statistics"
    ),
    "LayerNorm": Accepted(_layer_norm, "in hidden layers, before or after the activation"),
    "RMSNorm": Accepted(_rms_norm, "in hidden layers, before or after the activation"),
    "ReLU": Accepted(_function("relu"), "`inplace` too, as for all activations"),
    "LeakyReLU": Accepted(_leaky_relu, "`negative_slope` of 0, or from 1e-6 to 1e6"),
    "ELU": Accepted(_parametric(ELU, "alpha"), "`alpha` from 1e-6 to 1e6"),
    "CELU": Accepted(_celu, "`alpha=1`"),
    "SELU": Accepted(_function("selu")),
    "GELU": Accepted(_gelu, "both forms of `approximate`"),
    "SiLU": Accepted(_function("silu")),
    "Mish": Accepted(_function("mish")),
    "Softplus": Accepted(_softplus, "`threshold` of 20 or more"),
    "Softsign": Accepted(_function("softsign")),
    "Sigmoid": Accepted(_function("sigmoid")),
    "Tanh": Accepted(_function("tanh")),
    "ReLU6": Accepted(_function("relu6")),
    "Hardsigmoid": Accepted(_function("hard_sigmoid")),
    "Hardswish": Accepted(_function("hard_swish")),
    "Hardtanh": Accepted(_hardtanh, "from −1 to 1, or from 0 to 6"),
    "Softmax": Accepted(_softmax("softmax"), _AT_THE_END),
    "LogSoftmax": Accepted(_softmax("log_softmax"), _AT_THE_END),
}
"""Classes of ``torch.nn`` that a chain may have, besides ``Sequential``."""

REFUSED: dict[tuple[str, ...], str] = {
    (
        *("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
        *("MaxPool1d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"),
    ): "a convolution or pooling, where pynn has dense layers",
    ("RNN", "LSTM", "GRU", "MultiheadAttention", "Transformer"): (
        "a layer for sequences, where pynn has dense layers"
    ),
    ("Embedding", "EmbeddingBag"): "a table of vectors, where the inputs of networks are numbers",
    ("BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "SyncBatchNorm"): (
        "a norm over other axes than those of rows and units"
    ),
    ("PReLU", "RReLU"): "an activation whose slope is trained or random",
    ("LogSigmoid", "Softmin", "Softshrink", "Hardshrink", "Tanhshrink", "Threshold", "GLU"): (
        "an activation that pynn does not have"
    ),
    ("AlphaDropout", "Dropout1d", "Dropout2d", "FeatureAlphaDropout"): (
        "a kind of dropout that pynn does not have"
    ),
    ("LazyLinear", "LazyBatchNorm1d"): "a layer without parameters yet: call the module once first",
    ("Bilinear", "Unflatten", "ModuleList", "ModuleDict"): "no layer of a chain",
}
"""Classes that are refused, with the reason."""

CUSTOM = "a class with a forward of its own, whose layers and their order are not known"
_REASONS = {name: reason for names, reason in REFUSED.items() for name in names}


def layers_table() -> str:
    """Return the layers that are accepted and refused, as a Markdown table."""
    accepted = {f"`nn.{name}`": entry.condition for name, entry in ACCEPTED.items()}
    refused = {", ".join(f"`nn.{n}`" for n in names): text for names, text in REFUSED.items()}
    return table(
        {
            "`nn.Sequential`": "nested too, and subclasses without a `forward`",
            "`pynn.torch.MLP`": "without residual connections",
            **accepted,
        },
        {
            **refused,
            "other modules": CUSTOM,
            "hooks, parametrizations, shared weights": "computations beyond the layers",
            "GPUs, float16, bfloat16": "kernels are for float32 and float64 on the CPU",
        },
    )


# --- Reading --------------------------------------------------------------------------------------


def read(module: Any, argument: str = "module", training: bool = False) -> Chain:
    """Return the layers of a module; their arrays share memory with its parameters.

    Parameters
    ----------
    module
        An ``nn.Sequential``, or a single layer.
    argument
        Its name in messages.
    training
        Whether dropout applies only where the layer is in training mode, or the whole module in
        evaluation mode.

    Raises
    ------
    TypeError
        If it is no module.
    ValueError
        If it has a layer that networks do not have; the error names the position.
    """
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        hint = "; pass the object, not its class" if isinstance(module, type) else ""
        raise TypeError(f"{argument}: found a {kind}, expected an nn.Sequential{hint}")
    if torch_module._has_any_global_hook():
        raise ValueError(
            f"{argument}: found hooks for all modules (register_module_forward_hook …), expected "
            "none, since layers run in one pass"
        )
    parts: list[Part] = []
    for position, (name, layer) in enumerate(_layers(module, "", argument)):
        place = Place(position, name or "module", _kind(layer), layer, argument)
        if isinstance(layer, SeveralLayers):
            _check_hooks(layer, place)
            parts += layer.parts_of_chain(place)
            continue
        reader = _reader(layer, place)
        _check_hooks(layer, place)
        part = reader.read(layer, place)
        unknown = isinstance(layer, nn.RMSNorm) and layer.eps is None and layer.weight is None
        if isinstance(part, Normalize) and unknown:
            part = replace(part, norm=RMSNorm(_machine_epsilon(module)))
        skipped = training and module.training and not layer.training
        if part is not None and not (isinstance(part, Drop) and skipped):
            parts.append(part)
    found = assemble(parts, argument)
    _check_parameters(found)
    return found


def _machine_epsilon(module: nn.Module) -> float:
    """Return ε of an ``nn.RMSNorm`` without eps and weight: that of the module's dtype."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    return float(torch.finfo(dtype).eps)


def _layers(module: nn.Module, name: str, argument: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of nested sequential modules, with their names."""
    if not isinstance(module, nn.Sequential) or not _has_forward_of(module, nn.Sequential):
        yield name, module
        return
    # The position is that of the layer that follows.
    _check_hooks(module, f"{argument}: found {_kind(module)} {name or 'module'!r}")
    for key, child in module._modules.items():
        if child is not None:
            yield from _layers(child, f"{name}.{key}" if name else key, argument)


def _kind(layer: nn.Module) -> str:
    kind = type(layer)
    return f"nn.{kind.__name__}" if kind.__module__.startswith("torch.nn.") else kind.__name__


def _has_forward_of(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a layer computes what its class of ``torch.nn`` computes."""
    own = {"forward", "__call__"} & set(layer.__dict__)
    found = type(layer)
    return not own and found.forward is kind.forward and found.__call__ is nn.Module.__call__


def _reader(layer: nn.Module, place: Place) -> Accepted:
    """Return how a layer is read, or refuse it."""
    for kind in type(layer).__mro__:
        name = kind.__name__
        if getattr(nn, name, None) is not kind:
            continue
        if name in ACCEPTED and _has_forward_of(layer, kind) and not _parametrized(layer):
            return ACCEPTED[name]
        break
    expected = "an nn.Sequential of nn.Linear, activations, norms and dropout"
    if _parametrized(layer):
        place.refuse("with a parametrization of its weights", "plain parameters")
    if type(layer).__name__ == "OptimizedModule":
        place.refuse("of torch.compile", "the module that was compiled")
    if type(layer).__name__ in ("DataParallel", "DistributedDataParallel"):
        place.refuse("around a module", "the module itself, module.module")
    reason = _REASONS.get(type(layer).__name__)
    if reason is None:
        ours = type(layer).__module__.startswith("torch.nn.")
        reason = "a layer that pynn does not have" if ours else CUSTOM
    return place.refuse(f"({reason})", expected)


def _parametrized(layer: nn.Module) -> bool:
    return nn.utils.parametrize.is_parametrized(layer)


def hooks_of(module: nn.Module) -> str | None:
    """Return a kind of hooks that a module has, such as ``"forward hooks"``; None without any."""
    found = next((name for name in HOOKS if getattr(module, name, None)), None)
    return None if found is None else found.strip("_").replace("_", " ")


def _check_hooks(layer: nn.Module, place: Place | str) -> None:
    """Raise ValueError if a module has hooks, which would not be called."""
    text = hooks_of(layer)
    if text is None:
        return
    expected = "none, since layers run in one pass; weight_norm and prune use hooks too"
    if isinstance(place, Place):
        place.refuse(f"with {text}", expected)
    raise ValueError(f"{place} with {text}, expected {expected}")


def array_of(layer: nn.Module, name: str, place: Place) -> Array | None:
    """Return a parameter or buffer as an array that shares its memory; None if there is none."""
    tensor = getattr(layer, name, None)
    if tensor is None:
        return None
    known = layer._buffers if name.startswith("running") else layer._parameters
    if known.get(name) is not tensor or isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        place.refuse(f"with a {name} that is no parameter", "one that is")
    if tensor.device.type != "cpu":
        meta = "to_empty(device='cpu'), then load or initialise the parameters"
        hint = meta if tensor.is_meta else "to('cpu')"
        place.refuse(f"on the device {tensor.device}", f"the CPU: module.{hint}")
    if tensor.dtype not in DTYPES:
        place.refuse(f"of {tensor.dtype}", "float32 or float64: module.float()")
    if tensor.layout is not torch.strided or type(tensor) not in (Tensor, nn.Parameter):
        place.refuse(f"with a {name} of {type(tensor).__name__}", "dense tensors")
    if tensor.is_inference():
        place.refuse(f"with a {name} made in inference mode", "one made outside of it")
    for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        if getattr(tensor, hooks, None):
            place.refuse(f"with hooks of its {name}", "none, since they would not be called")
    return tensor.detach().numpy()


def _check_parameters(chain: Chain) -> None:
    """Raise ValueError for shared parameters, and for more than one dtype."""
    owners: dict[int, Place] = {}
    first: tuple[Any, Place] | None = None
    for layer in chain.layers:
        for part in (layer.dense, layer.normalize):
            if part is None:
                continue
            place = part.place
            for array in _arrays(part):
                first = first or (array.dtype, place)
                if array.dtype != first[0]:
                    place.refuse(f"of {array.dtype}", f"{first[0]}, that of {first[1]}")
                address = array.__array_interface__["data"][0]
                if address in owners:
                    other = owners[address]
                    found = "a second time" if other.source is place.source else f"as {other} has"
                    place.refuse(f"with the same parameters {found}", "parameters of its own")
                owners[address] = place


def _arrays(part: Dense | Normalize) -> list[Array]:
    """Return the arrays of a part."""
    if isinstance(part, Dense):
        found = [part.weights, part.biases]
    else:
        found = [part.scale, part.shift, part.mean, part.variance]
    return [array for array in found if array is not None]


# --- Writing --------------------------------------------------------------------------------------

MODULES: dict[str, Callable[[float], nn.Module]] = {
    "identity": lambda _: nn.Identity(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "tanh": lambda _: nn.Tanh(),
    "relu": lambda _: nn.ReLU(),
    "leaky_relu": lambda slope: nn.LeakyReLU(slope),
    "elu": lambda alpha: nn.ELU(alpha),
    "gelu": lambda _: nn.GELU(),
    "softplus": lambda beta: nn.Softplus(beta, threshold=100.0),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "selu": lambda _: nn.SELU(),
    "softsign": lambda _: nn.Softsign(),
    "relu6": lambda _: nn.ReLU6(),
    "hard_sigmoid": lambda _: nn.Hardsigmoid(),
    "hard_swish": lambda _: nn.Hardswish(),
    "hard_tanh": lambda _: nn.Hardtanh(),
    "gelu_tanh": lambda _: nn.GELU(approximate="tanh"),
    "softmax": lambda _: nn.Softmax(-1),
}
"""Modules of the activations, from their parameter."""


def sequential(
    net: Architecture, layers: Sequence[Mapping[str, Any]], caller: str, logits: bool = False
) -> nn.Sequential:
    """Return modules of PyTorch with copies of the parameters of layers.

    Parameters
    ----------
    net
        The architecture.
    layers
        For each layer ``weight`` (n_out, n_in), ``bias`` and those that it has of ``scale``,
        ``shift``, ``running_mean`` and ``running_var`` (n_out,), tensors.
    caller
        The method, for messages.
    logits
        Whether to leave out the output activation.

    Raises
    ------
    ValueError
        If the network has layers that ``nn.Sequential`` cannot hold.
    """
    functions = net.activations[: net.n_layers - logits]
    lacking = next((name for name in functions if name not in MODULES), None)
    if any(net.residual) or lacking is not None:
        found = f"the activation {lacking!r}" if lacking else "residual connections"
        raise ValueError(f"{caller}: found {found}, expected a network without them")
    modules: list[nn.Module] = [nn.Dropout(net.input_dropout)] if net.input_dropout else []
    for k, layer in enumerate(layers):
        modules.append(_filled(nn.Linear(*net.sizes[k : k + 2], device="meta"), layer))
        activation = [MODULES[name](net.activation_parameter(k)) for name in functions[k : k + 1]]
        if net.activations[k] == "identity":
            activation = []
        norm = _norm_module(net.norm(k), net.sizes[k + 1], layer)
        modules += [*activation, *norm] if net.norm_after else [*norm, *activation]
        if k < net.n_layers - 1 and net.dropout[k]:
            modules.append(nn.Dropout(net.dropout[k]))
    return nn.Sequential(*modules)


def _filled(module: nn.Module, tensors: Mapping[str, Any]) -> nn.Module:
    """Return a module with copies of tensors as its parameters and buffers."""
    for name in [*module._parameters]:
        setattr(module, name, nn.Parameter(_copied(tensors[name])))
    for name in ("running_mean", "running_var"):
        if name in module._buffers:
            module._buffers[name] = _copied(tensors[name])
    if "num_batches_tracked" in module._buffers:
        module._buffers["num_batches_tracked"] = torch.tensor(0)
    return module


def _copied(tensor: Tensor) -> Tensor:
    copied = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return copied.copy_(tensor.detach())


def _norm_module(norm: Norm | None, n: int, layer: Mapping[str, Any]) -> list[nn.Module]:
    if norm is None:
        return []
    epsilon = norm.epsilon
    made: nn.Module
    if isinstance(norm, BatchNorm):
        made = nn.BatchNorm1d(n, epsilon, norm.momentum, device="meta")
    elif norm.centers:
        made = nn.LayerNorm(n, epsilon, device="meta")
    else:
        made = nn.RMSNorm(n, epsilon, device="meta")
    names = {"weight": "scale", "bias": "shift"}
    given = {name: layer[own] for name, own in names.items() if own in layer}
    return [_filled(made, {**layer, **given})]


def module_of(model: Model, logits: bool) -> nn.Sequential:
    """Return a module that predicts as a model does, in evaluation mode."""
    net, values = model.architecture, model.evaluated
    if net.precision != "full":
        raise ValueError(f"to_torch: found precision {net.precision!r}, expected 'full'")
    weights, biases = (list(arrays) for arrays in net.views(values[: net.n_parameters]))
    require_no_standard(model, "to_torch")
    if model.input_standard is not None:
        if net.input_dropout:
            raise ValueError(
                "to_torch: found input_dropout with standardize=True, expected one of them, since "
                "means and scales become a part of the first nn.Linear"
            )
        weights[0], biases[0] = _without_input_standard(model.input_standard, net, weights, biases)
    unit = output_unit(model)
    if unit is not None:
        factor, summand = unit
        weights[-1], biases[-1] = weights[-1] * factor, biases[-1] * factor + summand
    scales, running = net.norm_views(values[: net.n_parameters]), net.running_views(values)
    layers = []
    for k in range(net.n_layers):
        arrays = {"weight": weights[k].T, "bias": biases[k]}
        arrays |= dict(zip(("scale", "shift"), scales[k]))
        arrays |= dict(zip(("running_mean", "running_var"), running[k]))
        layers.append({name: _tensor(array, net.dtype) for name, array in arrays.items()})
    return sequential(net, layers, "to_torch", logits).eval()


def _without_input_standard(
    standard: Standard, net: Architecture, weights: list[Array], biases: list[Array]
) -> tuple[Array, Array]:
    """Return weights and biases of the first layer for inputs that are not standardised."""
    k = standard.too_fine_for(net.dtype)
    if k is not None:
        raise ValueError(
            f"to_torch: found input {k} (counted from 0) with mean {standard.mean[k]:g} and "
            f"standard deviation {standard.scale[k]:g}, whose differences {net.dtype} cannot hold, "
            "expected a network with dtype='float64'"
        )
    scaled = standard.inverse[:, None] * weights[0]
    return scaled, biases[0] - standard.mean @ scaled


def _tensor(array: Array, dtype: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype))
