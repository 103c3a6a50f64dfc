"""Asynchronous workers: each one acts, learns and pushes independently."""

from __future__ import annotations

from collections.abc import Sequence
import threading

import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import threads, types
from a3c_jax.parameters.store import Contribution
from a3c_jax.runtimes import player as player_lib
from a3c_jax.runtimes import runtime, warm_up
from a3c_jax.runtimes.bad_gradients import BadGradients
from a3c_jax.runtimes.runtime import Job, Worker


class Asynchronous(runtime.Arrangement):
  """One thread for each worker; a thread waits for another only at the store.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4.
  """

  def __init__(
    self, team: Sequence[Worker], job: Job, settings: runtime.ThreadSettings
  ):
    del settings
    super().__init__(team, job)

  def warm_up(self) -> types.Segment:
    job = self._job
    version = job.store.read()
    segment = warm_up.acting(
      self._team[0], job, actor_lib.in_training(job.learner, job.store.read)
    )
    grads, _ = job.gradients(version.params, version.target_params, segment)
    job.store.warm_up(grads)
    return segment

  def threads(self) -> threads.ThreadGroup:
    return threads.ThreadGroup.numbered(
      lambda index, stop: work(self._team[index], self._job, stop),
      len(self._team),
      name='actor-learner',
    )


def work(worker: Worker, job: Job, stop: threading.Event) -> None:
  """Acts and learns until all workers together have done `job.frames`.

  A gradient that is not finite is dropped, but its frames count.

  Args:
    worker: works in the calling thread.
    job: shared by all workers.
    stop: ends the worker early when it is set. On the step-by-step path that
      discards the unfinished segment: the worker's state is that before it.

  Raises:
    Stopped: if `stop` was set within a segment.
    BadGradientError: after more than `job.max_bad_gradients` in a row.
    Exception: what the environment raised once too often, or the learner.
  """
  actor = actor_lib.in_training(job.learner, job.store.read)
  player = player_lib.Player(worker, job, actor, stop)
  clock = player.clock
  bad = BadGradients(job.max_bad_gradients, f'thread {worker.index}')
  while not stop.is_set() and job.store.read().frames < job.frames:
    segment, played = player.play()
    newest = job.store.read()
    version = newest if job.learner.acting == 'newest' else segment.version
    grads, values = job.gradients(
      version.params, newest.target_params, segment.segment
    )
    values = np.asarray(values)
    clock.lap('gradients')
    threads.beat()
    grads, event = bad.checked(grads, values)
    receipt = job.store.push(
      Contribution(
        grads=grads,
        frames=player.frames,
        read_version=version.updates,
        played=(played,),
        events=(event,),
        optimizer=worker.index,
      )
    )
    clock.lap('update')
    clock.move('update', 'lock_wait', receipt.lock_wait_seconds)


RUNTIME = runtime.Runtime(
  name='asynchronous',
  settings_type=runtime.ThreadSettings,
  arrange=Asynchronous,
  description='each thread acts, learns and updates independently (A3C)',
  updates_alone=True,
)
