"""Load data sets from files: IDX, CSV and NPZ files become NumPy arrays.

`load` chooses the loader. A file that cannot be used causes one error that names the fault. No
loader runs code from a file.
"""

from .csv import load_csv
from .dataset import Dataset, Pair
from .idx import idx_header, load_idx
from .loading import load
from .npz import load_npz

__all__ = [
    "Dataset",
    "Pair",
    "idx_header",
    "load",
    "load_csv",
    "load_idx",
    "load_npz",
]
