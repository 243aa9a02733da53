"""``Network``: the public class, which combines a ``Model``, an engine and the public methods."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .backends import choose as backend_choice
from .checks import features
from .exports.interchange import Interchange
from .spec import arguments
from .spec.architecture import ActivationLike, Architecture
from .spec.arguments import BATCH_SIZE, choose
from .spec.functions import Activation, Function, Loss
from .spec.losses import LossFunction
from .spec.names import BACKENDS, PRECISIONS
from .spec.norms import NormLike
from .spec.optimizers import Optimizer
from .spec.schedules import Schedule
from .training import initialise, model_file, standardise
from .training.checkpoint import Checkpoint
from .training.explained import Explained
from .training.history import History, Record
from .training.model import Model, TrainingLock, from_earlier_pickle

if TYPE_CHECKING:
    from .backends.contract import Engine
    from .training.predictor import Predictor

Array = np.ndarray
PathLike = str | os.PathLike[str]


class Network(Interchange, Explained):
    """A dense neural network.

    Parameters
    ----------
    sizes : sequence of int
        Number of units of every layer, from inputs to outputs: ``[784, 256, 128, 10]``.
    activation : str, LeakyReLU, ELU, Softplus, Activation or sequence of them
        Activation of all hidden layers, or one per layer: ``identity``, ``sigmoid``, ``tanh``,
        ``relu``, ``leaky_relu``, ``elu``, ``gelu``, ``softplus``, ``silu``, ``mish``, ``selu``,
        ``softsign``, ``relu6``, ``hard_sigmoid``, ``hard_swish``, ``hard_tanh`` or ``gelu_tanh``;
        :class:`pynn.LeakyReLU`, :class:`pynn.ELU` or :class:`pynn.Softplus` for another parameter
        than the default; or a custom :class:`pynn.Activation`.
    output : str, LeakyReLU, ELU, Softplus or Activation, optional
        Activation of the last layer: one of the above, ``softmax`` or ``exp``. None chooses it by
        the loss: ``softmax`` for cross_entropy, ``sigmoid`` for binary_cross_entropy, ``exp`` for
        poisson, gamma and tweedie, and ``identity`` for mse, mae, huber, log_cosh and quantile,
        which also work with every other activation, as custom losses do. The reference page on
        losses has a table.
    loss : str, LossFunction or Loss
        The function that training minimises. For classes: ``cross_entropy``,
        ``binary_cross_entropy``, ``focal``, ``hinge`` or ``squared_hinge``; for values: ``mse``,
        ``mae``, ``huber``, ``log_cosh``, ``quantile`` (the median), ``poisson``, ``gamma``,
        ``tweedie`` or ``gaussian_nll``, which needs two outputs for each column of y. With
        parameters: :class:`pynn.Huber`, :class:`pynn.Quantile`, :class:`pynn.Tweedie`,
        :class:`pynn.Focal`. A custom :class:`pynn.Loss` interprets y as mse does.
    dropout : float or sequence of float
        Probability in [0, 1) of dropping a unit in training, for all hidden layers or per layer.
    norm : {"layer", "rms", "batch"}, LayerNorm, RMSNorm, BatchNorm or sequence of them, optional
        Normalisation of all hidden layers, or of each (or None), over the units of a row:
        :class:`pynn.LayerNorm`, or :class:`pynn.RMSNorm` without mean and shift; or over the rows
        of a batch: :class:`pynn.BatchNorm`. It has a scale and a shift for each unit, which
        training changes; L2 and weight decay do not apply to them. Not on the numba backend.
    norm_after : bool
        Whether normalisations follow the activation, before dropout; otherwise they are between
        product and activation. A network without hidden layers takes this, ``norm``, ``dropout``
        and ``hidden_noise`` and has none of them, so that programs can try several depths.
    residual : bool
        Whether every hidden layer with as many outputs as inputs adds its inputs to its outputs
        (He et al. 2016), after activation and dropout: the inputs are not dropped. The first hidden
        layer does if it is as wide as x.
    input_dropout : float
        Probability in [0, 1) of dropping an input in training.
    input_noise : float
        Standard deviation of the Gaussian noise that training adds to the inputs after scaling or
        standardising. Not for sparse x.
    hidden_noise : float or sequence of float
        The same for the outputs of all hidden layers or per layer, after the activation. Noise
        precedes dropout. The numba backend does not support noise.
    init : str or sequence of str, optional
        Initial weights of all layers, or one per layer: ``he_normal``, ``he_uniform``,
        ``glorot_normal``, ``glorot_uniform``, ``lecun_normal``, ``lecun_uniform``, ``normal``
        (N(0, 1) for weights and biases) or ``zeros``. None means he_normal for hidden layers with
        relu, leaky_relu, elu, gelu, softplus, silu, mish, relu6, hard_swish or gelu_tanh,
        lecun_normal for those with selu, and glorot_uniform for all other layers. Biases start at
        zero except with ``normal``.
    pixels : {"auto", True, False}
        Whether the inputs are pixels. True: uint8 from 0 to 255, which count as value / 255, or
        floats that are in [0, 1] already. False: values, which are never scaled; uint8 may only be
        0 and 1. ``"auto"``: the first ``fit`` decides; uint8 with a value above 1 means pixels.
    standardize : bool
        Whether the inputs are standardised: an input x counts as (x − mean) / scale, with the mean
        and the population standard deviation of its column, or scale 1 if all its values are equal.
        The first ``fit`` computes them in float64 from the rows to train on, each row counting
        once; they stay the same in later calls. Pixels of uint8 count as value / 255 before.
        Sparse matrices stay sparse: they are divided by the scale, with means of 0.
    standardize_targets : bool
        Whether the targets of a regression are standardised for training, column by column as
        inputs are; for losses of values of any sign, with the output ``identity``. Training
        minimises the loss of standardised targets, to which parameters of the loss such as
        Huber's delta apply. Predictions, losses and metrics are in the original unit, in float64.
        The training loss of ``fit`` is s² times that of standardised targets for mse with one
        target of scale s, s times for mae and quantile, and larger by log s for gaussian_nll; with
        other losses, or several targets of different scales (not for gaussian_nll), it is measured
        after each epoch, without dropout, in a pass over the training rows.
    dtype : {"float32", "float64"}
        Number format of parameters and arithmetic.
    precision : {"full", "bf16"}
        ``"bf16"`` rounds the inputs of the matrix products of layers with 16 or more outputs to
        bfloat16, in training and in prediction; all other values, sums and parameters included,
        stay float32. Large networks train in about a third of the time with AMX, and in half of it
        with the AVX512-BF16 of a Zen 4. It requires a processor with one of them, or the numpy
        backend, which is slow.
    backend : {"auto", "cython", "numba", "numpy"}
        The implementation that computes; ``"auto"`` chooses the first of the three that is
        available. The cython backend does not support custom functions.
    threads : int, optional
        Maximum number of threads, from 1 to 4096 (the numpy backend has one). At most 4 for each
        processor are started, or 64 if that is more. Small steps run on one thread if that is
        measured to be faster; results are identical with any number. None
        uses the environment variable ``PYNN_NUM_THREADS``, or as many as there are processors
        within the limits of cgroups, ``OMP_NUM_THREADS``, joblib and threadpoolctl, or fewer for
        small amounts of work.
    seed : int, optional
        Key of all random numbers, from 0 to 2⁶⁴ − 1: initial weights, shuffling, dropout, noise,
        held-out rows. None draws one from the operating system; ``net.seed`` holds it.

    Attributes
    ----------
    architecture : Architecture
        The settings above, for every layer.
    sizes : tuple of int
        Number of units of every layer.
    dtype : numpy.dtype
        Of the parameters.
    backend, threads : str, int
        The implementation that computes, and its number of threads.
    seed : int
        Key of all random numbers.
    pixels : bool, "auto" or None
        Whether the inputs are pixels; ``"auto"`` before the first ``fit``. None for models and
        pickles of earlier versions, which do not tell: uint8 counts as value / 255, other numbers
        are not scaled. Assign True or False to decide.
    columns : tuple of str or None
        The names of the columns if x of the first ``fit`` was a data frame. Data frames with other
        names, or in another order, are refused.
    input_mean, input_scale : ndarray (n_in,) or None
        Mean and scale of each input in float64, with ``standardize``; None before the first
        ``fit``.
    target_mean, target_scale : ndarray (n_targets,) or None
        The same of the targets, with ``standardize_targets``.
    weights, biases : tuple of ndarray
        For each layer, weights (n_in, n_out) and biases (n_out,): views of ``parameters``.
    scales, shifts : tuple of ndarray or None
        For each layer, scale and shift (n_out,) of its normalisation, or None: views of
        ``parameters``.
    running_means, running_variances : tuple of ndarray or None
        For each layer, running statistics (n_out,) of its batch norm, or None: views of
        ``statistics``, which is not a part of ``parameters``.
    average : ndarray or None
        Moving average of ``parameters``, which predictions use, after ``fit`` with ``ema``.
    history : History
        One record per epoch, over all calls of ``fit``.
    epochs, updates : int
        Number of whole epochs, and of parameter updates, over all calls of ``fit``.

    Raises
    ------
    ValueError
        If an argument is not one of those above.
    ImportError
        If the backend, or the precision on it, is not available.
    MemoryError
        If the parameters do not fit into memory.

    Notes
    -----
    Several threads may predict with one network at the same time; only one may train it.

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
        activation: ActivationLike | Sequence[ActivationLike] = "relu",
        output: ActivationLike | None = None,
        loss: str | LossFunction | Loss = "cross_entropy",
        dropout: float | Sequence[float] = 0.0,
        norm: NormLike | Sequence[NormLike] = None,
        norm_after: bool = False,
        residual: bool = False,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        hidden_noise: float | Sequence[float] = 0.0,
        init: str | Sequence[str | None] | None = None,
        pixels: bool | str = "auto",
        standardize: bool = False,
        standardize_targets: bool = False,
        dtype: object = "float32",
        precision: str = "full",
        backend: str = "auto",
        threads: int | None = None,
        seed: int | None = 0,
    ) -> None:
        net = Architecture.build(
            *(sizes, activation, output, loss, dropout, dtype, precision, residual),
            *(norm, norm_after),
            input_dropout=input_dropout,
            input_noise=input_noise,
            hidden_noise=hidden_noise,
        )
        names = initialise.names(net, init)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        seed = arguments.whole(seed, "seed", 0, 2**64 - 1)
        flags = (
            features.as_pixels(pixels),
            standardise.as_flag(standardize, "standardize"),
            standardise.as_flag(standardize_targets, "standardize_targets"),
        )
        if flags[2]:
            standardise.check_targets(net)
        threads = arguments.threads(threads)
        try:
            engine = backend_choice.create(backend, net, threads)
            self._set_up(Model(net, seed, *flags), engine, (backend, threads))
            initialise.fill(net, names, seed, self._model.flat)
        except MemoryError:
            gib = net.n_parameters * np.dtype(net.dtype).itemsize / 2**30
            raise MemoryError(
                f"sizes: found {list(net.sizes)} with {net.n_parameters:,} parameters of "
                f"{gib:,.1f} GiB; expected no more than fit into memory"
            ) from None

    def _set_up(self, model: Model, engine: Engine, asked: tuple[str, int | None]) -> None:
        self._model, self._engine, self._asked = model, engine, asked
        self._lock = TrainingLock()

    @classmethod
    def _from_model(cls, model: Model, backend: str, threads: int | None) -> Network:
        """Return a network that trains and evaluates an existing model."""
        net = cls.__new__(cls)
        engine = backend_choice.create(backend, model.architecture, threads)
        net._set_up(model, engine, (backend, threads))
        return net

    # --- Properties -----------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        return self._engine.name

    @property
    def threads(self) -> int:
        return self._engine.threads

    def __repr__(self) -> str:
        a = self.architecture
        *hidden, output = map(str, a.given_activations())
        names = list(dict.fromkeys(hidden))
        parts = [
            "-".join(map(str, a.sizes)),
            *(["/".join(hidden if len(names) > 1 else names)] if names else []),
            output,
            *([f"norm {a.norm_text}"] if a.norms else []),
            *(["residual"] if any(a.residual) else []),
            *a.noise_text,
            a.loss_text,
            *(["pixels" if self.pixels else "values"] if isinstance(self.pixels, bool) else []),
            *(["standardized"] if self._model.standardize else []),
            *(["standardized targets"] if self._model.standardize_targets else []),
            a.dtype,
            *([a.precision] if a.precision != "full" else []),
            *([f"frozen {list(self.frozen)}"] if self.frozen else []),
            f"seed {self.seed}",
            f"{self.backend} with {self.threads} thread{'s' if self.threads > 1 else ''}",
        ]
        return f"Network({', '.join(parts)})"

    # --- Training -------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,  # required, but fit(loader) is to say what to pass instead
        *,
        sample_weight: Any = None,
        class_weight: Any = None,
        missing_targets: str = "error",
        epochs: int = 10,
        batch_size: int | str | None = BATCH_SIZE,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 1e-3,
        layer_rates: Sequence[float] | None = None,
        l2: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        max_norm: float | None = None,
        label_smoothing: float = 0.0,
        ema: float | None = None,
        schedule: str | Schedule | Callable[[float], float] | None = None,
        validation: float | tuple[Any, ...] | None = None,
        metrics: Any = None,
        training_metrics: bool = False,
        stratify: bool = True,
        shuffle: bool | str = True,
        callbacks: Any = (),
        progress: bool | str | Callable[[Record], object] = "auto",
        checkpoint: Checkpoint | None = None,
        resume: bool = False,
    ) -> History:
        """Train on a data set.

        Another call continues the training: two calls of five epochs give results identical to one
        of ten, for schedules without a horizon. The optimizer state is kept if the optimizer has
        equal settings, and set to zero otherwise.

        Parameters
        ----------
        x : array (n, n_in) or (n, …) with n_in values per row
            The first ``fit`` decides whether the inputs of the network are pixels, unless
            ``pixels`` of the network says so: they are if x is uint8 with a value above 1. Pixels
            are uint8 from 0 to 255, which count as value / 255, or floats in [0, 1]. Values are
            never scaled; uint8 of only 0 and 1 are values then. uint8 pixels, float32 and float64
            are read in place, whatever their strides; other numbers are converted. x must not
            change during the call: ``fit`` may train on a copy. pandas and polars data frames,
            lists and memory-mapped files are accepted. SciPy's sparse matrices stay sparse (the
            numba backend does not support them). Data larger than memory:
            :class:`pynn.data.Parquet`, :class:`pynn.data.Arrow`, arrays and data frames of Dask,
            or an iterable of batches ``(x, y)`` or ``(x, y, sample_weight)``, such as a
            ``DataLoader`` of PyTorch, which is read once for each epoch and once before.
        y : array (n,) or (n, n_out)
            Labels of any kind (integers, strings, booleans …), which become ``net.classes``;
            one-hot targets; for cross_entropy targets that sum to 1; for binary_cross_entropy
            targets in [0, 1]; for the other losses values, and for one output of these (n,).
            Integer labels from 0 to n_out − 1 are indices of the outputs. Later calls, also of
            ``evaluate``, require targets of the same kind; see ``classes``. None for sources and
            batches that contain them.
        sample_weight : array (n,), optional
            Weight of each row, 0 or from 1e-100 to 1e100; None for 1. The loss of a batch is
            Σ weight · loss / Σ weight, as in scikit-learn and as cross entropy with weights in
            PyTorch; whole numbers are repetitions of rows within their batch. A batch whose weights
            are all 0 makes no update, but counts as a step.
        class_weight : "balanced", dict or pandas series, optional
            Weight of each label, multiplied with ``sample_weight``: ``{label: weight}``, where
            other labels weigh 1, or ``"balanced"`` for n / (number of classes · rows of the class),
            as in scikit-learn. It counts and weights the rows to train on, not those of
            ``validation``. Not for regression, multi-label data and probabilities.
        missing_targets : {"error", "ignore"}
            ``"ignore"`` leaves NaN in targets of a regression or of multi-label data out of loss,
            gradient and accuracy: Σ weight · loss / Σ weight runs over the known targets. Targets
            of a softmax and labels must not be missing.
        epochs : int
            Number of passes over the data; with ``"lbfgs"`` the maximum number of iterations.
        batch_size : int, None or "full"
            Rows per update; None or ``"full"`` for all. The last batch may be shorter. By default
            each batch of an iterable of batches is an update.
        optimizer : str or Optimizer
            ``sgd``, ``momentum``, ``nesterov``, ``rmsprop``, ``adagrad``, ``adam``, ``adam_hat``,
            ``adamw``, ``amsgrad``, ``nadam``, ``lion``, or an object such as
            ``pynn.Adam(beta2=0.99)``; or ``lbfgs``, which trains on all rows at once and refuses
            values of ``batch_size`` (except None and ``"full"``), ``learning_rate`` and
            ``layer_rates`` that are not the defaults: see :class:`pynn.LBFGS`.
        learning_rate : float
            The step size, above 0.
        layer_rates : sequence of float (n_layers,), optional
            A factor of 0 or more on the learning rate of each layer, in the order of
            ``net.weights``; weight decay has the same factor. With 0 the gradient does not change
            the layer, but its optimizer state follows the gradient: see ``freeze``, which saves the
            time too.
        l2 : float
            Adds ½·l2·Σw² to the function that training minimises, over the weights, not the biases.
        l1 : float
            Adds l1·Σ|w| over the weights, not the biases, with the subgradient l1·sign(w). The
            reported loss has neither term.
        clip_norm : float, optional
            Limit of the L2 norm of the gradient of all parameters together, with its L1 and L2
            terms: a longer gradient is multiplied by clip_norm / (norm + 1e-6) before the update,
            as by ``clip_grad_norm_`` in PyTorch.
        max_norm : float, optional
            Limit of the L2 norm of the weights into each unit, outputs included: after each update,
            weights with a larger norm are multiplied by max_norm / norm.
        label_smoothing : float
            The share in [0, 1) of every target that is spread evenly over all outputs, for loss
            cross_entropy: it keeps the network from becoming overconfident. The training loss is
            computed with the smoothed targets, the validation loss is not. Labels become n · n_out
            floats.
        ema : float, optional
            Decay in (0, 1) of an exponential moving average of the parameters, such as 0.999.
            ``parameters`` are what trains; predictions, ``evaluate``, validation, metrics,
            ``activations`` and files use ``average``. The decay of update t is min(ema, (1 + t) /
            (10 + t)). Later calls with ``ema`` continue the average; the first update of a call
            without it drops it.
        schedule : str, Schedule or function, optional
            Factor on the learning rate of each step: ``constant``, ``step``, ``exponential``,
            ``inverse_time``, ``cosine``, ``cosine_restarts``, ``flat_cosine``, ``one_cycle``,
            ``warm_up``, ``reduce_on_plateau``, an object such as ``pynn.StepDecay(every=5)``, or a
            function of the time in epochs since the network's first training.
        validation : (x, y), (x, y, sample_weight) or float, optional
            Data to measure loss and accuracy on after every epoch, also as a source or an iterable
            of batches; or the share of the rows to hold out for it, in [0, 1), chosen by the seed;
            None or 0 for none. Held-out rows are copied; every call with equal y holds out the same
            rows. Their ``sample_weight`` weighs the validation loss, as in Keras.
        metrics : str, function, Metric, or list of them, optional
            Further measures of the validation rows after every epoch: names such as ``"auc"`` and
            ``"f1"``, functions ``(y_true, y_pred)`` of labels or values, and :class:`pynn.Metric`
            objects. Records have them as ``record.validation_auc``. Each epoch takes another pass
            over these rows, without dropout.
        training_metrics : bool
            Whether to compute the metrics on the training rows too, as ``record.auc``. A pass over
            all of them takes a third to two thirds of the time of an epoch.
        stratify : bool
            Whether ``validation=share`` holds out the same share of the rows of each class, rounded
            by largest remainder. A class of a single row is trained on. It has no effect on targets
            that are no class labels.
        shuffle : bool or "blocks"
            Whether each epoch permutes the rows. ``"blocks"`` is for memory-mapped files that do
            not fit into memory: blocks of 1 MiB are read in a random order, and rows are shuffled
            within groups of 64 blocks. Sources read their parts in a random order and shuffle rows
            within windows; an iterable of batches keeps its order.
        callbacks : function, Callback, or list of them
            Called after every epoch; see :mod:`pynn.callbacks`. Training stops when one returns
            True.
        progress : {"auto", True, False} or function
            A progress bar, or lines if rich is not installed: ``"auto"`` only in a terminal or
            notebook. A function receives the record so far, ten times a second and after each
            epoch.
        checkpoint : Checkpoint, optional
            Where and how often to write checkpoints.
        resume : bool
            Whether to continue from the checkpoint, if it exists. Run a killed script again: it
            continues and ends with exactly the same weights as an uninterrupted run. If the run
            was complete, nothing is trained, and its history is returned.

        Returns
        -------
        History
            One record per epoch of this call, including those before it was resumed.
            ``net.history`` also has the epochs of earlier calls.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is unchanged then. Also if an argument differs
            from those of the run that wrote the checkpoint to resume from, or if the checkpoint of
            an incomplete run would be lost. A schedule is evaluated before each epoch: if it fails
            in a later one, the network is as after an exception in a callback.
        RuntimeError
            If this network is in training, or was when this process was forked.
        DivergenceError
            If a loss, a weight or a value of the optimizer state is no longer finite; the error
            names epoch, step and layer. The network is restored to its state before that step: its
            weights are finite, its outputs may not be.

        Notes
        -----
        Loss and accuracy of training are means over the epoch, measured on each batch before its
        update, with dropout and noise and without the L2 term. With ``"lbfgs"`` they are measured
        after each iteration, on all rows, and the learning rate in the records is 0. With weights
        the loss is Σ weight · loss / Σ weight over the rows of the epoch, and the accuracy is the
        weight of the rows classified correctly divided by Σ weight.

        After Ctrl-C, MemoryError or an exception in a callback, parameters and optimizer state are
        those of the last whole update, the history has every whole epoch, and the exception is
        passed on. Before the first update, the network is unchanged. An interrupted epoch is not
        counted: the next ``fit`` starts it again, or continues in its middle with a checkpoint and
        ``resume=True``.
        """
        # All parameters, which are the fields of Arguments.
        given = {name: value for name, value in locals().items() if name != "self"}
        # Imported here, since it takes a quarter of the time of importing pynn.
        from .training import fit
        from .training.job import Arguments

        return fit.fit(self, self._model, self._engine, self._lock, Arguments(**given))

    # --- Predictions ----------------------------------------------------------------------------

    def compile(self, precision: str | None = None) -> Predictor:
        """Return a frozen copy that predicts faster, with ``predict`` and ``predict_proba``.

        It packs the present parameters once (the average, if there is one), where a network reads
        them in every call, since they may have changed. It does not follow a later training. In
        full precision its results are identical to those of the network.

        Parameters
        ----------
        precision : {"full", "bf16"}, optional
            As for ``Network``; None means that of the network. ``"bf16"`` is faster for wide layers
            and changes the outputs by about 1 %.

        Returns
        -------
        Predictor
            With the backend and the threads of the network.

        Raises
        ------
        ValueError
            If the precision is another one, or does not fit the dtype.
        ImportError
            If the backend does not have the precision on this processor.

        Examples
        --------
        >>> import numpy as np
        >>> from pynn import Network
        >>> net = Network([4, 8, 3], backend="numpy")
        >>> net.compile().predict_proba(np.ones((2, 4))).shape
        (2, 3)
        """
        from .training.predictor import predictor

        return predictor(self._model, precision, self._asked)

    # --- Saving, copying and pickling -------------------------------------------------------------

    def save(self, path: PathLike) -> None:
        """Write the network to a safetensors file, atomically.

        The file holds weights, biases, classes, seed, history and the optimizer state, so that
        ``fit`` can continue after :func:`pynn.load`. For custom functions it holds their names, and
        a few of their values to recognise them.

        Parameters
        ----------
        path : str or path-like
            The file to write; its folder must exist.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        model_file.save(path, self._model)

    def __copy__(self) -> Network:
        # A shallow copy would share optimizer state and history with the original.
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        left_out = "_lock", "_engine", "_meaning"
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_model" not in state:
            state = from_earlier_pickle(state)
        model, (backend, threads) = state["_model"], state["_asked"]
        engine = backend_choice.create(backend, model.architecture, threads)
        self._set_up(model, engine, (backend, threads))
        self.__dict__.update(state)


def load(
    path: PathLike,
    *,
    functions: Activation | Loss | Sequence[Activation | Loss] = (),
    backend: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Network:
    """Return the network that ``Network.save`` wrote. Loading never executes code from the file.

    Parameters
    ----------
    path : str or path-like
        A file written by ``Network.save``, or a checkpoint; or the folder of a run of ``pynn
        train``, whose ``model.safetensors`` is read.
    functions : Activation, Loss or list of them
        The custom functions of the network, which no file holds; the list may contain others.
    backend, threads
        As for ``Network``.
    precision : {"full", "bf16"}, optional
        As for ``Network``; None means the precision of the saved network.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If ``functions`` contains another object.
    ValueError
        If the file is incomplete, is no model, or its parts do not fit each other; if one of its
        functions is not given, or has other values than in the network that was saved.
    ImportError
        If the backend, or the precision on it, is not available.
    """
    choose("backend", backend, ("auto", *BACKENDS))
    if precision is not None:
        choose("precision", precision, PRECISIONS)
    threads = arguments.threads(threads)
    given: list[Any] = [functions] if isinstance(functions, Function) else list(functions)
    for found in given:
        if not isinstance(found, (Activation, Loss)):
            raise TypeError(
                f"functions: found {found!r}, expected pynn.Activation and pynn.Loss objects"
            )
    model = model_file.load(path, given, precision)
    return Network._from_model(model, backend, threads)


def from_onnx(
    path: PathLike,
    *,
    loss: str | LossFunction | Loss | None = None,
    output_name: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
    seed: int | None = 0,
) -> Network:
    """Return the network in an ONNX file, to predict with or to train further; needs onnx.

    The file must be a chain of dense layers (Gemm, or MatMul and Add) with the activations of
    pynn, in any form that frameworks write, as exported by PyTorch, Keras, skl2onnx or
    ``Network.to_onnx``. A shift and scale of the inputs, such as scikit-learn's StandardScaler, and
    those of the outputs in float64 after float32 layers, become the statistics of ``standardize``
    and ``standardize_targets``. Other scales of columns, such as batch norms, become a part of the
    weights; layer norms, rms norms and residual layers stay. A log-softmax at the end is read as
    softmax. Loading never executes code from the file.

    Parameters
    ----------
    path : str or path-like
        The file. Its weights may be in another file of the same folder.
    loss : str, LossFunction or Loss, optional
        As for ``Network``. If the file ends without an activation, as a classifier of PyTorch does,
        the network gets the output activation of the loss. None means cross_entropy after a
        softmax, binary_cross_entropy after a sigmoid, hinge for labels without either, and
        otherwise mse.
    output_name : str, optional
        The output of the file; required if several are tensors of floats and none of these is
        named ``probabilities``.
    backend, threads, seed
        As for ``Network``.

    Returns
    -------
    Network
        With ``classes`` if the file has labels, and with ``pixels`` if it scales uint8 by 1 / 255.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If onnx is not installed.
    ValueError
        If the file is no ONNX file, or contains what a network does not have; the error names the
        node.

    Examples
    --------
    >>> net = pynn.from_onnx("model.onnx", loss="cross_entropy")  # doctest: +SKIP
    """
    from .exports import onnx_layers, onnx_network, onnx_terms

    def create(sizes: list[int], **settings: Any) -> Network:
        return Network(sizes, **settings, backend=backend, threads=threads, seed=seed)

    found = onnx_layers.find(onnx_terms.read(path), output_name)
    return onnx_network.network(create, found, loss)
