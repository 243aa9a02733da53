"""Time pynn against the libraries that are installed beside it: ``python -m benchmarks``."""

from __future__ import annotations

import sys
from pathlib import Path

# ``python -m`` has put the checkout first, whose pynn may be source alone: one that is installed
# goes before it.
_checkout = Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _checkout] + [str(_checkout)]
