"""Many networks at once: ``fit_many`` trains them, ``Ensemble`` combines their predictions."""

from .ensemble import Ensemble
from .errors import FitManyError
from .fit import fit_many
from .settings import Each

__all__ = ["Each", "Ensemble", "FitManyError", "fit_many"]
