"""Rows of a source as ``fit``, ``predict`` and ``evaluate`` need them.

A first pass over the targets, and over x where it matters, counts the rows, collects the classes
and decides whether the inputs are pixels. The rows themselves are checked and converted when they
are read, and errors name the file and the column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Moments, Standard, block_rows, standard_of
from ..backends.contract import Data
from ..checks import features, targets, weights
from ..checks.convert import as_numbers
from ..checks.labels import plain_labels, unrounded
from ..checks.targets import Task
from ..data.stream import Chunk, Source
from ..files.disk import shown
from ..spec.architecture import Architecture
from .model import Model
from .stream import Stream, length

Array = np.ndarray

MOST_LABELS = 1 << 16
"""Different labels after which the first pass stops to collect them."""
EMPTY = np.empty(0)
ROW = re.compile(r"\b(at|in|which) row (\d+)")
COLUMN = re.compile(r", column (\d+)(?= \(counted from 0\))")


@contextmanager
def located(chunk: Chunk, columns: tuple[str, ...] | None = None) -> Iterator[None]:
    """Let errors name the place of a chunk, and the row and the column of a cell."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if str(error).startswith(f"{chunk.place}:"):
            raise
        found = _cell(chunk, columns, str(error))
        text = found if isinstance(error, ValueError) and found else _named(error, chunk, columns)
        raise (ValueError if isinstance(error, ValueError) else TypeError)(text) from error


def _named(error: Exception, chunk: Chunk, columns: tuple[str, ...] | None) -> str:
    """Return a message with the place of a chunk, rows counted there, and names of columns."""
    text, place = str(error), chunk.place
    cell = COLUMN.search(text)
    names = {"x": columns or (), "y": chunk.targets}.get(text.split(":")[0], ())
    if cell is not None and int(cell[1]) < len(names):
        text = text[: cell.start()] + text[cell.end() :]
        text = f"column {shown(repr(names[int(cell[1])]))}{text[1:]}"
    elif len(chunk.targets) == 1 and text.startswith("y: "):
        text = f"column {shown(repr(chunk.targets[0]))}{text[1:]}"
    elif chunk.weights is not None and text.startswith("sample_weight: "):
        text = f"column {shown(repr(chunk.weights))}{text.removeprefix('sample_weight')}"
    if chunk.first and not ROW.search(text):
        place = f"{place}, rows from {chunk.first}"
    return f"{place}: " + ROW.sub(lambda m: f"{m[1]} row {chunk.first + int(m[2])}", text)


def _cell(chunk: Chunk, columns: tuple[str, ...] | None, error: str) -> str:
    """Return a message about the first cell that is not finite; an empty text for none."""
    for name, values in ("x", chunk.x), ("y", chunk.y):
        if name == "y" and not re.search(r"\bnan\b|\binf\b", error):
            continue  # NaN may be allowed there
        a = np.asarray(values) if values is not None else EMPTY
        wrong = ~np.isfinite(a) if a.dtype.kind == "f" else EMPTY
        if not wrong.any():
            continue
        place_of = tuple(np.argwhere(wrong)[0].tolist())
        row, rest = place_of[0], place_of[1:]
        place = name
        if name == "x" and columns is not None and len(columns) == a.shape[-1]:
            place = f"column {shown(repr(columns[rest[0]]))}"
        elif name == "y" and chunk.targets:
            place = f"column {shown(repr(chunk.targets[rest[0] if rest else 0]))}"
        elif rest:
            place = f"column {rest[0]} (counted from 0) of {name}"
        return (
            f"{chunk.place}: {place}: found {a[place_of]:g} in row {chunk.first + row} "
            "(counted from 0), expected a finite number; fill missing values or drop their rows"
        )
    return ""


