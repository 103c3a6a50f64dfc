"""Runs that end as soon as they have learnt, so chance costs only time."""

import signal

from a3c_jax import Logger

# Catch plays its first 100 episodes within so many frames, one thread of two.
_FIRST_FRAMES = 2000


class Goal(Logger):
  """Stops a run with a mean return of so much.

  How many frames a run needs differs from time to time, where threads race. A
  run that learns ends soon; one that does not reaches its last frame.

  Attributes:
    reached: whether it stopped the run.
  """

  def __init__(self, mean_return):
    self._mean_return = mean_return
    self.reached = False

  def on_progress(self, progress):
    if (
      not self.reached
      and progress.frames >= _FIRST_FRAMES
      and progress.mean_return >= self._mean_return
    ):
      self.reached = True
      signal.raise_signal(signal.SIGTERM)
