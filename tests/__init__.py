"""The tests of pynn, in folders that mirror its packages."""

from __future__ import annotations

import sys
from pathlib import Path

# ``python -m tests.NAME`` puts the checkout first in sys.path, where pynn may lack its compiled
# core. Moved to the end, an installed pynn is found before it.
_checkout = Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _checkout] + [str(_checkout)]
