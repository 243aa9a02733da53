"""Compare pynn with the other libraries that are installed: ``python -m benchmarks``."""

from __future__ import annotations

import sys
from pathlib import Path

# ``python -m`` puts the checkout first, whose pynn may be without a compiled core. Move it to the
# end, so that an installed pynn is found first.
_checkout = Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _checkout] + [str(_checkout)]
