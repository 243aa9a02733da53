"""The command line: from options to the words of the library, from its errors to one line."""

from __future__ import annotations

import functools
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn, TypeVar

import numpy as np
import typer

Command = TypeVar("Command", bound=Callable[..., None])

app = typer.Typer(
    help="Train dense neural networks on the CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# --- Errors ---------------------------------------------------------------------------------------


def _fail(message: str, code: int = 1) -> NoReturn:
    # The terminal may have closed.
    with suppress(OSError):
        typer.echo(f"pynn: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    typer.echo(f"pynn: {message}", err=True)


class _Terminated(KeyboardInterrupt):
    """A signal that ends a process, and is to save what Ctrl-C saves."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM, and SIGHUP of a terminal that closes, raise ``_Terminated``.

    But for those that somebody has given another meaning, as nohup does.
    """
    ours = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if ours else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]

    def stop(number: int, frame: object) -> NoReturn:
        # Some send it twice, and a shell both, which shall not break off the saving.
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


def _exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 and the number of the signal, as shells do."""
    number = interrupt.args[0] if isinstance(interrupt, _Terminated) else signal.SIGINT
    return 128 + int(number)


def _reported(command: Command) -> Command:
    """Make a command say what a user can do something about in one line instead of a traceback."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        try:
            with _terminable():
                command(**options)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt as interrupt:
            _fail("stopped", _exit_code(interrupt))
        except OSError as error:
            if error.strerror is None:
                _fail(str(error))
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror}")
        except (ValueError, TypeError, ImportError, MemoryError) as error:
            text = str(error) or type(error).__name__
            # The library names its argument; here that is an option.
            name = re.match(r"\w+", text)
            if name and name.group() in options and re.match(r"\w+(\[\d+\])?: ", text):
                text = "--" + name.group().replace("_", "-") + text[name.end() :]
            _fail(text)

    return run  # type: ignore[return-value]


# --- Commands -------------------------------------------------------------------------------------


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


def _result(name: str, result: Mapping[str, float | None]) -> str:
    accuracy = result.get("accuracy")
    if accuracy is None or np.isnan(accuracy):
        return f"{name} loss {result['loss']:.6g}".strip()
    return f"{name} accuracy {100 * accuracy:.2f} %".strip()
