"""The arguments of ``fit_many``: which of them are of all networks, and which of each."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends import choose as backend_choice
from ..checks.shared import Shared, value_of
from ..data.sources import is_source
from ..data.stream import Source
from ..network import Network
from ..spec.arguments import choose
from ..training import fit
from ..training.callbacks import Callback, SaveBest, has_state
from ..training.history import History
from ..training.job import Arguments
from ..training.tracking import CSVLogger, ModelCheckpoint, OptunaPruning

WHOLE_LISTS = ("metrics", "callbacks", "layer_rates")
"""Settings whose lists are one value for all networks, as in ``fit``."""
ROWWISE = ("x", "y", "sample_weight")
"""Arguments that ``rows`` selects from."""


class Each:
    """One value for each network, in any argument of ``fit_many``.

    A list means the same, except in ``metrics``, ``callbacks`` and ``layer_rates``, whose lists
    are one value for all networks.

    Parameters
    ----------
    values : iterable
        As many as there are networks.

    Examples
    --------
    >>> stops = [pynn.EarlyStopping(patience=3) for _ in networks]  # doctest: +SKIP
    >>> pynn.fit_many(networks, x, y, callbacks=pynn.Each(stops))  # doctest: +SKIP
    """

    def __init__(self, values: Iterable[Any]) -> None:
        if not isinstance(values, Iterable):
            raise TypeError(
                f"values: found {values!r}, expected a list with one value for each network"
            )
        self.values = list(values)

    def __repr__(self) -> str:
        return f"Each({self.values!r})"


def defaults() -> dict[str, Any]:
    """Return the settings of ``fit`` with their default values."""
    parameters = inspect.signature(Network.fit).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in ("self", "x", "y", "progress")
    }


class Settings:
    """The arguments of ``fit`` for each of several networks.

    Parameters
    ----------
    count : int
        Number of networks.
    given : mapping
        x, y and settings as the user gave them.
    rows : sequence of ndarray, optional
        For each network the rows to train on, as indices or as a mask.

    Raises
    ------
    TypeError, ValueError
        If there is no such setting, a list has another length, or networks would share an object
        that belongs to one of them.
    """

    def __init__(
        self, count: int, given: Mapping[str, Any], rows: Sequence[Any] | None = None
    ) -> None:
        known = defaults()
        _require_known(given, known)
        self._rows, self._count = rows, count
        values = {**known, **given}
        self.one: dict[str, Any] = {}
        self.each: dict[str, list[Any]] = {}
        for name, value in values.items():
            found = self._of_each(name, value)
            if found is None:
                self.one[name] = value
            else:
                self.each[name] = found
        self._check_owned()
        if self._has_sources():
            # Each network reads its own windows of them.
            self._share_validation()
            return
        if rows is not None:
            for k, chosen in enumerate(rows):
                _check_rows(chosen, row_count(self._value("x", k)), f"rows[{k}]")
        for name in ROWWISE:
            self._share(name)
        self._share_validation()

    def _of_each(self, name: str, value: Any) -> list[Any] | None:
        """Return the values of the networks; None if one value is for all."""
        if isinstance(value, Each):
            found = value.values
        elif isinstance(value, list) and name not in WHOLE_LISTS:
            found = value
        else:
            return None
        if len(found) == self._count:
            return found
        remedy = "one value for each network"
        if name in ROWWISE:
            remedy += f", or numpy.asarray({name}) for all of them"
        raise ValueError(f"{name}: found a list of {len(found)}, expected {self._count}, {remedy}")

    def _check_owned(self) -> None:
        """Refuse files and states that several networks would write to."""
        if self._count == 1:
            return
        if self.one.get("checkpoint") is not None:
            raise ValueError(
                f"checkpoint: found one for {self._count} networks, expected a list of checkpoints "
                "with different paths"
            )
        paths = Counter(
            str(one.path) for one in self.each.get("checkpoint", ()) if hasattr(one, "path")
        )
        if paths and max(paths.values()) > 1:
            path = paths.most_common(1)[0][0]
            raise ValueError(f"checkpoint: found the path {path} twice, expected different paths")
        for call in listed(self.one.get("callbacks")):
            if isinstance(call, (SaveBest, ModelCheckpoint, CSVLogger, OptunaPruning)):
                raise ValueError(
                    f"callbacks: found one {type(call).__name__} for {self._count} networks, "
                    "expected pynn.Each([…]) of callbacks with different "
                    + ("trials" if isinstance(call, OptunaPruning) else "paths")
                )
        owners: dict[int, int] = {}
        for k, calls in enumerate(self.each.get("callbacks", ())):
            for call in listed(calls):
                first = owners.setdefault(id(call), k)
                if first != k and isinstance(call, Callback) and has_state(call):
                    raise ValueError(
                        f"callbacks: found the same {type(call).__name__} for networks {first} and "
                        f"{k}, expected one for each: it has a state"
                    )

    def _has_sources(self) -> bool:
        """Return whether a network trains on rows that are read part by part."""
        if "x" not in self.each and "y" not in self.each:
            pairs = [(self.one.get("x"), self.one.get("y"))]
        else:
            pairs = [(self._value("x", k), self._value("y", k)) for k in range(self._count)]
        for x, y in pairs:
            if is_source(x, y):
                if self._rows is not None:
                    raise TypeError(
                        f"x: found a {type(x).__name__}, which is read part by part, and groups or "
                        "rows; expected arrays, or a list of sources, one for each network"
                    )
                return True
        return False

    def _value(self, name: str, k: int) -> Any:
        return self.each[name][k] if name in self.each else self.one.get(name)

    def _share(self, name: str) -> None:
        """Wrap data of several networks in ``Shared``, so that they are converted once."""
        if name in self.one and self.one[name] is not None and self._rows is None:
            self.one[name] = Shared(self.one[name])
        elif name in self.each:
            self.each[name] = _shared_where_repeated(self.each[name])

    def _share_validation(self) -> None:
        held = self.one.get("validation")
        if isinstance(held, tuple) and not is_source(*(*held, None, None)[:2]):
            self.one["validation"] = tuple(None if part is None else Shared(part) for part in held)

    def of(self, k: int) -> dict[str, Any]:
        """Return the arguments of ``fit`` for network k."""
        found = {**self.one, **{name: values[k] for name, values in self.each.items()}}
        if self._rows is not None:
            for name in ROWWISE:
                if found.get(name) is not None:
                    found[name] = take(value_of(found[name]), self._rows[k])
        if "callbacks" in self.one:
            found["callbacks"] = _copies(found["callbacks"])
        return found

    def plain(self, k: int) -> dict[str, Any]:
        """Return the arguments of ``fit`` for network k as the user gave them, for all rows."""
        found = {**self.one, **{name: values[k] for name, values in self.each.items()}}
        found = {name: value_of(value) for name, value in found.items()}
        if isinstance(found["validation"], (tuple, list)):
            found["validation"] = tuple(map(value_of, found["validation"]))
        return found

    def rows(self, k: int) -> Any:
        """Return the rows that network k trains on; None for all."""
        return None if self._rows is None else self._rows[k]

    @property
    def sends_rows(self) -> bool:
        """Whether the rows of the networks are fewer than all rows of x, taken together."""
        if self._rows is None:
            return False
        x: Any = self.one.get("x")
        return hasattr(x, "__len__") and sum(map(len, self._rows)) <= len(x)

    def own_callbacks(self, k: int) -> list[Any]:
        """Return the callbacks that the user gave for network k alone."""
        return listed(self.each["callbacks"][k]) if "callbacks" in self.each else []

    def epochs(self, k: int) -> int:
        """Return the epochs of network k; 1 for a value that ``fit`` will refuse."""
        found = self.each["epochs"][k] if "epochs" in self.each else self.one["epochs"]
        return int(found) if isinstance(found, (int, np.integer)) else 1

    def work(self, k: int) -> float:
        """Return the rows that network k trains on, in all epochs, as far as it is known."""
        data = value_of(self._value("x", k))
        if self._rows is not None:
            data = self._rows[k]
        if isinstance(data, Source):
            return float(self.epochs(k) * sum(rows or 0 for rows in data.parts()))
        return float(self.epochs(k) * (row_count(data) or 0))


def train(net: Network, given: dict[str, Any]) -> History:
    """Call ``fit`` of a network with one thread, without progress."""
    engine, threads = net._engine, net._asked[1]
    if threads != 1:
        engine = backend_choice.create(engine.name, net.architecture, 1)
    return fit.fit(net, net._model, engine, net._lock, Arguments(**given, progress=False))


def _require_known(given: Iterable[str], known: Iterable[str]) -> None:
    names = "x", "y", *known, "groups", "rows", "threads", "parallel", "progress"
    for name in given:
        try:
            choose("fit_many", name, names)
        except ValueError as error:
            raise TypeError(str(error)) from None


def row_count(x: Any) -> int | None:
    """Return the number of rows of an argument, if it is known."""
    x = value_of(x)
    shape = getattr(x, "shape", None)
    rows = shape[0] if shape else len(x) if hasattr(x, "__len__") else None
    return int(rows) if isinstance(rows, (int, np.integer)) else None


def _check_rows(rows: np.ndarray, count: int | None, name: str) -> None:
    """Raise for a mask of another length, or indices that x does not have."""
    if count is None or not len(rows):
        return
    if rows.dtype.kind == "b":
        if len(rows) != count:
            raise ValueError(
                f"{name}: found a mask of {len(rows)}, expected {count}, as many as x has rows"
            )
        return
    least, most = int(rows.min()), int(rows.max())
    if least < -count or most >= count:
        raise IndexError(
            f"{name}: found {least if least < -count else most}, expected indices of the "
            f"{count} rows of x, from {-count} to {count - 1}"
        )


def take(values: Any, rows: Any) -> Any:
    """Return some rows of an array, a sparse matrix, a data frame or a list.

    Consecutive rows of an array are a view.
    """
    rows = np.asarray(rows)
    if rows.dtype.kind == "b":
        rows = np.flatnonzero(rows)
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if isinstance(values, (list, tuple)):
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and len(rows) and _are_consecutive(rows):
        return values[rows[0] : rows[0] + len(rows)]
    return values[rows]


def _are_consecutive(rows: np.ndarray) -> bool:
    first, last = int(rows[0]), int(rows[-1])
    return first >= 0 and last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all())


def _shared_where_repeated(values: list[Any]) -> list[Any]:
    """Wrap values that the list has several times in one ``Shared`` each."""
    counts = Counter(map(id, values))
    shared = {id(one): Shared(one) for one in values if counts[id(one)] > 1 and one is not None}
    return [shared.get(id(one), one) for one in values]


def listed(calls: Any) -> list[Any]:
    """Return the argument ``callbacks`` as a list."""
    return list(calls) if isinstance(calls, (list, tuple)) else [calls]


def _copies(calls: Any) -> Any:
    """Return callbacks for one network: functions themselves, and copies of objects."""
    if isinstance(calls, (list, tuple)):
        return [_copies(call) for call in calls]
    return copy.deepcopy(calls) if isinstance(calls, Callback) else calls
