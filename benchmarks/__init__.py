"""Time pynn against the libraries that are installed beside it: ``python -m benchmarks``."""
