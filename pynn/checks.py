"""From what a user gives as x and y to what the contract of ``backends`` wants, or one clear error.

Arrays that fit already are passed on as they are: nothing is copied that need not be, and no check
allocates more than a block of rows.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .backends import Sparse
from .spec import Architecture, choose

Array = np.ndarray

_BLOCK = 1 << 18
"""Elements looked at together when searching for NaN: they stay in the cache between two passes."""

_LONGEST_LIST = 12
"""How many classes an error spells out."""

MOST_THREADS = 4096
"""Each takes memory of its own: far past any machine's processors it is a slip of the keyboard."""


@dataclass(frozen=True, eq=False)
class Task:
    """What the outputs of a network stand for, learnt from the y it was trained on.

    Parameters
    ----------
    kind
        ``"labels"``: one class a row. ``"multilabel"``: a yes or no for each output.
        ``"values"``: regression.
    classes
        The label that each output stands for; None unless ``kind`` is ``"labels"``.
    flat
        Whether predicted values are (n,) rather than (n, 1), as y was.
    """

    kind: str
    classes: Array | None = None
    flat: bool = False


# --- Arrays -------------------------------------------------------------------------------------


def must_take(function: Any, arguments: tuple[object, ...], name: str, expected: str) -> None:
    """Raise TypeError if a function cannot be called with so many arguments, as far as it tells."""
    import inspect

    try:
        takes = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some functions written in C do not tell
        return
    try:
        takes.bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{name}: found {function!r}, which takes {takes}, expected a function of {expected}"
        ) from None


