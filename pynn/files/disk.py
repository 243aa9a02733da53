"""Atomic writing of files, and checks of paths."""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def as_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Path:
    """Return a path given by a user, as text, bytes or an object with a path.

    Raises
    ------
    TypeError
        If it is another object.
    ValueError
        If it is empty or holds a null character, which no system permits.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path: found {path!r}, expected the path of a file") from None
    if not text or "\0" in text:
        raise ValueError(f"path: found {text!r}, expected the path of a file")
    return Path(text)


def require_file(path: str | os.PathLike[str], expected: str) -> Path:
    """Return `path` as a `Path` if it is a regular file.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    expected : str
        Kind of file, for the error message, e.g. ``"an IDX file"``.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is a folder, a device or a pipe.
    """
    path = as_path(path)
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{path}: found a folder, expected {expected}")
    if path.exists():
        raise ValueError(f"{path}: found a device or a pipe, expected {expected}")
    home = "; ~ is not expanded, use os.path.expanduser" if path.parts[0][:1] == "~" else ""
    raise FileNotFoundError(f"{path}: found no such file, expected {expected}{home}")


def require_folder(path: str | os.PathLike[str]) -> None:
    """Raise FileNotFoundError if the folder of a file to write does not exist."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: found no folder {folder}, expected one")


def counted(n: int, noun: str) -> str:
    """Return a number and its noun: 1 row, 1,000 rows."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def shown(value: object, longest: int = 200) -> str:
    """Return the text of a value from a file for an error: short, on one line, safe to print.

    Parameters
    ----------
    value : object
        Text or an exception, shown as it is, or another object, shown by its representation.
    longest : int, default 200
        Maximum number of characters.

    Returns
    -------
    str
        Text in which line breaks, control characters and lone surrogates are escaped.
    """
    try:
        text = str(value) if isinstance(value, (str, Exception)) else repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deep to show"
    # Cut before escaping as well, since a value from a file may be very long.
    cut = text[: longest + 1]
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
    return plain if len(plain) <= longest else plain[: longest - 2] + " …"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file completely or not at all.

    The data go to a temporary file in the same folder, which replaces `path` in one step when the
    ``with`` block ends and keeps its permissions. If the block raises, `path` is unchanged and the
    temporary file is removed.

    Parameters
    ----------
    path : str or path-like
        The file to write. Its folder must exist. A symbolic link is followed.
    sync : bool, default True
        Wait until the data are on the disk, so that a power failure cannot leave an incomplete
        file. Use False only for files that can be created again and are verified when read.

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
        If the system refuses to write there, or the symbolic link leads back to itself.

    Examples
    --------
    >>> with atomic_write("report.txt") as file:
    ...     _ = file.write(b"all of it")
    """
    # Replace the file that a symbolic link points to, not the link.
    path = as_path(path)
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # only the path of links that point to each other still is a link
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    old = None
    if target.exists():
        old = require_file(target, "a file to write to").stat()
    else:
        require_folder(target)
    # tempfile would ignore the umask and create a file that only its owner can read.
    temporary = target.with_name(f"{_leftover(target)}{os.urandom(8).hex()}.tmp")
    try:
        with _create(temporary, target) as file:
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
        # The system's error about a write, such as a full disk, has no file name.
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)
        raise
    if sync:
        _sync_folder(target.parent)


def _create(path: Path, target: Path) -> BinaryIO:
    """Open a new file that will replace ``target``, which errors name."""
    try:
        return open(path, "xb")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(target)) from error


def _make_like(path: Path, old: os.stat_result) -> None:
    """Give an empty file the owner and permissions of another file, as far as that is allowed."""
    new, mode = path.stat(), old.st_mode & 0o7777
    if hasattr(os, "chown") and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(OSError):
            os.chown(path, old.st_uid, old.st_gid)
    # Some file systems have no permissions and refuse to set them.
    if new.st_mode & 0o7777 != mode and os.name == "posix":
        with contextlib.suppress(OSError):
            path.chmod(mode)


def _leftover(target: Path) -> str:
    """Return the prefix of the names of temporary files of `target`, of fixed length."""
    return f".pynn-{zlib.crc32(os.fsencode(target.name)):08x}-"


def _sync_folder(folder: Path) -> None:
    # The folder holds the new name. Windows cannot open folders; some systems cannot sync them.
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove temporary files of `path` that were left by killed processes.

    No other process may be writing `path`.
    """
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(f"{_leftover(target)}*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()
