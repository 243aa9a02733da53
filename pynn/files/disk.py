"""Files on disk: whole-or-not-at-all writing, and models as safetensors with JSON metadata.

Loading a model never runs code: a safetensors file holds numbers and text, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def require_file(path: str | os.PathLike[str], expected: str) -> Path:
    """Return `path` as a `Path` if a regular file is there.

    Parameters
    ----------
    path : str or path-like
        Where the file should be.
    expected : str
        What the file should be, for the error message, e.g. ``"an IDX file"``.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If a folder, a device or a pipe is there.
    """
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{path}: found a folder, expected {expected}")
    if path.exists():
        raise ValueError(f"{path}: found a device or a pipe, expected {expected}")
    raise FileNotFoundError(f"{path}: found no such file, expected {expected}")


def shown(value: object, longest: int = 200) -> str:
    """Return what an error says of something a file held: short, on one line, safe to print.

    Parameters
    ----------
    value : object
        Text as it is to be shown; an exception, of which the text is; or anything else, of which
        the representation is.
    longest : int, default 200
        How many characters are shown.

    Returns
    -------
    str
        Line breaks, control characters and halves of surrogate pairs are escaped.
    """
    try:
        text = str(value) if isinstance(value, (str, Exception)) else repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deep to show"
    # Cut before anything is escaped too: what a file held may be long.
    cut = text[: longest + 1]
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
    return plain if len(plain) <= longest else plain[: longest - 2] + " …"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file whole or not at all.

    What is written goes to a temporary file in the same folder, which takes the place of `path`
    in one step when the ``with`` block ends, with the permissions that it had. If the block raises,
    `path` stays as it was and the temporary file is removed.

    Parameters
    ----------
    path : str or path-like
        The file to write. Its folder must exist. A symbolic link is followed.
    sync : bool, default True
        Wait until the disk holds the data, so that not even a power cut leaves half a file.
        Turn it off only for what can be made again and is verified when read.

    Yields
    ------
    binary file
        Open for writing, e.g. for ``file.write(data)`` or ``figure.savefig(file)``.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If `path` is a folder, a device or a pipe.
    OSError
        If the system refuses to write there.

    Examples
    --------
    >>> with atomic_write("report.txt") as file:
    ...     _ = file.write(b"all of it")
    """
    # Replacing a link would cut it off from the file that it names.
    target = Path(os.path.realpath(path))
    old = None
    if target.exists():
        old = require_file(target, "a file to write to").stat()
    elif not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: found no folder {target.parent}, expected one")
    # Not tempfile: its files can be read by their owner alone, whatever the umask says.
    temporary = target.with_name(f"{_leftover(target)}{os.urandom(8).hex()}.tmp")
    try:
        file = open(temporary, "xb")  # noqa: SIM115
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(target)) from error
    try:
        with file:
            if old is not None:
                _make_like(temporary, old)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # What the system says of a write, such as that the disk is full, names no file.
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)
        raise
    if sync:
        _sync_folder(target.parent)


def _make_like(path: Path, old: os.stat_result) -> None:
    """Give a file, as yet empty, the owner and the permissions of another, as far as one may."""
    new, mode = path.stat(), old.st_mode & 0o7777
    if hasattr(os, "chown") and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(OSError):
            os.chown(path, old.st_uid, old.st_gid)
    # Some file systems keep none, and refuse.
    if new.st_mode & 0o7777 != mode and os.name == "posix":
        with contextlib.suppress(OSError):
            path.chmod(mode)


def _leftover(target: Path) -> str:
    """How the names of temporary files of this file begin: short, however long its own is."""
    return f".pynn-{zlib.crc32(os.fsencode(target.name)):08x}-"


def _sync_folder(folder: Path) -> None:
    # The new name is in the folder. Windows does not open folders; some systems do not sync them.
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files of writers of `path` that were killed.

    Only for a file that nobody else is writing.
    """
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(f"{_leftover(target)}*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()
