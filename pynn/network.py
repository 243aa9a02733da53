"""``Network``: checks arguments, owns the parameters, calls one backend, keeps the history."""

from __future__ import annotations

import copy
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays.sparse import Sparse
from .backends import choose as backends_choose
from .backends import contract
from .backends.contract import Data, ObjectiveSettings, TrainerSettings
from .checks import features, targets
from .checks.arrays import as_array, check_finite
from .checks.targets import Task
from .files.tensors import load_tensors, save_tensors
from .spec import arguments, philox
from .spec.architecture import Architecture
from .spec.arguments import choose
from .spec.functions import Activation, Function, Loss
from .spec.names import PRECISIONS
from .spec.optimizers import Optimizer, as_optimizer
from .spec.schedules import Schedule
from .training import initialise, model_file
from .training.blocks import Blocks
from .training.callbacks import as_callbacks, check_monitors
from .training.checkpoint import Checkpoint
from .training.history import History, Record
from .training.loop import Loop
from .training.model import Model
from .training.profile import Profile
from .training.progress import check_progress
from .training.rates import Rates
from .training.saver import Saver, Taken

Array = np.ndarray
PathLike = str | os.PathLike[str]


class Network:
    """A dense neural network.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer, from inputs to outputs: ``[784, 256, 128, 10]``.
    activation : str, Activation or sequence of them
        Activation of all hidden layers, or one for each: ``identity``, ``sigmoid``, ``tanh``,
        ``relu``, ``leaky_relu``, ``elu``, ``gelu`` or ``softplus``, or an
        :class:`pynn.Activation` of your own.
    output : str or Activation, optional
        Activation of the last layer. None takes what the loss needs: ``softmax`` for
        cross_entropy, ``sigmoid`` for binary_cross_entropy, ``identity`` for mse, ``exp`` for
        poisson. Only ``mse`` and losses of your own go with others.
    loss : {"cross_entropy", "binary_cross_entropy", "mse", "poisson"} or Loss
        What training makes small. ``poisson`` is half the Poisson deviance, for counts. A
        :class:`pynn.Loss` of your own takes y as mse does.
    dropout : float or sequence of float
        Probability in [0, 1) of leaving out a unit in training, for all hidden layers or one each.
    init : str or sequence of str, optional
        Initial weights of all layers, or one for each: ``he_normal``, ``he_uniform``,
        ``glorot_normal``, ``glorot_uniform``, ``lecun_normal``, ``lecun_uniform``, ``normal``
        (N(0, 1) for weights and biases) or ``zeros``. None takes he_normal for hidden layers of
        relu and its kin, glorot_uniform for the others and the last. Biases start at zero but for
        ``normal``.
    dtype : {"float32", "float64"}
        Of parameters and arithmetic.
    precision : {"full", "bf16"}
        ``"bf16"`` rounds what goes into the matrix products of layers of 16 or more outputs to
        bfloat16, in training and in prediction; everything else, sums and parameters among it,
        stays float32. Large networks train in about a third of the time with AMX, in half of it
        with the AVX512-BF16 of a Zen 4. For processors with one of them (and, slowly, the numpy
        backend).
    backend : {"auto", "cython", "numba", "numpy"}
        What computes; ``"auto"`` takes the first of the three that can be used here. Functions of
        your own are not for ``"cython"``.
    threads : int, optional
        How many threads compute at most, from 1 to 4096, in the cython backend: small steps run on
        one where that is measured to be faster, and the bits are the same with any number. None
        takes as many as there are processors, or fewer for little work.
    seed : int, optional
        Key of all random numbers, from 0 to 2⁶⁴ − 1: initial weights, shuffling, dropout, held-out
        rows. None draws one from the system; ``net.seed`` tells which.

    Attributes
    ----------
    architecture : Architecture
        The settings above, spelt out for every layer.
    sizes : tuple of int
        Units of every layer.
    dtype : numpy.dtype
        Of the parameters.
    backend, threads : str, int
        What computes, and with how many threads.
    seed : int
        Key of all random numbers.
    weights, biases : tuple of ndarray
        For each layer, weights (n_in, n_out) and biases (n_out,): views of ``parameters``.
    history : History
        Every epoch the network has trained in its life.
    epochs, updates : int
        How many whole epochs, and how many updates of the parameters, that were.

    Raises
    ------
    ValueError
        If an argument is not one of those above.
    ImportError
        If the backend, or the precision with it, cannot be used here.
    MemoryError
        If there is not enough for so many parameters.

    Notes
    -----
    Many threads may predict from one network at the same time; only one may train it.

    Examples
    --------
    >>> net = Network([4, 8, 3], activation="tanh", backend="numpy", seed=1)
    >>> net
    Network(4-8-3, tanh, softmax, cross_entropy, float32, seed 1, numpy with 1 thread)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | Activation | Sequence[str | Activation] = "relu",
        output: str | Activation | None = None,
        loss: str | Loss = "cross_entropy",
        dropout: float | Sequence[float] = 0.0,
        init: str | Sequence[str | None] | None = None,
        dtype: object = "float32",
        precision: str = "full",
        backend: str = "auto",
        threads: int | None = None,
        seed: int | None = 0,
    ) -> None:
        net = Architecture.build(sizes, activation, output, loss, dropout, dtype, precision)
        names = initialise.names(net, init)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        seed = arguments.whole(seed, "seed", 0, 2**64 - 1)
        threads = arguments.threads(threads)
        try:
            engine = backends_choose.create(backend, net, threads)
            self._set_up(Model(net, seed), engine, (backend, threads))
            initialise.fill(net, names, seed, self._model.flat)
        except MemoryError:
            gib = net.n_parameters * np.dtype(net.dtype).itemsize / 2**30
            raise MemoryError(
                f"sizes: found {list(net.sizes)}, which make {net.n_parameters:,} parameters of "
                f"{gib:,.1f} GiB; expected no more than there is memory for"
            ) from None

    def _set_up(self, model: Model, engine: contract.Engine, asked: tuple[str, int | None]) -> None:
        self._model, self._engine, self._asked = model, engine, asked
        self._training = threading.Lock()
        self._training_process = 0

    @classmethod
    def _of(cls, model: Model, backend: str, threads: int | None) -> Network:
        """Return a network of an existing model."""
        net = cls.__new__(cls)
        engine = backends_choose.create(backend, model.architecture, threads)
        net._set_up(model, engine, (backend, threads))
        return net

    # --- Properties -----------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        return self._model.architecture

    @property
    def seed(self) -> int:
        return self._model.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._model.seed = seed

    @property
    def history(self) -> History:
        return self._model.history

    @history.setter
    def history(self, history: History) -> None:
        self._model.history = history

    @property
    def epochs(self) -> int:
        return self._model.epochs

    @epochs.setter
    def epochs(self, epochs: int) -> None:
        self._model.epochs = epochs

    @property
    def updates(self) -> int:
        return self._model.updates

    @updates.setter
    def updates(self, updates: int) -> None:
        self._model.updates = updates

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.architecture.sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.architecture.dtype)

    @property
    def precision(self) -> str:
        """What wide layers multiply: ``"full"``, numbers of the dtype, or ``"bf16"``."""
        return self.architecture.precision

    @property
    def backend(self) -> str:
        return self._engine.name

    @property
    def threads(self) -> int:
        return self._engine.threads

    @property
    def parameters(self) -> Array:
        """All weights and biases, one flat vector: weights row by row, then biases, by layer.

        Setting it copies the values in. While ``fit`` runs it can only be read, and holds what it
        held after the last whole epoch, or before the first; so do ``predict``, ``evaluate`` and
        ``save`` from another thread or in the child of a fork. (With the backend numpy it may be
        in the middle of an epoch, and of an update.)
        """
        return self._model.parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        self._copy_in([(values, self._model.flat, "parameters")])

    @property
    def weights(self) -> tuple[Array, ...]:
        """The weights of each layer, (n_in, n_out), as views of `parameters`.

        Setting them copies the values in. Frameworks that keep (n_out, n_in), as PyTorch does,
        give the transpose: ``net.weights = [layer.weight.detach().numpy().T for layer in layers]``.
        """
        return self._model.weights

    @weights.setter
    def weights(self, values: Any) -> None:
        self._copy_in_layers(values, "weights")

    @property
    def biases(self) -> tuple[Array, ...]:
        """The biases of each layer, (n_out,), as views of `parameters`; setting copies them in."""
        return self._model.biases

    @biases.setter
    def biases(self, values: Any) -> None:
        self._copy_in_layers(values, "biases")

    def _copy_in_layers(self, values: Any, name: str) -> None:
        layers = self.architecture.views(self._model.flat)[name == "biases"]
        if not isinstance(values, (list, tuple)) or len(values) != len(layers):
            found = f"{len(values)}" if isinstance(values, (list, tuple)) else type(values).__name__
            raise ValueError(
                f"{name}: found {found}, expected a list of {len(layers)} arrays, one for each "
                "layer"
            )
        self._copy_in(
            [(v, w, f"{name}[{k}]") for k, (v, w) in enumerate(zip(values, layers, strict=True))]
        )

    def _copy_in(self, pairs: Sequence[tuple[Any, Array, str]]) -> None:
        """Copy values into parts of the parameters, all of them or none."""
        arrays = []
        for values, part, name in pairs:
            a = as_array(values, name)
            if a.shape != part.shape:
                turned = part.ndim == 2 and a.shape == part.shape[::-1]
                hint = ", (inputs, outputs): take the transpose" if turned else ""
                raise ValueError(f"{name}: found shape {a.shape}, expected {part.shape}{hint}")
            if a.dtype.kind not in "iuf":
                raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")
            check_finite(a, name, self.dtype)
            # What is a view of these parameters would be written over before it is read.
            arrays.append(a.copy() if np.may_share_memory(a, self._model.flat) else a)
        if not self._model.parameters.flags.writeable:
            raise ValueError(
                f"{pairs[0][2]}: found a network in training, expected one at rest; they are "
                "read-only until fit has ended"
            )
        for a, (_, part, _) in zip(arrays, pairs, strict=True):
            part[...] = a

    @property
    def classes(self) -> Array | None:
        """The label that each output stands for; for one output, those of no and yes.

        They are learnt from the y of the first ``fit``, and sorted; or set by hand, in any order.
        Before that they are 0, 1, 2, … . None for regression and multilabel targets.
        """
        return self._model.known_task.classes

    @classes.setter
    def classes(self, labels: Any) -> None:
        self._model.task = Task("labels", targets.as_classes(labels, self.architecture))

    def __repr__(self) -> str:
        a = self.architecture
        names = list(dict.fromkeys(a.activations[:-1]))
        parts = [
            "-".join(map(str, a.sizes)),
            *(["/".join(a.activations[:-1] if len(names) > 1 else names)] if names else []),
            a.activations[-1],
            a.loss,
            a.dtype,
            *([a.precision] if a.precision != "full" else []),
            f"seed {self.seed}",
            f"{self.backend} with {self.threads} thread{'s' if self.threads > 1 else ''}",
        ]
        return f"Network({', '.join(parts)})"

    # --- Training -------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int | str | None = 64,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 1e-3,
        l2: float = 0.0,
        label_smoothing: float = 0.0,
        schedule: str | Schedule | Callable[[float], float] | None = None,
        validation: float | tuple[Any, Any] | None = None,
        shuffle: bool | str = True,
        callbacks: Any = (),
        progress: bool | str | Callable[[Record], object] = "auto",
        checkpoint: Checkpoint | None = None,
        resume: bool = False,
    ) -> History:
        """Train on a data set.

        Called again, it goes on from where it stood: twice five epochs give the bits of ten, for
        schedules without a horizon. Optimizer state is kept if the optimizer has the same settings,
        and starts afresh if not.

        Parameters
        ----------
        x : array (n, n_in) or (n, …) with n_in values a row
            uint8 are pixels, and count as value / 255. float32 and float64 are read where they
            are, whatever their strides; other numbers are converted. Frames of pandas and polars,
            lists and memory-mapped files will do. Sparse matrices of SciPy stay sparse (not with
            the numba backend).
        y : array (n,) or (n, n_out)
            Labels of any kind (whole numbers, strings, booleans …), which become ``net.classes``;
            one-hot targets; for cross_entropy targets that sum to 1; for binary_cross_entropy
            targets in [0, 1]; for mse values. With one output and mse, (n,) are values.
            Labels that are whole numbers from 0 to n_out − 1 are the numbers of the outputs.
        epochs : int
            How many times to go through the data.
        batch_size : int, None or "full"
            Rows for each update; None or ``"full"`` for all. The last batch may be shorter.
        optimizer : str or Optimizer
            ``sgd``, ``momentum``, ``nesterov``, ``rmsprop``, ``adagrad``, ``adam``, ``adamw``, or
            an object such as ``pynn.Adam(beta2=0.99)``.
        learning_rate : float
            The step size, above 0.
        l2 : float
            Adds ½·l2·Σw² to what training makes small, over the weights, not the biases.
        label_smoothing : float
            The share in [0, 1) of every target that is spread evenly over all outputs, for loss
            cross_entropy: it keeps the network from growing too sure of itself. The loss of
            training is then measured against such targets, that of validation is not. Labels
            become n · n_out floats.
        schedule : str, Schedule or function, optional
            Factor on the learning rate for each step: ``constant``, ``step``, ``exponential``,
            ``inverse_time``, ``cosine``, ``one_cycle``, ``warm_up``, an object such as
            ``pynn.StepDecay(every=5)``, or a function of the time in epochs since the network
            first trained.
        validation : (x, y) or float, optional
            Data to measure loss and accuracy on after every epoch; or the share of the rows to
            hold out for it, in [0, 1), chosen by the seed; None or 0 for none. Holding out copies
            the rows; the same rows are held out whenever n is the same.
        shuffle : bool or "blocks"
            Whether each epoch takes the rows in a new order. ``"blocks"`` is for memory-mapped
            files that do not fit into memory: blocks of 1 MiB are read in a random order, and rows
            are shuffled within 64 of them.
        callbacks : function, Callback, or list of them
            Called after every epoch; see :mod:`pynn.callbacks`. Training stops when one returns
            True.
        progress : {"auto", True, False} or function
            A bar, or lines where rich is not installed: ``"auto"`` only in a terminal or notebook.
            A function is called with the record so far, ten times a second and after each epoch.
        checkpoint : Checkpoint, optional
            Where and how often to write down how far training is.
        resume : bool
            Whether to go on from the checkpoint, if there is one: the same call in the same script,
            run again after it was cut off, ends in the bits of an unbroken run. One that had ended
            already trains nothing and returns what it had.

        Returns
        -------
        History
            One record for every epoch of this call, those before it was resumed too;
            ``net.history`` has those of earlier calls as well.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is unchanged then. So if it differs from what
            the checkpoint to resume from was given, or if a checkpoint of a run that has not ended
            would be lost.
        RuntimeError
            If this network is being trained already, or was when this process was forked.
        DivergenceError
            If a loss, a weight or a state of the optimizer is no longer finite; it names epoch,
            step and layer. The network is then as it was before that step: its weights are finite,
            its outputs may not be.

        Notes
        -----
        Loss and accuracy of training are means over the epoch as each batch met them, with dropout
        and without the L2 term.

        After Ctrl-C, or an exception in a callback, the parameters are those of the last whole
        update, the history has every whole epoch, and the exception goes on to the caller. An epoch
        that was broken off is not counted: ``fit`` again begins it anew, or goes on in its middle
        with a checkpoint and ``resume=True``.
        """
        net, known = self.architecture, (self.epochs, self._model.task)
        epochs = arguments.whole(epochs, "epochs", 0)
        rows = arguments.batch_size(batch_size)
        optimizer = as_optimizer(optimizer)
        learning_rate = arguments.number(learning_rate, "learning_rate", above=0)
        l2 = arguments.number(l2, "l2", least=0)
        smoothing = targets.label_smoothing(label_smoothing, net)
        rates = Rates(schedule, learning_rate, self.epochs, self.epochs + epochs)
        if not isinstance(resume, (bool, np.bool_)):
            raise TypeError(f"resume: found {resume!r}, expected True or False")
        if not isinstance(shuffle, (bool, np.bool_)) and shuffle != "blocks":
            raise TypeError(f"shuffle: found {shuffle!r}, expected True, False or 'blocks'")
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            raise TypeError(
                f"checkpoint: found {checkpoint!r}, expected pynn.Checkpoint(path, steps=…), or "
                "with epochs or seconds"
            )
        if resume and checkpoint is None:
            raise ValueError(
                "resume: found True and no checkpoint, expected one to go on from: "
                "checkpoint=pynn.Checkpoint(path, …)"
            )
        calls = as_callbacks(callbacks)
        check_progress(progress)
        x = features.features(x, net)
        y, task = targets.targets(y, len(x), net, self._model.task)
        given: dict[str, Array | Sparse] = {"x": x, "y": y}
        held: tuple[Array | Sparse, Array] | None = None
        number = isinstance(validation, (int, float, np.number))
        if number and not isinstance(validation, bool) and validation == 0:
            validation = None
        if validation is not None:
            x, y, held = self._validation(validation, x, y, task)
            if self.backend == "numba" and isinstance(held[0], Sparse):
                # It refuses them, but would not before the first epoch is over.
                self._engine.forward(self._model.flat, held[0])
        if smoothing:
            y = targets.smoothed(y, net, smoothing)
        check_monitors(calls, held is not None, task.kind != "values")
        blocks: Blocks | None = None
        if shuffle == "blocks":
            if isinstance(x, Sparse):
                raise ValueError("shuffle: found 'blocks' and a sparse x, expected True or False")
            blocks = Blocks(x, self.seed)
        # What was worked out from the network holds only if none has trained it meanwhile.
        ours = self._training.acquire(blocking=False)
        if not ours or self.epochs != known[0] or self._model.task is not known[1]:
            if ours:
                self._training.release()
            elif self._training_process not in (0, os.getpid()):
                raise RuntimeError(
                    f"fit: found this network in training by process {self._training_process} "
                    f"when this one, {os.getpid()}, came of it by fork: here it never comes to "
                    "rest, and its parameters may be half updated; expected a network at rest: "
                    "fork before fit or after it, or make or load another one here"
                )
            raise RuntimeError("fit: found this network training already, expected it at rest")
        self._training_process = os.getpid()
        begin, start = len(self.history), self.epochs
        batch = min(rows or len(x), len(x))
        saver: Saver | None = None
        taken: Taken | None = None
        try:
            if checkpoint is not None:
                share: float | str | None = None
                if isinstance(validation, (tuple, list)) and held is not None:
                    given |= {"validation[0]": held[0], "validation[1]": held[1]}
                    share = "rows of their own"
                elif isinstance(validation, (float, np.floating)):
                    share = float(validation)
                settings = {
                    "classes": None if task.classes is None else task.classes.tolist(),
                    "batch_size": batch,
                    "optimizer": repr(optimizer),
                    "learning_rate": learning_rate,
                    "l2": l2,
                    "label_smoothing": smoothing,
                    "validation": share,
                    "shuffle": shuffle if shuffle == "blocks" else bool(shuffle),
                }
                saver = Saver(
                    checkpoint,
                    self._model,
                    self._engine,
                    rates,
                    settings,
                    given,
                    epochs,
                    -(-len(x) // batch),
                )
                taken = saver.begin(bool(resume), calls, self._model)
            if taken is not None:
                begin, start = taken.history, taken.began
                rates = Rates(schedule, learning_rate, start, start + epochs)
                self._model.restore(taken.model)
            self._model.task = task
            self._model.set_optimizer(optimizer)
            training = TrainerSettings(
                optimizer=optimizer,
                batch_size=batch,
                l2=l2,
                seed=self.seed,
                shuffle=bool(shuffle),
                watch=True,
            )
            loop = Loop(
                self._model,
                self._engine,
                self,
                Data(x, y),
                training,
                rates,
                calls,
                held,
                saver,
                taken,
                blocks,
            )
            loop.run(start, start + epochs, progress)
        finally:
            self._training_process = 0
            self._training.release()
        return self.history[begin:]

    def profile(self) -> Profile:
        """Take the times of every phase of the training steps inside a ``with`` block.

        It costs some 25 ns for each phase of each layer, and is off elsewhere. Backend cython.

        Returns
        -------
        Profile
            To be entered by ``with``, and printed, or read, after ``fit``. Entered once more, it
            goes on adding.

        Raises
        ------
        ValueError
            If the network is on another backend.
        RuntimeError
            From ``with``, inside another profile of the same network.

        Examples
        --------
        >>> with net.profile() as profile:  # doctest: +SKIP
        ...     net.fit(x, y)
        >>> print(profile)  # doctest: +SKIP
        """
        if self.backend != "cython":
            raise ValueError(f"profile: found the backend {self.backend!r}, expected 'cython'")
        return Profile(self._model)

    def _validation(
        self, validation: Any, x: Array | Sparse, y: Array, task: Task
    ) -> tuple[Array | Sparse, Array, tuple[Array | Sparse, Array]]:
        """Return the rows to train on and those to validate on."""
        if isinstance(validation, (tuple, list)) and len(validation) == 2:
            names = "validation[0]", "validation[1]"
            xv = features.features(validation[0], self.architecture, names[0])
            yv, kind = targets.targets(
                validation[1], len(xv), self.architecture, task, names[1], names[0]
            )
            if kind.kind != task.kind:
                raise ValueError(
                    f"validation[1]: found targets for {kind.kind}, expected {task.kind} as in y"
                )
            return x, y, (xv, yv)
        share = validation if isinstance(validation, (float, np.floating)) else math.nan
        if not 0 < share < 1:
            found = (
                repr(validation) if np.isscalar(validation) else f"a {type(validation).__name__}"
            )
            if isinstance(validation, (tuple, list)):
                found += f" of {len(validation)}"
            raise ValueError(
                f"validation: found {found}, expected a pair (x, y), or a share of the rows "
                "between 0 and 1, or None"
            )
        n = len(x)
        count = round(share * n)
        if not 0 < count < n:
            raise ValueError(
                f"validation: found the share {share:g}, which is {count} of {n} rows; expected "
                "at least one row to train on and one to hold out"
            )
        out = philox.held_out(self.seed, n, count)
        return x[~out], y[~out], (x[out], y[out])

    # --- What it has learnt ---------------------------------------------------------------------

    def predict(self, x: Any) -> Array:
        """Return the most probable class of each row, or the values of a regression.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.

        Returns
        -------
        ndarray
            Labels (n,) out of ``classes``; after training on multilabel targets, int64 zeros and
            ones (n, n_out); for regression values (n, n_out), or (n,) if y was so, in ``dtype``.

        Raises
        ------
        TypeError, ValueError
            If x does not fit.

        Warns
        -----
        RuntimeWarning
            If outputs that labels are taken from are NaN or infinite.
        """
        out = self._engine.forward(self._model.flat, features.features(x, self.architecture))
        task = self._model.known_task
        if task.kind == "values":
            return out.reshape(-1) if task.flat else out
        if not np.isfinite(out).all():
            _warn_of_labels(out)
        if task.classes is None:
            return (out > 0.5).astype(np.int64)
        index = out.argmax(axis=1) if out.shape[1] > 1 else (out[:, 0] > 0.5).astype(np.intp)
        found: Array = task.classes[index]
        return found

    def predict_proba(self, x: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.

        Returns
        -------
        ndarray (n, classes), in ``dtype``
            Columns in the order of ``classes``; for one output, those of no and yes. The outputs
            as they are: they sum to 1 for softmax, and each lies in [0, 1] for sigmoid.

        Raises
        ------
        TypeError, ValueError
            If x does not fit, or the network was trained for regression.
        """
        if self._model.known_task.kind == "values":
            raise ValueError(
                "predict_proba: found a network for regression, expected one with classes; "
                "use predict, or set net.classes if its outputs stand for classes"
            )
        out = self._engine.forward(self._model.flat, features.features(x, self.architecture))
        return np.concatenate([1 - out, out], axis=1) if out.shape[1] == 1 else out

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Return mean loss and accuracy on a data set, without dropout and the L2 term.

        Parameters
        ----------
        x, y : array
            As in ``fit``; labels must be among ``classes``.

        Returns
        -------
        dict
            ``{"loss": …, "accuracy": …}``, accuracy in [0, 1]; without it for regression. For
            multilabel targets it is the share of the single answers that are right.

        Raises
        ------
        TypeError, ValueError
            If x or y does not fit.
        """
        x = features.features(x, self.architecture)
        y, _ = targets.targets(y, len(x), self.architecture, self._model.task)
        loss, right = self._engine.evaluate(self._model.flat, x, y)
        found = {"loss": loss / len(x)}
        if not math.isnan(right):
            found["accuracy"] = right / len(x)
        return found

    def loss_and_gradient(self, x: Any, y: Any, l2: float = 0.0) -> tuple[float, Array]:
        """Return mean loss plus ½·l2·Σw² and its gradient, without dropout.

        Parameters
        ----------
        x, y : array
            As in ``fit``; labels must be among ``classes``.
        l2 : float
            As in ``fit``.

        Returns
        -------
        loss : float
        gradient : ndarray
            A new flat vector laid out as ``parameters``.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        l2 = arguments.number(l2, "l2", least=0)
        x = features.features(x, self.architecture)
        y, _ = targets.targets(y, len(x), self.architecture, self._model.task)
        return self._engine.objective(Data(x, y), ObjectiveSettings(l2=l2))(self._model.flat)

    # --- To disk and back -----------------------------------------------------------------------

    def save(self, path: PathLike) -> None:
        """Write the network to a safetensors file, whole or not at all.

        The file holds weights, biases, classes, seed, history and the optimizer's state, so that
        ``fit`` can go on after :func:`pynn.load`. Of functions of your own it holds the names, and
        a few values to know them by.

        Parameters
        ----------
        path : str or path-like
            The file to write; its folder must exist.

        Raises
        ------
        OSError
            If it cannot be written.
        """

        save_tensors(path, *model_file.describe(self._model))

    def __copy__(self) -> Network:
        # A shallow copy would train on the same optimizer state and history.
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        left_out = "_training", "_training_process", "_engine"
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_model" not in state:
            state = _with_model(state)
        model, asked = state["_model"], state["_asked"]
        self._set_up(model, backends_choose.create(asked[0], model.architecture, asked[1]), asked)
        self.__dict__.update(state)


