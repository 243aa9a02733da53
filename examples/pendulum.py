"""What the examples of reinforcement learning share: the pendulum, the replay memory, the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


class Pendulum:
    """Gymnasium's ``Pendulum-v1``, for computers without Gymnasium: the same equations.

    A rod of length 1 and mass 1 hangs on a motor that is too weak to lift it without swinging. The
    state is the cosine and sine of its angle from the top, and its angular velocity.
    """

    def reset(self, seed: int) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; return the state (3,) and an empty dictionary."""
        high = np.array([np.pi, 1.0])
        self.angle, self.speed = np.random.default_rng(seed).uniform(-high, high)
        return self._state(), {}

    def step(self, torque: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply a torque (1,) from -2 to 2 for 0.05 s; return the state (3,) and the reward."""
        u = float(np.clip(torque[0], -2, 2))
        angle = (self.angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(angle**2 + 0.1 * self.speed**2 + 0.001 * u**2)
        self.speed += (15 * np.sin(self.angle) + 3 * u) * 0.05
        self.speed = float(np.clip(self.speed, -8, 8))
        self.angle += self.speed * 0.05
        return self._state(), float(reward), False, False, {}

    def _state(self) -> Array:
        return np.array([np.cos(self.angle), np.sin(self.angle), self.speed], np.float32)


def make() -> Any:
    """Return Gymnasium's pendulum, or the same one from above if Gymnasium is not installed."""
    try:
        import gymnasium
    except ImportError:
        return Pendulum()
    return gymnasium.make("Pendulum-v1").unwrapped


class Replay:
    """The transitions so far: state, action, reward and the state after it."""

    def __init__(self, size: int = 50_000) -> None:
        self.count = 0
        self.columns = [np.empty((size, width), np.float32) for width in (3, 1, 1, 3)]

    def add(self, *transition: Any) -> None:
        """Add a transition, in place of the oldest one if the memory is full."""
        for column, value in zip(self.columns, transition, strict=True):
            column[self.count % len(column)] = value
        self.count += 1

    def sample(self, n: int, rng: np.random.Generator) -> list[Array]:
        """Return n random transitions as arrays (n, width)."""
        rows = rng.integers(min(self.count, len(self.columns[0])), size=n)
        return [column[rows] for column in self.columns]


def exploration(action: Array, rng: np.random.Generator) -> Array:
    """Return an action with noise, from -1 to 1."""
    return (action + rng.normal(0, 0.1, 1)).clip(-1, 1).astype(np.float32)


def returns(act: Callable[[Array], Array], episodes: int) -> list[float]:
    """Return the sum of rewards of episodes of 200 steps each; all start at the same time."""
    environments = [make() for _ in range(episodes)]
    states = np.stack([e.reset(seed=10_000 + k)[0] for k, e in enumerate(environments)])
    totals = np.zeros(episodes)
    for _ in range(200):
        torques = 2 * act(states)
        for k, environment in enumerate(environments):
            states[k], reward, *_ = environment.step(torques[k])
            totals[k] += reward
    return totals.tolist()
