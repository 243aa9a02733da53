"""Load data sets from files: IDX, CSV and NPZ files become NumPy arrays.

`load` chooses the loader. `Table` encodes the columns of a table as inputs of a network. A file
that cannot be used causes one error that names the fault. No loader runs code from a file.
"""

from .arrow import Arrow
from .csv import load_csv
from .dataset import Dataset, Pair
from .idx import idx_header, load_idx
from .loading import load
from .npz import load_npz
from .parquet import Parquet
from .stream import Source
from .table import Table

__all__ = [
    "Arrow",
    "Dataset",
    "Pair",
    "Parquet",
    "Source",
    "Table",
    "idx_header",
    "load",
    "load_csv",
    "load_idx",
    "load_npz",
]
