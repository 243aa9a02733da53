"""``Explained``: attributions of predictions to the inputs, from exact input gradients.

Sources: M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017,
for integrated gradients; G. Erion, J. Janizek, P. Sturmfels, S. Lundberg, S.-I. Lee, "Improving
performance of deep learning models with axiomatic attribution priors and expected gradients",
Nature Machine Intelligence 3, 2021, for expected gradients.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standardized
from ..checks.convert import as_numbers
from ..spec import arguments
from . import standardise
from .steps import Steps, output_indices

Array = np.ndarray

METHODS = ("integrated_gradients", "expected_gradients")

NODES = 5
"""Nodes of the Gauss-Legendre quadrature on each panel of a path: exact for polynomials of degree
9."""

PANELS = 4
"""Panels of a path at first. A panel is halved if the change of the output between its ends, which
is known, differs from the integral: rectifiers make the integrand jump."""

LEVELS = 20
"""Most halvings: panels then are as narrow as the resolution of float32."""

SHARES = 1 / 2, 1 / 16, 1 / 256, 1 / 4096
"""Parts of the tolerance that each panel may use, tried in turn: errors of panels can add up."""

POINTS = 4096
"""Points of paths whose gradients are computed at a time, which bounds the memory."""

_X, _W = np.polynomial.legendre.leggauss(NODES)
_X, _W = (_X + 1) / 2, _W / 2  # on [0, 1]


class _Paths(NamedTuple):
    """Straight paths between rows of inputs (paths, n_in), and the output of each (paths,)."""

    ends: Array
    starts: Array
    outputs: Array
    pixels: bool

    def at(self, path: Array, alphas: Array) -> Array:
        """Return the points (k, points, n_in) at shares (k, points) of the paths ``path`` (k,)."""
        start, end = self.starts[path][:, None], self.ends[path][:, None]
        points: Array = alphas[:, :, None].astype(start.dtype) * (end - start)
        points += start
        if self.pixels:  # rounding must not leave their range
            np.clip(points, 0, 1, out=points)
        return points


class Explained(Steps):
    """Base class of ``Network``."""

    def attributions(
        self,
        x: Any,
        method: str = "integrated_gradients",
        *,
        baseline: Any = None,
        output: Any = None,
        tolerance: float = 1e-3,
    ) -> Array:
        """Return how much each input contributed to an output, compared with a baseline.

        Parameters
        ----------
        x : array (n, n_in)
            The rows to explain, as in ``predict``.
        method : {"integrated_gradients", "expected_gradients"}
            Integrated gradients compare with one baseline, expected gradients with the mean over
            several.
        baseline : array, optional
            Integrated gradients: one row (n_in,) in the unit of x, or a number for all inputs. None
            means zeros, or with ``standardize`` the means of the inputs. Expected gradients: rows
            (m, n_in), such as 50 to 200 rows of the training data; each of them counts once.
        output : int or array (n,) of int, optional
            Index of the output, or one for each row. None: the only output, or with classes the
            largest output of each row.
        tolerance : float
            How far the sum over the inputs may be from its exact value, relative to the sum of
            their magnitudes.

        Returns
        -------
        ndarray (n, n_in), float64
            In the unit of the output: probabilities after softmax or sigmoid, or values of a
            regression. The sum of a row is the output at x minus the (mean) output at the baseline
            ("completeness"), within ``tolerance``.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.

        Warns
        -----
        RuntimeWarning
            If a sum is further from its exact value with the finest panels.

        Notes
        -----
        The attribution of input i is (xᵢ − bᵢ) ∫₀¹ ∂F(b + α (x − b)) / ∂xᵢ dα, for a baseline b and
        the output F [1]_. Expected gradients are the mean of it over the baselines [2]_; all of
        them are used and the integral is computed, where the authors draw b and α at random. The
        integral is a Gauss-Legendre quadrature on 4 panels of 5 nodes; panels are halved where
        their sums differ from the change of the output, as at the corners of relu. Each node takes
        a forward and a backward pass.

        An input that equals the baseline gets 0. Attributions depend on the baseline: zeros mean
        "black" for pixels, and may mean nothing for other inputs. They tell what the network
        computes, not what causes y.

        References
        ----------
        .. [1] Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017.
        .. [2] Erion et al., "Improving performance of deep learning models with axiomatic
           attribution priors and expected gradients", Nature Machine Intelligence 3, 2021.

        Examples
        --------
        >>> import numpy as np
        >>> from pynn import Network
        >>> net = Network([4, 8, 3], backend="numpy")
        >>> x = np.ones((2, 4))
        >>> found = net.attributions(x, output=1)
        >>> change = net.predict_proba(x)[:, 1] - net.predict_proba(0 * x)[:, 1]
        >>> bool(np.abs(found.sum(axis=1) - change).max() < 1e-3)
        True
        """
        arguments.choose("method", method, METHODS)
        tolerance = arguments.number(tolerance, "tolerance", above=0)
        rows = self._dense(x, "x")
        baselines = self._baselines(baseline, method)
        outputs = self._function(rows)
        chosen = self._chosen_outputs(output, outputs)
        every = np.arange(len(rows))
        change = outputs[every, chosen] - self._function(baselines).mean(axis=0)[chosen]
        found = np.zeros(rows.shape)
        open_rows = every
        for share in SHARES:
            found[open_rows] = self._integrals(
                rows[open_rows], baselines, chosen[open_rows], share * tolerance
            )
            error = np.abs(found.sum(axis=1) - change)
            # Not <=: a NaN is an error too.
            allowed = np.maximum(tolerance * np.abs(found).sum(axis=1), self._rounding(outputs))
            open_rows = every[~(error <= allowed)]
            if not len(open_rows):
                return found
        self._warn(open_rows[0], found, change)
        return found

    def _dense(self, x: Any, name: str) -> Array:
        """Return rows as floats in the unit in which ``predict`` takes floats, (n, n_in)."""
        read = self._features(x, name)
        rows = read.rows if isinstance(read, Standardized) else read
        if isinstance(rows, Sparse):
            raise TypeError(
                f"{name}: found a sparse matrix, expected an array: paths from a baseline are "
                f"dense; use {name}.toarray()"
            )
        working = np.dtype(self._model.input_format)
        if rows.dtype == np.uint8:  # pixels
            return rows / working.type(255)
        return rows.astype(working, copy=False)

    def _baselines(self, baseline: Any, method: str) -> Array:
        """Return the rows (m, n_in) to compare with, as ``_dense`` does."""
        n_in = self.architecture.n_in
        if method == "expected_gradients":
            if baseline is None or np.ndim(baseline) < 2:
                found = "None" if baseline is None else f"{np.ndim(baseline)} dimensions"
                raise ValueError(
                    f"baseline: found {found}, expected rows (m, {n_in}) with "
                    "method='expected_gradients', such as 100 rows of the training data"
                )
            rows = self._dense(baseline, "baseline")
            if not len(rows):
                raise ValueError("baseline: found 0 rows, expected one or more")
            return rows
        if baseline is None:
            mean = self._model.input_standard
            values = np.zeros(n_in) if mean is None else mean.mean
            return values[None].astype(self._model.input_format)
        values = as_numbers(baseline, "baseline")
        if values.ndim == 0:
            values = np.full(n_in, float(values))
        if values.size != n_in:
            raise ValueError(
                f"baseline: found shape {values.shape}, expected a number or one row of {n_in} "
                "values; several rows need method='expected_gradients'"
            )
        return self._dense(values.reshape(1, n_in), "baseline")

    def _function(self, rows: Array) -> Array:
        """Return the outputs of dense rows (n, n_out), float64."""
        out = standardise.outputs(self._model, self._engine, self._features(rows))
        return out.astype(np.float64, copy=False)

    def _chosen_outputs(self, output: Any, outputs: Array) -> Array:
        """Return the index of an output for each row (n,)."""
        if output is None and outputs.shape[1] > 1 and self._model.known_task.kind == "labels":
            return outputs.argmax(axis=1)
        return output_indices(output, outputs.shape[1], len(outputs))

    def _rounding(self, outputs: Array) -> float:
        """Return the size of rounding errors of outputs, and of their differences."""
        return float(16 * np.finfo(self.dtype).eps * np.abs(outputs).max(initial=0))

    def _integrals(self, rows: Array, baselines: Array, chosen: Array, tolerance: float) -> Array:
        """Return the mean over the baselines of the integrals along the paths to ``rows``.

        Parameters
        ----------
        rows, baselines
            (n, n_in) and (m, n_in).
        chosen
            The output of each row (n,).
        tolerance
            The error of a panel relative to the magnitude of the attributions.
        """
        found = np.zeros(rows.shape)
        count, step = len(baselines), POINTS // (PANELS * NODES)
        for start in range(0, len(rows) * count, step):
            pairs = np.arange(start, min(start + step, len(rows) * count))
            row = pairs // count
            others, pixels = baselines[pairs % count], self._model.pixels is True
            paths = _Paths(rows[row], others, chosen[row], pixels)
            _add(found, row, self._along(paths, tolerance))
        return found / count

    def _along(self, paths: _Paths, tolerance: float) -> Array:
        """Return the integral along each path (paths, n_in)."""
        found, scale = np.zeros(paths.ends.shape), np.zeros(len(paths.ends))
        path = np.repeat(np.arange(len(paths.ends)), PANELS)
        left, width = np.tile(np.arange(PANELS) / PANELS, len(paths.ends)), 1 / PANELS
        for level in range(LEVELS + 1):
            parts, error, rounding = self._panels(paths, path, left, width)
            if level == 0:
                _add(scale, path, np.abs(parts).sum(axis=1))
            wrong = error > np.maximum(tolerance * scale[path], rounding)
            if level == LEVELS:
                wrong[:] = False
            _add(found, path[~wrong], parts[~wrong])
            path, left, width = path[wrong], left[wrong], width / 2
            if not len(path):
                break
            path, left = np.tile(path, 2), np.concatenate([left, left + width])
        return found

    def _panels(
        self, paths: _Paths, path: Array, left: Array, width: float
    ) -> tuple[Array, Array, float]:
        """Return the integral over each panel (panels, n_in), by how much its sum differs from the
        change of the output (panels,), and the size of rounding errors.
        """
        parts, changes, largest = [], [], 0.0
        step = max(1, POINTS // NODES)
        for start in range(0, len(path), step):
            p, begin = path[start : start + step], left[start : start + step]
            points = paths.at(p, begin[:, None] + width * _X)
            outputs = np.repeat(paths.outputs[p], NODES)
            gradients = self.input_gradient(points.reshape(-1, points.shape[2]), outputs)
            weights = (width * _W).astype(self.dtype)
            means = np.matmul(weights, gradients.reshape(points.shape), dtype=self.dtype)
            parts.append(means * (paths.ends[p] - paths.starts[p]))
            corners = paths.at(p, np.stack([begin, begin + width], 1))
            values = self._function(corners.reshape(-1, points.shape[2]))
            largest = max(largest, self._rounding(values))
            values = values[np.arange(len(values)), np.repeat(paths.outputs[p], 2)].reshape(-1, 2)
            changes.append(values[:, 1] - values[:, 0])
        found = np.concatenate(parts)
        return found, np.abs(found.sum(axis=1) - np.concatenate(changes)), largest

    def _warn(self, row: int, found: Array, change: Array) -> None:
        warnings.warn(
            f"attributions: found a sum of {found[row].sum():.6g} in row {row}, expected "
            f"{change[row]:.6g}, the change of the output: the integral is not accurate; the "
            "output may change too steeply between the baseline and x",
            RuntimeWarning,
            stacklevel=3,
        )


def _add(target: Array, index: Array, values: Array) -> None:
    """Add each of ``values`` to the element or row of ``target`` that ``index`` names."""
    if not len(index):
        return
    order = np.argsort(index, kind="stable")
    index, values = index[order], values[order]
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    target[index[starts]] += np.add.reduceat(values, starts, axis=0)
