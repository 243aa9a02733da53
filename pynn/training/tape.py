"""``Tape``: one batch between a network's forward pass and the gradients of a user's own loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standardized
from ..arrays.vectors import cast, finite_sum
from ..backends import contract, tangents
from ..backends.draws import Draws
from ..checks import targets, weights
from ..checks.arrays import first_above, is_sparse
from ..checks.convert import as_numbers
from . import standardise

if TYPE_CHECKING:
    from ..backends.contract import Engine, Inputs
    from .model import Model

Array = np.ndarray


class Tape:
    """A batch that has passed through a network, as ``Network.forward`` returns it.

    It keeps what the backward pass needs. Its methods can be called several times and in any order,
    until the parameters change: ``fit``, ``step``, ``train_on``, ``polyak`` and assignments to
    ``net.parameters``, ``weights`` or ``biases`` make it stale. Changes of single elements of these
    arrays are not noticed. A tape belongs to one network and one thread at a time.

    With ``standardize_targets`` outputs, and gradients of outputs, are those of the standardised
    targets.
    """

    def __init__(self, model: Model, engine: Engine) -> None:
        self._model, self._engine = model, engine
        self._passes = engine.tape()
        self._version = -1
        self._rows = 0
        self._factor: Array | float | None = None
        self._how = contract.Pass()
        self._logits: Array | None = None
        self._outputs: Array | None = None
        # Whether targets are values of any sign, in the unit of the outputs.
        net = model.architecture
        loss = net.loss_function
        self._free_values = (
            net.regression
            and getattr(loss, "least_target", None) is None
            and not model.standardize_targets
        )

    def _record(self, x: Inputs, how: contract.Pass, factor: Array | float | None) -> None:
        """Pass checked rows through the network; ``factor`` is that of ``input_factor``."""
        self._version = -1
        self._logits = self._outputs = None
        self._passes.forward(self._model.flat, x, how)
        self._rows, self._factor, self._how = len(x), factor, how
        self._version = self._model.version

    def __len__(self) -> int:
        """The number of rows."""
        return self._rows

    def __repr__(self) -> str:
        stale = "" if self._version == self._model.version else ", stale"
        return f"Tape({self._rows} rows of {self._model.architecture.n_in} inputs{stale})"

    @property
    def outputs(self) -> Array:
        """The outputs (n, n_out), after the output activation."""
        if self._outputs is None:
            self._require_current("outputs")
            self._outputs = self._passes.outputs()
        return self._outputs

    @property
    def logits(self) -> Array:
        """The outputs (n, n_out) before the output activation."""
        if self._logits is None:
            self._require_current("logits")
            self._logits = self._passes.logits()
        return self._logits

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "Tape: found a copy or pickle of a tape, which belongs to one network in memory; "
            "expected a new one, from forward of the network or its copy"
        )

    def loss(
        self, y: Any, *, sample_weight: Any = None, missing_targets: str = "error"
    ) -> tuple[float, Array]:
        """Return the network's loss, and its gradient with respect to the logits.

        Parameters
        ----------
        y : array
            As in ``fit``, of the rows of this tape. Before the first ``fit``, labels are the
            classes assigned to ``net.classes``, or numbers from 0 to n_out − 1 (0 and 1 for
            one output), since a batch does not always contain every label.
        sample_weight, missing_targets
            As in ``fit``: the loss is Σ weight · loss / Σ weight.

        Returns
        -------
        loss : float
            The mean over the rows, of standardised targets with ``standardize_targets``.
        d_logits : ndarray (n, n_out)
            For ``backward(d_logits=d_logits)``.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        RuntimeError
            If the tape is stale.
        """
        self._require_current("loss")
        model = self._model
        if sample_weight is None and missing_targets == "error" and self._are_values(y):
            return self._passes.loss(y)
        missing = weights.ignores_missing(missing_targets)
        y, found = targets.targets(
            *(y, self._rows, model.architecture, model.task),
            missing=missing,
            number_format=model.target_format,
        )
        if model.task is None:
            targets.require_numbers(found)
        weight = weights.sample_weight(sample_weight, self._rows)
        if weight is not None or missing:
            weight, missing = weights.combined(y, weight, missing=missing)
        return self._passes.loss(standardise.scaled_targets(model, y), weight, missing)

    def _are_values(self, y: Any) -> bool:
        """Whether y needs no conversion and no other checks, which take as long as a small step."""
        return (
            self._free_values
            and type(y) is np.ndarray
            and y.shape == (self._rows, self._model.architecture.n_targets)
            and y.dtype is self._model.dtype
            and y.flags.carray
            and finite_sum(y)
        )

    def backward(
        self, d_outputs: Any = None, *, d_logits: Any = None, inputs: bool = True
    ) -> tuple[Array | None, Array]:
        """Return the gradients of a loss with respect to the inputs and to the parameters.

        Parameters
        ----------
        d_outputs : array (n, n_out)
            Its gradient with respect to ``outputs``.
        d_logits : array (n, n_out)
            Instead: its gradient with respect to ``logits``.
        inputs : bool
            Whether to compute ``dx``, which takes one more matrix product.

        Returns
        -------
        dx : ndarray (n, n_in) or None
            With respect to the inputs as they were given: per unit of 255 for pixels of uint8, and
            per unit of x with ``standardize``.
        gradient : ndarray (n_parameters,)
            With respect to all parameters, in the order of ``net.parameters``, summed over the
            rows. Those of frozen layers are included.

        Raises
        ------
        TypeError, ValueError
            If the gradient has another shape, or both or none are given.
        RuntimeError
            If the tape is stale.
        """
        dx = self._rows_back(d_outputs, d_logits, inputs)
        return dx, self._passes.gradient()

    def backward_twice(
        self, d_outputs: Any = None, d_dx: Any = None, *, d_logits: Any = None
    ) -> tuple[Array, Array]:
        """Return the gradients of a function of the ``dx`` that ``backward`` returns.

        For losses that contain derivatives of the outputs with respect to the inputs, such as
        forces or the residual of a differential equation. They are exact, by a tangent pass
        (Pearlmutter 1994), and computed with NumPy on every backend.

        Parameters
        ----------
        d_outputs : array (n, n_out)
            The argument with which ``backward`` computed dx.
        d_dx : array (n, n_in)
            The gradient of the function with respect to dx.
        d_logits : array (n, n_out)
            In place of ``d_outputs``, as in ``backward``.

        Returns
        -------
        dx : ndarray (n, n_in)
            Gradient of the function with respect to the inputs as they were given.
        gradient : ndarray (n_parameters,)
            With respect to the parameters. If the loss also depends on the outputs themselves, add
            the gradient that ``backward`` returns for this part.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has batch norms or custom activations.
        RuntimeError
            If the tape is stale.
        """
        self._require_current("backward_twice")
        net = self._model.architecture
        lacking = tangents.unsupported(net)
        if lacking:
            raise ValueError(
                f"backward_twice: found a network with {lacking}, expected one without"
            )
        _require_one("backward_twice", d_outputs, d_logits)
        of_outputs = d_logits is None
        d = self._checked(*((d_outputs, "d_outputs") if of_outputs else (d_logits, "d_logits")))
        tangent = self._of_shape(d_dx, "d_dx", net.n_in, "x")
        factors = [factor for factor in (self._factor, self._input_mask()) if factor is not None]
        for factor in factors:
            tangent = cast(tangent * factor, net.dtype)
        rows = self._passes.inputs()
        found = tangents.backward_twice(
            net, self._model.flat, rows, self._how, d, of_outputs, tangent, None
        )
        dx = found.x
        for factor in factors:
            dx = cast(dx * factor, net.dtype)
        return dx, found.parameters

    def _input_mask(self) -> Array | None:
        """The factors of dropout on the inputs, or None."""
        how = self._how
        if not how.training:
            return None
        draws = Draws(self._model.architecture, how.seed)
        return draws.input_mask(how.epoch, how.first_row, self._rows)

    def _rows_back(self, d_outputs: Any, d_logits: Any, inputs: bool) -> Array | None:
        self._require_current("backward")
        _require_one("backward", d_outputs, d_logits)
        if d_logits is None:
            d_logits = self._passes.output_gradient(self._checked(d_outputs, "d_outputs"))
        else:
            d_logits = self._checked(d_logits, "d_logits")
        dx = self._passes.backward(d_logits, bool(inputs))
        if dx is not None and self._factor is not None:
            np.multiply(dx, self._factor, out=dx, casting="same_kind")
        return dx

    def _checked(self, values: Any, name: str) -> Array:
        return self._of_shape(values, name, self._model.architecture.n_out, "the outputs")

    def _of_shape(self, values: Any, name: str, columns: int, of: str) -> Array:
        a = values if type(values) is np.ndarray else as_numbers(values, name)
        if a.shape != (self._rows, columns):
            raise ValueError(
                f"{name}: found shape {a.shape}, expected ({self._rows}, {columns}), that of {of}"
            )
        if a.dtype.kind not in "iuf":
            raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")
        return np.ascontiguousarray(cast(a, self._model.dtype))

    def _require_current(self, name: str) -> None:
        if self._version == self._model.version:
            return
        if self._version < 0:
            raise RuntimeError(
                f"{name}: found a tape whose forward pass failed, expected net.forward first"
            )
        raise RuntimeError(
            f"{name}: found a tape of parameters that have changed since its forward pass, "
            "expected net.forward after every step, fit or assignment"
        )


def _require_one(name: str, d_outputs: Any, d_logits: Any) -> None:
    if (d_outputs is None) == (d_logits is None):
        found = "neither d_outputs nor d_logits" if d_logits is None else "both"
        raise TypeError(f"{name}: found {found}, expected one of d_outputs and d_logits")


def input_factor(model: Model, given: Any, x: Inputs) -> Array | float | None:
    """Return by what a gradient with respect to x as a backend reads it is multiplied for one with
    respect to x as it was given; None for 1.

    Parameters
    ----------
    model
        The model.
    given
        The rows of the user.
    x
        The same, checked.
    """
    factor: Array | float | None = None
    rows = x
    if isinstance(x, Standardized):
        factor, rows = x.standard.inverse, x.rows
    pixels = isinstance(rows, np.ndarray) and rows.dtype == np.uint8
    if isinstance(rows, Sparse) and is_sparse(given):
        pixels = given.dtype == np.uint8 and model.pixels is not False
    if pixels:
        factor = 1 / 255 if factor is None else factor / 255
    return factor


def require_decided(model: Model, given: Any, x: Inputs) -> None:
    """Raise ValueError for pixels of a network that has not decided whether its inputs are pixels.

    ``predict`` reads them as pixels, as ``fit`` would. A step would train on them, and a later
    batch of 0 and 1 alone would have another scale.
    """
    if model.pixels != "auto":
        return
    rows = x.rows if isinstance(x, Standardized) else x
    if isinstance(rows, np.ndarray):
        above = first_above(rows, 1) if rows.dtype == np.uint8 else None
        found = None if above is None else int(rows[above])
    else:
        most = given.max() if is_sparse(given) and given.dtype == np.uint8 else 0
        found = int(most) if most > 1 else None
    if found is not None:
        raise ValueError(
            f"x: found the uint8 {found} for a network that has not been trained, which can be a "
            "pixel or a number; expected Network(…, pixels=True) or pixels=False"
        )
