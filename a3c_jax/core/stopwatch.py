"""A stopwatch for the phases of a thread."""

from __future__ import annotations

from collections.abc import Iterable
import time

PHASES = (
  'playing',  # acting and emulator in one program
  'acting',
  'emulator',
  'sampling',  # from a replay memory
  'gradients',
  'lock_wait',
  'update',
  'waiting',  # for other threads
  'other',
)


class Stopwatch:
  """Adds up the seconds that one thread spends in each of `PHASES`."""

  def __init__(self):
    self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
    self._last = time.perf_counter()

  def lap(self, phase: str) -> None:
    """Adds the time since the last lap to a phase."""
    now = time.perf_counter()
    self.seconds[phase] += now - self._last
    self._last = now

  def move(self, source: str, target: str, seconds: float) -> None:
    """Moves some seconds from one phase to another."""
    self.seconds[source] -= seconds
    self.seconds[target] += seconds


def added(stopwatches: Iterable[Stopwatch]) -> dict[str, float]:
  """Returns the seconds of each phase, of several stopwatches."""
  seconds = [each.seconds for each in stopwatches]
  return {phase: sum(each[phase] for each in seconds) for phase in PHASES}
