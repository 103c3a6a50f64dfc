"""Which gradients are too late, and which updates must wait for others."""

from __future__ import annotations

from collections.abc import Container

from a3c_jax.parameters.store import LagBound


class Lags:
  """Knows how old the next gradient of each worker may be. It has no lock.

  A worker reads a version for its next gradient after its last push. So the
  number of updates after that push is the oldest that it can have read.
  """

  def __init__(self, bound: LagBound, workers: int):
    """Starts at update 0, before any worker has read.

    Raises:
      ValueError: if workers would wait for each other for ever.
    """
    if bound.when_late == 'wait' and bound.most < workers - 1:
      raise ValueError(
        f'{workers} workers that wait need a bound of at least {workers - 1}, '
        f'not {bound.most}'
      )
    self._bound = bound
    self._workers = workers
    self._oldest: dict[int, int] = {}  # By worker that may still push.
    self.restart(0)

  def restart(self, updates: int) -> None:
    """Starts again: all workers read after so many updates."""
    self._oldest = dict.fromkeys(range(self._workers), updates)

  def is_late(self, read_version: int, updates: int) -> bool:
    """Returns whether a gradient of a version is too old by now."""
    return updates - read_version > self._bound.most

  def must_wait(self, pushing: Container[int], updates: int) -> bool:
    """Returns whether another update would make some gradient too late.

    After it, the other workers can still push in time, oldest first, if

        (updates + 1) - read_i + i ≤ most,    i = 0, 1, …

    where i workers with older versions push before worker i. The worker
    with the oldest version never waits: the same held for all workers before.
    At the start all have read the same, so `most` must be at least the number
    of workers less 1.

    Args:
      pushing: workers whose gradient the update is of.
      updates: until now.
    """
    if self._bound.when_late != 'wait':
      return False
    others = sorted(
      version
      for worker, version in self._oldest.items()
      if worker not in pushing
    )
    return any(
      updates + 1 - version + place > self._bound.most
      for place, version in enumerate(others)
    )

  def pushed(self, worker: int, updates: int) -> None:
    """Notes that a worker reads after so many updates, or later."""
    self._oldest[worker] = updates

  def left(self, worker: int) -> None:
    """Notes that a worker has no gradient for which others must wait."""
    self._oldest.pop(worker, None)
