"""Numbers, arrays, texts and comments in C."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

Array = np.ndarray

C_TYPES = {"float32": "float", "float64": "double", "uint8": "unsigned char"}


PLAIN = frozenset(f"{string.ascii_letters}{string.digits} _-.,:=/+")
"""Characters that need no escape in a text."""
PER_LINE = 6
"""Numbers in a line."""


def suffix(dtype: str) -> str:
    """Return the suffix of functions and constants of a type: f for float."""
    return "f" if dtype == "float32" else ""


def literal(value: float, dtype: str) -> str:
    """Return a constant from which a compiler makes exactly this number of the type."""
    text = f"{value:.9g}" if dtype == "float32" else f"{value:.17g}"
    return (text if "." in text or "e" in text else f"{text}.0") + suffix(dtype)


def array(name: str, values: Array, dtype: str) -> list[str]:
    """Return the lines of a constant array."""
    flat = np.asarray(values, dtype).ravel()
    words = [literal(value, dtype) for value in flat.tolist()]
    rows = (", ".join(words[k : k + PER_LINE]) for k in range(0, len(words), PER_LINE))
    return [
        f"static const {C_TYPES[dtype]} {name}[{flat.size}] = {{",
        *(f"    {row}," for row in rows),
        "};",
    ]


def text_of(text: str) -> str:
    """Return a string constant of UTF-8; every byte that is not plain is escaped."""
    plain = (chr(b) if chr(b) in PLAIN else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def comment(lines: Sequence[str]) -> list[str]:
    """Return a comment of ASCII text that cannot end early."""
    found = ["/*"]
    for line in lines:
        # No end or begin of a comment, and no trigraph.
        safe = ascii(line)[1:-1].replace("*", "\\x2a").replace("??", "?\\x3f")
        found.append(f" * {safe}".rstrip())
    return [*found, " */"]
