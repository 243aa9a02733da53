"""Runs the examples and writes their pages of the documentation: python examples/make_pages.py.

Each page of docs/tutorials has the text and code of a script, what it printed and its plots. It
needs jupytext, nbclient and ipykernel, and takes some minutes; arguments such as ``1 4`` run these
examples alone. Example 3 runs for 300 of its 3,000 epochs. The comparisons with Keras and PyTorch
are left out.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
from make_notebooks import EXAMPLES, SCRIPTS, notebook

FOLDER = EXAMPLES.parent / "docs" / "tutorials"
SHORTER = {"3": ("epochs=3_000", "epochs=300")}
"""What is run instead of the code on the page."""
LEFT_OUT = r"picture   |training took |.* (ms per epoch|updates per second)"
"""Lines that the page leaves out: names of files, and times of a machine in use."""
LINES = 20
"""The most lines of one output; of longer ones the first and the last are shown."""


def page_of(script: Path) -> Path:
    """Return the path of a script's page."""
    return FOLDER / f"{script.stem.partition('_')[2].replace('_', '-')}.md"


def shown(source: str) -> str:
    """Return the source of a cell as the page shows it."""
    return re.sub(r"^(#+) \d\. ", r"\1 ", source.replace("import twins\n", "").strip())


def cells_of(script: Path) -> list[str]:
    """Return the sources that the page of a script shows, in their order."""
    cells = jupytext.read(script, fmt="py:percent").cells
    return [shown(cell.source) for cell in cells if "twins." not in cell.source]


def run(script: Path) -> list[Any]:
    """Return the executed cells of a script's notebook that belong on its page."""
    from nbclient import NotebookClient

    made = notebook(script)
    made.cells = [cell for cell in made.cells if "twins." not in cell.source]
    for cell in made.cells:
        for old, new in [SHORTER[script.stem[0]]] if script.stem[0] in SHORTER else []:
            cell.source = cell.source.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "examples"
        shutil.copytree(EXAMPLES, copy)
        where = {"metadata": {"path": str(copy / "notebooks")}}
        NotebookClient(made, timeout=3000, resources=where).execute()
    return [cell for cell in made.cells if not cell.source.startswith("import sys\n\nsys.path")]


def save_picture(png: str, path: Path) -> None:
    """Write a plot with few colours, which take a third of the space."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def output_of(cell: Any, page: Path, pictures: list[Path]) -> str:
    """Return what a cell printed and drew, as Markdown; its plots are written beside the page."""
    outputs = cell.get("outputs", [])
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    lines = [line for line in printed.splitlines() if not re.match(LEFT_OUT, line)]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 6], "…", *lines[-5:]]
    parts = ["```text\n" + "\n".join(lines) + "\n```"] if lines else []
    for output in outputs:
        png = output.get("data", {}).get("image/png")
        if png:
            pictures.append(page.parent / "images" / f"{page.stem}-{len(pictures) + 1}.png")
            pictures[-1].parent.mkdir(exist_ok=True)
            save_picture(png, pictures[-1])
            parts.append(f"![Plot of this step](images/{pictures[-1].name})")
    return "\n\n".join(parts)


def about(script: Path) -> str:
    """Return the sentences about the script that follow the introduction of its page."""
    text = (
        f"In a checkout, `python examples/{script.name}` runs this "
        f"[script](../../examples/{script.name}), which is also a "
        f"[notebook](../../examples/notebooks/{script.stem}.ipynb). `options` and `save` of "
        "[`common.py`](../../examples/common.py) read the command line and save plots."
    )
    if script.stem[0] in SHORTER:
        text += (
            "\n\nThe output is that of 300 epochs, which are less accurate than all 3,000: "
            "[The five classics](classics.md) has the accuracies of these."
        )
    return text


def write(script: Path) -> None:
    """Run a script and write its page."""
    page = page_of(script)
    parts: list[str] = []
    pictures: list[Path] = []
    for cell in run(script):
        source = shown(cell.source)
        for new, old in [SHORTER[script.stem[0]][::-1]] if script.stem[0] in SHORTER else []:
            source = source.replace(new, old)
        if cell.cell_type == "markdown":
            parts.append(source)
        else:
            parts += [f"```python\n{source}\n```", output_of(cell, page, pictures)]
        if len(parts) == 1:
            parts.append(about(script))
    page.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    print(page.relative_to(EXAMPLES.parent))


if __name__ == "__main__":
    for script in SCRIPTS:
        if not sys.argv[1:] or script.stem[0] in sys.argv[1:]:
            write(script)
