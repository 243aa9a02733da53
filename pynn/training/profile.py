"""Times of the phases of training steps, per layer, measured by the compiled core."""

from __future__ import annotations

import itertools
import threading
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from ..backends.contract import Trainer
    from ..spec.architecture import Architecture


PRODUCTS = "forward", "backward", "gradient"
"""The phases that compute matrix products."""
CORES = 2, 4, 8, 16, 32, 64
"""Numbers of cores for which the table shows a prediction."""
PASSING = 0.086e-9
"""Seconds in which a byte moves from the core that updated it to another one: measured on a Xeon,
see docs/benchmarks/performance.md."""
MEETING = 240e-9
"""Seconds of a barrier of two threads on the same processor."""


class Profiled(Protocol):
    """The members of a model that a profile uses."""

    architecture: Architecture
    profile: Profile | None
    """The last profile that was entered."""

    @property
    def active_profile(self) -> Profile | None: ...


class Run(NamedTuple):
    """Times of one trainer. ``seconds`` (threads, layers, phases) is filled by the core."""

    seconds: np.ndarray
    steps: int = 0
    rows: int = 0
    wall: float = 0.0


class Profile:
    """Seconds of each phase of a training step, for each layer; returned by ``Network.profile``.

    ``print`` shows a table. The times of all threads are added, including the time that a thread
    waits for the others; the sum of all phases is the time of the loop times the number of threads.

    =============  =================================================================================
    phase          contents
    =============  =================================================================================
    ``read``       gather rows of x and convert them to floats; in a sparse first layer, ``forward``
                   includes finding the non-zero elements
    ``forward``    h · w + b, activation, dropout
    ``loss``       losses of the rows, and ∂loss/∂z of the last layer
    ``backward``   dz · wᵀ, times f'(z) of the layer below
    ``gradient``   hᵀ · dz, and in some cases the update (plain SGD; Adam where zeros are skipped)
    ``update``     the optimizer, and the gradient of the biases
    ``transpose``  copy of the weights for the next ``backward``
    ``wait``       waiting for other threads
    =============  =================================================================================

    Attributes
    ----------
    phases : tuple of str
        Names of the phases.
    steps, rows : int
        Updates that were measured, and their rows.
    wall : float
        Seconds of the loop over batches, without callbacks and validation.
    """

    phases: tuple[str, ...] = ()

    def __init__(self, model: Profiled) -> None:
        self._model = model
        self._runs: list[Run] = []
        self._active = threading.Lock()

    def __enter__(self) -> Profile:
        if self._model.active_profile is not None:
            raise RuntimeError(
                "profile: found another active profile of this network, expected none"
            )
        self._model.profile = self
        try:
            self._active.acquire()
            return self
        except BaseException:  # an interrupt, perhaps after the call
            if self._active.locked():
                self._active.release()
            raise

    # The interpreter handles no signal before a call of compiled code: an interrupt cannot leave
    # the profile active. In Python code it could.
    __exit__ = property(attrgetter("_active.__exit__"))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_active"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles written before Model existed hold the network.
        if "_net" in state:
            state = {**state, "_model": state["_net"]._model}
            del state["_net"]
        self.__dict__.update(state)
        self._active = threading.Lock()

    @property
    def is_active(self) -> bool:
        """Whether the ``with`` block of the profile runs."""
        return self._active.locked()

    def _watch(self, trainer: Trainer) -> None:
        """Let a new trainer measure times."""
        self.phases, seconds = trainer.profile()  # type: ignore[attr-defined]
        self._runs.append(Run(seconds))

    def _add(self, steps: int, rows: int, wall: float) -> None:
        run = self._runs[-1]
        self._runs[-1] = run._replace(
            steps=run.steps + steps, rows=run.rows + rows, wall=run.wall + wall
        )

    @property
    def steps(self) -> int:
        return sum(run.steps for run in self._runs)

    @property
    def rows(self) -> int:
        return sum(run.rows for run in self._runs)

    @property
    def wall(self) -> float:
        return sum(run.wall for run in self._runs)

    @property
    def seconds(self) -> np.ndarray:
        """Seconds (layers, phases) of all threads together, float64."""
        shape = self._model.architecture.n_layers, len(self.phases)
        return sum((run.seconds.sum(axis=0) for run in self._runs), np.zeros(shape))

    def gflops(self) -> dict[str, np.ndarray]:
        """Return GFLOP/s per core for each matrix product, by phase: one value per layer.

        A multiplication and an addition count as two operations, also for zeros that were skipped.
        NaN for a product that is not computed: ``backward`` of the first layer.
        """
        sizes, found = self._model.architecture.sizes, {}
        work = np.array([2.0 * m * n for m, n in itertools.pairwise(sizes)]) * self.rows
        for phase in PRODUCTS:
            seconds = self.seconds[:, self.phases.index(phase)] if self.phases else 0 * work
            rate = np.full(len(work), np.nan)
            found[phase] = np.divide(work / 1e9, seconds, out=rate, where=seconds > 0)
        return found

    def speedup(self, cores: int, batch_size: int | None = None) -> float:
        """Return how many times as fast a step is likely to be on some cores as on one.

        A step takes its time on one core, without waiting, divided by the cores; plus the time in
        which the updated weights move to the other cores, twice as long for float64 as for float32;
        plus two barriers. The last two are
        constants of one processor, so this is an estimate: it was within 17 % in five of eight
        cases on two cores, and does not apply where pynn uses one thread because a step has too
        little work. Larger batches have more work for the same weights, so more cores pay.

        Parameters
        ----------
        cores
            1 or more.
        batch_size
            Rows of a step; None for those of the steps that were measured. The time on one core
            is taken in proportion.

        Raises
        ------
        ValueError
            If no step was measured, or a number is below 1.
        """
        rows = self.rows / self.steps if batch_size is None and self.steps else batch_size or 0
        if not self.steps or rows < 1 or cores < 1:
            raise ValueError(
                f"speedup: found {self.steps} measured steps, cores={cores} and "
                f"batch_size={batch_size}, expected 1 or more"
            )
        busy = float(self.seconds.sum())
        if "wait" in self.phases:
            busy -= float(self.seconds[:, self.phases.index("wait")].sum())
        alone = busy / self.rows * rows
        if cores == 1:
            return 1.0
        net = self._model.architecture
        of_parameter = 2 * np.dtype(net.dtype).itemsize * PASSING  # a weight and its transpose
        moved = of_parameter * net.n_parameters * (cores - 1) / cores
        return alone / (alone / cores + moved + MEETING * cores)

    def __str__(self) -> str:
        if not self.steps:
            return "profile of no step: with net.profile() as profile: net.fit(…)"
        seconds, sizes = self.seconds, self._model.architecture.sizes
        total, width = seconds.sum(), max(9, *(len(phase) for phase in self.phases))
        each = seconds / self.steps * 1e6

        def line(name: str, cells: list[str]) -> str:
            return f"{name:<12}" + "".join(f"{cell:>{width + 1}}" for cell in cells)

        lines = [
            f"{self.steps:,} steps of {self.rows / self.steps:,.0f} rows in {self.wall:.3g} s, "
            f"{self.wall / self.steps * 1e6:,.3g} µs each; µs a step, of all threads together",
            line("layer", [*self.phases, "sum"]),
        ]
        for k, row in enumerate(each):
            name = f"{sizes[k]}-{sizes[k + 1]}"
            lines.append(line(name, [*(f"{v:.2f}" if v else "" for v in row), f"{row.sum():.2f}"]))
        sums = [*each.sum(axis=0), each.sum()]
        lines.append(line("sum", [f"{v:.2f}" for v in sums]))
        lines.append(line("share", [f"{v * self.steps / 1e6 / total:.1%}" for v in sums]))
        rates = self.gflops()
        for k in range(len(each)):
            cells = [
                f"{rates[phase][k]:.1f}" if phase in rates and rates[phase][k] > 0 else ""
                for phase in self.phases
            ]
            lines.append(line(f"GFLOP/s {k + 1}", cells))
        rows = self.rows / self.steps
        for size in (rows, 4 * rows, 16 * rows):
            gains = ", ".join(
                f"{self.speedup(cores, round(size)):.1f} on {cores}" for cores in CORES
            )
            lines.append(f"estimated speed-up of batches of {size:,.0f} rows: {gains} cores")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Profile of {self.steps} steps of {self._model.architecture.sizes}>"
