"""Philox against its published vectors, and what pynn draws from it."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.spec import philox

VECTORS = [  # the authors' Random123 library, file kat_vectors, philox4x32 10
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter: tuple[int, ...], key: tuple[int, int], expected: str) -> None:
    block, row, epoch, stream = counter
    seed = key[0] | key[1] << 32
    found = philox.philox(seed, np.array([block]), row, epoch, stream)
    assert found.dtype == np.uint32
    assert " ".join(f"{w:08x}" for w in found[0]) == expected


def test_words_are_read_from_consecutive_blocks() -> None:
    found = philox.words(5, 11, epoch=2, stream=3, row=4)
    assert found.shape == (11,)
    assert (found[4:8] == philox.philox(5, np.array(1), 4, 2, 3)).all()
    assert (philox.words(5, 6, 2, 3, 4) == found[:6]).all()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000])
def test_permutation_holds_every_row_once(n: int) -> None:
    order = philox.permutation(1, 0, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutation_depends_on_seed_and_epoch() -> None:
    orders = [philox.permutation(s, e, 50).tolist() for s in (1, 2, 2**40) for e in (0, 1)]
    assert len(set(map(tuple, orders))) == 6


def test_permutation_is_fair() -> None:
    counts = np.zeros((4, 4))
    for epoch in range(4000):
        counts[np.arange(4), philox.permutation(9, epoch, 4)] += 1
    assert np.abs(counts / 1000 - 1).max() < 0.15  # 5 standard deviations of a fair one


def test_dropout_mask_does_not_depend_on_how_rows_are_cut() -> None:
    whole = philox.dropout_mask(1, 2, 0, 0, (10, 7), 0.4)
    part = philox.dropout_mask(1, 2, 0, 6, (4, 7), 0.4)
    assert (whole[6:] == part).all()
    assert not (whole == philox.dropout_mask(1, 2, 1, 0, (10, 7), 0.4)).all()
    assert not (whole == philox.dropout_mask(1, 3, 0, 0, (10, 7), 0.4)).all()


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
def test_dropout_rate(rate: float) -> None:
    kept = philox.dropout_mask(1, 0, 0, 0, (400, 250), rate).mean()
    assert abs(kept - (1 - rate)) < 0.01


def test_uniform_and_normal_have_their_moments() -> None:
    u, z = philox.uniform(3, 100_001, 8), philox.normal(3, 100_001, 8)
    assert u.shape == z.shape == (100_001,)
    assert u.min() > 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.002
    assert abs(z.mean()) < 0.02
    assert abs(z.var() - 1) < 0.02
    assert abs((z**4).mean() - 3) < 0.15
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.02
