"""Tensors, data sets and loaders of PyTorch as the arrays and sources of ``fit``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from ..data.sources import Batches, as_source
from ..data.stream import Source
from ..exports.chain import Chain
from ..spec import arguments
from .criteria import Criterion, as_array

Array = np.ndarray


class Rows(NamedTuple):
    """Rows as ``training.fit`` takes them; x can be batches."""

    x: Any
    y: Any
    weight: Any

    @property
    def are_batches(self) -> bool:
        """Whether x contains y and the weights."""
        return isinstance(self.x, Loaded)


class Reader:
    """Converts inputs and targets for a module and its loss."""

    def __init__(self, chain: Chain, criterion: Criterion) -> None:
        self.chain, self.criterion = chain, criterion
        self.dtype = np.dtype(chain.dtype)

    def rows(self, x: Any, y: Any, weight: Any, names: tuple[str, str, str], options: Any) -> Rows:
        """Return arrays, or batches for a loader or data set.

        ``names`` are those of the arguments; ``options`` the batch size and whether to shuffle,
        for data sets.
        """
        if isinstance(x, TensorDataset) and y is None:
            tensors = x.tensors
            if len(tensors) not in (2, 3) or (len(tensors) == 3 and weight is not None):
                raise ValueError(
                    f"{names[0]}: found a TensorDataset of {len(tensors)} tensors, expected (x, y) "
                    "or (x, y, sample_weight)"
                )
            x, y = tensors[:2]
            weight = tensors[2] if len(tensors) == 3 else weight
        if y is None:
            return self._batches(x, weight, names, options)
        if isinstance(x, (Dataset, DataLoader, Source)):
            raise TypeError(
                f"{names[1]}: found {type(y).__name__} with a {type(x).__name__}, expected None: "
                "its batches contain the targets"
            )
        return Rows(*self.converted(x, y, weight, names))

    def converted(
        self, x: Any, y: Any, weight: Any, names: tuple[str, str, str]
    ) -> tuple[Array, Array, Array | None]:
        """Return inputs (n, n_in), targets and weights as arrays."""
        inputs = self._inputs(x, names[0])
        targets = as_array(y, names[1])
        if targets.ndim == 0 or len(targets) != len(inputs):
            found = "a number" if targets.ndim == 0 else f"{len(targets)} rows"
            raise ValueError(
                f"{names[1]}: found {found}, expected {len(inputs)} rows, as many as {names[0]} has"
            )
        targets, own = self.criterion.convert(targets, names[1])
        given = None if weight is None else as_array(weight, names[2])
        if self.criterion.factor != 1:
            if given is not None:
                raise ValueError(
                    f"{names[2]}: found weights with {self.criterion.found}, which is "
                    f"{self.criterion.factor:g} times a mean of pynn, expected None"
                )
            own = np.full(len(targets), self.criterion.factor)
        if own is None or given is None:
            return inputs, targets, own if given is None else given
        if given.shape != own.shape:
            raise ValueError(
                f"{names[2]}: found shape {given.shape}, expected {own.shape}, one number for each "
                "row"
            )
        return inputs, targets, own * given

    def _inputs(self, x: Any, name: str) -> Array:
        found = as_array(x, name)
        if found.dtype.kind in "bui" or found.dtype == np.float16:
            found = found.astype(self.dtype)
        if found.dtype.kind != "f":
            raise TypeError(f"{name}: found dtype {found.dtype}, expected numbers")
        n_in = self.chain.sizes[0]
        if self.chain.flattens and found.ndim > 2:
            found = found.reshape(len(found), int(np.prod(found.shape[1:])))
        if found.ndim != 2 or found.shape[1] != n_in:
            first = self.chain.layers[0].dense.place
            hint = ""
            if found.ndim > 2 and int(np.prod(found.shape[1:])) == n_in:
                hint = "; begin the module with nn.Flatten()"
            raise ValueError(
                f"{name}: found shape {found.shape}, expected (rows, {n_in}), the inputs of "
                f"{first}{hint}"
            )
        return found

    def _batches(self, x: Any, weight: Any, names: tuple[str, str, str], options: Any) -> Rows:
        if isinstance(x, Dataset):
            size, shuffle = options
            batch = arguments.batch_size(size)
            if isinstance(x, IterableDataset):
                shuffle = False
                if batch is None:
                    raise ValueError("batch_size: found all rows, expected a number of rows")
            elif batch is None:
                batch = len(x)
            x = DataLoader(x, batch_size=batch, shuffle=bool(shuffle))
        if weight is not None:
            raise ValueError(
                f"{names[2]}: found {type(weight).__name__} with batches, expected None: batches "
                "are (x, y) or (x, y, sample_weight)"
            )
        source = as_source(x, name=names[0])  # raises for generators
        if not isinstance(source, Batches):
            raise TypeError(
                f"{names[1]}: found None with a {type(x).__name__} as {names[0]}, expected "
                f"targets; or a DataLoader, a Dataset or a list of batches as {names[0]}"
            )
        return Rows(Loaded(self, x, names[0]), None, None)


class Loaded:
    """The batches of an iterable, converted; it can be iterated again.

    The first pass only counts rows: it leaves the random numbers of PyTorch as they were, so that a
    loader shuffles as in a loop of PyTorch.
    """

    def __init__(self, reader: Reader, batches: Any, name: str) -> None:
        self._reader, self._batches, self._name = reader, batches, name
        self._counted = False

    def __iter__(self) -> Iterator[Any]:
        generators = [] if self._counted else self._generators()
        states = [g.get_state() for g in generators]
        for k, batch in enumerate(self._batches):
            several = isinstance(batch, (tuple, list)) and len(batch) in (2, 3)
            yield self._converted(batch, k) if several else batch
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        self._counted = True

    def _converted(self, batch: Any, number: int) -> tuple[Any, ...]:
        x, y, weight = (*batch, None)[:3]
        try:
            found = self._reader.converted(x, y, weight, (self._name, "y", "sample_weight"))
        except (TypeError, ValueError) as error:
            text = f"batch {number}: {error}"
            raise (TypeError if isinstance(error, TypeError) else ValueError)(text) from error
        return found if found[2] is not None else found[:2]

    def _generators(self) -> list[torch.Generator]:
        loader = self._batches
        owners = loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
        own = [getattr(owner, "generator", None) for owner in owners]
        found = {id(g): g for g in own if isinstance(g, torch.Generator)}
        return [torch.default_generator, *found.values()]
