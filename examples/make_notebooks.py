"""Writes a notebook for each example: python examples/make_notebooks.py (needs jupytext).

The notebooks are in examples/notebooks, without outputs; run them to see the outputs. To change a
notebook, change its script and run this program again.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

EXAMPLES = Path(__file__).resolve().parent
SCRIPTS = sorted(set(EXAMPLES.glob("[1-9]_*.py")) - set(EXAMPLES.glob("*_torch.py")))


def notebook(script: Path) -> NotebookNode:
    """Return the notebook of a script."""
    made = jupytext.read(script, fmt="py:percent")
    # A notebook runs in its own folder, where it cannot import the modules of the scripts.
    made.cells.insert(1, new_code_cell('import sys\n\nsys.path.append("..")'))
    made.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for k, cell in enumerate(made.cells):  # reproducible names
        cell["id"] = f"cell-{k}"
    return made


def path_of(script: Path) -> Path:
    """Return the path of a script's notebook."""
    return script.parent / "notebooks" / f"{script.stem}.ipynb"


def text_of(script: Path) -> str:
    """Return the notebook of a script as the text of its file."""
    return jupytext.writes(notebook(script), fmt="ipynb") + "\n"


if __name__ == "__main__":
    for script in SCRIPTS:
        path_of(script).parent.mkdir(exist_ok=True)
        path_of(script).write_text(text_of(script), encoding="utf-8")
        print(path_of(script).relative_to(EXAMPLES.parent))
