"""Plain data: architectures, optimizers, schedules, custom functions, random numbers."""

from .activations import (
    ELU,
    PARAMETRIC,
    LeakyReLU,
    Parametric,
    Softplus,
)
from .architecture import (
    Architecture,
)
from .arguments import (
    choose,
)
from .functions import (
    Activation,
    Function,
    Loss,
)
from .losses import (
    LOSSES,
    Huber,
    LossFunction,
    Quantile,
    as_loss,
)
from .names import (
    ACTIVATIONS,
    BF16_OUTPUTS,
    CONVENTIONS,
    DTYPES,
    INITIALISERS,
    OUTPUTS,
    PRECISIONS,
)
from .optimizers import (
    LBFGS,
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamHat,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    RMSProp,
    as_optimizer,
)
from .schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    OneCycle,
    Schedule,
    StepDecay,
    WarmUp,
    as_schedule,
)

__all__ = [
    "ACTIVATIONS",
    "BF16_OUTPUTS",
    "CONVENTIONS",
    "DTYPES",
    "ELU",
    "INITIALISERS",
    "LBFGS",
    "LOSSES",
    "OPTIMIZERS",
    "OUTPUTS",
    "PARAMETRIC",
    "PRECISIONS",
    "SCHEDULES",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamHat",
    "AdamW",
    "Architecture",
    "Constant",
    "Cosine",
    "Exponential",
    "Function",
    "Huber",
    "InverseTime",
    "LeakyReLU",
    "Loss",
    "LossFunction",
    "Momentum",
    "Nesterov",
    "OneCycle",
    "Optimizer",
    "Parametric",
    "Quantile",
    "RMSProp",
    "Schedule",
    "Softplus",
    "StepDecay",
    "WarmUp",
    "as_loss",
    "as_optimizer",
    "as_schedule",
    "choose",
]
