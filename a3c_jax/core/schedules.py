"""Learning rate and exploration as functions of the global frame count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Value = TypeVar('Value', float, np.ndarray)


def linear(frames: int, *, start: float, end: Value, over: int) -> Value:
  """Interpolates from `start` to `end` over the first `over` frames.

  >>> linear(25, start=1.0, end=0.0, over=100)
  0.75

  Args:
    frames: emulator frames so far, of all threads.
    start: value at 0 frames.
    end: value from `over` frames on; one number or an array.
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
  num_envs: int,
) -> np.ndarray:
  """Draws the final exploration ε of each environment of one thread.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 8, where each thread has
  one environment and draws from three values.

  Args:
    rng: source of the draw.
    ends: the values to draw from.
    probabilities: of each value, adding up to 1.
    num_envs: K, of one thread.

  Returns:
    [K] float64, each one of `ends`.
  """
  return rng.choice(ends, size=num_envs, p=probabilities)