@dataclass(frozen=True)
class Checks:
    """How chunks become the arrays of the backends: the ``Form`` of a ``Stream``."""

    net: Architecture
    input_format: str
    target_format: str
    pixels: Any
    dtype: np.dtype[Any]
    columns: tuple[str, ...] | None = None
    task: Task | None = None
    """None if targets are not converted."""
    labels: bool = False
    """Whether targets are labels (n,)."""
    missing: bool = False
    smoothing: float = 0.0
    class_weight: dict[Any, float] | None = None
    target_standard: Standard | None = None

    def convert(self, chunk: Chunk) -> Data:
        """Return checked rows."""
        with located(chunk, self.columns):
            x = self._inputs(chunk.x)
            if self.task is None:
                return Data(x, EMPTY)
            y = self._targets(chunk, len(x))
            by_class, _ = weights.class_weight(self.class_weight, y, self.task, self.net)
            given = weights.sample_weight(chunk.weight, len(x))
            weight, missing = _combined(y, self.missing, given, by_class)
            if self.smoothing:
                y = targets.smoothed(y, self.net, self.smoothing)
            if self.target_standard is not None:
                with np.errstate(all="ignore"):
                    standard = self.target_standard
                    y = ((y - standard.mean) * standard.inverse).astype(self.net.dtype)
            return Data(x, y, weight, missing)

    def _inputs(self, x: Any) -> Array:
        found = features.features(x, self.net, "x", self.pixels, self.input_format)
        if isinstance(found, Sparse):
            raise TypeError("x: found sparse rows, expected dense ones, such as x.toarray()")
        if (found.dtype == np.uint8) != (self.dtype == np.uint8):
            raise ValueError(f"x: found {found.dtype}, expected {self.dtype} as in the first rows")
        return found

    def _targets(self, chunk: Chunk, rows: int) -> Array:
        if chunk.y is None:
            raise ValueError("y: found no targets, expected (x, y) or (x, y, sample_weight)")
        known = self.net, self.task, self.missing, self.target_format
        y, _ = _targets(chunk.y, rows, *known)
        if y.ndim == 1 and not self.labels:  # one-hot rows among others
            hot = np.zeros((len(y), self.net.n_out), self.target_format)
            hot[np.arange(len(y)), y] = 1
            return hot
        return y


def _targets(
    y: Any, rows: int, net: Architecture, task: Task | None, missing: bool, target_format: str
) -> tuple[Array, Task]:
    """Return the result of ``targets.targets``; all targets of some rows may be missing."""
    options: dict[str, Any] = {"missing": missing, "number_format": target_format}
    if missing and net.activations[-1] != "softmax" and (net.regression or net.n_targets > 1):
        a = np.asarray(y)
        if a.dtype.kind == "f" and a.size and np.isnan(a).all():
            values, found = targets.targets(np.ones_like(a), rows, net, task, **options)
            return np.full_like(values, np.nan), found
    return targets.targets(y, rows, net, task, **options)


def _combined(y: Array, missing: bool, *factors: Array | None) -> tuple[Array | None, bool]:
    """Return weights and whether targets are missing, as ``weights.combined`` does for all rows."""
    known = ~np.isnan(y) if missing and y.ndim == 2 else None
    product = None if known is None or known.all() else known.mean(axis=1)
    found = product is not None
    for factor in factors:
        if factor is not None:
            product = factor if product is None else product * factor
    return product, found


# --- The first pass -------------------------------------------------------------------------------