def as_array(value: Any, name: str) -> Array:
    """Return the NumPy array that ``value`` is or holds, without looking at its numbers."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        mask = getattr(value, "mask", None)
        if mask is not None and np.any(mask):
            raise ValueError(
                f"{name}: found a masked array with {int(np.sum(mask))} masked cells, expected "
                f"none; fill them or drop their rows"
            )
        return np.asarray(value)
    if _is_sparse(value):
        raise TypeError(
            f"{name}: found a sparse matrix ({type(value).__name__}), expected a dense array; "
            f"use {name}.toarray()"
        )
    if hasattr(value, "to_numpy"):  # frames and series of pandas, polars and their kin
        # Frames keep columns together, and rows are gathered several times as fast from rows.
        return np.asarray(value.to_numpy(), order="C")
    if isinstance(value, (str, bytes, dict, set, frozenset)) or value is None:
        raise TypeError(f"{name}: found {_kind_of(value)}, expected an array of numbers")
    try:
        a = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: found rows of different lengths, expected a rectangular array"
        ) from None
    # NumPy makes text of the numbers in a list that holds both.
    return np.asarray(value, dtype=object) if a.dtype.kind in "US" else a


def _kind_of(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _must_be_numbers(a: Array, name: str) -> None:
    kind = a.dtype.kind
    if kind in "biuf":
        return
    if kind == "O":
        first = f" ({type(a.flat[0]).__name__})" if a.size else ""
        raise TypeError(
            f"{name}: found an array of Python objects{first}, expected numbers; if all of them "
            f"are, use {name}.astype('float32')"
        )
    raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")


def check_finite(a: Array, name: str, dtype: np.dtype[Any], matrix: Sparse | None = None) -> None:
    """Raise if an element of ``a`` is NaN or infinite, or would be in ``dtype``.

    Minimum and maximum carry NaN along and need no temporary array. ``matrix`` is that of which
    ``a`` are the values.
    """
    if a.dtype.kind != "f" or a.size == 0:
        return
    limit = min(float(np.finfo(dtype).max), float(np.finfo(a.dtype).max))
    across = a.ndim == 2 and abs(a.strides[0]) < abs(a.strides[1])
    scan = a.T if across else a
    rows = max(1, _BLOCK // (scan.size // len(scan)))
    for start in range(0, len(scan), rows):
        block = scan[start : start + rows]
        low = float(np.minimum.reduce(block, axis=None))
        if low >= -limit and float(np.maximum.reduce(block, axis=None)) <= limit:
            continue
        where = np.argwhere(~(np.abs(block) <= limit))[0]
        where[0] += start
        place = shown = tuple(where[::-1].tolist() if across else where.tolist())
        if matrix is not None:
            row = int(np.searchsorted(matrix.indptr, place[0], side="right")) - 1
            shown = row, int(matrix.indices[place[0]])
        at = f"row {shown[0]}" + (f", column {shown[1]}" if len(shown) > 1 else "")
        expected = "finite numbers"
        if math.isfinite(float(a[place])):
            expected = f"numbers that {np.dtype(dtype).name} can hold"
        raise ValueError(f"{name}: found {a[place]} at {at} (counted from 0), expected {expected}")


def _is_sparse(value: object) -> bool:
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def _without_nullable(value: Any) -> Any:
    """Return a frame of pandas with nullable columns of numbers as float64, NaN where one misses.

    Of itself such a frame becomes an array of Python objects. Anything else is returned as it is.
    """
    if not hasattr(value, "to_numpy") or getattr(value, "ndim", 0) != 2:
        return value
    dtypes = list(getattr(value, "dtypes", ()))
    if all(isinstance(d, np.dtype) for d in dtypes):
        return value
    if not all(getattr(d, "kind", "O") in "biuf" for d in dtypes):
        return value
    return np.asarray(value.to_numpy(dtype=np.float64, na_value=np.nan), order="C")


def features(x: Any, net: Architecture, name: str = "x") -> Array | Sparse:
    """Return x as a uint8, float32 or float64 array (n, n_in), n ≥ 1, or as compressed rows.

    Those three dtypes are passed on without a copy, whatever their strides; other numbers are
    converted to the network's dtype. SciPy's sparse matrices stay sparse, as float32 or float64.

    Raises
    ------
    TypeError
        If x is not an array of real numbers.
    ValueError
        If its shape does not fit, or it is empty, masked, or holds NaN or infinity.
    """
    if _is_sparse(x):
        return _compressed_rows(x, net, name)
    a = as_array(_without_nullable(x), name)
    n_in = net.sizes[0]
    if a.ndim < 2:
        hint = ""
        if a.ndim == 1 and n_in == 1:
            hint = f"; for one column write {name}[:, None]"
        elif a.ndim == 1 and len(a) == n_in:
            hint = f"; for one row write {name}[None, :]"
        if a.dtype.kind == "O":
            _must_be_numbers(a, name)
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows, {n_in}){hint}")
    if a.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {a.shape}), expected at least one")
    width = a.shape[1] if a.ndim == 2 else math.prod(a.shape[1:])
    if width != n_in:
        hint = f"; for one row write {name}[None]" if a.size == n_in else ""
        raise ValueError(
            f"{name}: found {width} values in a row (shape {a.shape}), expected {n_in}{hint}"
        )
    _must_be_numbers(a, name)
    if a.ndim != 2:
        a = a.reshape(len(a), n_in)
    if a.dtype == np.uint8:
        return a
    if a.dtype.char in "fd":
        if not (a.dtype.isnative and a.flags.aligned):
            a = a.astype(a.dtype.newbyteorder("="))
        check_finite(a, name, np.dtype(net.dtype))
        return a
    check_finite(a, name, np.dtype(net.dtype))
    return a.astype(net.dtype)


def _compressed_rows(x: Any, net: Architecture, name: str) -> Sparse:
    if len(x.shape) != 2 or x.shape[1] != net.sizes[0]:
        raise ValueError(f"{name}: found shape {x.shape}, expected (rows, {net.sizes[0]})")
    if x.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {x.shape}), expected at least one")
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found a sparse matrix of {x.dtype}, expected numbers")
    found = Sparse.of(x, name)
    check_finite(found.data, name, np.dtype(net.dtype), found)
    if x.dtype.char in "fd":
        return found
    data = found.data.astype(net.dtype)
    if x.dtype == np.uint8:
        data *= data.dtype.type(1 / 255)
    return replace(found, data=data)


# --- Targets ------------------------------------------------------------------------------------


def targets(
    y: Any, rows: int, net: Architecture, task: Task | None, name: str = "y", rows_of: str = "x"
) -> tuple[Array, Task]:
    """Return y as the contract wants it, and what it says about the outputs.

    Parameters
    ----------
    y
        Labels (n,) or (n, 1), one-hot or soft targets (n, n_out), or values.
    rows
        How many there should be.
    net
        The network's architecture.
    task
        What the network was trained for so far; its classes hold for y too.
    name, rows_of
        The names of y and of its x, for errors.

    Returns
    -------
    Labels (n,) int32, or targets (n, n_out) in the network's dtype; and the task.

    Raises
    ------
    TypeError, ValueError
        If y does not fit the rows, the loss, the number of outputs or the classes.
    """
    single = getattr(y, "shape", ())[1:] == (1,)  # may be labels, which stay what they are
    a = as_array(y if single else _without_nullable(y), name)
    if a.ndim not in (1, 2):
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows,) or (rows, {net.n_out})")
    if len(a) != rows:
        raise ValueError(f"{name}: found {len(a)} rows, expected {rows}, as many as {rows_of} has")
    if rows == 0:
        raise ValueError(f"{name}: found no rows, expected at least one")
    if a.ndim == 2 and a.shape[1] != 1:
        return _matrix(a, net, task, name)
    column = a.reshape(-1)
    if net.n_out == 1 and net.regression:
        values = _values(column.reshape(-1, 1), net, name)
        return values, Task("values", None, a.ndim == 1)
    if net.loss == "poisson":
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows, {net.n_out})")
    return _labels(column, net, task, name)


def smoothed(y: Array, net: Architecture, share: float) -> Array:
    """Return checked targets with a share of each spread over all outputs (Szegedy et al. 2016).

    Parameters
    ----------
    y
        Labels (n,) or targets (n, n_out), as `targets` returns them.
    net
        The network's architecture.
    share
        How much of them, in [0, 1).

    Returns
    -------
    Targets (n, n_out) in the network's dtype.
    """
    soft = np.full((len(y), net.n_out), share / net.n_out, net.dtype)
    if y.ndim == 1:
        soft[np.arange(len(y)), y] += 1 - share
    else:
        soft += np.asarray(1 - share, net.dtype) * y
    return soft


def _values(a: Array, net: Architecture, name: str) -> Array:
    _must_be_numbers(a, name)
    check_finite(a, name, np.dtype(net.dtype))
    if net.loss == "poisson" and a.min() < 0:
        raise ValueError(
            f"{name}: found {a.min():g}, expected values of 0 or more for loss 'poisson'"
        )
    return np.ascontiguousarray(a, dtype=net.dtype)


def _matrix(a: Array, net: Architecture, task: Task | None, name: str) -> tuple[Array, Task]:
    if a.shape[1] != net.n_out:
        raise ValueError(
            f"{name}: found {a.shape[1]} columns (shape {a.shape}), expected {net.n_out}, "
            "one for each output, or labels (rows,)"
        )
    values = _values(a, net, name)
    # Targets that were independent of each other in training stay so when a batch of them
    # happens to be one-hot.
    independent = task is not None and task.kind != "labels"
    if net.loss != "poisson" and not independent and _is_one_hot(values):
        return values.argmax(axis=1).astype(np.int32), _with_classes(task, net)
    if net.regression:
        return values, Task("values")
    low, high = float(values.min()), float(values.max())
    if net.loss == "binary_cross_entropy":
        if low < 0 or high > 1:
            raise ValueError(
                f"{name}: found values from {low:g} to {high:g}, expected targets in [0, 1] "
                "for loss 'binary_cross_entropy'"
            )
        return values, Task("multilabel")
    total = values.sum(axis=1, dtype=np.float64)
    off = np.abs(total - 1) > 1e-3
    if low < 0 or off.any():
        found = f"a target of {low:g}"
        if low >= 0:
            row = int(off.argmax())
            found = f"targets that sum to {total[row]:g} in row {row}"
        raise ValueError(
            f"{name}: found {found}, expected labels, or targets of 0 or more that sum to 1 in "
            "each row for loss 'cross_entropy'"
        )
    return values, _with_classes(task, net)


def _is_one_hot(a: Array) -> bool:
    def holds(block: Array) -> bool:
        return bool(((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all())

    return holds(a[:1]) and holds(a)


def _with_classes(task: Task | None, net: Architecture) -> Task:
    if task is not None and task.classes is not None:
        return task
    return Task("labels", np.arange(_n_classes(net)))


def _n_classes(net: Architecture) -> int:
    return max(2, net.n_out)


def _labels(a: Array, net: Architecture, task: Task | None, name: str) -> tuple[Array, Task]:
    a = plain_labels(a, name)
    count = _n_classes(net)
    classes = task.classes if task is not None else None
    if net.n_out == 1 and a.dtype.kind == "f" and a.min() >= 0 and a.max() <= 1:
        # Fractions between 0 and 1 for one sigmoid output are the probability of its yes.
        known = _with_classes(task, net)
        return np.ascontiguousarray(a.reshape(-1, 1), dtype=net.dtype), known
    codes: Array
    if classes is None:
        if a.dtype.kind in "iu" and int(a.min()) >= 0 and int(a.max()) < count:
            classes, codes = np.arange(count), a
        else:
            classes, codes = _new_classes(a, count, net, name)
    elif a.dtype.kind in "iu" and _is_plain(classes) and a.min() >= 0 and a.max() < count:
        codes = a
    else:
        codes = _codes(a, classes, name)
    task = task if task is not None and task.classes is classes else Task("labels", classes)
    if net.n_out == 1:
        return codes.astype(net.dtype).reshape(-1, 1), task
    return codes.astype(np.int32), task


def plain_labels(a: Array, name: str) -> Array:
    """Return labels (n,) as an array of booleans, whole numbers, fractions or strings."""
    if a.dtype.kind == "O":
        kinds = {_family(v) for v in a.tolist()}
        if "missing" in kinds:
            row = [_family(v) for v in a.tolist()].index("missing")
            raise ValueError(f"{name}: found {a[row]!r} at row {row}, expected a label")
        if len(kinds) != 1 or kinds == {"other"}:
            found = ", ".join(sorted({type(v).__name__ for v in a.tolist()}))
            raise TypeError(
                f"{name}: found Python objects of type {found}, expected labels that are all "
                "numbers, all strings or all booleans"
            )
        a = np.array(a.tolist())
    if a.dtype.kind == "T":
        a = a.astype(np.str_)
    if a.dtype.kind not in "biufU":
        raise TypeError(
            f"{name}: found dtype {a.dtype}, expected labels that are numbers, strings or booleans"
        )
    if a.dtype.kind == "f":
        check_finite(a, name, np.dtype(np.float64))
        rounded: Array = np.trunc(a)
        if (rounded == a).all() and np.abs(a).max(initial=0) < 2**53:
            return rounded.astype(np.int64)  # labels read from a file of numbers
    return a


def _family(value: object) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return "missing"
    if isinstance(value, float) and math.isnan(value):
        return "missing"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "number"
    return "string" if isinstance(value, str) else "other"


def _new_classes(a: Array, count: int, net: Architecture, name: str) -> tuple[Array, Array]:
    if a.dtype.kind == "b":
        classes, codes = np.array([False, True]), a
    else:
        classes, codes = np.unique(a, return_inverse=True)
    if len(classes) != count:
        hint = ""
        if a.dtype.kind in "iu" and a.dtype.kind != "b":
            hint = f", or whole numbers from 0 to {count - 1}"
        if net.regression and a.dtype.kind in "iuf":
            hint += f"; values to be approximated have shape (rows, {net.n_out})"
        what = "2 for one output" if net.n_out == 1 else f"{count}, one for each output"
        raise ValueError(
            f"{name}: found {len(classes)} different labels ({spell(classes)}), expected {what}"
            f"{hint}"
        )
    return classes, codes.reshape(-1)


def _is_plain(classes: Array) -> bool:
    """Whether each class is the number of its output."""
    return classes.dtype.kind in "iu" and bool((classes == np.arange(len(classes))).all())


def _codes(a: Array, classes: Array, name: str) -> Array:
    """Return the index of each label in ``classes``."""
    text = classes.dtype.kind == "U"
    if (a.dtype.kind == "U") == text:
        order = np.argsort(classes)  # those set by hand are in any order
        places = np.searchsorted(classes, a, sorter=order)
        codes = order[np.minimum(places, len(classes) - 1)]
        wrong = classes[codes] != a
        if not wrong.any():
            return codes
        row = int(wrong.argmax())
    else:
        row = 0
    raise ValueError(
        f"{name}: found the label {a[row].item()!r} at row {row}, "
        f"expected one of the classes {spell(classes)}"
    )


def spell(classes: Array) -> str:
    """Return the classes as text, the middle left out where there are many."""
    words = [repr(c) for c in classes[:_LONGEST_LIST].tolist()]
    if len(classes) > _LONGEST_LIST:
        words = [*words[:-2], "…", repr(classes[-1].item())]
    return ", ".join(words)


def as_classes(classes: Any, net: Architecture) -> Array:
    """Return labels as a user gives them for a network's outputs, in the order of the outputs.

    Raises
    ------
    TypeError, ValueError
        If they are not as many different labels as there are outputs (two for one output).
    """
    a = plain_labels(as_array(classes, "classes").reshape(-1), "classes")
    count = _n_classes(net)
    if len(a) != count or len(set(a.tolist())) != count:
        raise ValueError(f"classes: found {len(a)} ({spell(a)}), expected {count} different labels")
    return a


def default_task(net: Architecture) -> Task:
    """What the outputs stand for before a y has been seen."""
    if net.regression:
        return Task("values", None, net.n_out == 1)
    return Task("labels", np.arange(_n_classes(net)))


# --- Numbers ------------------------------------------------------------------------------------


def whole(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Return a whole number of at least ``low`` and at most ``high``."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, (bool, np.bool_)) or number < low or (high is not None and number > high):
        span = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: found {value!r}, expected a whole number {span}")
    return number


def number(value: Any, name: str, above: float | None = None, least: float | None = None) -> float:
    """Return a finite float above ``above`` or of at least ``least``."""
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    result = float(value) if ok else math.nan
    ok = math.isfinite(result)
    if ok and above is not None:
        ok = result > above
    if ok and least is not None:
        ok = result >= least
    if not ok:
        span = "" if above is None else f" above {above:g}"
        span += "" if least is None else f" of {least:g} or more"
        raise ValueError(f"{name}: found {value!r}, expected a finite number{span}")
    return result


def label_smoothing(value: Any, net: Architecture) -> float:
    """Return a share in [0, 1), which is 0 for any loss but cross entropy."""
    share = number(value, "label_smoothing", least=0)
    if share >= 1:
        raise ValueError(f"label_smoothing: found {share:g}, expected a share in [0, 1)")
    if share and net.loss != "cross_entropy":
        raise ValueError(
            f"label_smoothing: found {share:g} and loss {net.loss!r}, expected 0, or loss "
            "'cross_entropy'"
        )
    return share


def threads(value: Any) -> int | None:
    """Return how many threads compute at most; None leaves it to the backend."""
    return None if value is None else whole(value, "threads", 1, MOST_THREADS)


def batch_size(value: Any) -> int | None:
    """Return how many rows a batch has; None, also for ``"full"``, stands for all of them."""
    if value is None or (isinstance(value, str) and value == "full"):
        return None
    if isinstance(value, str):
        choose("batch_size", value, ("full", "or a whole number of 1 or more"))
    return whole(value, "batch_size", 1)
