"""State dicts of PyTorch: their tensors become the parameters of a network.

A state dict names tensors ``MODULE.weight``, ``MODULE.bias``, …, where ``nn.Linear`` holds weights
(outputs, inputs). ``module.state_dict()`` has the modules in the order of their definition. Files
and other mappings may not, so the order must follow from numbers in the names or from shapes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks.convert import as_numbers
from ..checks.refused import kind_of
from ..files.disk import require_file, shown
from ..spec.norms import Norm
from ..training.model import Model

Array = np.ndarray
Modules = dict[str, dict[str, Array]]

_PARTS = ("weight", "bias", "running_mean", "running_var")
_IGNORED = "num_batches_tracked"
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def load(model: Model, source: Any, layers: Any) -> None:
    """Copy the tensors of a state dict into a model; it is unchanged if they do not fit."""
    require_no_standard(model, "load_state_dict")
    from_file = isinstance(source, (str, bytes, os.PathLike))
    modules = _modules(_read(source) if from_file else _converted(source))
    ordered = hasattr(source, "_metadata")  # that of PyTorch, not of a file read as a dictionary
    net = model.architecture
    shapes = list(zip(net.sizes[1:], net.sizes[:-1], strict=True))
    linear = {name: parts for name, parts in modules.items() if parts["weight"].ndim == 2}
    norms = {name: parts for name, parts in modules.items() if parts["weight"].ndim == 1}
    normed = [k for k in range(net.n_layers) if net.norm(k) is not None]
    if layers is None:
        names = list(linear) if ordered else _order(linear, shapes)
        widths = [(net.sizes[k + 1],) for k in normed]
        norm_names = list(norms) if ordered else _order(norms, widths)
    else:
        names, norm_names = _given_order(layers, linear, norms)
    _check_counts(names, norm_names, len(shapes), len(normed))
    _check_places(names, norm_names, normed)
    values = model.flat.copy()
    weights, biases = net.views(values[: net.n_parameters])
    for k, name in enumerate(names):
        parts = linear[name]
        _fill(weights[k].T, parts, name, "weight", k)
        _fill(biases[k], parts, name, "bias", k)
        _require_only(parts, name, ("weight", "bias"), f"the nn.Linear of layer {k}")
    scales, running = net.norm_views(values[: net.n_parameters]), net.running_views(values)
    for k, name in zip(normed, norm_names, strict=True):
        _fill_norm(net.norm(k), [*scales[k], *running[k]], norms[name], name, k)
    model.set_values(values, "state dict")


def require_no_standard(model: Model, method: str) -> None:
    """Raise ValueError if a model needs means and scales that only training gives."""
    for name, flag, standard in (
        ("standardize", model.standardize, model.input_standard),
        ("standardize_targets", model.standardize_targets, model.target_standard),
    ):
        if flag and standard is None:
            raise ValueError(
                f"{name}: found True for {method}, which has no means and scales, and a network "
                "that was not trained, expected False: standardise the data before the network"
            )


# --- Reading --------------------------------------------------------------------------------------


def _read(source: Any) -> dict[str, Array]:
    """Return the tensors of a safetensors file, bfloat16 as float32."""
    from safetensors import SafetensorError, deserialize

    expected = "a safetensors file of a state dict"
    path = require_file(source, expected)
    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        hint = ""
        if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
            hint = "; torch.load reads it, and safetensors.torch.save_file writes its state dict"
        raise ValueError(
            f"{path}: found a file that is no safetensors file ({shown(error)}), expected "
            f"{expected}{hint}"
        ) from error
    return {name: _tensor(path, name, entry) for name, entry in entries}


def _tensor(path: Path, name: str, entry: Mapping[str, Any]) -> Array:
    kind, data, shape = entry["dtype"], bytes(entry["data"]), tuple(entry["shape"])
    if name.endswith(_IGNORED):
        return np.empty(0)
    if kind not in _FLOATS:
        raise ValueError(
            f"{path}: found the dtype {kind} in {shown(repr(name))}, expected one of "
            f"{', '.join(_FLOATS)}"
        )
    values = np.frombuffer(data, _FLOATS[kind])
    if kind == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)


def _converted(source: Any) -> dict[str, Array]:
    """Return the tensors of a mapping as arrays."""
    if not isinstance(source, Mapping):
        hint = "; pass module.state_dict()" if hasattr(source, "state_dict") else ""
        raise TypeError(
            f"state dict: found {kind_of(source)}, expected the path of a safetensors file "
            f"or a mapping from names to arrays{hint}"
        )
    return {str(name): _array(str(name), value) for name, value in source.items()}


def _array(name: str, value: Any) -> Array:
    if name.endswith(_IGNORED):
        return np.empty(0)
    if hasattr(value, "detach"):  # a tensor of PyTorch, on any device
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        value = value.numpy()
    found = as_numbers(value, f"state dict[{name!r}]")
    if found.dtype.kind not in "iuf":
        raise TypeError(
            f"state dict[{name!r}]: found dtype {found.dtype}, expected floating-point numbers"
        )
    return found


def _modules(tensors: Mapping[str, Array]) -> Modules:
    """Return the tensors of each module, by its name."""
    modules: Modules = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part == _IGNORED:
            continue
        if part not in _PARTS:
            raise ValueError(
                f"state dict: found the tensor {shown(repr(name))}, expected names that end in "
                f"{', '.join(_PARTS)}, as those of nn.Linear and norms do"
            )
        modules.setdefault(module, {})[part] = tensor
    for module, parts in modules.items():
        if "weight" not in parts:
            found = ", ".join(_full(module, part) for part in parts)
            raise ValueError(f"state dict: found {found}, expected {_full(module, 'weight')} too")
        if parts["weight"].ndim not in (1, 2):
            raise ValueError(
                f"state dict: found {_full(module, 'weight')} of shape {parts['weight'].shape}, "
                "expected (outputs, inputs) of nn.Linear, or (units,) of a norm"
            )
    return modules


def _full(module: str, part: str) -> str:
    return f"{module}.{part}" if module else part


# --- Order ----------------------------------------------------------------------------------------


def _given_order(layers: Any, linear: Modules, norms: Modules) -> tuple[list[str], list[str]]:
    """Return linear modules and norms in the order of the argument ``layers``, which has all."""
    names = [layers] if isinstance(layers, str) else list(layers)
    if sorted(map(str, names)) != sorted([*linear, *norms]):
        raise ValueError(
            f"layers: found {', '.join(map(repr, names)) or 'no names'}, expected all modules of "
            f"the state dict in order: {', '.join(map(repr, [*linear, *norms]))}"
        )
    return [name for name in names if name in linear], [name for name in names if name in norms]


def _key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _order(modules: Modules, shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """Return the names of modules in the order of the layers.

    Names that differ only in numbers are in the order of these; the shapes must determine the rest.
    """
    names = sorted(modules, key=_key)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    if len(groups) < 2 or sorted(modules[name]["weight"].shape for name in names) != sorted(shapes):
        return names  # the checks name the first that does not fit
    found = _orders(list(groups.values()), modules, shapes)
    first = next(found, None)
    if first is None:
        return names
    if next(found, None) is not None:
        raise ValueError(
            f"state dict: found the modules {', '.join(map(repr, names))}, whose order neither "
            "numbers nor shapes tell, expected layers=[…] with all modules in order"
        )
    return first


def _orders(
    groups: list[list[str]], modules: Modules, shapes: Sequence[tuple[int, ...]]
) -> Iterator[list[str]]:
    """Yield all orders of the modules whose shapes fit, each group in its own order."""
    if not shapes:
        yield []
        return
    for k, group in enumerate(groups):
        if group and modules[group[0]]["weight"].shape == shapes[0]:
            rest = [*groups[:k], group[1:], *groups[k + 1 :]]
            for order in _orders(rest, modules, shapes[1:]):
                yield [group[0], *order]


# --- Checks and copying ---------------------------------------------------------------------------


def _check_counts(names: list[str], norm_names: list[str], layers: int, normed: int) -> None:
    for found, expected, kind, remedy in (
        (names, layers, "nn.Linear", "the network's sizes"),
        (norm_names, normed, "norms", "the network's norm"),
    ):
        if len(found) != expected:
            shown_names = f" ({', '.join(map(repr, found))})" if found else ""
            raise ValueError(
                f"state dict: found {len(found)} {kind}{shown_names}, expected {expected} by "
                f"{remedy}"
            )


def _check_places(names: list[str], norm_names: list[str], normed: list[int]) -> None:
    """Raise if numbers in the names place a norm elsewhere than after the product of its layer."""
    skeletons = {re.sub(r"\d+", "#", name) for name in (*names, *norm_names)}
    if len(skeletons) > 1:
        return
    for k, name in zip(normed, norm_names, strict=True):
        after = _key(names[k]) < _key(name)
        if not after or (k + 1 < len(names) and _key(name) > _key(names[k + 1])):
            raise ValueError(
                f"state dict: found the norm {name!r} before or after other layers, expected it "
                f"between the nn.Linear {names[k]!r} and the next one"
            )


def _fill(target: Array, parts: Mapping[str, Array], module: str, part: str, layer: int) -> None:
    fill("state dict", target, parts.get(part), _full(module, part), layer)


def fill(source: str, target: Array, tensor: Array | None, name: str, layer: int) -> None:
    """Copy a tensor into a view of the parameters of the same shape.

    ``source`` and ``name`` are those of errors, and so is ``layer``, counted from 0.
    """
    if tensor is None:
        raise ValueError(
            f"{source}: found no {name!r}, expected shape {target.shape} for layer {layer}"
            + ("; for a module without bias pass zeros" if name.endswith("bias") else "")
        )
    if tensor.shape != target.shape:
        hint = ""
        if tensor.ndim == 2 and tensor.shape == target.shape[::-1]:
            hint = "; take the transpose"
        raise ValueError(
            f"{source}: found {name!r} of shape {tensor.shape}, expected {target.shape} for "
            f"layer {layer} (counted from 0){hint}"
        )
    with np.errstate(over="ignore"):
        target[...] = tensor
    if not np.isfinite(target).all():
        raise ValueError(
            f"{source}: found a value in {name!r} that is not finite in {target.dtype}, expected "
            "finite numbers"
        )


def _fill_norm(
    norm: Norm | None, views: list[Array], parts: Mapping[str, Array], module: str, layer: int
) -> None:
    assert norm is not None
    names = ["weight", "bias"][: norm.vectors] + list(_PARTS[2:]) * norm.over_rows
    for view, part in zip(views, names, strict=True):
        _fill(view, parts, module, part, layer)
    _require_only(parts, module, names, f"{norm} of layer {layer}")


def _require_only(parts: Mapping[str, Array], module: str, names: Sequence[str], what: str) -> None:
    for part in parts:
        if part not in names:
            raise ValueError(
                f"state dict: found {_full(module, part)!r}, expected only {', '.join(names)} for "
                f"{what}"
            )