_MODEL_ATTRIBUTES = {
    "architecture": "architecture",
    "seed": "seed",
    "history": "history",
    "epochs": "epochs",
    "updates": "updates",
    "_flat": "flat",
    "_task": "task",
    "_optimizer": "optimizer",
    "_state": "optimizer_state",
    "_state_began": "optimizer_began",
}
"""Attributes in pickles of ``Network`` that precede ``Model``, and their names in ``Model``."""


def _with_model(state: dict[str, Any]) -> dict[str, Any]:
    """Convert the pickled state of a network written before there was ``Model``."""
    model = Model.__new__(Model)
    model.__setstate__({new: state[old] for old, new in _MODEL_ATTRIBUTES.items()})
    others = {k: v for k, v in state.items() if k not in _MODEL_ATTRIBUTES}
    return {**others, "_model": model}


def load(
    path: PathLike,
    *,
    functions: Activation | Loss | Sequence[Activation | Loss] = (),
    backend: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Network:
    """Return the network that ``Network.save`` wrote. Loading never runs code out of the file.

    Parameters
    ----------
    path : str or path-like
        A file written by ``Network.save``, or a checkpoint.
    functions : Activation, Loss or list of them
        The functions of your own that the network was made with, which no file holds; others may
        be among them.
    backend, threads
        As for ``Network``.
    precision : {"full", "bf16"}, optional
        As for ``Network``; None takes that of the network that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If something else is among the functions.
    ValueError
        If it is cut off, is no model, or its parts do not fit each other; if one of its functions
        is not given, or gives other values than the network was trained with.
    ImportError
        If the backend, or the precision with it, cannot be used here.
    """

    choose("backend", backend, ("auto", *contract.BACKENDS))
    if precision is not None:
        choose("precision", precision, PRECISIONS)
    threads = arguments.threads(threads)
    given: list[Any] = [functions] if isinstance(functions, Function) else list(functions)
    for found in given:
        if not isinstance(found, (Activation, Loss)):
            raise TypeError(
                f"functions: found {found!r}, expected pynn.Activation and pynn.Loss objects"
            )
    tensors, about = load_tensors(path)
    if "checkpoint" in about:
        tensors = {name: t for name, t in tensors.items() if not name.startswith(model_file.TENSOR)}
    try:
        model = model_file.rebuild(tensors, about, given, precision)
        return Network._of(model, backend, threads)
    except model_file.OtherFunctions as error:
        raise ValueError(f"{path}: {error}") from error
    except model_file.MISFITS as error:
        raise ValueError(
            f"{path}: not a model that pynn can use: {model_file.misfit(error)}"
        ) from error


def _warn_of_labels(out: Array) -> None:
    """Name the first of the outputs (n, n_out) behind labels that is not finite."""
    import warnings

    row, k = np.argwhere(~np.isfinite(out))[0].tolist()
    warnings.warn(
        f"predict: found {out[row, k]} at row {row}, output {k} (counted from 0), expected finite "
        "outputs: such a row has no most probable label; look for NaN in net.weights and "
        "net.biases, and at the size of the numbers in x",
        RuntimeWarning,
        stacklevel=3,
    )
