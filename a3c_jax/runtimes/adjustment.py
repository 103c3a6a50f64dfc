"""Searches for the numbers of agents, predictors and trainers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
  """How many threads of each kind work."""

  agents: int
  predictors: int
  trainers: int


class Adjustment:
  """Changes the numbers at random, and keeps what makes training faster.

  After each window it compares the frames trained with those of the best window
  so far. If there are fewer, it returns to the numbers of that one. Then it
  adds -1, 0 or 1 to each number.

  Source: Babaeizadeh et al. 2017, arXiv:1611.06256, section 4.3, with the
  windows and steps of the authors' code.
  """

  def __init__(self, most: Counts, rng: np.random.Generator):
    """Starts with all threads.

    Args:
      most: the threads that there are.
      rng: of the changes.
    """
    self.counts = most
    self._most = most
    self._rng = rng
    self._before: tuple[Counts, int] | None = None

  def end_window(self, frames: int) -> Counts:
    """Returns the numbers of the next window.

    Args:
      frames: emulator frames trained in the window that ends.
    """
    if self._before is None or frames >= self._before[1]:
      self._before = self.counts, frames
    base, _ = self._before
    changes = self._rng.integers(-1, 2, size=len(base))
    self.counts = Counts(
      *(
        min(max(count + int(change), 1), most)
        for count, change, most in zip(base, changes, self._most, strict=True)
      )
    )
    return self.counts
