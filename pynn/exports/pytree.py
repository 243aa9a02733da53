"""Parameters as nested dictionaries with the names that Flax gives to modules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks.convert import as_numbers
from ..checks.refused import kind_of
from ..files.disk import shown
from ..spec.architecture import Architecture
from ..spec.norms import Norm
from ..training.model import Model
from .state_dict import fill, require_no_standard

Array = np.ndarray
Tree = dict[str, Any]

_NORMS = {"layer": "LayerNorm", "rms": "RMSNorm", "batch": "BatchNorm"}
_MODULE = re.compile(r"(Dense|LayerNorm|RMSNorm|BatchNorm)_(\d+)")


def from_model(model: Model) -> Tree:
    """Return copies of the parameters that predictions use, as variables of Flax."""
    for name, flag in (
        ("standardize", model.standardize),
        ("standardize_targets", model.standardize_targets),
    ):
        if flag:
            raise ValueError(
                f"{name}: found True, expected False: the variables of Flax have no place for "
                "means and scales; standardise the data before the network instead"
            )
    net, values = model.architecture, model.evaluated
    weights, biases = net.views(values[: net.n_parameters])
    scales, running = net.norm_views(values[: net.n_parameters]), net.running_views(values)
    params: Tree = {}
    statistics: Tree = {}
    for k, norm in enumerate(_norm_names(net)):
        params[f"Dense_{k}"] = {"kernel": weights[k].copy(), "bias": biases[k].copy()}
        if norm is not None:
            params[norm] = dict(zip(("scale", "bias"), map(np.copy, scales[k])))
            if running[k]:
                statistics[norm] = dict(zip(("mean", "var"), map(np.copy, running[k])))
    return {"params": params, "batch_stats": statistics} if statistics else {"params": params}


def _norm_names(net: Architecture) -> list[str | None]:
    """Return the module of each layer's norm: each kind is counted from 0."""
    counts: Counter[str] = Counter()
    names: list[str | None] = []
    for k in range(net.n_layers):
        norm = net.norm(k)
        names.append(None if norm is None else f"{_kind(norm)}_{counts[_kind(norm)]}")
        if norm is not None:
            counts[_kind(norm)] += 1
    return names


def _kind(norm: Norm) -> str:
    return _NORMS[norm.name]


