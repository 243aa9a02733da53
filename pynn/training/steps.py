"""``Steps``: the methods of ``Network`` for a user's own loss, training loop or physics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standardized
from ..arrays.vectors import cast, finite, finite_sum
from ..backends.contract import Pass, UpdateSettings
from ..checks.convert import as_numbers
from ..checks.targets import Task
from ..spec import arguments
from ..spec.optimizers import LBFGS, Optimizer, as_optimizer
from . import standardise
from .access import Access
from .tape import Tape, input_factor, require_decided

if TYPE_CHECKING:
    from ..backends.contract import Inputs

Array = np.ndarray

LossOf = Callable[[Array, Any], tuple[Any, Any]]
"""A loss of a user: from outputs (n, n_out) and y to the loss and its gradient (n, n_out)."""

ROWS = 1024
"""Rows whose gradients are computed at a time, which bounds the memory."""

KEYLESS_ROW = 2**31
"""First row of passes without a key: below 2³¹ rows, ``fit`` does not draw the same numbers."""


class Steps(Access):
    """Base class of ``Network``: forward and backward passes, and updates."""

    def forward(
        self,
        x: Any,
        training: bool = False,
        *,
        key: tuple[int, int] | None = None,
        tape: Tape | None = None,
    ) -> Tape:
        """Pass a batch through the network, and keep what the gradients need.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``. uint8 above 1 requires a network that knows whether its inputs are
            pixels: ``pixels=True`` or ``pixels=False``, or one that was trained. With
            ``standardize`` the network must have been trained.
        training : bool
            Whether there is dropout and noise, and batch norms use the statistics of the rows and
            move the running ones. Otherwise the pass computes what ``predict`` does, with
            ``parameters`` instead of ``average``.
        key : (epoch, first_row), optional
            Selects the random numbers of dropout and noise. ``fit`` draws the same numbers in this
            epoch, counted from 0, for the rows that begin at position ``first_row`` of its order.
            None takes other numbers in every call; the network counts these calls, also in files.
        tape : Tape, optional
            A tape of this network to use again, which saves allocating its memory if it had as many
            rows or more before.

        Returns
        -------
        Tape
            ``outputs``, ``logits``, ``loss`` and ``backward``. It holds a copy of the batch and of
            all activations.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network is in training.

        Examples
        --------
        A step with the loss Σ outputs², on the parameters and on the inputs:

        >>> import numpy as np
        >>> from pynn import Network
        >>> net = Network([4, 8, 1], loss="mse", activation="tanh", backend="numpy")
        >>> tape = net.forward(np.ones((2, 4)), training=True)
        >>> dx, gradient = tape.backward(2 * tape.outputs)
        >>> dx.shape, gradient.shape
        ((2, 4), (49,))
        >>> net.step(gradient, optimizer="sgd", learning_rate=0.1)
        """
        model = self._model
        model.require_idle("forward")
        if tape is not None and (not isinstance(tape, Tape) or tape._model is not model):
            found = "one of another network" if isinstance(tape, Tape) else repr(tape)
            raise ValueError(f"tape: found {found}, expected a tape of this network")
        rows = self._decided_features(x)
        how = Pass()
        if training:
            how = self._training_pass(rows, key)
        elif key is not None:
            raise ValueError(
                f"key: found {key!r} with training=False, which draws nothing; expected "
                "training=True"
            )
        if tape is None:
            tape = Tape(model, self._engine)
        tape._record(rows, how, input_factor(model, x, rows))
        if training and key is None:
            model.passes += 1
        return tape

    def _decided_features(self, x: Any) -> Inputs:
        # Arrays that need no conversion skip the checks of all others, which take as long as a
        # small step. The sum finds NaN and infinity; the other checks report them.
        model = self._model
        if (
            type(x) is np.ndarray
            and x.ndim == 2
            and x.dtype is model.dtype
            and x.shape[1] == self.architecture.n_in
            and not (model.pixels is True or model.standardize)
            and len(x) > 0
            and x.flags.aligned
            and finite_sum(x)
        ):
            return x
        rows = self._features(x)
        require_decided(self._model, x, rows)
        return rows

    def _training_pass(self, rows: Inputs, key: Any) -> Pass:
        model, net = self._model, self.architecture
        if net.norms and {*net.batch_layers} - {*model.frozen} and len(rows) < 2:
            raise ValueError("x: found 1 row, expected two or more, since batch norm is used")
        dense = rows.rows if isinstance(rows, Standardized) else rows
        if isinstance(dense, Sparse) and net.input_noise:
            raise ValueError(
                "x: found sparse rows for a network with input_noise, expected dense rows: noise "
                "makes every value different from 0"
            )
        if key is None:
            found = model.passes % 2**32, KEYLESS_ROW
            return Pass(True, model.seed, *found, model.frozen)
        if not isinstance(key, (tuple, list)) or len(key) != 2:
            raise ValueError(f"key: found {key!r}, expected (epoch, first_row) or None")
        return Pass(
            training=True,
            seed=model.seed,
            epoch=arguments.whole(key[0], "key: epoch", 0, 2**32 - 1),
            first_row=arguments.whole(key[1], "key: first_row", 0, 2**32 - len(rows)),
            frozen=model.frozen,
        )

    def step(
        self,
        gradient: Any,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 1e-3,
    ) -> None:
        """Update the parameters once with a gradient.

        The optimizer state belongs to the network, as in ``fit``: it is kept if the optimizer has
        equal settings, and saved. Frozen layers stay as they are. A moving average of the
        parameters is dropped.

        Parameters
        ----------
        gradient : array (n_parameters,)
            Of the loss, in the order of ``parameters``, such as that of ``Tape.backward``.
        optimizer : str or Optimizer
            As in ``fit``, except ``"lbfgs"``.
        learning_rate : float
            The step size, above 0.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, the gradient is not finite, or the network is in training.
        """
        model = self._model
        rule, rate = _rule(optimizer), arguments.number(learning_rate, "learning_rate", above=0)
        model.require_idle("step")
        if model.standardize or model.standardize_targets:
            standardise.require_standards(model)
        if len(model.frozen) == model.architecture.n_layers:
            raise ValueError(
                "step: found all layers frozen, expected at least one to train; see net.unfreeze"
            )
        self._update(_gradient(gradient, model.parameters), rule, rate)

    def _update(self, gradient: Array, optimizer: Optimizer, rate: float) -> None:
        model = self._model
        state = model.state_for(optimizer)
        kept = state is model.optimizer_state
        seen = model.updates - model.optimizer_began if kept else 0
        settings = UpdateSettings(optimizer=optimizer, rate=rate, updates=seen, frozen=model.frozen)
        self._engine.update(model.flat, state, gradient, settings)
        model.updated(optimizer, state)

    def train_on(
        self,
        batches: Iterable[Any],
        *,
        loss: LossOf | None = None,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 1e-3,
        training: bool = True,
    ) -> Array:
        """Train on batches with a user's own loss: forward, loss, backward and step for each.

        Parameters
        ----------
        batches : iterable of (x, y)
            For example a list, a generator, or a DataLoader of PyTorch. x is as in ``forward``.
        loss : function, optional
            ``loss(outputs, y)`` returns the loss of a batch, a number, and its gradient with
            respect to ``outputs`` (n, n_out). y is the y of the batch; tensors, data frames and
            series become NumPy arrays. None takes the network's own loss.
        optimizer, learning_rate
            As in ``step``.
        training : bool
            As in ``forward``.

        Returns
        -------
        ndarray (batches,), float64
            The loss of each batch before its update.

        Raises
        ------
        TypeError, ValueError
            If an argument or a batch does not fit, or a loss or gradient is not finite. The updates
            of the batches before it remain.
        """
        rule, rate = _rule(optimizer), arguments.number(learning_rate, "learning_rate", above=0)
        if loss is not None and not callable(loss):
            raise TypeError(f"loss: found {loss!r}, expected a function (outputs, y) or None")
        tape: Tape | None = None
        losses = []
        for number, batch in enumerate(batches):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batches: found {_kind(batch)} at {number}, expected (x, y)")
            x, y = batch
            tape = self.forward(x, training, tape=tape)
            if loss is None:
                value, d_logits = tape.loss(y)
                _, gradient = tape.backward(d_logits=d_logits, inputs=False)
            else:
                value, d_outputs = _loss_of(loss, tape.outputs, _as_array(y))
                _, gradient = tape.backward(d_outputs, inputs=False)
            if not np.isfinite(value):
                raise ValueError(
                    f"loss: found {value} in batch {number}, expected a finite number; a lower "
                    "learning_rate may help"
                )
            self.step(gradient, rule, rate)
            if number == 0:
                self._take_shape(y)
            losses.append(value)
        return np.array(losses, np.float64)

    def _take_shape(self, y: Any) -> None:
        """After the first step with targets (n, 1), predictions have that shape, as after fit."""
        model, net = self._model, self.architecture
        if model.task is None and net.regression and net.n_targets == 1 and np.ndim(y) == 2:
            model.task = Task("values")

    def input_gradient(self, x: Any, output: Any = None) -> Array:
        """Return the gradient of an output with respect to the inputs of each row.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.
        output : int or array (n,) of int, optional
            Index of the output, or one for each row; negative ones count from the last. None for a
            network with one output.

        Returns
        -------
        ndarray (n, n_in), in ``dtype``
            Of the output as ``predict_proba`` or ``predict`` computes it, after the output
            activation and in the unit of the targets; per unit of x as it was given.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from pynn import Network
        >>> net = Network([4, 8, 3], backend="numpy")
        >>> net.input_gradient(np.ones((2, 4)), output=1).shape
        (2, 4)
        """
        rows = self._features(x)
        chosen = output_indices(output, self.architecture.n_out, len(rows))
        found = np.empty((len(rows), self.architecture.n_in), self.dtype)
        for part, gradients in self._input_gradients(x, rows, chosen[None]):
            found[part] = gradients[0]
        return found

    def jacobian(self, x: Any) -> Array:
        """Return the gradients of all outputs with respect to the inputs of each row.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.

        Returns
        -------
        ndarray (n, n_out, n_in), in ``dtype``
            ``input_gradient`` of each output.

        Raises
        ------
        TypeError, ValueError
            If x does not fit.
        """
        net, rows = self.architecture, self._features(x)
        found = np.empty((len(rows), net.n_out, net.n_in), self.dtype)
        chosen = np.repeat(np.arange(net.n_out)[:, None], len(rows), axis=1)
        for part, gradients in self._input_gradients(x, rows, chosen):
            for k, gradient in enumerate(gradients):
                found[part, k] = gradient
        return found

    def _input_gradients(
        self, given: Any, rows: Inputs, chosen: Array
    ) -> Iterator[tuple[slice, list[Array]]]:
        """Yield blocks of rows with their gradients, one for each of the choices (k, n) of an
        output for each row.
        """
        model, unit = self._model, standardise.output_unit(self._model)
        scale = np.ones(self.architecture.n_out) if unit is None else unit[0]
        passes, factor = self._engine.tape(), input_factor(model, given, rows)
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            block = _part(rows, part)
            passes.forward(model.evaluated, block, Pass())
            gradients = []
            for outputs in chosen[:, part]:
                d_outputs = np.zeros((len(block), self.architecture.n_out), self.dtype)
                d_outputs[np.arange(len(block)), outputs] = scale[outputs]
                dx = passes.backward(passes.output_gradient(d_outputs), True)
                assert dx is not None
                gradients.append(dx if factor is None else dx * factor)
            yield part, gradients

    def polyak(self, other: Any, tau: float) -> None:
        """Move the parameters towards the parameters of another network, as for target networks.

        parameters ← (1 − tau) · parameters + tau · other.parameters (Lillicrap et al. 2016), and
        the same for running statistics. Optimizer state stays; a moving average is dropped.

        Parameters
        ----------
        other : Network
            A network with equal layers, activations and dtype.
        tau : float
            The share of the other network, from 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or this network is in training.
        """
        tau = arguments.number(tau, "tau", least=0, most=1)
        if not isinstance(other, Steps):
            raise TypeError(f"other: found {_kind(other)}, expected a pynn.Network")
        mine, its = self.architecture, other.architecture
        for name in ("sizes", "dtype", "norms", "activations", "residual"):
            ours, theirs = getattr(mine, name), getattr(its, name)
            if ours != theirs:
                raise ValueError(f"other: found {name} {theirs!r}, expected {ours!r}")
        model = self._model
        model.require_idle("polyak")
        values = other._model.flat * self.dtype.type(tau)
        model.flat *= self.dtype.type(1 - tau)
        model.flat += values
        model.drop_average()


def _rule(optimizer: Any) -> Optimizer:
    return _named_rule(optimizer) if isinstance(optimizer, str) else _checked_rule(optimizer)


@functools.cache
def _named_rule(name: str) -> Optimizer:
    return _checked_rule(name)


def _checked_rule(optimizer: Any) -> Optimizer:
    rule = as_optimizer(optimizer)
    if isinstance(rule, LBFGS):
        raise ValueError(
            "optimizer: found 'lbfgs', which evaluates the loss several times in an iteration; "
            "expected an optimizer that takes one gradient, such as 'adam'"
        )
    return rule


def _gradient(values: Any, parameters: Array) -> Array:
    """Return a gradient as the backends take it."""
    a = values if type(values) is np.ndarray else as_numbers(values, "gradient")
    if a.shape != parameters.shape:
        raise ValueError(f"gradient: found shape {a.shape}, expected {parameters.shape}")
    if a.dtype.kind not in "iuf":
        raise TypeError(f"gradient: found dtype {a.dtype}, expected real numbers")
    a = np.ascontiguousarray(cast(a, parameters.dtype))
    if not finite(a):
        k = int(np.argmin(np.isfinite(a)))
        raise ValueError(
            f"gradient: found {a[k]} at {k} (counted from 0), expected finite numbers; the "
            "parameters are unchanged"
        )
    return a


def _loss_of(function: LossOf, outputs: Array, y: Any) -> tuple[float, Any]:
    result = function(outputs, y)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(
            f"loss: found a function that returns {_kind(result)}, expected the loss and its "
            "gradient with respect to the outputs"
        )
    # Tensors of PyTorch that are part of a graph refuse to become arrays.
    value, d_outputs = (r.detach() if hasattr(r, "detach") else r for r in result)
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "biuf":
        found = f"shape {number.shape} and dtype {number.dtype}"
        raise ValueError(f"loss: found a loss of {found}, expected one number")
    return float(number.reshape(())), d_outputs


def _as_array(y: Any) -> Any:
    """Return y, or the array of a tensor, data frame or series of another library."""
    foreign = hasattr(y, "__array__") and not isinstance(y, (np.ndarray, np.generic))
    return np.asarray(y) if foreign else y


def output_indices(output: Any, n_out: int, rows: int) -> Array:
    """Return the index of an output for each row (n,)."""
    if output is None:
        if n_out > 1:
            raise ValueError(f"output: found None, expected an index from 0 to {n_out - 1}")
        output = 0
    if np.ndim(output) == 0:
        return np.full(rows, arguments.whole(output, "output", -n_out, n_out - 1) % n_out)
    found = as_numbers(output, "output")
    if found.shape != (rows,):
        raise ValueError(f"output: found shape {found.shape}, expected an index, or ({rows},)")
    if found.dtype.kind not in "iu" or found.min() < -n_out or found.max() >= n_out:
        raise ValueError(f"output: found {output!r}, expected whole numbers from 0 to {n_out - 1}")
    return found.astype(np.intp) % n_out


def _part(rows: Inputs, part: slice) -> Inputs:
    if isinstance(rows, Standardized):
        return Standardized(_part(rows.rows, part), rows.standard)  # type: ignore[arg-type]
    if isinstance(rows, Sparse):
        mask = np.zeros(len(rows), bool)
        mask[part] = True
        return rows[mask]
    return rows[part]


def _kind(value: Any) -> str:
    return repr(value) if np.isscalar(value) or value is None else f"a {type(value).__name__}"
