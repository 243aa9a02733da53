"""Data sets that are installed with pynn (`mnist`) or with scikit-learn (all others)."""

from .bundled import mnist
from .small import breast_cancer, diabetes, digits, iris

__all__ = ["breast_cancer", "diabetes", "digits", "iris", "mnist"]