class Variables:
    """Variables of Flax, checked: ``{"params": …, "batch_stats": …}``, or ``params`` alone."""

    def __init__(self, given: Any) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(
                f"params: found {kind_of(given)}, expected nested dictionaries as "
                "{'Dense_0': {'kernel': …, 'bias': …}}"
            )
        collections = given if "params" in given else {"params": given}
        for name in collections:
            if name not in ("params", "batch_stats"):
                raise ValueError(
                    f"params: found the collection {shown(repr(name))}, expected 'params' and "
                    "'batch_stats'"
                )
        self.modules = {
            str(name): _leaves(name, leaves) for name, leaves in collections["params"].items()
        }
        self.statistics = {
            str(name): _leaves(name, leaves)
            for name, leaves in collections.get("batch_stats", {}).items()
        }
        self.sizes = self._sizes()

    def _sizes(self) -> list[int]:
        """Return the numbers of units of all layers."""
        for name in (*self.modules, *self.statistics):
            if not _MODULE.fullmatch(name):
                raise ValueError(
                    f"params: found the module {shown(repr(name))}, expected Dense_0, Dense_1, … "
                    "and LayerNorm_0, RMSNorm_0 or BatchNorm_0, …, as Flax names the modules of "
                    "one network of dense layers"
                )
        names = [f"Dense_{k}" for k in range(sum(n.startswith("Dense_") for n in self.modules))]
        missing = [name for name in names if name not in self.modules]
        if missing or not names:
            raise ValueError(
                f"params: found {', '.join(self.modules) or 'no modules'}, expected "
                f"{missing[0] if missing else 'Dense_0'} too"
            )
        kernels = [self.modules[name].get("kernel", np.empty(0)) for name in names]
        for name, kernel in zip(names, kernels, strict=True):
            if kernel.ndim != 2:
                raise ValueError(
                    f"params: found '{name}/kernel' of shape {kernel.shape}, expected two "
                    "dimensions (inputs, outputs)"
                )
        return [len(kernels[0]), *(kernel.shape[1] for kernel in kernels)]

    @property
    def dtype(self) -> str:
        """The number format that holds all kernels."""
        kernels = (self.modules[f"Dense_{k}"]["kernel"] for k in range(len(self.sizes) - 1))
        return "float64" if any(kernel.dtype == np.float64 for kernel in kernels) else "float32"

    def copy_to(self, model: Model) -> None:
        """Copy all values into a model of these sizes."""
        require_no_standard(model, "from_pytree")
        net, values = model.architecture, model.flat.copy()
        names = _norm_names(net)
        self._check_names(names)
        weights, biases = net.views(values[: net.n_parameters])
        scales, running = net.norm_views(values[: net.n_parameters]), net.running_views(values)
        for k, norm in enumerate(names):
            self._copy(self.modules, f"Dense_{k}", ("kernel", "bias"), [weights[k], biases[k]], k)
            if norm is not None:
                parts = ("scale", "bias")[: len(scales[k])]
                self._copy(self.modules, norm, parts, scales[k], k)
                if running[k]:
                    self._copy(self.statistics, norm, ("mean", "var"), running[k], k)
        model.set_values(values, "params")

    def _check_names(self, norms: list[str | None]) -> None:
        """Raise ValueError if there are other norms than in a network."""
        found = sorted(name for name in self.modules if not name.startswith("Dense_"))
        expected = sorted(name for name in norms if name is not None)
        if found != expected:
            raise ValueError(
                f"params: found {', '.join(found) or 'no norms'}, expected "
                f"{', '.join(expected) or 'no norms'} by norm=; Flax's norms are "
                "norm=pynn.LayerNorm(1e-6), pynn.RMSNorm(1e-6) or pynn.BatchNorm(epsilon=1e-5)"
            )
        for name in self.statistics:
            if name not in expected or not name.startswith("BatchNorm_"):
                raise ValueError(
                    f"params: found statistics of {name!r}, expected those of "
                    f"{', '.join(n for n in expected if n[0] == 'B') or 'no norm'}"
                )

    def _copy(
        self, tree: Tree, module: str, parts: tuple[str, ...], views: list[Array], layer: int
    ) -> None:
        leaves = tree.get(module, {})
        for name in leaves:
            if name not in parts:
                raise ValueError(
                    f"params: found '{module}/{name}', expected only {', '.join(parts)}"
                )
        for part, view in zip(parts, views, strict=True):
            fill("params", view, leaves.get(part), f"{module}/{part}", layer)


def _leaves(module: Any, leaves: Any) -> dict[str, Array]:
    """Return the arrays of a module."""
    if not isinstance(leaves, Mapping):
        raise TypeError(
            f"params: found {kind_of(leaves)} as {shown(repr(module))}, expected a "
            "dictionary as {'kernel': …, 'bias': …}"
        )
    return {str(name): _array(f"{module}/{name}", value) for name, value in leaves.items()}


def _array(name: str, value: Any) -> Array:
    if isinstance(value, Mapping):
        raise ValueError(
            f"params: found the module {shown(repr(name))} within another, expected one level of "
            "modules; pass its own dictionary"
        )
    # JAX's bfloat16 is a dtype that NumPy does not have.
    if getattr(getattr(value, "dtype", None), "name", "") == "bfloat16":
        value = np.asarray(value).astype(np.float32)
    array = as_numbers(value, f"params[{name!r}]")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"params[{name!r}]: found dtype {array.dtype}, expected real numbers")
    return array
