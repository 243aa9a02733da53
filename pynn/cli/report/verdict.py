"""What happened in a run, in sentences: its result, its best epoch, and what to try next.

The sentences look at loss and accuracy together. A network may become more accurate while its loss
rises, since it becomes too sure of its mistakes; "stop at the lowest loss" would be wrong then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...files.disk import counted
from ...plots.curves import recorded
from ...plots.reliability import Calibration
from .numbers import number, percent

RISE = 1.05
"""The validation loss has risen clearly if its end is this many times its lowest value."""
STEEP = 1.2
"""The same for a validation loss below the training loss, which dropout raises."""
LEAST_EPOCHS = 10
"""Number of epochs from which the noise of a curve is estimated."""
CLEAR = 3
"""A difference is clear if it is this many times its standard error."""
FALLING = 0.97
"""The validation loss is still falling if, in the last fifth, it fell to this share."""
REGAINED = 0.25
"""It is not if since its lowest value it has risen by this share of that fall, or to 1 / FALLING
times that value."""
SMALL_GAIN = 1 / 3
"""An accuracy is compared with that of the most frequent class if fewer mistakes are avoided."""
LOW_RECALL = 0.5
"""Classes of which a smaller share of the rows is found are named."""
RARE, UNLIKELY = 0.01, 0.05
"""Probabilities are too high or low if chance explains their gap so rarely; probably, below 5 %."""
FEW = 10
"""Numbers of mistakes with a smaller variance are not nearly normal."""


def result(values: dict[str, float], rows: int, tested: str, wrong: int | None = None) -> list[str]:
    """Return what was measured on the test rows, or on the validation rows.

    ``wrong`` is the number of mistakes if rows have weights, from which it does not follow.
    """
    where = f"the {counted(rows, f'{tested} row')}"
    if "accuracy" in values and np.isfinite(values["accuracy"]):
        right = percent(values["accuracy"]) + (" of the weight" if wrong is not None else "")
        wrong = round((1 - values["accuracy"]) * rows) if wrong is None else wrong
        many = "none is" if not wrong else f"{wrong:,} {'is' if wrong == 1 else 'are'}"
        return [f"The network classifies {right} of {where} correctly; {many} wrong."]
    if np.isfinite(values.get("r2", np.nan)):
        share = values["r2"]
        text = (
            f"The network explains {100 * share:.0f} % of the variance of {where} (R²)"
            if share > 0
            else f"On {where} the predictions are worse than the mean of the targets (R² "
            f"{number(share, 3)})"
        )
        return [f"{text}; a prediction is wrong by {number(values['mae'], 3)} on average (MAE)."]
    return [f"The loss on {where} is {number(values['loss'])}."]


def gain(
    accuracy: float, commonest: tuple[str, float], names: Sequence[str], counts: np.ndarray
) -> list[str]:
    """Return what an accuracy is worth beside that of the most frequent class, and low recalls.

    Parameters
    ----------
    accuracy
        The share of rows that are classified correctly.
    commonest
        The most frequent class of these rows and its share.
    names, counts
        The classes, and how often each (row) was predicted as each (column).
    """
    name, share = commonest
    sizes = counts.sum(axis=1)
    recalls = np.diag(counts) / np.maximum(sizes, 1)
    low = np.flatnonzero((sizes > 0) & (recalls < LOW_RECALL))
    gained = (accuracy - share) / (1 - share) if share < 1 else 1.0
    if not np.isfinite(accuracy) or (gained >= SMALL_GAIN and not len(low)):
        return []
    found = []
    if share < 1:
        more = (
            ""
            if accuracy > share
            else ", as often as"
            if accuracy == share
            else ", more often than"
        )
        more += " the network" if more else ""
        found.append(
            f"The most frequent class alone, {name} for every row, would be right in "
            f"{percent(share)}{more}."
        )
    if len(low):
        worst = int(low[recalls[low].argmin()])
        text = (
            f"Of the {sizes[worst]:,} row{'' if sizes[worst] == 1 else 's'} of class "
            f"{names[worst]}, {percent(recalls[worst])} are found (recall)"
        )
        if len(low) > 1:
            others = "1 other class" if len(low) == 2 else f"{len(low) - 1:,} other classes"
            text += f"; of {others} less than half"
        found.append(f"{text}.")
    return found


def poor(worse: bool, remedies: Sequence[str]) -> str:
    """Return that a network predicts hardly better than without its inputs, or ``worse``."""
    listed = f"{', '.join(remedies[:-1])} and {remedies[-1]}" if remedies[1:] else remedies[0]
    if worse:
        return (
            "Predictions that are worse than the mean need other settings rather than more epochs: "
            f"{listed} may help."
        )
    return (
        "The network has learned little: it predicts hardly better than without its inputs. "
        f"{listed[0].upper()}{listed[1:]} may help."
    )


def epochs(history: Any, poor: str = "", worse: bool = False) -> list[str]:
    """Return the best epoch, and whether the network learned too much or too little.

    ``poor`` is the sentence that the network predicts hardly better than without its inputs, or,
    with ``worse``, worse than without them; otherwise empty.
    """
    if len(history) < 1:
        return ["No complete epoch was trained."]
    loss = recorded(history, "validation_loss")
    if not np.isfinite(loss).any():
        return _without_validation(history)
    at = int(np.nanargmin(loss))
    text = f"The validation loss was lowest in epoch {history.epoch[at]} ({number(loss[at])})"
    accuracy = recorded(history, "validation_accuracy")
    if np.isfinite(accuracy).any():
        top = int(np.nanargmax(accuracy))
        if top == at:
            text += f", in which the validation accuracy was highest too ({percent(accuracy[top])})"
        else:
            text += (
                f", the validation accuracy highest in epoch {history.epoch[top]} "
                f"({percent(accuracy[top])})"
            )
    found = [f"{text}, of {len(history):,} epoch{'' if len(history) == 1 else 's'}."]
    restored = history.restored_epoch
    if restored is not None and restored in history.epoch:
        found.append(f"Early stopping restored the weights of epoch {restored}.")
        return found + ([poor] if poor else [])
    return found + _fit_of(history, (loss, accuracy), at, poor, worse)


def _fit_of(
    history: Any, curves: tuple[np.ndarray, np.ndarray], at: int, poor: str, worse: bool
) -> list[str]:
    """Return whether the network is over- or underfitted, from its state after the last epoch."""
    loss, accuracy = curves
    if len(history) < 3 or not np.isfinite(loss[-1]):
        return [poor] if poor else []
    last = loss[-1]
    training = recorded(history, "loss")
    doubt = _doubt(loss, training, at)
    if doubt is None:
        return _overfitted(history, loss, accuracy, at)
    # More epochs hardly mend predictions that are worse than none.
    if _is_falling(loss) and not worse:
        return [
            "The validation loss was still falling at the end: more epochs will probably improve "
            "the network."
        ]
    rates = recorded(history, "learning_rate")
    if poor:
        return [poor]
    if _is_flat(training) and rates[-1] < 0.05 * rates.max():
        return [
            f"{doubt} The learning rate had fallen to almost 0 by the end, where the losses no "
            "longer changed: more epochs leave more time to learn."
        ]
    gap = abs(last - training[-1]) <= 0.1 * abs(last)
    if gap and _is_flat(training):
        return [
            "Training and validation loss have both stopped falling, close to each other: the "
            "network has learned what it can with these settings. A larger network, less "
            "regularisation, another learning rate or further inputs may help."
        ]
    return [doubt]


def _doubt(loss: np.ndarray, training: np.ndarray, at: int) -> str | None:
    """Return why the validation loss shows no clear overfitting; None if it does."""
    best, last = loss[at], loss[-1]
    share = 100 * (last - best) / abs(best) if best else np.inf
    if last == best or share < 0.5:
        text = "not" if last == best else "hardly"
        return f"There is no sign of overfitting: the validation loss has {text} risen."
    rise, noise = _rise(loss)
    if rise <= CLEAR * noise:
        reason = ", within its noise between epochs"
    elif not training[-1] < training[at]:
        reason = ", and the training loss has not fallen since"
    elif last <= training[-1] and rise <= (STEEP - 1) * abs(best):
        reason = ", but is not above the training loss"
    elif rise <= (RISE - 1) * abs(best):
        reason = ""
    else:
        return None
    by = f" by {share:.0f} %" if best > 0 else ""
    return (
        f"There is no clear sign of overfitting: from its lowest value, {number(best)}, to the "
        f"last, {number(last)}, the validation loss has risen{by}{reason}."
    )


def _rise(loss: np.ndarray) -> tuple[float, float]:
    """Return how far a curve ends above its lowest point, and the standard deviation of its noise.

    Second differences of white noise have a variance of 6 times its own, and a trend hardly adds to
    them. The noise makes the lowest value of many too low, so the curve is smoothed first. Shorter
    curves are taken as they are, without noise.
    """
    known = loss[np.isfinite(loss)]
    if len(known) < LEAST_EPOCHS:
        return float(known[-1] - known.min()), 0.0
    # 1.483 times the median deviation is the standard deviation of normal noise.
    noise = 1.483 * float(np.median(np.abs(np.diff(known, 2)))) / np.sqrt(6)
    width = max(3, len(known) // 10)
    smooth = np.convolve(known, np.full(width, 1 / width), "valid")
    return float(smooth[-1] - smooth.min()), noise


def _overfitted(history: Any, loss: np.ndarray, accuracy: np.ndarray, at: int) -> list[str]:
    epoch = history.epoch[at]
    rise = f"the validation loss rose from {number(loss[at])} to {number(loss[-1])}"
    # With a tenth more errors accuracy is about the same: a few rows of the validation.
    same = 1 - accuracy[-1] <= 1.1 * (1 - accuracy[at])
    if np.isfinite(accuracy[[at, -1]]).all() and same:
        still = (
            f"its accuracy went from {percent(accuracy[at])} to {percent(accuracy[-1])}"
            if accuracy[-1] > accuracy[at]
            else f"its accuracy stayed at about {percent(accuracy[-1])}"
        )
        return [
            f"After epoch {epoch} {rise}, while {still}: the network hardly makes more mistakes "
            "than before, but is too sure of them (overconfident). Its probabilities were best in "
            f"epoch {epoch}, its classes were not; label smoothing or dropout improve the "
            "probabilities."
        ]
    worse = ""
    if np.isfinite(accuracy[[at, -1]]).all():
        worse = f", and its accuracy fell from {percent(accuracy[at])} to {percent(accuracy[-1])}"
    return [
        f"After epoch {epoch} {rise}{worse}, while the training loss kept falling: the network is "
        "overfitted. --early-stopping 5 keeps the best epoch; dropout, l2 or more rows reduce "
        "overfitting."
    ]


def _without_validation(history: Any) -> list[str]:
    loss = recorded(history, "loss")
    text = f"The training loss fell from {number(loss[0])} to {number(loss[-1])}"
    many = f"in {len(history):,} epoch{'' if len(history) == 1 else 's'}"
    if not loss[-1] < loss[0]:
        text = f"The training loss went from {number(loss[0])} to {number(loss[-1])}"
    if any(value is not None for value in history.validation_loss):
        return [f"{text} {many}. The validation loss was never finite."]
    return [
        f"{text} {many}. Without validation rows, over- and underfitting cannot be seen; "
        "--validation 0.1 holds some out."
    ]


def confusions(classes: list[str], counts: np.ndarray) -> list[str]:
    """Return the classes that are confused most often; counts (true, predicted)."""
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    pairs = [(int(both[i, j]), i, j) for i in range(len(both)) for j in range(i)]
    top = [pair for pair in sorted(pairs, key=lambda p: (-p[0], p[1:]))[:3] if pair[0]]
    if not top or len(classes) < 3:
        return []
    texts = [f"{classes[j]} and {classes[i]} ({n:,})" for n, i, j in top]
    return [f"Confused most often: {', '.join(texts)}."]


def calibration(found: Calibration, probable: np.ndarray, right: np.ndarray) -> list[str]:
    """Return whether the probabilities of the predicted classes come true.

    Parameters
    ----------
    found
        The calibration curve.
    probable, right
        The probability of the predicted class of each row (n,), and whether it is the true one.
    """
    mean, share = float(probable.mean()), float(right.mean())
    text = (
        f"the predicted class has a probability of {percent(mean)} on average, and "
        f"{percent(share)} are right (calibration error {100 * found.error:.1f} %)."
    )
    # A gap that is small beside the share of mistakes.
    if found.error < 0.02 and abs(mean - share) <= 0.3 * (1 - share) + 0.002:
        return [f"The probabilities are well calibrated: {text}"]
    chance = _chance(probable, right)
    if chance > UNLIKELY and found.error <= _error_by_chance(found):
        return [
            f"The probabilities are as well calibrated as {len(right):,} rows can show: {text} A "
            "difference as large can be chance."
        ]
    if chance > UNLIKELY or abs(mean - share) < 0.5 * found.error:
        return [f"The probabilities are not well calibrated: {text}"]
    kind = "too high (overconfident)" if mean > share else "too low (underconfident)"
    return [f"The probabilities are {'' if chance <= RARE else 'probably '}{kind}: {text}"]


def _chance(probable: np.ndarray, right: np.ndarray) -> float:
    """Return how likely exact probabilities differ from the share of right rows by as much.

    The number of mistakes is a sum of independent events, of variance Σp(1 − p): nearly normal, or
    for rare mistakes no wider than a Poisson variable. Both sides count.
    """
    p = np.clip(probable.astype(np.float64), 0, 1)
    mistakes, expected = len(right) - int(right.sum()), float((1 - p).sum())
    variance = float((p * (1 - p)).sum())
    if variance >= FEW:
        # Half a mistake less, since they are whole numbers.
        z = max(0.0, abs(mistakes - expected) - 0.5) / math.sqrt(variance)
        return math.erfc(z / math.sqrt(2))
    if expected > len(p) / 2:  # right rows are rarer
        mistakes, expected = len(p) - mistakes, len(p) - expected
    terms = [math.exp(-expected)]
    for k in range(1, mistakes + 1):
        terms.append(terms[-1] * expected / k)
    most = math.fsum(terms)
    least = 1 - math.fsum(terms[:-1])
    return min(1.0, 2 * min(most, least))


def _error_by_chance(found: Calibration) -> float:
    """Return the calibration error that exact probabilities exceed only by a rare chance.

    In each bin the observed share is nearly normal; |z| of a normal z has the mean sqrt(2 / pi).
    """
    p, q = np.clip(found.predicted, 0, 1), found.observed
    shares = found.rows / found.rows.sum()
    deviations = shares * np.sqrt(np.maximum(p * (1 - p), q * (1 - q)) / found.rows)
    spread = np.sqrt((1 - 2 / np.pi) * (deviations**2).sum())
    return float(np.sqrt(2 / np.pi) * deviations.sum() + CLEAR * spread)


def bias(true: np.ndarray, predicted: np.ndarray) -> list[str]:
    """Return whether predictions are too high or too low on average."""
    errors = predicted - true
    mean, deviation = float(errors.mean()), float(errors.std())
    # Three standard errors: less is probably chance.
    if abs(mean) < 3 * deviation / np.sqrt(len(errors)):
        return []
    side = "high" if mean > 0 else "low"
    return [f"Predictions are {number(abs(mean), 3)} too {side} on average."]


def _is_falling(loss: np.ndarray) -> bool:
    """Whether the loss fell in the last fifth, is lowest near the end, and has not risen since."""
    n, lowest = len(loss), np.nanmin(loss)
    late = n - 1 - max(1, n // 10) <= int(np.nanargmin(loss))
    before = loss[max(0, n - 1 - max(2, n // 5))]
    risen = loss[-1] - lowest > REGAINED * (before - lowest) or 0 < lowest < FALLING * loss[-1]
    return bool(late and lowest < FALLING * before and not risen)


def _is_flat(training: np.ndarray) -> bool:
    before = training[max(0, len(training) - 1 - max(2, len(training) // 5))]
    return bool(training[-1] > FALLING * before)
