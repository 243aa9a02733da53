"""The application: the commands are registered here, and their errors become one line.

Signals that end a process (Ctrl-C, SIGTERM, SIGHUP) raise KeyboardInterrupt in a command, so that
it can save its state.
"""

from __future__ import annotations

import functools
import re
import shutil
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn, TypeVar, cast

import numpy as np
import typer

Command = TypeVar("Command", bound=Callable[..., None])

app = typer.Typer(
    help="Train dense neural networks on the CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Example: pynn train runs/first --epochs 3, then pynn report runs/first. Documentation: "
    "https://pynn-mlp.github.io/pynn/; for Python: help(pynn.Network).",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from ..version import __version__

        typer.echo(f"pynn {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


# --- Errors ---------------------------------------------------------------------------------------


def reported(command: Command) -> Command:
    """Make a command print errors that the user can fix as one line instead of a traceback."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        _shown.clear()
        try:
            with warnings.catch_warnings(), _terminable():
                warnings.showwarning = show_warning
                command(**options)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt as interrupt:
            fail("stopped", exit_code(interrupt))
        except OSError as error:
            if error.strerror is None:
                fail(_name_option(str(error), options))
            place = f"{error.filename}: " if error.filename else ""
            fail(f"{place}{error.strerror}")
        except (ValueError, TypeError, ImportError, MemoryError) as error:
            fail(_name_option(str(error) or type(error).__name__, options))

    run.__doc__ = paragraphs(command.__doc__)
    return cast(Command, run)


def paragraphs(doc: str | None) -> str:
    """Return a docstring with each paragraph on one line: Typer would keep line breaks."""
    return "\n\n".join(" ".join(part.split()) for part in (doc or "").split("\n\n"))


def fail(message: str, code: int = 1) -> NoReturn:
    """Print an error as one line and exit with a code."""
    with suppress(OSError):  # the terminal may be closed
        typer.echo(f"pynn: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def _name_option(text: str, options: Mapping[str, Any]) -> str:
    """Replace the argument at the start of an error, such as ``l2:``, by its option, ``--l2:``."""
    name = re.match(r"\w+", text)
    if re.match(r"(run|model|folder): ", text):
        return "RUN" + text[text.index(":") :]
    if name and name.group() in options and re.match(r"\w+(\[\d+\])?: ", text):
        return "--" + name.group().replace("_", "-") + text[name.end() :]
    return text


_shown: set[str] = set()
"""The warnings that the command has printed."""


def show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning as one line, once; takes the place of ``warnings.showwarning``."""
    text = " ".join(str(message).split())
    if text not in _shown:
        _shown.add(text)
        typer.echo(f"pynn: {text}", err=True)


# --- Signals --------------------------------------------------------------------------------------


class _Terminated(KeyboardInterrupt):
    """A signal to end the process, handled like Ctrl-C."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM and SIGHUP (sent when a terminal closes) raise ``_Terminated``.

    Signals with other handlers keep them, such as SIGHUP under nohup.
    """
    # Only the main thread may set handlers.
    ours = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if ours else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]

    def stop(number: int, frame: object) -> NoReturn:
        # Some programs send SIGTERM twice, a shell sends both; the second must not stop the saving.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Terminated(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 plus the number of the signal, as shells do."""
    number = interrupt.args[0] if isinstance(interrupt, _Terminated) else signal.SIGINT
    return 128 + int(number)


# --- Output ---------------------------------------------------------------------------------------


def line(name: str, text: str) -> None:
    """Print a name and a text, which a terminal wraps between words."""
    if sys.stdout.isatty():
        width = max(40, shutil.get_terminal_size().columns)
        options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        text = textwrap.fill(f"{name:<10}{text}", width, subsequent_indent=" " * 10, **options)
        typer.echo(text)
    else:
        typer.echo(f"{name:<10}{text}")


def result_line(name: str, result: Mapping[str, float | None]) -> str:
    """Return the accuracy of an evaluation as text, or its loss if it has no accuracy."""
    accuracy = result.get("accuracy")
    if accuracy is None or np.isnan(accuracy):
        return f"{name} loss {result['loss']:.6g}".strip()
    return f"{name} accuracy {100 * accuracy:.2f} %".strip()


_NAMES = {name: name.upper() for name in ("auc", "f1", "mcc", "mae", "mse", "rmse", "mape", "r2")}
_NAMES["f1_macro"] = "macro F1"


def metric_lines(name: str, result: Mapping[str, float]) -> list[str]:
    """Return the metrics of an evaluation as lines of text."""
    return [
        f"{name} {_NAMES.get(metric, metric.replace('_', ' '))} {value:.6g}".strip()
        for metric, value in result.items()
        if metric not in ("loss", "accuracy")
    ]
