"""The comparison of predictions."""

from __future__ import annotations

import sys

import pytest

from benchmarks import predict


def test_a_small_network_is_timed_and_its_tables_are_complete(monkeypatch, capsys):
    pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(predict, "BLOCK", 0.002)
    arguments = [
        "--networks",
        "6-5-3",
        "--rows",
        "1",
        "4",
        "--threads",
        "1",
        "--rounds",
        "2",
        "--peers",
    ]
    monkeypatch.setattr(sys, "argv", ["predict", *arguments, "--peers"])
    assert predict.main() == 0
    text = capsys.readouterr().out
    heads = "| network | rows | pynn [µs] | pynn compiled [µs] | best peer / pynn |"
    assert heads in text
    assert "| 6-5-3 | 4 | " in text
    assert text.count("| 6-5-3 | 1 | pynn") == 2  # latency of both
    assert predict.Cell((6, 3), 1, 1, {"pynn": 2.0, "a": 3.0, "b": 4.0}, {}).ratio("pynn") == (
        "1.50 (a)"
    )
    assert "CPU: " in text


def test_entrants_that_disagree_are_refused():
    x = predict.inputs(4, 3, dense=True)
    with pytest.raises(ValueError, match="other: found other probabilities"):
        predict.check({"pynn": lambda x: x, "other": lambda x: x + 1}, x)
