"""pynn in PyTorch: modules of PyTorch that pynn trains, and a module that computes with pynn.

:func:`fit` trains an ``nn.Sequential`` in place, on pynn's compiled core. :class:`MLP` is an
``nn.Module``, for models, losses, optimizers and training loops of PyTorch.
"""

from __future__ import annotations

try:
    from .fitting import fit
    from .module import MLP
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "pynn.torch needs PyTorch: pip install 'pynn-mlp[torch]'", name="torch"
    ) from error

__all__ = ["MLP", "fit"]
