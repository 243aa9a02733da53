"""Where and how often a training run is saved."""

from __future__ import annotations

import os
from pathlib import Path

from ..spec import arguments


class Checkpoint:
    """Where and how often ``fit`` writes down how far it is, so that it can be taken up again.

    Give it to ``fit`` with ``resume=True`` and a script that was killed, by whatever, is simply run
    again: it ends in the bits of a run that nobody broke off, also from the middle of an epoch.

    Parameters
    ----------
    path : str or path-like
        The file to write; its folder must exist. Each call of ``fit`` needs a file of its own.
    steps : int, optional
        Write whenever this many updates have been made, counted over the network's life.
    epochs : int, optional
        Write after this many epochs, counted likewise.
    seconds : float, optional
        Write after this many seconds since the last time; looked at about every 0.1 s.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or not exactly one of steps, epochs and seconds is given.

    Notes
    -----
    One more is written when training ends, and on Ctrl-C or SystemExit, but for those that come
    while a callback is at work or from one: nothing is lost then, and else the last one stands.

    The file is written beside its place, brought to the disk, and put there in one step, so it is
    whole whenever the process or the machine stops; one is enough, and the one before it is not
    kept. Where it cannot be written, say because the disk is full, training goes on after one
    warning, and tries again when the next is due. The file of a run that has not ended is not
    replaced by that of another: ``fit`` without ``resume`` raises ValueError then.

    Training waits while one is written: 6 ms for 784-256-128-10 with Adam (2.8 MB; on the virtual
    machine of the README, 2026-11-22).

    Kept are the parameters, the optimizer's state, epochs and updates, how far the epoch is, the
    history, and what callbacks say of themselves (``Callback.state``): EarlyStopping and Norms do;
    functions, and callbacks without ``state``, begin anew. Random numbers are counted by seed,
    epoch and row, and need nothing more.

    Kept for comparison are the settings of the network and of the call, the parameters it began
    with, and a fingerprint of the data: dtype, shape and SHA-256. All bytes of an array go into it
    up to 64 MiB; of a larger one 65,536 rows spread evenly over it (fewer if they have more than
    64 MiB), or 256 if it is a memory-mapped file, so that 20 GB are not read. That takes 27 ms for
    MNIST. A schedule that is a function is compared by its values at the first hundred epochs.

    Threads, ``progress``, callbacks without a state, and how often to write may change from one run
    to the next. So may ``epochs``, if the schedule does not run over all of them as cosine and
    one_cycle do. A network with ``seed=None`` draws another seed in the next process: such a run
    cannot be resumed there.

    Examples
    --------
    >>> kept = Checkpoint("run.ckpt", seconds=60)
    >>> net.fit(x, y, epochs=100, checkpoint=kept, resume=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        steps: int | None = None,
        epochs: int | None = None,
        seconds: float | None = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path: found {path!r}, expected the path of a file")
        every = {"steps": steps, "epochs": epochs, "seconds": seconds}
        given = [name for name, value in every.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"Checkpoint: found {' and '.join(given) or 'neither'}, expected one of steps, "
                "epochs and seconds"
            )
        # The working directory may change while training goes on.
        self.path = Path(os.path.abspath(path))
        self.steps = None if steps is None else arguments.whole(steps, "steps", 1)
        self.epochs = None if epochs is None else arguments.whole(epochs, "epochs", 1)
        self.seconds = None if seconds is None else arguments.number(seconds, "seconds", above=0)

    def __repr__(self) -> str:
        every = {"steps": self.steps, "epochs": self.epochs, "seconds": self.seconds}
        name, value = next((n, v) for n, v in every.items() if v is not None)
        return f"Checkpoint({str(self.path)!r}, {name}={value!r})"
