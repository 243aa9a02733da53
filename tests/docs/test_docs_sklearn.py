"""docs/how-to/scikit-learn.md misses no name, and its examples print what it says."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn", "1.7")

import sklearn.neural_network
from sklearn.datasets import load_iris
from threadpoolctl import threadpool_limits

import pynn.sklearn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "scikit-learn.md"
CLASSES = [
    (getattr(pynn.sklearn, name), getattr(sklearn.neural_network, name))
    for name in ("MLPClassifier", "MLPRegressor")
]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*?) \| ([^|]*?) ?\|$")


def table(title: str) -> dict[str, tuple[str, str]]:
    """What the page says about each name of a table, and its remark."""
    _, found, rest = PAGE.read_text(encoding="utf-8").partition(f"\n**{title}**\n\n")
    assert found
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    matches = [ROW.match(row) for row in rows]
    assert all(matches), [row for row, match in zip(rows, matches, strict=True) if not match]
    names = [match[1] for match in matches if match]
    assert len(set(names)) == len(names)
    return {match[1]: (match[2], match[3]) for match in matches if match}


def parameters(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def methods(kind: type) -> set[str]:
    """Public ones, those that metadata routing makes among them."""
    return {name for name in dir(kind) if name[0] != "_" and callable(getattr(kind, name))}


def fitted(kind: type) -> set[str]:
    """Public names that any way of fitting leaves, and public properties."""
    x, y = load_iris(return_X_y=True, as_frame=True)
    found = {name for name in dir(kind) if name[0] != "_" and not callable(getattr(kind, name))}
    for settings in ({}, {"early_stopping": True}, {"solver": "sgd"}, {"solver": "lbfgs"}):
        model = kind(max_iter=2, **settings).fit(x, y)
        found |= {name for name in vars(model) if name[0] != "_" and name[-1] == "_"}
    return found


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("title", "names"),
    [("Parameters", parameters), ("Methods", methods), ("Fitted attributes", fitted)],
)
def test_every_name_has_its_row(title, names):
    rows = table(title)
    ours, theirs = (set().union(*map(names, kinds)) for kinds in zip(*CLASSES, strict=True))
    assert theirs <= ours
    assert set(rows) == ours
    assert {name for name, (kind, _) in rows.items() if kind == "new"} == ours - theirs
    assert {kind for kind, _ in rows.values()} <= {"same", "same, faster", "new"}
    classifier, regressor = (names(kind) for kind, _ in CLASSES)
    for only, word in (classifier - regressor, "classifier"), (regressor - classifier, "regressor"):
        marked = {name for name, (_, remark) in rows.items() if f"of the {word}" in remark}
        assert marked == only


def parts(text: str) -> list[str | float]:
    """The words and the numbers of a text, times of whole lines left out."""
    found = re.split(r"(\d+(?:\.\d+)?)", re.sub(r"^\S+ s$", "", text, flags=re.M))
    return [float(part) if k % 2 else part for k, part in enumerate(found)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_examples_print_what_the_page_says():
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == PAGE.read_text(encoding="utf-8").count("```python")
    namespace: dict[str, object] = {}
    # OpenBLAS with several threads is slow where other tests run at the same time.
    with threadpool_limits(1):
        for code, expected in blocks:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, str(PAGE), "exec"), namespace)
            found, said = parts(printed.getvalue()), parts(expected)
            assert found[::2] == said[::2], code
            assert found[1::2] == pytest.approx(said[1::2], rel=0.01), code
    before, after = blocks[0][1], blocks[1][1]
    assert before.splitlines()[1:] == after.splitlines()[1:]


def test_the_change_is_one_line():
    page = PAGE.read_text(encoding="utf-8")
    before, after = (code for code, _ in BLOCK.findall(page)[:2])
    removed, added = re.findall(r"^[-+](from .*)$", page, re.M)
    assert removed in before.splitlines()
    assert after.splitlines()[0] == added
    # The rest of it is the same again.
    assert before.endswith(after.partition("\n\n")[2])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_page_lists_the_settings_that_lbfgs_refuses():
    page = PAGE.read_text(encoding="utf-8")
    said = page.partition('**`solver="lbfgs"`** refuses')[2].partition(". ")[0]
    x, y = load_iris(return_X_y=True)
    given = {
        "dropout": 0.1,
        "class_weight": "balanced",
        "init": "he_normal",
        "weight_decay": 0.1,
        "schedule": "cosine",
        "dtype": "float32",
        "threads": 1,
        "callbacks": print,
        "progress": True,
    }
    new = {name for name, (kind, _) in table("Parameters").items() if kind == "new"}
    assert set(given) == new - {"quantile", "delta"}  # parameters of the regressor alone
    refused = set()
    for name, value in given.items():
        model = pynn.sklearn.MLPClassifier(solver="lbfgs", max_iter=3, **{name: value})
        with contextlib.suppress(ValueError):
            model.fit(x, y)
            continue
        with pytest.raises(ValueError, match=f"^{name}: found"):
            model.fit(x, y)
        refused.add(name)
    with pytest.raises(ValueError, match="^validation_data: found"):
        pynn.sklearn.MLPClassifier(solver="lbfgs").fit(x, y, validation_data=(x, y))
    assert set(re.findall(r"`(\w+)`", said)) == {*refused, "validation_data"}
