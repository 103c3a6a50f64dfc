"""Asynchronous workers: each one acts, learns and pushes independently."""

from __future__ import annotations

from collections.abc import Sequence
import threading

import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import stopwatch, threads, types
from a3c_jax.optim import clipping
from a3c_jax.parameters.store import Contribution
from a3c_jax.runtimes import player as player_lib
from a3c_jax.runtimes import replaying, runtime, warm_up
from a3c_jax.runtimes.bad_gradients import BadGradients
from a3c_jax.runtimes.runtime import Job, Worker


class Asynchronous(runtime.Arrangement):
  """One thread for each worker; a thread waits for another only at the store.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4.
  """

  def __init__(
    self,
    team: Sequence[Worker],
    job: Job,
    settings: runtime.BoundedLagSettings,
  ):
    del settings
    super().__init__(team, job)
    self._replay_gradients = None
    if job.replay:
      self._replay_gradients = clipping.clipped(
        job.replay.gradients, job.max_grad_norm
      )

  def warm_up(self) -> types.Segment:
    job = self._job
    version = job.store.read()
    with warm_up.acting(
      self._team[0], job, actor_lib.in_training(job.learner, job.store.read)
    ) as segment:
      if job.learner.learns_from_segments:
        grads, _ = job.gradients(version.params, version.target_params, segment)
        job.store.warm_up(grads)
      if self._replay_gradients:
        grads, *_ = self._replay_gradients(
          version.params, version.target_params, replaying.example(job)
        )
        job.store.warm_up(grads)
      return segment

  def threads(self) -> threads.ThreadGroup:
    return threads.ThreadGroup.numbered(
      lambda index, stop: work(
        self._team[index], self._job, stop, self._replay_gradients
      ),
      len(self._team),
      name='actor-learner',
    )


def work(
  worker: Worker,
  job: Job,
  stop: threading.Event,
  replay_gradients: replaying.Gradients | None = None,
) -> None:
  """Acts and learns until all workers together have done `job.frames`.

  A gradient that is not finite is dropped, but its frames count. The store
  drops one that is too late.

  Args:
    worker: works in the calling thread.
    job: shared by all workers.
    stop: ends the worker early when it is set. On the step-by-step path that
      discards the unfinished segment: the worker's state is that before it.
    replay_gradients: of minibatches, clipped, if the job has a replay memory.

  Raises:
    Stopped: if `stop` was set within a segment, or before its gradient could be
      applied.
    BadGradientError: after more than `job.max_bad_gradients` in a row.
    Exception: what the environment raised once too often, or the learner.
  """
  player = player_lib.Player(
    worker, job, actor_lib.in_training(job.learner, job.store.read), stop
  )
  clock = player.clock
  bad = BadGradients(job.max_bad_gradients, f'thread {worker.index}')
  replayer = None
  if replay_gradients:
    replayer = replaying.Replayer(worker, job, replay_gradients)

  def check_stop():
    threads.beat()
    if stop.is_set():
      raise threads.Stopped

  while not stop.is_set():
    if replayer and replayer.due:
      contribution = _of_minibatch(replayer, clock, bad, job)
    elif job.store.read().frames < job.frames:
      contribution = _of_segment(player, replayer, bad, job)
    else:
      break
    threads.beat()
    receipt = job.store.push(
      contribution._replace(optimizer=worker.index), while_waiting=check_stop
    )
    clock.lap('update')
    clock.move('update', 'lock_wait', receipt.lock_wait_seconds)
  job.store.leave(worker.index)


def _of_segment(
  player: player_lib.Player,
  replayer: replaying.Replayer | None,
  bad: BadGradients,
  job: Job,
) -> Contribution:
  """Plays a segment, and learns from it if the learner does."""
  segment, played = player.play()
  if replayer:
    played = replayer.remember(segment, played)
  newest = job.store.read()
  version = newest if job.learner.acting == 'newest' else segment.version
  grads, events = None, ()
  if job.learner.learns_from_segments:
    grads, values = job.gradients(
      version.params, newest.target_params, segment.segment
    )
    values = np.asarray(values)  # Waits for the gradient.
    player.clock.lap('gradients')
    grads, event = bad.checked(grads, values)
    events = (event,)
  return Contribution(
    grads=grads,
    frames=player.frames,
    read_version=version.updates,
    played=(played,),
    events=events,
  )


def _of_minibatch(
  replayer: replaying.Replayer,
  clock: stopwatch.Stopwatch,
  bad: BadGradients,
  job: Job,
) -> Contribution:
  """Learns from the next minibatch."""
  learnt = replayer.learn(clock)
  grads, event = bad.checked(learnt.grads, learnt.values, of_replay=True)
  if learnt.outlier:
    grads = None
  return Contribution(
    grads=grads,
    frames=0,
    read_version=learnt.read_version,
    played=(learnt.played,),
    events=() if learnt.outlier else (event,),
    rate_scale=job.learner.replay_rate_scale,
    # Errors that are not finite are no priorities.
    replayed=() if grads is None else (learnt.replayed,),
    outliers=int(learnt.outlier),
  )


RUNTIME = runtime.Runtime(
  name='asynchronous',
  settings_type=runtime.BoundedLagSettings,
  arrange=Asynchronous,
  description='each thread acts, learns and updates independently (A3C)',
  updates_alone=True,
  replays=True,
)