@dataclass
class Scan:
    """What the first pass over a source finds.

    Parameters
    ----------
    source, model
        What is read, and for what.
    task
        The meaning of the targets if it is known.
    missing
        Whether targets may be NaN.
    keeps
        Whether targets and weights of all rows are kept in memory.
    counts_classes
        Whether to count the rows of each class.
    """

    source: Source
    model: Model
    task: Task | None
    missing: bool = False
    keeps: bool = False
    counts_classes: bool = False
    reads_targets: bool = True
    pixels: Any = None
    dtype: Any = None
    parts: list[int] = field(default_factory=list)
    counts: dict[Any, int] = field(default_factory=dict)
    labels: bool = True
    has_weight: bool = False
    known: bool = False
    """Whether there is a target that is not missing."""
    batch_rows: list[int] = field(default_factory=list)
    y: list[Array] = field(default_factory=list)
    weight: list[Array] = field(default_factory=list)

    def run(self) -> Scan:
        """Read the source."""
        self.pixels, self._first_task = self.model.pixels, self.task
        names = self.source.names
        for k, known in enumerate(self.source.parts()):
            rows = 0
            skipped = not self._needs_x and not self.reads_targets and known is not None
            for chunk in () if skipped else self.source.read(k, x=self._needs_x):
                rows += length(chunk)
                if chunk.x is not None:
                    with located(chunk, names):
                        self._scan_inputs(chunk.x)
                if self.reads_targets:
                    with located(chunk):
                        self._scan_targets(chunk)
                if self.source.batches:
                    self.batch_rows.append(length(chunk))
            self.parts.append(known if skipped and known is not None else rows)
        if not sum(self.parts):
            raise ValueError("x: found no rows, expected at least one")
        if isinstance(self.pixels, str):
            self.pixels = False  # uint8 of only 0 and 1
            self.dtype = np.dtype(self.model.input_format)
        if self.reads_targets:
            self._decide_task()
        return self

    @property
    def _needs_x(self) -> bool:
        return self.dtype is None or isinstance(self.pixels, str)

    def _scan_inputs(self, given: Any) -> None:
        """Decide the dtype of x, and whether the inputs are pixels, if these rows can tell."""
        if not self._needs_x:
            return
        net, number_format = self.model.architecture, self.model.input_format
        a = as_numbers(given, "x")
        x, pixels = features.training_features(a, net, self.pixels, "x", number_format)
        assert isinstance(x, np.ndarray)
        if isinstance(self.pixels, str) and a.dtype == np.uint8 and not pixels:
            self.dtype = np.dtype(np.uint8)  # not decided by only 0 and 1
            return
        self.pixels = pixels
        self.dtype = x.dtype if x.dtype != np.float64 else np.dtype(number_format)

    def _scan_targets(self, chunk: Chunk) -> None:
        net, m = self.model.architecture, length(chunk)
        if chunk.y is None:
            raise ValueError("y: found no targets, expected (x, y) or (x, y, sample_weight)")
        weight = weights.sample_weight(chunk.weight, m)
        self.has_weight |= weight is None or bool(weight.any())
        shape = np.shape(chunk.y)
        column = len(shape) == 1 or shape[1:] == (1,)
        if column and not (net.regression and net.n_targets == 1) and self._collects:
            if not net.loss_function.takes_labels or len(shape[:1]) == 0:
                self._check(chunk.y, m)
            a = plain_labels(unrounded(chunk.y, "y").reshape(-1), "y")
            if len(a) != m:
                self._check(chunk.y, m)
            for label, count in zip(*_counted(a), strict=True):
                self.counts[label] = self.counts.get(label, 0) + count
            if len(self.counts) > MOST_LABELS:
                self._decide_task()  # raises
            return
        values, task = self._check(chunk.y, m)
        self.labels &= values.ndim == 1
        if self._first_task is None or task.kind != "labels":
            self._first_task = task
        if self.keeps:
            self.y.append(values)
            if weight is not None:
                self.weight.append(weight)

    @property
    def _collects(self) -> bool:
        return self.task is None or self.counts_classes

    def _check(self, y: Any, rows: int) -> tuple[Array, Task]:
        model = self.model
        known = model.architecture, self.task, self.missing, model.target_format
        values, task = _targets(y, rows, *known)
        self.known |= values.dtype.kind != "f" or not np.isnan(values).all()
        return values, task

    def _decide_task(self) -> None:
        """Set the task, and the number of rows of each class by their index."""
        if self.counts:
            words = list(self.counts)
            labels = np.array(words)
            if len({type(word) for word in words}) > 1:
                labels = plain_labels(np.array(words, dtype=object), "y")
            values, self.task = self._check(labels, len(labels))
            self.labels = values.ndim == 1
        else:
            self.task = self._first_task
            if not self.known:
                raise ValueError("y: found no target that is not nan, expected one at least")
        if not self.has_weight:
            raise ValueError(
                f"sample_weight: found no weight above 0 among {sum(self.parts)} rows, expected "
                "one at least"
            )


