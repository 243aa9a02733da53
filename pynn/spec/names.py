"""Names of activations, outputs, losses and dtypes, and constants that all backends share."""

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
LOSSES = ("cross_entropy", "binary_cross_entropy", "mse", "poisson")
OUTPUT_OF_LOSS = {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "sigmoid",
    "mse": "identity",
    "poisson": "exp",
}
CONVENTIONS = ("pynn", "sklearn")
"""How the losses of rows make up what a batch makes small: see
``reference.loss_and_output_gradient`` and ``reference.weigh``."""

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
"""Layers of fewer outputs multiply in float32 with ``bf16`` too: they take little of the time, and
the last of a classifier decides on small differences."""

LEAKY_SLOPE = 0.01
"""Slope of ``leaky_relu`` for negative inputs (Maas et al. 2013, section 2)."""
