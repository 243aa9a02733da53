"""Load data sets from files: IDX, CSV, NPZ, folders."""

from .csv import (
    load_csv,
)
from .dataset import (
    Dataset,
    Pair,
)
from .idx import (
    idx_header,
    load_idx,
)
from .loading import (
    load,
)
from .npz import (
    load_npz,
)

__all__ = [
    "Dataset",
    "Pair",
    "idx_header",
    "load",
    "load_csv",
    "load_idx",
    "load_npz",
]