def _counted(a: Array) -> tuple[list[Any], list[int]]:
    """Return the different labels, and how often each occurs."""
    if a.dtype.kind in "iu" and len(a) and int(a.min()) >= 0 and int(a.max()) < MOST_LABELS:
        counts = np.bincount(a.astype(np.intp))
        found = np.flatnonzero(counts)
        return found.tolist(), counts[found].tolist()
    labels, counts = np.unique(a, return_counts=True)
    return labels.tolist(), counts.tolist()


# --- Arguments ------------------------------------------------------------------------------------


def _prepared(
    source: Source, model: Model, columns: tuple[str, ...] | None, missing: bool = False
) -> Source:
    """Return the source as a network reads it; raise for another number of inputs."""
    source = source.prepared(columns, model.table, missing)
    names, n_in = source.names, model.architecture.n_in
    if names is not None and len(names) != n_in:
        known = ", ".join(shown(name) for name in names[:8]) + ", …" * (len(names) > 8)
        raise ValueError(f"x: found {len(names)} inputs, {known}; expected {n_in}")
    return source


def _checks(scan: Scan, task: Task | None) -> Checks:
    model = scan.model
    assert scan.dtype is not None
    return Checks(
        *(model.architecture, model.input_format, model.target_format, scan.pixels, scan.dtype),
        columns=scan.source.names,
        task=task,
        labels=scan.labels,
        missing=scan.missing,
    )


def inputs_of(source: Source, model: Model) -> Stream:
    """Return the x of a source, for ``predict``."""
    source = _prepared(source, model, model.columns)
    scan = Scan(source, model, None, reads_targets=False).run()
    return Stream(source, scan.parts, _checks(scan, None), scan.dtype, model.architecture.n_in)


def rows_of(
    source: Source,
    model: Model,
    task: Task | None,
    columns: tuple[str, ...] | None,
    pixels: Any,
    missing: bool,
) -> tuple[Stream, Array, Array | None, Task]:
    """Return the x of a source, targets and weights in memory, and the task: for ``evaluate``, and
    for the validation of ``fit``."""
    source = _prepared(source, model, columns, missing)
    require_targets(source)
    if task is None:
        found = Scan(source, model, None, missing).run()
        task = found.task
    scan = Scan(source, model, task, missing, keeps=True)
    scan = scan.run()
    if pixels is not None and not isinstance(pixels, str):
        scan.pixels = pixels
    y = scan.y
    if not scan.labels:
        n_out = model.architecture.n_out
        y = [np.eye(n_out, dtype=model.target_format)[v] if v.ndim == 1 else v for v in y]
    stream = Stream(source, scan.parts, _checks(scan, None), scan.dtype, model.architecture.n_in)
    assert task is not None
    weight = np.concatenate(scan.weight) if scan.weight else None
    return stream, np.concatenate(y), weight, task


def require_targets(source: Source) -> None:
    """Raise ValueError for a source without targets."""
    if not source.has_targets:
        kind = type(source).__name__
        remedy = "y=… with the same partitions" if kind == "Partitions" else "label='column'"
        raise ValueError(f"y: found no targets in a {kind} as x, expected {remedy}")


