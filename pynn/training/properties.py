"""``ModelProperties``: the properties of ``Network`` that show its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import features, targets
from ..checks.columns import as_columns
from ..checks.targets import Task
from ..spec import arguments
from ..spec.architecture import Architecture
from .history import History
from .model import MOST_EPOCHS, MOST_UPDATES, Model

if TYPE_CHECKING:
    from ..data.table import Table

Array = np.ndarray


class ModelProperties:
    """Base class of an object that trains and evaluates the model ``_model``."""

    _model: Model

    @property
    def architecture(self) -> Architecture:
        return self._model.architecture

    @property
    def seed(self) -> int:
        return self._model.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._model.assign("seed", arguments.whole(seed, "seed", 0, 2**64 - 1))

    @property
    def history(self) -> History:
        return self._model.history

    @history.setter
    def history(self, history: History) -> None:
        if not isinstance(history, History):
            raise TypeError(f"history: found a {type(history).__name__}, expected a pynn.History")
        self._model.assign("history", history)

    @property
    def epochs(self) -> int:
        return self._model.epochs

    @epochs.setter
    def epochs(self, epochs: int) -> None:
        self._model.assign("epochs", arguments.whole(epochs, "epochs", 0, MOST_EPOCHS))

    @property
    def updates(self) -> int:
        return self._model.updates

    @updates.setter
    def updates(self, updates: int) -> None:
        updates = arguments.whole(updates, "updates", 0, MOST_UPDATES)
        # The optimizer continues with the number of steps that its state has had.
        model = self._model
        steps = model.updates - model.optimizer_began
        averaged = model.updates - model.average_began
        began = {"optimizer_began": updates - steps, "average_began": updates - averaged}
        model.assign("updates", updates, **began)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.architecture.sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.architecture.dtype)

    @property
    def precision(self) -> str:
        """Format of the factors in matrix products: ``"full"``, the dtype, or ``"bf16"``."""
        return self.architecture.precision

    @property
    def parameters(self) -> Array:
        """All weights and biases as one flat vector: weights row by row, then biases, by layer.

        Setting it copies the values in. While ``fit`` runs it is read-only and holds the values
        after the last whole epoch, or before the first; ``predict``, ``evaluate`` and ``save``
        from another thread, or in the child of a fork, use these values. (With the numpy backend
        they can be from the middle of an epoch or of an update.)
        """
        return self._model.parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        self._model.set_parameters(values)

    @property
    def average(self) -> Array | None:
        """The moving average of `parameters` (``fit(ema=…)``), which predictions use; else None.

        With batch norms the averages of their running statistics follow.

        A read-only view. Setting it copies the values in; None removes it: predictions then use
        `parameters`. Setting `parameters`, `weights`, `biases`, `scales`, `shifts` or `statistics`
        removes it too, and so does a ``fit`` without ``ema`` at its first update. While there is an
        average these are read-only, since the average would not change with them.
        """
        average = self._model.average
        if average is None:
            return None
        view = average.view()
        view.flags.writeable = False
        return view

    @average.setter
    def average(self, values: Any) -> None:
        self._model.set_average(values)

    @property
    def pixels(self) -> bool | str | None:
        return self._model.pixels

    @pixels.setter
    def pixels(self, pixels: bool | str) -> None:
        self._model.pixels = features.as_pixels(pixels)

    @property
    def input_mean(self) -> Array | None:
        """Mean of each input (n_in,), float64; None without ``standardize`` or before ``fit``."""
        standard = self._model.input_standard
        return None if standard is None else standard.mean

    @property
    def input_scale(self) -> Array | None:
        """Scale of each input (n_in,), float64; None without ``standardize`` or before ``fit``."""
        standard = self._model.input_standard
        return None if standard is None else standard.scale

    @property
    def target_mean(self) -> Array | None:
        """Mean of each target (n_targets,), float64; None as for `input_mean`."""
        standard = self._model.target_standard
        return None if standard is None else standard.mean

    @property
    def target_scale(self) -> Array | None:
        """Scale of each target (n_targets,), float64; None as for `input_mean`."""
        standard = self._model.target_standard
        return None if standard is None else standard.scale

    @property
    def weights(self) -> tuple[Array, ...]:
        """The weights of each layer, (n_in, n_out), as views of `parameters`.

        Setting them copies the values in. For frameworks that store (n_out, n_in), such as
        PyTorch, assign the transpose:
        ``net.weights = [layer.weight.detach().numpy().T for layer in layers]``.
        """
        return self._model.weights

    @weights.setter
    def weights(self, values: Any) -> None:
        self._model.set_layers(values, "weights")

    @property
    def biases(self) -> tuple[Array, ...]:
        """The biases of each layer, (n_out,), as views of `parameters`; setting copies them in."""
        return self._model.biases

    @biases.setter
    def biases(self, values: Any) -> None:
        self._model.set_layers(values, "biases")

    @property
    def scales(self) -> tuple[Array | None, ...]:
        """The scale of each layer's normalisation, (n_out,), as views of `parameters`, or None
        where it has none; setting copies them in.
        """
        return self._model.scales

    @scales.setter
    def scales(self, values: Any) -> None:
        self._model.set_layers(values, "scales")

    @property
    def shifts(self) -> tuple[Array | None, ...]:
        """The shift of each layer's normalisation, (n_out,), as `scales`; an rms norm has none."""
        return self._model.shifts

    @shifts.setter
    def shifts(self, values: Any) -> None:
        self._model.set_layers(values, "shifts")

    @property
    def running_means(self) -> tuple[Array | None, ...]:
        """The running mean of each layer's batch norm, (n_out,), or None where it has none, as
        views of `statistics`.
        """
        return self._model.running_means

    @property
    def running_variances(self) -> tuple[Array | None, ...]:
        """The running variance of each layer's batch norm, as `running_means`."""
        return self._model.running_variances

    @property
    def statistics(self) -> Array:
        """Running means and variances of all batch norms as one flat vector: the mean, then the
        variance, by layer; empty without batch norms. Setting it copies the values in; variances
        must not be negative.
        """
        return self._model.statistics

    @statistics.setter
    def statistics(self, values: Any) -> None:
        self._model.set_statistics(values)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the columns of the first training, if its x was a data frame; else None.

        Data frames with other names, or in another order, are refused then. Assign None, or a list
        of names, to change that. Arrays have no names.
        """
        return self._model.columns

    @columns.setter
    def columns(self, names: Any) -> None:
        self._model.columns = as_columns(names, self.architecture.n_in)

    @property
    def table(self) -> Table | None:
        """How the columns of CSV files and data frames become inputs, a `pynn.data.Table`.

        Model files contain it. ``net.table.x(frame)`` returns the inputs of a file or data frame.
        """
        return self._model.table

    @table.setter
    def table(self, table: Table | None) -> None:
        from ..data.table import as_table

        self._model.table = as_table(table, self.architecture.n_in)

    @property
    def classes(self) -> Array | None:
        """The label of each output; for a single output, the labels of no and yes.

        They are the sorted labels in the y of the first ``fit``, or the labels assigned to this
        property, in any order. Before, they are 0, 1, 2, … . None for regression and multilabel
        targets.

        The first ``fit`` decides whether targets (n, n_out) of the losses binary_cross_entropy and
        mse are one-hot classes. Assign labels or None before it if its rows are only a part of the
        data, such as the first batch: None means independent targets even if they are one-hot.
        """
        return self._model.known_task.classes

    @classes.setter
    def classes(self, labels: Any) -> None:
        net = self.architecture
        if labels is None:
            self._model.task = targets.without_classes(net)
        else:
            self._model.task = Task("labels", targets.as_classes(labels, net))
