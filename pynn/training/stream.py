"""Training and predicting on rows that do not fit into memory.

A ``Stream`` takes the place of x in ``Data``. It reads its source in windows: arrays of whole
batches, of which a thread fills the next while the present one is in use. ``StreamEngine`` hides
windows behind the contract of the backends, whose trainers each train on one window, so that
nothing else depends on where rows come from.

Parts of the source are read in a random order, and the backend shuffles the rows within a window
under a number of its own instead of the epoch's. Both are functions of the seed and the epoch, and
a run can be resumed at any step: reading begins at the window of the step.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

from ..arrays.standard import Standard, Standardized
from ..arrays.vectors import aligned, finite
from ..backends.contract import (
    Data,
    Engine,
    Inputs,
    Sums,
    Tape,
    Trainer,
    TrainerSettings,
    UpdateSettings,
    WithoutFastAnswers,
)
from ..checks.standardised import require_held
from ..data.stream import Chunk, Source
from ..spec import philox

Array = np.ndarray
Item = TypeVar("Item")

POLL = 0.1
"""Seconds between two checks for Ctrl-C while the reading thread is waited for."""
NOTHING = Sums(0.0, 0.0, 0.0)


class Reader:
    """A thread that computes the next item of an iterator while the last one is in use.

    Parameters
    ----------
    iterate : function
        Called in the thread with a function that returns whether to stop; returns the iterator.
    """

    def __init__(self, iterate: Callable[[Callable[[], bool]], Iterator[Any]]) -> None:
        self._stopped = threading.Event()
        self._free = threading.Semaphore(1)
        self._items: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        # The thread has no reference to the reader, so that it ends with it.
        shared = iterate, self._stopped, self._free, self._items
        self._thread = threading.Thread(target=_give, args=shared, name="pynn reader", daemon=True)

    def start(self) -> Reader:
        """Start the thread, after somebody who will close this reader knows it."""
        self._thread.start()
        return self

    def __del__(self) -> None:
        self._stopped.set()
        self._free.release()

    def take(self) -> Any:
        """Return the next item, None after the last one; raise the exception of the iterator."""
        while True:
            try:
                item, error = self._items.get(timeout=POLL)
                break
            except queue.Empty:  # back to the interpreter, which handles signals
                pass
        if error is not None:
            raise error
        self._free.release()
        return item

    def close(self) -> None:
        """End the thread, which may first have to complete a read."""
        self._stopped.set()
        self._free.release()
        if self._thread.ident is not None:
            self._thread.join(timeout=0.5)


def _give(
    iterate: Callable[[Callable[[], bool]], Iterator[Any]],
    stopped: threading.Event,
    free: threading.Semaphore,
    given: queue.SimpleQueue[tuple[Any, BaseException | None]],
) -> None:
    """Run in the thread of a reader."""
    try:
        items = iterate(stopped.is_set)
        free.acquire()
        while not stopped.is_set():
            item = next(items, None)
            given.put((item, None))
            if item is None:
                return
            del item  # no reference may keep the memory of a window
            free.acquire()
    except BaseException as error:
        given.put((None, error))


class Form(Protocol):
    """How chunks of a source become arrays of the backends."""

    def convert(self, chunk: Chunk) -> Data:
        """Return checked rows; without targets y is empty."""
        ...


class Stream:
    """Rows of a source in windows; it takes the place of x in ``Data``.

    Parameters
    ----------
    source : Source
        Where the rows are.
    parts : list of int
        The rows of each part.
    form : Form
        How they are checked and converted.
    dtype : dtype
        Of x in the windows.
    n_in : int
        Number of inputs.
    batch : int
        Rows per batch; windows have whole batches.
    seed : int
        Key of the order of the parts.
    shuffle : bool
        Whether parts are read in a random order.
    """

    def __init__(
        self,
        source: Source,
        parts: list[int],
        form: Form,
        dtype: np.dtype[Any],
        n_in: int,
        batch: int = 1,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        self.source, self.parts, self.form = source, parts, form
        self.dtype, self.shape = np.dtype(dtype), (sum(parts), n_in)
        fitting = source.buffer_bytes // (n_in * self.dtype.itemsize)
        self.batch = batch
        self.window = max(1, fitting // batch) * batch
        self._seed, self._shuffle = seed, shuffle

    def __len__(self) -> int:
        return self.shape[0]

    def with_form(self, form: Form) -> Stream:
        """Return the same rows in another form."""
        found = copy.copy(self)
        found.form = form
        return found

    def fingerprint(self) -> dict[str, str]:
        """Return what recognises the rows and the order in which they are read."""
        found = self.source.fingerprint()
        about = f"{found['rows']}, {self.shape} in windows of {self.window}"
        return {"rows": about, "sha256": found["sha256"]}

    def read(self, epoch: int = 0, first: int = 0) -> Reader:
        """Return a reader, not yet started, of the windows of an epoch from ``first`` on."""
        return Reader(lambda stopped: self.windows(epoch, first, stopped))

    def windows(
        self, epoch: int = 0, first: int = 0, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Data]:
        """Read the windows of an epoch from window ``first`` on."""
        skip = first * self.window
        left = len(self) - skip
        filling: _Window | None = None
        last: Data | None = None  # given after the end of the source, which may have more rows
        for chunk in self._chunks(epoch, skip):
            if stopped():
                return
            piece, start = self.form.convert(chunk), 0
            while start < len(piece.x):
                if filling is None:
                    filling = _Window(min(self.window, left), self.shape[1], self.dtype)
                start = filling.add(piece, start)
                if filling.is_full:
                    left -= len(filling.x)
                    data, filling = filling.data(), None
                    if left:
                        yield data
                    else:
                        last = data
                    del data
        if last is not None:
            yield last

    def _chunks(self, epoch: int, skip: int) -> Iterator[Chunk]:
        """Read the parts in the order of an epoch, without the first ``skip`` rows."""
        order = list(range(len(self.parts)))
        if self._shuffle:
            word = philox.words(self._seed, len(self.parts), epoch, philox.BLOCKS)
            order = np.argsort(word, kind="stable").tolist()
        for part, following in zip(order, [*order[1:], None], strict=True):
            rows = self.parts[part]
            if skip >= rows:
                skip -= rows
                continue
            if following is not None:
                self.source.fetch(following)
            found = 0
            for chunk in self.source.read(part):
                m = length(chunk)
                found += m
                if found > rows:
                    break
                if skip >= m:
                    skip -= m
                    continue
                yield cut(chunk, skip) if skip else chunk
                skip = 0
            if found != rows:
                more = "more than " if found > rows else ""
                raise ValueError(
                    f"x: found {more}{min(found, rows)} rows in part {part} (counted from 0), "
                    f"expected {rows} as in the first pass: every pass must give the same number "
                    "of rows"
                )


def length(chunk: Chunk) -> int:
    """Return the number of rows of a chunk."""
    return len(next(field for field in chunk[:3] if field is not None))


def cut(chunk: Chunk, skip: int) -> Chunk:
    """Return a chunk without its first rows."""
    x, y, weight = (
        None if f is None else f.iloc[skip:] if hasattr(f, "iloc") else f[skip:] for f in chunk[:3]
    )
    return chunk._replace(x=x, y=y, weight=weight, first=chunk.first + skip)


class _Window:
    """Arrays that pieces are copied to."""

    def __init__(self, rows: int, n_in: int, dtype: np.dtype[Any]) -> None:
        self.x = np.empty((rows, n_in), dtype)
        self._y: Array | None = None
        self._weight: Array | None = None
        self._missing = False
        self._filled = 0

    @property
    def is_full(self) -> bool:
        return self._filled == len(self.x)

    def add(self, piece: Data, start: int) -> int:
        """Copy rows of a piece from ``start`` on; return the first that does not fit."""
        assert isinstance(piece.x, np.ndarray)
        count = min(len(self.x) - self._filled, len(piece.x) - start)
        here, there = slice(self._filled, self._filled + count), slice(start, start + count)
        self.x[here] = piece.x[there]
        if len(piece.y):
            if self._y is None:
                self._y = np.empty((len(self.x), *piece.y.shape[1:]), piece.y.dtype)
            self._y[here] = piece.y[there]
        if piece.sample_weight is not None or self._weight is not None:
            if self._weight is None:
                self._weight = np.ones(len(self.x))
            self._weight[here] = 1 if piece.sample_weight is None else piece.sample_weight[there]
        self._missing |= piece.missing
        self._filled += count
        return start + count

    def data(self) -> Data:
        y = np.empty(0) if self._y is None else self._y
        return Data(self.x, y, self._weight, self._missing)


# --- The contract of the backends -----------------------------------------------------------------


def stream_of(x: Any) -> tuple[Stream | None, Standard | None]:
    """Return the stream that takes the place of x, if it does, and the means and scales of x."""
    rows, standard = (x.rows, x.standard) if isinstance(x, Standardized) else (x, None)
    return (rows, standard) if isinstance(rows, Stream) else (None, None)


def engine_for(engine: Engine, *inputs: Any) -> Engine:
    """Return an engine that computes with all of these inputs, of which some may be streams."""
    return StreamEngine(engine) if any(stream_of(x)[0] is not None for x in inputs) else engine


def _standardized(x: Inputs, standard: Standard | None) -> Inputs:
    if standard is None:
        return x
    assert not isinstance(x, Standardized)
    return Standardized(x, standard)


def _held(x: Inputs, standard: Standard | None, parameters: Array, first: int) -> Inputs:
    """Return a window as it is read, whose numbers the dtype of the parameters can hold."""
    if standard is not None:
        assert not isinstance(x, Standardized)
        require_held(x, standard, parameters.dtype.name, first=first)
    return _standardized(x, standard)


class StreamEngine(WithoutFastAnswers):
    """An engine that accepts streams in the place of x."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name = engine, engine.name
        self._readers: list[Reader] = []

    @property
    def threads(self) -> int:
        """Those of the backend."""
        return self._engine.threads

    def depends_on(self) -> dict[str, str]:
        """Return what the backend returns."""
        return self._engine.depends_on()

    def close(self) -> None:
        """End all threads that read."""
        while self._readers:
            self._readers[-1].close()
            self._readers.pop()

    def open(self, stream: Stream, epoch: int = 0, first: int = 0) -> Reader:
        """Return a reader that ``close`` ends."""
        reader = stream.read(epoch, first)
        self._readers.append(reader)
        return reader.start()

    def end(self, reader: Reader) -> None:
        """Close one reader."""
        reader.close()
        if reader in self._readers:
            self._readers.remove(reader)

    def _windows(self, stream: Stream) -> Iterator[tuple[int, Data]]:
        """Return the windows in the order of the rows, each with the number of its first row."""
        reader, first = self.open(stream), 0
        try:
            while (data := reader.take()) is not None:
                yield first, data
                first += len(data.x)
        finally:
            self.end(reader)

    def forward(self, parameters: Array, x: Any, out: Array | None = None) -> Array:
        """Return the outputs (n, n_out)."""
        stream, standard = stream_of(x)
        if stream is None:
            return self._engine.forward(parameters, x, out)
        found = [
            self._engine.forward(parameters, _held(data.x, standard, parameters, first))
            for first, data in self._windows(stream)
        ]
        return np.concatenate(found, out=out)

    def freeze(self, parameters: Array) -> None:
        self._engine.freeze(parameters)

    def labels(self, out: Array) -> Array | None:
        return self._engine.labels(out)

    def evaluate(
        self,
        parameters: Array,
        x: Any,
        y: Array,
        sample_weight: Array | None = None,
        missing: bool = False,
    ) -> Sums:
        """Return the sums of ``Data``; targets and weights of all rows are in memory."""
        stream, standard = stream_of(x)
        if stream is None:
            return self._engine.evaluate(parameters, x, y, sample_weight, missing)
        total = NOTHING
        for first, data in self._windows(stream):
            rows = slice(first, first + len(data.x))
            weight = None if sample_weight is None else sample_weight[rows]
            inputs = _held(data.x, standard, parameters, first)
            total = add(total, self._engine.evaluate(parameters, inputs, y[rows], weight, missing))
        return total

    def objective(self, data: Data, settings: Any) -> Any:
        """Return the backend's objective, of arrays."""
        return self._engine.objective(data, settings)

    def tape(self) -> Tape:
        """Return the backend's tape, of arrays."""
        return self._engine.tape()

    def update(
        self, parameters: Array, state: list[Array], gradient: Array, settings: UpdateSettings
    ) -> None:
        """Update as the backend does."""
        self._engine.update(parameters, state, gradient, settings)

    def trainer(
        self, parameters: Array, state: list[Array], data: Data, settings: TrainerSettings
    ) -> Any:
        """Return a trainer."""
        if stream_of(data.x)[0] is None:
            return self._engine.trainer(parameters, state, data, settings)
        self.close()  # of a trainer that this one replaces
        return StreamTrainer(self, self._engine, parameters, state, data, settings)


