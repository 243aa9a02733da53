"""Parts of pynn whose package is not installed: the error says what to install."""

from __future__ import annotations

import pytest

from .child import python


@pytest.mark.parametrize(
    ("package", "use"), [("torch", "pynn.torch"), ("keras", "pynn.keras.fit(None)")]
)
def test_the_error_names_the_extra(package: str, use: str) -> None:
    lines = f"import sys; sys.modules[{package!r}] = None; import pynn; {use}"
    assert f"pip install 'pynn-mlp[{package}]'" in python(lines).stderr.splitlines()[-1]
