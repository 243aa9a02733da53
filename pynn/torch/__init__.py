"""Multilayer perceptrons for PyTorch whose passes run in pynn's kernels.

:class:`MLP` is an ``nn.Module``, for models, losses, optimizers and training loops of PyTorch.
"""

from __future__ import annotations

from .module import MLP

__all__ = ["MLP"]