def add(a: Sums, b: Sums) -> Sums:
    """Return the sums over the rows of both."""
    return Sums(*(p + q for p, q in zip(a, b, strict=True)))


class StreamTrainer:
    """Trains on the windows of a stream, each with a trainer of the backend.

    The parameters move from trainer to trainer through vectors of its own, so that those passed in
    change only when ``store`` is called.
    """

    works_on_copies = True

    def __init__(
        self,
        owner: StreamEngine,
        engine: Engine,
        parameters: Array,
        state: list[Array],
        data: Data,
        settings: TrainerSettings,
    ) -> None:
        stream, self._standard = stream_of(data.x)
        assert stream is not None
        self._owner, self._engine, self._stream, self._settings = owner, engine, stream, settings
        self._given = [parameters, *state]
        self._own = [aligned(len(vector), vector.dtype) for vector in self._given]
        for own, given in zip(self._own, self._given, strict=True):
            np.copyto(own, given)
        self._per_window = stream.window // settings.batch_size
        self._windows = -(-len(stream) // stream.window)
        self._reader: Reader | None = None
        self._next = (-1, -1)  # the epoch and the window that the reader gives next
        self._inner: Trainer | None = None
        self._data: Data | None = None
        self._place = (-1, -1)  # those of the inner trainer
        self.stored_is_finite = False
        self._set(0, NOTHING)

    # --- Counters ---------------------------------------------------------------------------------
    # An interrupt can arrive between any two lines. ``_part`` changes in one assignment: steps and
    # sums before the present call of the inner trainer, and this trainer while it is called.

    def _set(self, done: int, sums: Sums, inner: Trainer | None = None) -> None:
        self._part = (done, sums, inner)

    @property
    def done(self) -> int:
        """Updates of the last call of ``steps``."""
        done, _, inner = self._part
        return done if inner is None else done + inner.done

    @done.setter
    def done(self, count: int) -> None:
        self._set(count, self.sums)

    @property
    def sums(self) -> Sums:
        """Sums of the complete batches of the epoch."""
        _, sums, inner = self._part
        return sums if inner is None else add(sums, inner.sums)

    @sums.setter
    def sums(self, given: Sums) -> None:
        self._set(self.done, given)

    @property
    def diverged(self) -> bool:
        """Whether the last call of ``steps`` stopped at a loss that is not finite."""
        return self._inner is not None and self._inner.diverged

    # --- Training ---------------------------------------------------------------------------------

    def steps(self, epoch: int, first: int, rates: Array, updates: int) -> Sums:
        """Train on some batches of an epoch, which may lie in several windows."""
        self._set(0, self.sums if first else NOTHING)
        while (done := self.done) < len(rates):
            window, place = divmod(first + done, self._per_window)
            inner = self._open(epoch, window)
            # The first batch of a window is a call of its own, which resets the sums of the inner
            # trainer; they continue those of the epoch after it, also if a run resumes there.
            last = place + len(rates) - done if place else 1
            chosen = rates[done : done + min(last, self._per_window) - place]
            before = self.sums
            inner.done = 0
            if place:
                inner.sums = before
            self._set(done, NOTHING if place else before, inner)
            inner.steps(self._number(epoch, window), place, chosen, updates + done)
            self._set(self.done, self.sums)
            if inner.diverged:
                break
        return self.sums

    def _number(self, epoch: int, window: int) -> int:
        """Return the number that stands for the epoch in random numbers of a window."""
        return (epoch * self._windows + window) & 0xFFFFFFFF

    def _open(self, epoch: int, window: int) -> Trainer:
        """Return the trainer of a window."""
        if self._inner is not None and self._place == (epoch, window):
            return self._inner
        if self._reader is None or self._next != (epoch, window):
            if self._reader is not None:
                self._owner.end(self._reader)
            self._reader = self._owner.open(self._stream, epoch, window)
        self._next = (-1, -1)  # an exception must not leave another number than the reader's
        if self._inner is not None:
            # The memory of a window is free before the next but one is filled.
            self._inner.store()
            self._inner = self._data = None
        data = self._reader.take()
        assert data is not None
        self._next = (epoch, window + 1)
        data = data._replace(x=_standardized(data.x, self._standard))
        inner = self._engine.trainer(self._own[0], self._own[1:], data, self._settings)
        self._inner, self._data, self._place = inner, data, (epoch, window)
        return inner

    def place(self, epoch: int, step: int) -> tuple[Data, int, int]:
        """Return the window of a step, and the epoch and the step that its trainer uses."""
        window, first = divmod(step, self._per_window)
        self._open(epoch, window)
        assert self._data is not None
        return self._data, self._number(epoch, window), first

    def order(self, rows: Array) -> None:
        """Raise, since a stream has an order of its own."""
        raise ValueError("order: found an order of the rows of a stream, expected none")

    def evaluate(
        self, x: Any, y: Array, sample_weight: Array | None = None, missing: bool = False
    ) -> Sums:
        """Return the sums of ``Data`` for the current parameters, or their average."""
        if self._inner is not None:
            self._inner.store()
        vector = self._own[-1] if self._settings.ema else self._own[0]
        return self._owner.evaluate(vector, x, y, sample_weight, missing)

    # --- Writing back -----------------------------------------------------------------------------

    def would_store_finite(self) -> bool:
        """Return whether the vectors that ``store`` would write are known to be finite."""
        if self._inner is None:
            return finite(*self._own)
        return self._inner.would_store_finite()

    def store(self) -> None:
        """Write parameters and state to the vectors that were passed in."""
        self.stored_is_finite = False
        if self._inner is not None:
            self._inner.store()
        for own, given in zip(self._own, self._given, strict=True):
            np.copyto(given, own)
        self.stored_is_finite = self._inner is not None and self._inner.stored_is_finite
