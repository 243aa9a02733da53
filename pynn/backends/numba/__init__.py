"""The Numba backend: the algorithm of ``reference.py``, compiled when it first runs."""
