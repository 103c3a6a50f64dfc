"""Learning rate and exploration as functions of the global frame count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def linear(
  frames: int, *, start: float, end: float | np.ndarray, over: int
) -> float | np.ndarray:
  """A value that goes from `start` to `end` over the first `over` frames.

  >>> linear(25, start=1.0, end=0.0, over=100)
  0.75

  Args:
    frames: emulator frames so far, of all threads.
    start: value at 0 frames.
    end: value from `over` frames on; of several, an array.
    over: emulator frames, positive.

  Returns:
    The value at `frames`.
  """
  fraction = min(frames / over, 1.0)
  return start + fraction * (end - start)


def draw_exploration_ends(
  rng: np.random.Generator,
  ends: Sequence[float],
  probabilities: Sequence[float],
  *,
  games: int,
) -> np.ndarray:
  """The values at which the exploration ε of a thread's games stop falling.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 8, where each thread draws
  from three values, and has one game.

  Args:
    rng: source of the draw.
    ends: the values to draw from.
    probabilities: of each value, adding up to 1.
    games: K, of one thread.

  Returns:
    [K] float64, each one of `ends`.
  """
  return rng.choice(ends, size=games, p=probabilities)