def training_rows(
    source: Source,
    model: Model,
    class_weight: Any,
    batch_size: int | None,
    shuffle: bool,
    missing: bool,
    smoothing: float,
) -> tuple[Stream, Task, Any, tuple[str, ...] | None, Any]:
    """Return the rows to train on, their task, whether they are pixels, the names of the columns,
    and the class weights as JSON can hold them.

    ``batch_size`` None means that the batches of the source are those of training.
    """
    net = model.architecture
    source = _prepared(source, model, model.columns, missing)
    require_targets(source)
    balanced = isinstance(class_weight, str) and class_weight == "balanced"
    scan = Scan(source, model, model.task, missing, counts_classes=class_weight is not None).run()
    assert scan.task is not None
    by_label, described = _class_weight(class_weight, balanced, scan, net)
    checks = replace(
        _checks(scan, scan.task),
        labels=scan.labels,
        smoothing=smoothing,
        class_weight=by_label,
    )
    rows = sum(scan.parts)
    batch = min(_uniform(scan.batch_rows) if batch_size is None else batch_size, rows)
    stream = Stream(
        *(source, scan.parts, checks, scan.dtype, net.n_in, batch, model.seed),
        shuffle=shuffle,
    )
    columns = model.columns
    if model.task is None and columns is None and source.columns is not None:
        columns = source.columns if len(source.columns) == net.n_in else None
    return stream, scan.task, scan.pixels, columns, described


def _uniform(rows: list[int]) -> int:
    """Return the rows of all batches but the last, which may have fewer."""
    for k, found in enumerate(rows):
        if found != rows[0] and not (k == len(rows) - 1 and found < rows[0]):
            raise ValueError(
                f"x: found {found} rows in batch {k} (counted from 0), expected {rows[0]} as in "
                "the first; only the last batch may be shorter, or batch_size=… divides the rows "
                "anew"
            )
    return rows[0]


def _class_weight(
    given: Any, balanced: bool, scan: Scan, net: Architecture
) -> tuple[dict[Any, float] | None, Any]:
    """Return the weight of each label, and ``class_weight`` as JSON can hold it."""
    if given is None:
        return None, None
    task = scan.task
    assert task is not None
    labels = np.array(list(scan.counts)) if scan.counts else None
    y = np.full((1, net.n_targets), 0.5) if labels is None else scan._check(labels, len(labels))[0]
    _, described = weights.class_weight(given, y, task, net)  # checks the argument
    assert labels is not None
    assert task.classes is not None
    if not balanced:
        return dict(weights.as_mapping(given)), described
    rows, counts = sum(scan.counts.values()), list(scan.counts.values())
    classes = task.classes.tolist()
    index = y.reshape(-1).astype(np.intp).tolist()
    return {
        classes[k]: rows / (len(counts) * count) for k, count in zip(index, counts, strict=True)
    }, described


# --- Means and scales -----------------------------------------------------------------------------


def column_standard(stream: Stream) -> Standard:
    """Return means and scales of the columns of x, in one pass in the order of the rows."""
    assert isinstance(stream.form, Checks)
    ordered = Stream(
        *(stream.source, stream.parts, replace(stream.form, task=None), stream.dtype),
        *(stream.shape[1], block_rows(stream.shape[1])),
    )
    return _standard((data.x for data in _taken(ordered)), stream.shape[1])


def scaling_targets(stream: Stream, standard: Standard) -> Stream:
    """Return the rows with standardised targets."""
    assert isinstance(stream.form, Checks)
    return stream.with_form(replace(stream.form, target_standard=standard))


def target_standard(stream: Stream) -> Standard:
    """Return means and scales of the targets of a regression, in one pass."""
    assert isinstance(stream.form, Checks)
    form = replace(stream.form, class_weight=None, smoothing=0.0)
    columns = form.net.n_targets
    ordered = Stream(
        *(stream.source, stream.parts, form, stream.dtype, stream.shape[1], block_rows(columns))
    )
    return _standard((data.y for data in _taken(ordered)), columns)


def _taken(stream: Stream) -> Iterator[Data]:
    reader = stream.read()
    try:
        reader.start()
        while (data := reader.take()) is not None:
            yield data
    finally:
        reader.close()


def _standard(windows: Iterator[Any], columns: int) -> Standard:
    """Return means and scales of windows of whole blocks, except the last."""
    step, moments = block_rows(columns), None
    for rows in windows:
        moments = moments or Moments(rows[:1], np.ones(columns))
        with np.errstate(all="ignore"):
            for start in range(0, len(rows), step):
                moments.add(rows[start : start + step])
    assert moments is not None
    return standard_of(moments)
