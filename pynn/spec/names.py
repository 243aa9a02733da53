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
)
OUTPUTS = (*ACTIVATIONS, "softmax", "exp")
BACKENDS = ("cython", "numba", "numpy")
"""From the fastest to the slowest."""
CONVENTIONS = ("pynn", "sklearn")
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

LEAKY_SLOPE = 0.01
"""Slope of ``leaky_relu`` for negative inputs (Maas et al. 2013, section 2)."""
