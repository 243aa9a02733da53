"""Names of activations, outputs and dtypes, and constants that all backends share."""

from __future__ import annotations

ACTIVATIONS = (
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "softplus",
    "silu",
    "mish",
    "selu",
    "softsign",
    "relu6",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "gelu_tanh",
)
OUTPUTS = (*ACTIVATIONS, "softmax", "exp")
RESERVED = (
    *("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "softplus"),
    *("softmax", "exp", "cross_entropy", "binary_cross_entropy", "mse", "poisson"),
)
"""Names that custom functions cannot have.

Names of activations and losses that pynn got later are allowed, since scripts and files of earlier
versions may give them to custom functions; the custom function then replaces pynn's."""
BACKENDS = ("cython", "numba", "numpy")
"""From the fastest to the slowest."""
CONVENTIONS = ("pynn", "sklearn", "keras")
"""How losses of rows are combined to that of a batch: see ``backends/losses.py`` and
``backends/reference.py``, ``weigh``."""

INITIALISERS = (
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "zeros",
)
DTYPES = ("float32", "float64")
PRECISIONS = ("full", "bf16")
BF16_OUTPUTS = 16
"""Layers with fewer outputs multiply in float32 even with ``bf16``: they take little time, and the
decision of a classifier's last layer depends on small differences."""

RECTIFIERS = (
    *("relu", "leaky_relu", "elu", "gelu", "softplus"),
    *("silu", "mish", "relu6", "hard_swish", "gelu_tanh"),
)
"""Activations that are near zero or small on one side and grow on the other: he_normal is their
default initialiser."""
