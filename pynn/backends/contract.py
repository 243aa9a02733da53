"""The contract between the rest of pynn and a backend.

An ``Engine`` computes for one architecture; its ``Trainer`` trains on one data set. A new setting
of training is a field of ``TrainerSettings`` (or ``ObjectiveSettings``, if it changes the loss or
its gradient) and code in the backends; no signature changes.

Arguments arrive checked. ``convention="sklearn"`` is defined in ``losses.py`` and in
``reference.weigh``, where ``"keras"`` is too. The Numba backend raises ValueError for sparse rows
and the convention of scikit-learn; custom
functions (``Architecture.functions``) need the Numba or the NumPy backend.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standard, Standardized
from ..spec.architecture import Architecture
from ..spec.groups import Groups
from ..spec.optimizers import Optimizer

Inputs = np.ndarray | Sparse | Standardized
"""Rows (n, n_in): an array of uint8, float32 or float64 in native byte order with any strides, or
sparse rows; or one of them with the means and scales of its columns (``arrays/standard.py``)."""


class Data(NamedTuple):
    """Rows to train on, or to evaluate.

    Parameters
    ----------
    x
        See ``Inputs``.
    y
        Labels (n,), int32 and contiguous, or targets (n, n_out), C-contiguous, in the network's
        dtype.
    sample_weight
        Weight of each row (n,), float64 of 0 or more, contiguous; None if all weigh 1. A row of
        weight 0 has no influence.
    missing
        Whether NaN in targets (n, n_out) are targets that are not known. The loss of a row is then
        the mean over its known targets; a row without one weighs 0. Not with labels, cross
        entropy, an output softmax or ``convention="sklearn"``.
    """

    x: Inputs
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    missing: bool = False


class Sums(NamedTuple):
    """Sums over rows, in ascending order of their places in the epoch or in the data set.

    Attributes
    ----------
    loss
        Σ weight · loss, without the L2 term.
    correct
        Σ weight · (1 for a row that is classified correctly, or the share of its known targets
        that are); NaN for regression.
    weight
        Σ weight, by which both are divided for means. It is the number of rows without weights.
    """

    loss: float
    correct: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """Settings of the function that training minimises.

    Parameters
    ----------
    l2
        Adds ½·l2·Σw² over the weights, not the biases.
    convention
        ``"pynn"``; ``"sklearn"`` for the sums and means of scikit-learn's networks; or ``"keras"``,
        which divides weighted losses by the number of rows instead of their weight: a trainer's
        sums are then those of rows, which count as correct without their weights, and a batch
        without weight makes an update with a gradient of 0.
    """

    l2: float = 0.0
    convention: str = "pynn"


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(ObjectiveSettings):
    """Settings of a trainer.

    Parameters
    ----------
    optimizer
        The update rule. Learning rates are an argument of ``Trainer.steps``.
    batch_size
        Rows per step; the last batch of an epoch may have fewer.
    seed
        Key of the permutations and of dropout, 64 bits.
    shuffle
        Whether each epoch permutes the rows.
    watch
        Whether to stop before the update of a batch whose loss is not finite.
    frozen
        Indices of the layers whose parameters and optimizer state stay as they are. The L2 term
        does not change them either. The backward pass ends at the first other layer.
    layer_rates
        A factor on the learning rate for each layer, or empty: 1 for all.
    groups
        For each layer a ``Group`` for each of its arrays, in the order weights, biases, scale,
        shift; or empty. Their ``decoupled`` replaces the optimizer's ``weight_decay``. Not with
        ``layer_rates`` or ``l2``.
    ema
        Decay of the moving average of the parameters (``updates.average``), which is the last
        vector of the state and is evaluated in place of the parameters; 0 for no average.
    ema_offset
        Updates that the optimizer state had seen when the average began.
    l1
        Adds l1·Σ|w| over the weights, not the biases: its subgradient is l1·sign(w), 0 at 0.
    clip_norm
        The gradient of all layers that are not frozen, with its L1 and L2 terms, is reduced to
        about this L2 norm before the update if it is longer; 0 for no limit.
    epochs
        Epochs in which the trainer will probably read all rows in random order, from which it
        decides whether preparing the rows pays. Results do not depend on it.
    max_norm
        After each update, the weights into each unit of layers that are not frozen are reduced to
        this L2 norm if theirs is larger; 0 for no limit.
    """

    optimizer: Optimizer
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    watch: bool = False
    frozen: tuple[int, ...] = ()
    layer_rates: tuple[float, ...] = ()
    groups: Groups = ()
    ema: float = 0.0
    ema_offset: int = 0
    l1: float = 0.0
    clip_norm: float = 0.0
    max_norm: float = 0.0
    epochs: int = 1

    def __post_init__(self) -> None:
        used = [name for name in ("l1", "clip_norm", "max_norm", "groups") if getattr(self, name)]
        if used and self.convention == "sklearn":
            raise ValueError(
                f"{used[0]}: found {getattr(self, used[0])!r} with the convention "
                f"{self.convention!r}, whose definition has no such setting; expected 0"
            )
        for name in ("layer_rates", "l2") if self.groups else ():
            if getattr(self, name):
                raise ValueError(
                    f"{name}: found {getattr(self, name)!r} with groups, which have rates and "
                    "decays of their own; expected none"
                )


@dataclass(frozen=True, kw_only=True)
class UpdateSettings:
    """Settings of one update with a gradient that is given.

    Parameters
    ----------
    optimizer
        The update rule.
    rate
        The learning rate.
    updates
        Updates that the optimizer state has seen before.
    frozen
        Indices of the layers whose parameters and optimizer state stay as they are.
    groups
        As in ``TrainerSettings``.
    """

    optimizer: Optimizer
    rate: float
    updates: int
    frozen: tuple[int, ...] = ()
    groups: Groups = ()


class Pass(NamedTuple):
    """How a tape's forward pass treats its rows.

    Parameters
    ----------
    training
        Whether there is dropout and noise, and batch norms use the statistics of the rows, towards
        which they move the running ones.
    seed, epoch, first_row
        Select the random numbers of dropout and noise. A trainer with this seed draws the same
        numbers in this epoch for the rows that begin at position ``first_row`` of its order.
    frozen
        Layers whose batch norms use running statistics, which stay as they are.
    """

    training: bool = False
    seed: int = 0
    epoch: int = 0
    first_row: int = 0
    frozen: tuple[int, ...] = ()


def lowest_trained(layers: int, frozen: Collection[int]) -> int:
    """Return the first of some layers that is not frozen, at which the backward pass ends."""
    return next((k for k in range(layers) if k not in frozen), layers - 1)


class Trainer(Protocol):
    """Trains parameters and optimizer state on one data set."""

    done: int
    """Updates made by the last call of ``steps``, whether it returned or was interrupted."""
    diverged: bool
    """Whether that call stopped at a loss that is not finite (with ``watch``)."""
    sums: Sums
    """Result of ``steps`` for the complete batches of an interrupted epoch. Set it in a new trainer
    to continue that epoch with ``first`` above 0."""

    stored_is_finite: bool
    """Whether the vectors last passed in or stored are known to be finite."""
    works_on_copies: bool
    """Whether only ``store`` changes the vectors that were passed in, rather than each update."""

    def steps(self, epoch: int, first: int, rates: np.ndarray, updates: int) -> Sums:
        """Train on batches ``first``, ``first + 1``, … of ``epoch``, one per learning rate.

        A batch without weight changes neither parameters nor state, but counts as a step (except
        with ``convention="keras"``).

        Parameters
        ----------
        epoch
            Number of the epoch from 0; selects the permutation and the dropout masks.
        first
            Index of the first batch in the epoch.
        rates
            One learning rate per batch (k,), float64.
        updates
            Updates that the optimizer state has seen before.

        Returns
        -------
        Sums
            Since batch 0 of the epoch, so that they do not depend on how an epoch is divided into
            calls. Each batch is evaluated before its update. With ``convention="sklearn"`` a batch
            adds its weighted mean loss, including the L2 term, times its number of rows, and rows
            count as correct without their weights.

        Raises
        ------
        KeyboardInterrupt
            Within a second of Ctrl-C, between two updates; ``store`` then writes the parameters
            after the last complete update.
        """
        ...

    def order(self, rows: np.ndarray) -> None:
        """Use this order of the rows (n,), int64, from the next epoch on, instead of shuffling."""
        ...

    def evaluate(
        self,
        x: Inputs,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        missing: bool = False,
    ) -> Sums:
        """Return the sums of ``Data`` for the current parameters, or their average, without
        dropout and noise.
        """
        ...

    def would_store_finite(self) -> bool:
        """Return whether the vectors that ``store`` would write are known to be finite."""
        ...

    def store(self) -> None:
        """Write parameters and state to the vectors that were passed in."""
        ...


class Tape(Protocol):
    """One batch on its way through the passes, for custom training steps.

    ``forward`` comes first, and again with other rows, for which the tape keeps its memory. The
    other methods use its result and can be called in any order and several times, except that
    ``gradient`` directly follows ``backward``. With the batch and the key of a trainer's step,
    ``loss``, ``backward``, ``gradient`` and ``Engine.update`` give its results bit by bit. All
    arrays that they return are new.
    """

    def forward(self, parameters: np.ndarray, x: Inputs, how: Pass) -> None:
        """Pass rows x (n, n_in) through all layers.

        ``parameters`` (n_values,) must not change until the last method was called;
        ``how.training`` changes their running statistics.
        """
        ...

    def inputs(self) -> np.ndarray:
        """Return the input of the first layer (n, n_in), with noise and dropout."""
        ...

    def logits(self) -> np.ndarray:
        """Return the outputs (n, n_out) before the output activation."""
        ...

    def outputs(self) -> np.ndarray:
        """Return the outputs (n, n_out)."""
        ...

    def loss(
        self, y: np.ndarray, sample_weight: np.ndarray | None = None, missing: bool = False
    ) -> tuple[float, np.ndarray]:
        """Return the weighted mean loss of the rows, as ``Data`` describes them, and its gradient
        with respect to the logits (n, n_out).
        """
        ...

    def output_gradient(self, d_outputs: np.ndarray) -> np.ndarray:
        """Return the gradient of the logits for one of the outputs, both (n, n_out)."""
        ...

    def backward(self, d_logits: np.ndarray, inputs: bool) -> np.ndarray | None:
        """Pass a gradient of the logits (n, n_out) back through all layers; return that of the rows
        as they were read (n, n_in), standardised or divided by 255, if it is wanted.
        """
        ...

    def gradient(self) -> np.ndarray:
        """Sum the gradient of the parameters (n_parameters,) over the rows."""
        ...


class WithoutFastAnswers:
    """What engines inherit that neither check values while they read them nor prepare for
    predictions; ``Engine`` documents the methods."""

    def forward_unchecked(
        self,
        parameters: np.ndarray,
        x: np.ndarray,
        pixels: bool | str | None,
        standard: Standard | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray | None:
        return None

    def evaluate_unchecked(
        self,
        parameters: np.ndarray,
        data: Data,
        pixels: bool | str | None,
        standard: Standard | None = None,
    ) -> Sums | None:
        return None

    def freeze(self, parameters: np.ndarray) -> None:
        pass

    def labels(self, out: np.ndarray) -> np.ndarray | None:
        return None


class Engine(Protocol):
    """One architecture on one backend.

    ``parameters`` are flat, in the network's dtype, and followed by the running statistics of batch
    norms: (n_values,). ``forward`` and ``evaluate`` use these statistics, an objective those of its
    rows; a trainer uses those of each batch, and updates the running ones with the parameters.
    """

    name: str

    @property
    def threads(self) -> int:
        """The maximum number of threads; the default can change between two calls."""
        ...

    def depends_on(self) -> dict[str, str]:
        """Return what results depend on besides the arguments, such as a library's version.

        Two engines whose ``name`` and ``depends_on()`` agree give identical results.
        """
        ...

    def forward(
        self, parameters: np.ndarray, x: Inputs, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the outputs (n, n_out), after the output activation.

        They are written to ``out`` (n, n_out) if it is given: C-contiguous, in the network's dtype.
        """
        ...

    def forward_unchecked(
        self,
        parameters: np.ndarray,
        x: np.ndarray,
        pixels: bool | str | None,
        standard: Standard | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Return the outputs of an array that was not checked, or None if it has to be.

        A backend that checks values while it reads them saves a pass over x. None means: x needs a
        conversion, a value is not finite or is no pixel, or the backend has no such checks. ``out``
        then holds anything.

        Parameters
        ----------
        parameters, out
            As for ``forward``.
        x
            Any array.
        pixels
            Whether the inputs are pixels: see ``checks.features.Pixels``.
        standard
            Means and scales of the inputs.
        """
        ...

    def freeze(self, parameters: np.ndarray) -> None:
        """Prepare for predictions with these parameters, which must not change any more: from now
        on only ``forward``, ``forward_unchecked`` and ``labels`` are called, with this vector.
        """
        ...

    def labels(self, out: np.ndarray) -> np.ndarray | None:
        """Return the index (n,) of the largest of each row's outputs (n, n_out), the first of equal
        ones; None if an output is not finite, or the backend does not compute them.
        """
        ...

    def evaluate(
        self,
        parameters: np.ndarray,
        x: Inputs,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        missing: bool = False,
    ) -> Sums:
        """Return the sums of ``Data``, without dropout."""
        ...

    def evaluate_unchecked(
        self,
        parameters: np.ndarray,
        data: Data,
        pixels: bool | str | None,
        standard: Standard | None = None,
    ) -> Sums | None:
        """Return the result of ``evaluate`` for an array x that was not checked, or None if it has
        to be, as ``forward_unchecked`` does. The other arrays have been checked.
        """
        ...

    def objective(
        self, data: Data, settings: ObjectiveSettings
    ) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """Return a function that maps flat parameters to the objective and its flat gradient.

        The objective is the weighted mean loss over the rows plus ½·l2·Σw², without dropout.
        """
        ...

    def trainer(
        self,
        parameters: np.ndarray,
        state: list[np.ndarray],
        data: Data,
        settings: TrainerSettings,
    ) -> Trainer:
        """Return a trainer.

        ``state`` holds the optimizer's slots, and with ``settings.ema`` the average after them,
        shaped like ``parameters``.
        """
        ...

    def tape(self) -> Tape:
        """Return a tape, which has no memory for rows yet."""
        ...

    def update(
        self,
        parameters: np.ndarray,
        state: list[np.ndarray],
        gradient: np.ndarray,
        settings: UpdateSettings,
    ) -> None:
        """Update parameters and optimizer state in place with a gradient (n_parameters,)."""
        ...


def why_numba(net: Architecture) -> str:
    """Return why "auto" may have chosen Numba, for errors, or an empty string."""
    return f" (chosen for {net.functions[0]!r}, a custom function)" if net.functions else ""
