"""``pynn report``: a run as one HTML page, without other files or network access.

=============  =====================================================================================
module         subject
=============  =====================================================================================
``source``     the run that is shown: finished, interrupted or not finished yet
``findings``   predictions on its rows and their measures, computed once
``sections``   the sections of the page of a run
``classes``    the sections on classes and images
``verdict``    what happened, in sentences
``options``    settings that differ from defaults, and the command that repeats a run
``runs``       several runs: an index of a folder, and a page that compares them
``svg``        curves, points, bars as vector graphics
``numbers``    numbers and times as text
``html``       the page: its frame, tables and images; with ``style.css`` and ``script.js``
=============  =====================================================================================
"""

from __future__ import annotations

import os
from pathlib import Path

from ...files.disk import atomic_write
from ..folder import Run
from . import html, source
from .classes import class_sections, class_table
from .findings import Findings
from .sections import all_sections, environment, head, results, settings, timings

__all__ = [
    "Findings",
    "class_table",
    "environment",
    "head",
    "page",
    "results",
    "settings",
    "timings",
    "write",
    "write_text",
]


def write(
    folder: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the page of a run.

    The network is evaluated again, on the rows that ``pynn train`` evaluates; so an interrupted
    run has results too. A run that has not ended is shown as of its last checkpoint.

    Parameters
    ----------
    folder : path-like, optional
        The folder of the run; by default the newest in ``runs`` of the working directory.
    output : path-like, optional
        The file to write (atomically); by default ``report.html`` in `folder`.
    data : path-like, optional
        The data of the run, if they have moved.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError
        If the folder or the data do not exist.
    ValueError
        If the folder holds no run, or the run was trained on other data.
    ImportError
        If Pillow is not installed and the run has images.
    OSError
        If the file cannot be written.
    """
    found = source.read(folder, data)
    target = found.folder / "report.html" if output is None else Path(output)
    return write_text(target, page(found), given=output is not None)


def write_text(target: Path, text: str, given: bool) -> Path:
    """Write a page, but not through a symbolic link that the user did not name.

    ``given`` says that the user named the file.
    """
    if not given and target.is_symlink():
        # The folder may come from someone else, with a link to any file of the user.
        raise ValueError(f"{target}: found a symbolic link, expected a file or none")
    with atomic_write(target) as file:
        # Bytes of a path that are not UTF-8 become question marks.
        file.write(text.encode(errors="replace"))
    return target


def page(run: Run) -> str:
    """Return the page of a run as HTML."""
    name = run.folder.resolve().name
    found = Findings(run)
    return html.document(name, all_sections(found, name, class_sections(found)))
