"""A loss over pairs of rows: a network learns to order digits from comparisons alone.

It is told of two pictures which digit is larger, never which digits they are. The loss of a pair is
log(1 + exp(score of the smaller − score of the larger)) (Burges et al. 2005), which no function of
one row can express; ``train_on`` takes it with its gradient.
"""

from __future__ import annotations

import os

import numpy as np

import pynn

quick = os.environ.get("PYNN_EXAMPLES_QUICK", "0") != "0"
(x, digit), (x_test, digit_test) = pynn.datasets.mnist()
pairs, epochs = (2_000, 2) if quick else (100_000, 5)
rng = np.random.default_rng(0)


def batches(size=100):
    """Yield pictures and, as y, which half of them each belongs to: first all smaller digits."""
    for _ in range(pairs // size):
        a, b = rng.integers(0, len(x), (2, size))
        differ = digit[a] != digit[b]
        a, b = a[differ], b[differ]
        smaller = np.where(digit[a] < digit[b], a, b)
        larger = np.where(digit[a] < digit[b], b, a)
        yield x[np.concatenate([smaller, larger])], len(smaller)


def ranking(scores, half):
    """Return the mean loss of the pairs, and its gradient with respect to the scores (n, 1)."""
    difference = scores[:half] - scores[half:]
    share = 1 / (1 + np.exp(-difference)) / half
    return np.logaddexp(0, difference).mean(), np.concatenate([share, -share])


net = pynn.Network([784, 128, 1], loss="mse", dropout=0.2, pixels=True, seed=0)
for epoch in range(epochs):
    losses = net.train_on(batches(), loss=ranking, optimizer="adam", learning_rate=1e-3)
    print(f"epoch {epoch + 1}: loss {losses.mean():.3f}")

scores = net.predict(x_test)
first, second = rng.integers(0, len(scores), (2, 20_000))
differ = digit_test[first] != digit_test[second]
right = (scores[first] < scores[second]) == (digit_test[first] < digit_test[second])
print(f"{100 * right[differ].mean():.1f} % of the test pairs are in the right order")
means = [f"{scores[digit_test == k].mean():.1f}" for k in range(10)]
print(f"mean score of 0 to 9: {', '.join(means)}")
