"""``Checkpoint``: where and how often ``fit`` writes a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from ..files.disk import as_path
from ..spec import arguments


class Checkpoint:
    """Where and how often ``fit`` writes a checkpoint, from which training can continue.

    Pass it to ``fit`` with ``resume=True``. Run a killed script again: it continues, also from the
    middle of an epoch, and ends with exactly the same weights as an uninterrupted run.

    Parameters
    ----------
    path : str or path-like
        The file to write; its folder must exist. Each call of ``fit`` needs its own file.
    steps : int, optional
        Write each time this many updates have been made, counted over the network's life.
    epochs : int, optional
        Write each time this many epochs have been trained, counted over the network's life.
    seconds : float, optional
        Write this many seconds after the last checkpoint; the clock is read about every 0.1 s.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or not exactly one of steps, epochs and seconds is given.

    Notes
    -----
    A final checkpoint is written at the end and on Ctrl-C or SystemExit, unless the interrupt
    arrives inside a callback; then the previous checkpoint remains.

    The file is written under a temporary name, flushed to disk, and renamed, so that it is complete
    whenever the process or the machine stops. Only the last checkpoint is kept. If it cannot be
    written, for example because the disk is full, training continues after one warning, and writes
    again when the next checkpoint is due. The file of an incomplete run is not overwritten by
    another run: ``fit`` without ``resume`` raises ValueError.

    Training waits while a checkpoint is written: 6 ms for 784-256-128-10 with Adam (2.8 MB; on the
    virtual machine of the README, 2026-11-22).

    A checkpoint stores the parameters, the optimizer state, the numbers of epochs and updates, the
    position in the epoch, the history, and the states of callbacks (``Callback.state``):
    EarlyStopping and Norms have one; functions, and callbacks without ``state``, start anew.
    Random numbers depend on seed, epoch and row only, and need no state.

    To compare a run with the call that resumes it, a checkpoint also stores the settings of the
    network and of the call, the initial parameters, and a fingerprint of the data: dtype, shape
    and SHA-256. The hash covers all bytes of an array of up to 64 MiB; of a larger array, 65,536
    evenly spaced rows (fewer if they exceed 64 MiB), or 256 rows of a memory-mapped file, so that
    20 GB are not read. It takes 27 ms for MNIST. A schedule that is a function is compared by its
    values at the first hundred epochs.

    Threads, ``progress``, callbacks without a state, and how often to write may differ between
    runs. So may ``epochs``, unless the schedule covers all of them, as cosine and one_cycle do. A
    network with ``seed=None`` draws another seed in the next process: its run cannot be resumed
    there.

    Examples
    --------
    >>> checkpoint = Checkpoint("run.ckpt", seconds=60)
    >>> net.fit(x, y, epochs=100, checkpoint=checkpoint, resume=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        steps: int | None = None,
        epochs: int | None = None,
        seconds: float | None = None,
    ) -> None:
        every = {"steps": steps, "epochs": epochs, "seconds": seconds}
        given = [name for name, value in every.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"Checkpoint: found {' and '.join(given) or 'no interval'}, expected one of steps, "
                f"epochs and seconds, as in Checkpoint({path!r}, seconds=60)"
            )
        # The working directory may change during training.
        self.path = Path(os.path.abspath(as_path(path)))
        self.steps = None if steps is None else arguments.whole(steps, "steps", 1)
        self.epochs = None if epochs is None else arguments.whole(epochs, "epochs", 1)
        self.seconds = None if seconds is None else arguments.number(seconds, "seconds", above=0)

    def __repr__(self) -> str:
        every = {"steps": self.steps, "epochs": self.epochs, "seconds": self.seconds}
        name, value = next((n, v) for n, v in every.items() if v is not None)
        return f"Checkpoint({str(self.path)!r}, {name}={value!r})"
