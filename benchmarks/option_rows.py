"""The options of pynn: their names elsewhere, a test, and how to measure what they cost.

A new option is a line here. ``python -m benchmarks.options`` measures the lines and writes
docs/reference/options.md; ``tests/benchmarks/test_options.py`` runs each of them on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import pynn

if TYPE_CHECKING:
    from .option_problem import Problem

Settings = Mapping[str, Any]
Call = Callable[["pynn.Network", "Problem"], object]


@dataclass(frozen=True)
class Option:
    """A row of a table.

    ``fit`` and ``network`` are the arguments that switch the option on; ``fit`` may be a function
    of the problem, for arguments with an element per row. The option is compared with training
    without it: Adam, labels and cross entropy, or values and mse.
    """

    name: str
    """In pynn, as Markdown; unique in its table."""
    sklearn: str
    keras: str
    torch: str
    """The names elsewhere, as Markdown; empty if there are none."""
    test: str
    """Node id of a test, relative to tests/."""
    fit: Settings | Callable[[Problem], Settings] = field(default_factory=dict)
    network: Settings = field(default_factory=dict)
    off: Settings = field(default_factory=dict)
    """Arguments of ``fit`` with the option and without."""
    target: str = "labels"
    """``"labels"``, or an attribute of ``Problem``: ``"values"`` (n,) or ``"pair"`` (n, 2)."""
    prepare: Call | None = None
    """Called with the new network."""
    call: Call | None = None
    """Measured instead of an epoch, on a network that was trained with the other settings."""
    against: Call | None = None
    """What ``call`` is compared with; None for no comparison."""
    gap: str = ""
    """Name in ``pynn.backends.gaps`` if not every backend has the option."""
    cases: Sequence[str] = ("D", "F")
    """The cases that it is measured on."""
    backend: str = "auto"
    """Backend to measure on, with and without the option."""


def _activation(name: str, torch: str, keras: str, sklearn: str = "", given: Any = None) -> Option:
    test = "backends/test_torch.py::test_a_hundred_steps_follow_pytorch"
    chosen = given or name.strip("`")
    return Option(name, sklearn, keras, torch, test, network={"activation": chosen})


ACTIVATIONS = [
    _activation("`identity`", "`Identity`", "`linear`", "`identity`"),
    _activation("`sigmoid`", "`Sigmoid`", "`sigmoid`", "`logistic`"),
    _activation("`tanh`", "`Tanh`", "`tanh`", "`tanh`"),
    _activation("`leaky_relu`", "`LeakyReLU`", "`LeakyReLU(0.01)`"),
    _activation("`LeakyReLU(0.2)`", "`LeakyReLU(0.2)`", "`leaky_relu`", "", pynn.LeakyReLU(0.2)),
    _activation("`elu`", "`ELU`", "`elu`"),
    _activation("`ELU(0.5)`", "`ELU(0.5)`", "`ELU(0.5)`", "", pynn.ELU(0.5)),
    _activation("`selu`", "`SELU`", "`selu`"),
    _activation("`gelu`", "`GELU`", "`gelu`"),
    _activation("`gelu_tanh`", '`GELU(approximate="tanh")`', "`gelu(approximate=True)`"),
    _activation("`silu`", "`SiLU`", "`silu`"),
    _activation("`mish`", "`Mish`", "`mish`"),
    _activation("`softplus`", "`Softplus`", "`softplus`"),
    _activation("`Softplus(2)`", "`Softplus(2)`", "", "", pynn.Softplus(2.0)),
    _activation("`softsign`", "`Softsign`", "`softsign`"),
    _activation("`relu6`", "`ReLU6`", "`relu6`"),
    _activation("`hard_sigmoid`", "`Hardsigmoid`", "`hard_sigmoid`"),
    _activation("`hard_swish`", "`Hardswish`", "`hard_swish`"),
    _activation("`hard_tanh`", "`Hardtanh`", "`hard_tanh`"),
]

_OF_CLASSES = "test_network_losses.py::test_classes"
_OF_VALUES = "test_network_losses.py::test_values_in_the_shape_of_y"
_SEVERAL = "test_network_losses.py::test_several_outputs_for_each_column_of_y"


def _loss(name: str, sklearn: str, keras: str, torch: str, given: Any, **more: Any) -> Option:
    more = {"test": _OF_VALUES, "target": "values", **more}
    return Option(name, sklearn, keras, torch, network={"loss": given}, **more)


_CLASSES = {"test": _OF_CLASSES, "target": "labels"}
LOSSES = [
    _loss(
        *("`binary_cross_entropy`", "`log_loss`", "`BinaryCrossentropy`", "`BCEWithLogitsLoss`"),
        "binary_cross_entropy",
        **_CLASSES,
    ),
    _loss(
        *("`focal`", "", "`CategoricalFocalCrossentropy`", "`sigmoid_focal_loss` of torchvision"),
        "focal",
        **_CLASSES,
    ),
    _loss("`hinge`", '`SGDClassifier(loss="hinge")`', "`Hinge`", "", "hinge", **_CLASSES),
    _loss("`squared_hinge`", "`LinearSVC`", "`SquaredHinge`", "", "squared_hinge", **_CLASSES),
    _loss("`mae`", "`absolute_error`", "`MeanAbsoluteError`", "`L1Loss`", "mae"),
    _loss("`Huber(delta)`", "`HuberRegressor`", "`Huber`", "`HuberLoss`", pynn.Huber(0.5)),
    _loss("`log_cosh`", "", "`LogCosh`", "", "log_cosh"),
    _loss("`Quantile(q)`", "`QuantileRegressor`", "", "", pynn.Quantile(0.9)),
    _loss("`Quantile([…])`", "", "", "", pynn.Quantile([0.1, 0.5, 0.9]), test=_SEVERAL),
    _loss(
        "`poisson`", '`MLPRegressor(loss="poisson")`', "`Poisson`", "`PoissonNLLLoss`", "poisson"
    ),
    _loss("`gamma`", "`GammaRegressor`", "", "", "gamma"),
    _loss("`Tweedie(power)`", "`TweedieRegressor`", "`Tweedie`", "", pynn.Tweedie(1.5)),
    _loss("`gaussian_nll`", "", "", "`GaussianNLLLoss`", "gaussian_nll", test=_SEVERAL),
]

WEIGHTS = [
    Option(
        *("`sample_weight`", "`sample_weight`", "`sample_weight`", '`reduction="none"`, times w'),
        "training/test_weights.py::test_whole_weights_are_repetitions_of_rows",
        lambda p: {"sample_weight": p.weights},
    ),
    Option(
        *('`class_weight="balanced"`', "`compute_sample_weight`", "`class_weight`"),
        *(
            "`weight` of the loss",
            "training/test_weights.py::test_balanced_weights_agree_with_scikit_learn",
        ),
        {"class_weight": "balanced"},
    ),
    Option(
        *('`missing_targets="ignore"`', "", "", "a mask"),
        "training/test_weights.py::test_missing_targets_have_no_influence",
        lambda p: {"missing_targets": "ignore", "y": p.incomplete},
        target="pair",
    ),
    Option(
        *("`label_smoothing`", "", "`label_smoothing`", "`label_smoothing`"),
        "test_network.py::test_label_smoothing",
        {"label_smoothing": 0.1},
    ),
]

_HELD = {"validation": 0.1}


def _equal(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return float(np.mean(y_true == y_pred))


def _metric(name: str, sklearn: str, keras: str, torchmetrics: str, **more: Any) -> Option:
    metric = more.pop("given", name.strip("`"))
    more = {
        "test": "training/test_measurement.py::test_metrics_are_those_of_evaluate_after_each_epoch",
        "off": _HELD,
        **more,
    }
    return Option(name, sklearn, keras, torchmetrics, fit={"metrics": metric}, **more)


_REGRESSION = {"target": "values", "test": "training/test_measurement.py::test_regression"}
METRICS = [
    _metric("`balanced_accuracy`", "`balanced_accuracy_score`", "", '`Accuracy(average="macro")`'),
    _metric("`precision`", "`precision_score`", "`Precision`", "`Precision`"),
    _metric("`recall`", "`recall_score`", "`Recall`", "`Recall`"),
    _metric("`f1`", "`f1_score`", "`F1Score`", "`F1Score`"),
    _metric("`auc`", "`roc_auc_score`", "`AUC`", "`AUROC`"),
    _metric("`average_precision`", "`average_precision_score`", '`AUC(curve="PR")`',
            "`AveragePrecision`"),
    _metric("`top_<k>`", "`top_k_accuracy_score`", "`TopKCategoricalAccuracy`", "`Accuracy(top_k)`",
            given="top_1"),
    _metric("`mcc`", "`matthews_corrcoef`", "", "`MatthewsCorrCoef`"),
    _metric("`log_loss`", "`log_loss`", "`CategoricalCrossentropy`", ""),
    _metric("`brier`", "`brier_score_loss`", "", ""),
    _metric("`mae`", "`mean_absolute_error`", "`MeanAbsoluteError`", "`MeanAbsoluteError`",
            **_REGRESSION),
    _metric("`mse`", "`mean_squared_error`", "`MeanSquaredError`", "`MeanSquaredError`",
            **_REGRESSION),
    _metric("`rmse`", "`root_mean_squared_error`", "`RootMeanSquaredError`",
            "`MeanSquaredError(squared=False)`", **_REGRESSION),
    _metric("`mape`", "`mean_absolute_percentage_error`", "`MeanAbsolutePercentageError`",
            "`MeanAbsolutePercentageError`", **_REGRESSION),
    _metric("`median_absolute_error`", "`median_absolute_error`", "", "", **_REGRESSION),
    _metric("`r2`", "`r2_score`", "`R2Score`", "`R2Score`", **_REGRESSION),
    _metric("`explained_variance`", "`explained_variance_score`", "", "`ExplainedVariance`",
            **_REGRESSION),
    _metric("a name of scikit-learn", "`f1_weighted`", "", "", given="f1_weighted",
            test="metrics/test_measure.py::test_scorers_and_functions_of_scikit_learn"),
    _metric("a function", "`make_scorer`", "a function", "", given=_equal,
            test="training/test_measurement.py::test_functions_and_the_accuracy"),
    Option("`training_metrics=True`", "", "default", "",
           "training/test_measurement.py::test_metrics_are_those_of_evaluate_after_each_epoch",
           {"metrics": "f1", "training_metrics": True}),
]  # fmt: skip

INPUTS = [
    Option(
        *("`standardize=True`", "`StandardScaler`", "`Normalization`", "`transforms.Normalize`"),
        "training/test_standardise.py::test_training_is_that_on_rows_standardized_before",
        network={"standardize": True},
    ),
    Option(
        *("`standardize_targets=True`", "`TransformedTargetRegressor`", "", ""),
        "training/test_standardise_targets.py::test_distributions_and_lists_of_quantiles",
        network={"standardize_targets": True},
        target="values",
    ),
    Option(
        *("sparse rows", "sparse matrices", "", ""),
        "test_network.py::test_sparse_rows_give_the_results_of_dense_rows",
        lambda p: {"x": p.sparse},
        gap="sparse",
    ),
    Option(
        *("`shuffle=False`", "`shuffle=False`", "`shuffle=False`", "`DataLoader(shuffle=False)`"),
        "backends/test_parity.py::test_rows_in_a_given_order_follow_the_reference",
        {"shuffle": False},
    ),
    Option(
        *('`shuffle="blocks"`', "", "`Dataset.shuffle`", ""),
        "training/test_blocks.py::test_backends_agree",
        {"shuffle": "blocks"},
    ),
]

NETWORK = [
    Option(
        *("`dropout=0.1`", "", "`Dropout`", "`Dropout`"),
        "backends/test_parity.py::test_every_optimizer_follows_the_reference",
        network={"dropout": 0.1},
    ),
    Option(
        *("`input_dropout=0.1`", "", "`Dropout`", "`Dropout`"),
        "backends/test_noise.py::test_training_follows_the_reference",
        network={"input_dropout": 0.1},
    ),
    Option(
        *("`input_noise=0.1`", "", "`GaussianNoise`", "x + 0.1 * `torch.randn`"),
        "backends/test_noise.py::test_training_follows_the_reference",
        network={"input_noise": 0.1},
        gap="noise",
    ),
    Option(
        *("`hidden_noise=0.1`", "", "`GaussianNoise`", "x + 0.1 * `torch.randn`"),
        "backends/test_noise.py::test_training_follows_the_reference",
        network={"hidden_noise": 0.1},
        gap="noise",
    ),
    Option(
        *("`ema=0.999`", "", "`use_ema`", "`AveragedModel`"),
        "backends/test_average.py::test_averages_follow_the_reference",
        {"ema": 0.999},
    ),
    Option(
        *("`l2`", "`alpha`, divided by the rows", "`kernel_regularizer`, halved", "`weight_decay`"),
        "backends/test_parity.py::test_every_optimizer_follows_the_reference",
        {"l2": 1e-4},
    ),
    Option(
        *('`norm="layer"`', "", "`LayerNormalization`", "`LayerNorm`"),
        "backends/test_norms.py::test_training_follows_the_reference",
        network={"norm": "layer"},
        gap="norm",
    ),
    Option(
        *('`norm="layer", norm_after=True`', "", "the order of layers", "the order of modules"),
        "backends/test_norms.py::test_training_follows_the_reference",
        network={"norm": "layer", "norm_after": True},
        gap="norm",
    ),
    Option(
        *('`norm="batch"`', "", "`BatchNormalization`", "`BatchNorm1d`"),
        "backends/test_batch_norm.py::test_training_follows_the_reference",
        network={"norm": "batch"},
        gap="norm",
    ),
    Option(
        *('`norm="rms"`', "", "`RMSNormalization`", "`RMSNorm`"),
        "backends/test_norms.py::test_training_follows_the_reference",
        network={"norm": "rms"},
        gap="norm",
    ),
    Option(
        *("`l1`", "", "`kernel_regularizer`", "a term of the loss"),
        "training/test_penalties.py::test_backends_follow_the_reference",
        {"l1": 1e-5},
    ),
    Option(
        *("`clip_norm`", "", "`global_clipnorm`", "`clip_grad_norm_`"),
        "training/test_penalties.py::test_backends_follow_the_reference",
        {"clip_norm": 1.0},
    ),
    Option(
        *("`max_norm`", "", "`MaxNorm`", "`renorm`"),
        "training/test_penalties.py::test_backends_follow_the_reference",
        {"max_norm": 3.0},
    ),
    Option(
        *("`residual=True`", "", "`Add`", "x + f(x)"),
        "backends/test_residual.py::test_training_follows_the_reference",
        network={"residual": True},
        cases=("F",),  # D has no hidden layer with as many outputs as inputs
    ),
    Option(
        *("`init`", "", "`kernel_initializer`", "`torch.nn.init`"),
        "test_network.py::test_initialisers_by_layer",
        network={"init": "glorot_uniform"},
    ),
    Option(
        *('`dtype="float64"`', "dtype of X", '`dtype="float64"`', "`double()`"),
        "test_network.py::test_dtype_rounds_the_same_draw",
        network={"dtype": "float64"},
    ),
    Option(
        *('`precision="bf16"`', "", '`Policy("mixed_bfloat16")`', "`autocast`"),
        "backends/test_bf16.py::test_bf16_follows_the_reference_with_every_optimizer",
        network={"precision": "bf16"},
        gap="bf16",
    ),
    Option(
        *("`pynn.Activation`", "", "a function", "`autograd.Function`"),
        "spec/test_functions.py::test_gradients_are_slopes",
        network={
            "activation": pynn.Activation(
                "square", lambda z: np.maximum(z, 0) ** 2, lambda z: 2 * np.maximum(z, 0)
            )
        },
        gap="functions",
        backend="numba",
    ),
    Option(
        *("`pynn.Loss`", "", "a function", "a function"),
        "spec/test_functions.py::test_a_network_of_values",
        network={
            "loss": pynn.Loss(
                "fourth", lambda a, t: (a - t) ** 4, lambda a, t: 4 * (a - t) ** 3, "identity"
            )
        },
        target="values",
        gap="functions",
        backend="numba",
    ),
]

_OF_OPTIMIZERS = "backends/test_parity.py::test_every_optimizer_follows_the_reference"


def _optimizer(name: str, sklearn: str, keras: str, torch: str, given: Any) -> Option:
    return Option(name, sklearn, keras, torch, _OF_OPTIMIZERS, {"optimizer": given})


OPTIMIZERS = [
    _optimizer("`sgd`", '`solver="sgd", momentum=0`', "`SGD`", "`SGD`", "sgd"),
    _optimizer("`momentum`", "`momentum`", "`SGD(momentum)`", "`SGD(momentum)`", "momentum"),
    _optimizer(
        *("`nesterov`", "`nesterovs_momentum`", "`SGD(nesterov=True)`", "`SGD(nesterov=True)`"),
        "nesterov",
    ),
    _optimizer("`rmsprop`", "", "`RMSprop`", "`RMSprop`", "rmsprop"),
    _optimizer("`adagrad`", "", "`Adagrad`", "`Adagrad`", "adagrad"),
    _optimizer("`adamw`", "", "`AdamW`", "`AdamW`", "adamw"),
    _optimizer("`AdamHat`", "", "`Adam`", "", pynn.AdamHat()),
    _optimizer("`amsgrad`", "", "`Adam(amsgrad=True)`", "`Adam(amsgrad=True)`", "amsgrad"),
    _optimizer("`nadam`", "", "`Nadam`", "`NAdam`", "nadam"),
    _optimizer("`lion`", "", "`Lion`", "", "lion"),
    Option(
        *("`lbfgs`", '`solver="lbfgs"`', "", "`LBFGS`"),
        "training/test_lbfgs.py::test_iterations_are_those_of_scipy",
        {"optimizer": "lbfgs", "batch_size": "full", "learning_rate": 1e-3},
    ),
]

_OF_SCHEDULES = "test_network.py::test_schedules_reach_the_record"


def _schedule(name: str, keras: str, torch: str, given: Any, **more: Any) -> Option:
    more = {"test": _OF_SCHEDULES, "sklearn": "", **more}
    return Option(name, keras=keras, torch=torch, fit={"schedule": given}, **more)


SCHEDULES = [
    _schedule("`step`", "`PiecewiseConstantDecay`", "`StepLR`", "step"),
    _schedule("`exponential`", "`ExponentialDecay`", "`ExponentialLR`", "exponential"),
    _schedule(
        *("`inverse_time`", "`InverseTimeDecay`", "", "inverse_time"),
        sklearn='`learning_rate="invscaling"`',
    ),
    _schedule("`cosine`", "`CosineDecay`", "`CosineAnnealingLR`", "cosine"),
    _schedule(
        *("`cosine_restarts`", "`CosineDecayRestarts`", "`CosineAnnealingWarmRestarts`"),
        "cosine_restarts",
    ),
    _schedule("`flat_cosine`", "", "", "flat_cosine"),
    _schedule("`one_cycle`", "", "`OneCycleLR`", "one_cycle"),
    _schedule("`warm_up`", "`CosineDecay(warmup_steps)`", "`LinearLR`", "warm_up"),
    _schedule(
        *("`ReduceOnPlateau`", "`ReduceLROnPlateau`", "`ReduceLROnPlateau`"),
        pynn.ReduceOnPlateau("loss"),
        sklearn='`learning_rate="adaptive"`',
        test="training/test_plateau.py::test_rates_follow_the_history",
    ),
    _schedule(
        *("a function", "`LearningRateScheduler`", "`LambdaLR`", lambda epoch: 0.9**epoch),
    ),
]

_OF_VALIDATION = "training/test_split.py::test_classes_are_held_out_in_proportion"


def _callback(make: Callable[[Problem], Any], **more: Any) -> Callable[[Problem], Settings]:
    return lambda p: {"callbacks": make(p), **more}


TRAINING = [
    Option(
        *("`validation=0.1`", "`validation_fraction`", "`validation_split`", "", _OF_VALIDATION),
        _HELD,
    ),
    Option(
        *("`validation=(x, y)`", "", "`validation_data`", ""),
        "test_network.py::test_held_out_rows_are_not_trained_on",
        lambda p: {"validation": (p.x[::10], p.y[::10])},
    ),
    Option(
        *("`stratify=False`", "", "default", ""),
        "training/test_split.py::test_only_class_labels_are_stratified",
        {"stratify": False},
        off=_HELD,
    ),
    Option(
        *("`EarlyStopping`", "`early_stopping=True`", "`EarlyStopping`", ""),
        "test_network_training.py::test_keeps_the_best",
        _callback(lambda p: pynn.EarlyStopping(patience=9)),
        off=_HELD,
    ),
    Option(
        *("`SaveBest`", "", "`ModelCheckpoint(save_best_only=True)`", ""),
        "training/test_measurement.py::test_the_best_epoch_is_saved",
        _callback(lambda p: pynn.SaveBest(p.folder / "best.safetensors")),
        off=_HELD,
    ),
    Option(
        *("`Checkpoint(path, epochs=1)`", "", "`BackupAndRestore`", "`torch.save`"),
        "training/test_checkpoint_resume.py::test_a_resumed_run_ends_like_an_uninterrupted_one",
        lambda p: {"checkpoint": pynn.Checkpoint(p.folder / "run.ckpt", epochs=1)},
    ),
    Option(
        *("a function as callback", "", "`LambdaCallback`", "code in the loop"),
        "test_network_training.py::test_function_as_callback",
        _callback(lambda p: lambda net, record: None),
    ),
    Option(
        *("`progress`, a function", "`verbose=True`", "`verbose=1`", ""),
        "test_network_training.py::test_a_progress_function_does_not_change_results",
        {"progress": lambda record: None},
    ),
]

ACCESS = [
    Option(
        *("`freeze(0)`", "", "`trainable = False`", "`requires_grad_(False)`"),
        "training/test_freeze.py::test_backends_follow_the_reference",
        prepare=lambda net, p: net.freeze(0),
    ),
    Option(
        *("`layer_rates`", "", "", "`params` groups of an optimizer"),
        "training/test_layer_rates.py::test_backends_follow_the_reference",
        {"layer_rates": [0.1, 0.5, 1.0]},
    ),
    Option(
        *("`activations(x, 0)`, against `predict`", "", "`Model(inputs, layer.output)`", "a hook"),
        "training/test_access.py::test_activations_are_the_outputs_of_each_layer",
        call=lambda net, p: net.activations(p.x, 0),
        against=lambda net, p: net.predict(p.x),
    ),
    Option(
        *("`predict_distribution`, against `predict`", "`return_std`", "", ""),
        "test_network_losses.py::test_predict_distribution",
        network={"loss": "gaussian_nll"},
        target="values",
        call=lambda net, p: net.predict_distribution(p.x),
        against=lambda net, p: net.predict(p.x),
    ),
    Option(
        *("`loss_and_gradient`, against an epoch", "", "`GradientTape`", "`backward`"),
        "training/test_weights.py::test_loss_and_gradient_have_weights",
        call=lambda net, p: net.loss_and_gradient(p.x, p.y),
        against=lambda net, p: net.fit(p.x, p.y, epochs=1, **p.settings),
    ),
    Option(
        *("`evaluate`, against an epoch", "`score`", "`evaluate`", ""),
        "training/test_measurement.py::test_metrics_are_those_of_evaluate_after_each_epoch",
        call=lambda net, p: net.evaluate(p.x, p.y),
        against=lambda net, p: net.fit(p.x, p.y, epochs=1, **p.settings),
    ),
    Option(
        *("`find_learning_rate`, 100 steps", "", "", "`lr_find` of fastai"),
        "training/test_range_test.py::test_losses_are_those_of_training_with_these_rates",
        call=lambda net, p: net.find_learning_rate(p.x, p.y, batch_size=p.settings["batch_size"]),
    ),
]

GROUPS: dict[str, Sequence[Option]] = {
    "Activations": ACTIVATIONS,
    "Losses": LOSSES,
    "Weights and missing targets": WEIGHTS,
    "Metrics": METRICS,
    "Inputs": INPUTS,
    "Network": NETWORK,
    "Optimizers": OPTIMIZERS,
    "Schedules": SCHEDULES,
    "Validation, stopping, checkpoints": TRAINING,
    "Access": ACCESS,
}
"""All options by the heading of their table."""
