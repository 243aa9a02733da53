"""Figures, pyplot and styles."""

from __future__ import annotations

import sys

import pytest

from pynn.plots import classes, curves, style

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.child import python
from tests.plots.shared import history


def run(code: str) -> str:
    done = python(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


DRAW_AND_SAVE = """
import io, sys
import numpy as np
from pynn import plots
from pynn.training.history import History, Record
{before}
history = History([Record(1, 0.5), Record(2, 0.3)])
axes = history.plot()
import matplotlib, matplotlib.pyplot as plt
print(plt.gcf() is axes[0].figure, len(plt.get_fignums()), matplotlib.get_backend().lower())
file = io.BytesIO()
plt.savefig(file, format="rgba")
print(len(np.unique(np.frombuffer(file.getvalue(), "u1"))) > 10)
plt.close("all")
print(len(plt.get_fignums()))
"""


@pytest.mark.parametrize(
    ("before", "backend"),
    [
        ("", "agg"),
        ("import matplotlib.pyplot", "agg"),
        ("import matplotlib; matplotlib.use('svg')", "svg"),
        ("import matplotlib.pyplot as plt; plt.switch_backend('svg')", "svg"),
    ],
)
def test_pyplot_saves_a_plot_however_it_was_imported(before, backend):
    code = DRAW_AND_SAVE.format(before=before)
    done = python(code, environment={"MPLBACKEND": "agg"})
    assert done.stdout.split() == ["True", "1", backend, "True", "0"], done.stderr


def test_a_history_writes_a_file_without_pyplot(tmp_path):
    out = run(
        "import sys; from pynn.training.history import History, Record\n"
        f"axes = History([Record(1, 0.5)]).plot({str(tmp_path / 'a.svg')!r})\n"
        "print('matplotlib.pyplot' in sys.modules, len(axes))"
    )
    assert out.split() == ["False", "1"]
    assert (tmp_path / "a.svg").read_text().rstrip().endswith("</svg>")


def test_plots_are_drawn_in_a_dark_style():
    h = history(loss=[2.0, 1.0], validation_loss=[2.0, 1.5])
    (ax,) = curves.learning_curves(h, style="dark")
    paper = ax.get_facecolor()[:3]
    assert style.luminance(paper) < 0.02
    shown = [line.get_color() for line in ax.get_lines()]
    shown += [text.get_color() for text in ax.figure.findobj(Text) if text.get_text()]
    for color in (*shown, *style.DARK.colors, style.DARK.faint, style.DARK.grey):
        assert style.contrast(paper, to_rgb(color)) >= 4.5, color
    for color in (style.LIGHT.blue, style.LIGHT.faint):
        assert style.contrast((1, 1, 1), to_rgb(color)) >= 4.5
    assert style.contrast((1, 1, 1), to_rgb(style.ORANGE)) >= 3  # lines need less than text
    with pytest.raises(ValueError, match="style: found 'black', expected 'light', 'dark' or None"):
        curves.learning_curves(h, style="black")


def test_plots_follow_a_dark_background_of_the_user():
    import matplotlib.pyplot as plt

    h = history(loss=[2.0, 1.0])
    with plt.style.context("dark_background"):
        assert curves.learning_curves(h)[0].get_lines()[0].get_color() == style.DARK.blue
    dark = Figure(facecolor="black").add_subplot(facecolor="black")
    assert curves.learning_curves(h, dark)[0].get_lines()[0].get_color() == style.DARK.blue
    assert curves.learning_curves(h)[0].get_lines()[0].get_color() == style.BLUE


def test_figures_for_files_are_white_and_stay_away_from_pyplot():
    out = run(
        "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt\n"
        "from pynn import plots\n"
        "plt.style.use('dark_background'); plt.rcParams['font.family'] = ['serif']\n"
        "with plots.for_files():\n"
        "    ax = plots.confusion_matrix([0, 1], [1, 1])\n"
        "    print(plt.get_fignums(), ax.figure.get_facecolor(), plt.rcParams['font.family'])\n"
        "print(plt.rcParams['figure.facecolor'])"
    )
    assert out.splitlines() == ["[] (1.0, 1.0, 1.0, 1.0) ['serif']", "black"]


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'pynn-mlp\[plots\]'"):
        classes.confusion_matrix([0, 1], [0, 1])
