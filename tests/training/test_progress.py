"""Where ``progress="auto"`` shows progress."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import pynn
from pynn.training import progress
from tests.child import python


class Colab:
    """A shell whose class is not that of Jupyter."""

    kernel, config = object(), {"IPKernelApp": {}}


class Databricks:
    def __init__(self):
        self.config = {"IPKernelApp": {}}


class JupyterLite:
    kernel = object()


class Terminal:
    def __init__(self):
        self.config = {"TerminalInteractiveShell": {}}


class Broken:
    kernel = config = None


@pytest.fixture
def shell(monkeypatch):
    """Return a function that makes an object the running IPython shell."""

    def use(found):
        module = ModuleType("IPython")
        module.get_ipython = lambda: found
        monkeypatch.setitem(sys.modules, "IPython", module)

    return use


@pytest.mark.parametrize("kind", [Colab, Databricks, JupyterLite])
@pytest.mark.parametrize("widgets", [False, True])
def test_notebooks_of_any_product_show_progress(kind, widgets, shell, monkeypatch):
    made = []
    monkeypatch.setattr(progress, "_has", lambda package: widgets)
    monkeypatch.setattr(progress, "Bar", lambda *arguments: made.append(arguments) or "bar")
    shell(kind())
    found = progress.reporter("auto", 0, 2)
    assert found == "bar" if widgets else isinstance(found, progress.Lines)
    assert made == ([(0, 2, True)] if widgets else [])
    assert progress.reporter(False, 0, 2) is None


@pytest.mark.parametrize("found", [None, Terminal(), Broken(), SimpleNamespace()])
def test_other_shells_are_no_notebooks(found, shell):
    shell(found)
    assert progress.reporter("auto", 0, 2) is None


def test_ipython_that_is_still_being_imported_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    assert progress.reporter("auto", 0, 2) is None
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert progress.reporter("auto", 0, 2) is None


def test_fit_prints_lines_in_a_notebook(shell, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_has", lambda package: False)
    shell(Colab())
    pynn.Network([2, 2], backend="numpy").fit(np.zeros((4, 2)), [0, 1, 0, 1], epochs=1)
    assert "epoch 1/1  loss" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:install")
def test_the_bar_is_drawn_in_notebooks_that_rich_does_not_recognise():
    pytest.importorskip("rich")
    bar = progress.Bar(0, 1, True)
    try:
        assert bar._bar.console.is_jupyter
    finally:
        bar.close()


KERNEL = """
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from ipykernel.inprocess.manager import InProcessKernelManager
from pynn.training.progress import _in_notebook

assert not _in_notebook()
InProcessKernelManager().start_kernel()
assert _in_notebook()
"""
TERMINAL = """
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from pynn.training.progress import _in_notebook

TerminalInteractiveShell.instance()
assert not _in_notebook()
"""


@pytest.mark.parametrize("code", [KERNEL, TERMINAL])
def test_the_shells_of_ipython(code, tmp_path):
    pytest.importorskip("ipykernel")
    done = python(code, environment={"IPYTHONDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr


def record(epoch: int, **more) -> pynn.Record:
    values = {"loss": 0.25, "learning_rate": 0.1, "seconds": 1.0, "samples_per_second": 1234.0}
    values |= {"accuracy": 0.5, "validation_loss": 0.5, "validation_accuracy": 0.4}
    return pynn.Record(epoch=epoch, step=9, steps=9, **(values | more))


def test_many_epochs_have_a_row_for_every_nth():
    assert [progress.rows_apart(n) for n in (0, 1, 40, 100, 101, 200, 201, 1000, 1001)] == [
        *(1, 1, 1, 1, 10, 10, 20, 50, 100)
    ]  # fmt: skip


def test_a_row_loses_its_last_parts_in_a_narrow_terminal():
    found = record(7, metrics={"validation_auc": 0.75, "validation_f1": 0.5})
    whole = "epoch  7/40  loss 0.2500  accuracy 50.00 %  validation 40.00 %  auc 0.75  f1 0.5"
    assert progress.row(found, 40) == f"{whole}  1.2 k samples/s"
    assert progress.row(found, 40, 81) == whole
    assert progress.row(found, 40, 79) == whole.removesuffix("  f1 0.5")
    both = record(7, metrics={"validation_auc": 0.75, "auc": 0.5})
    assert "  validation auc 0.75  auc 0.5  " in progress.row(both, 40)


def test_lines_say_which_epochs_they_leave_out(capsys):
    lines = progress.Lines(0, 120)
    for epoch in range(1, 26):
        lines.show(record(epoch))
    lines.close()
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "one line for every 10th epoch"
    assert [line[:13] for line in printed[1:]] == [
        *("epoch  10/120", "epoch  20/120", "epoch  25/120")
    ]  # fmt: skip


def test_the_bar_fits_80_columns_and_leaves_rows(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    bar = progress.Bar(0, 2)
    bar.show(record(1)._replace(step=3))
    bar.show(record(1))
    bar.close()
    printed = capsys.readouterr().err
    assert "elapsed" in printed
    assert "left" in printed
    assert "epoch 1/2  loss 0.2500  accuracy 50.00 %  validation 40.00 %" in printed
