"""Where the time of a thread goes."""

from __future__ import annotations

import time

PHASES = (
  'playing',  # acting and emulator in one program
  'acting',
  'emulator',
  'gradients',
  'lock_wait',
  'update',
  'other',
)


class Stopwatch:
  """Adds up the seconds that one thread spends in each of `PHASES`."""

  def __init__(self):
    self.seconds = dict.fromkeys(PHASES, 0.0)
    self._last = time.perf_counter()

  def lap(self, phase: str) -> None:
    """Counts the time since the last lap towards a phase."""
    now = time.perf_counter()
    self.seconds[phase] += now - self._last
    self._last = now

  def move(self, source: str, target: str, seconds: float) -> None:
    """Moves time from one phase to another."""
    self.seconds[source] -= seconds
    self.seconds[target] += seconds
