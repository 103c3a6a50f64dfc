"""Asynchronous workers: each one acts, learns and pushes independently."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import threading
import zlib

import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import fields, threads, types
from a3c_jax.optim import clipping
from a3c_jax.parameters.store import Contribution, Trace
from a3c_jax.replay import memory as memory_lib
from a3c_jax.runtimes import player as player_lib
from a3c_jax.runtimes import replaying, runtime, warm_up
from a3c_jax.runtimes.bad_gradients import BadGradients
from a3c_jax.runtimes.runtime import Job, Worker

_NO_VALUES = np.empty(0, np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(runtime.BoundedLagSettings):
  record: bool = fields.true_or_false(
    'Write to trace.bin in which order threads read and updated the '
    'parameters, so that experiments/rerun.py can repeat the run bit for bit.',
    default=False,
    source='ours',
    may_override=False,
  )

  @property
  def recorded(self) -> bool:
    return self.record


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
    super().__init__(team, job)
    self._recorded = settings.recorded
    self._replay_gradients = replay_gradients_of(job)

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
        self._team[index],
        self._job,
        stop,
        self._replay_gradients,
        recorded=self._recorded,
      ),
      len(self._team),
      name='actor-learner',
    )


def work(
  worker: Worker,
  job: Job,
  stop: threading.Event,
  replay_gradients: replaying.Gradients | None = None,
  *,
  recorded: bool = False,
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
    recorded: whether contributions have a trace.

  Raises:
    Stopped: if `stop` was set within a segment, or before its gradient could be
      applied.
    BadGradientError: after more than `job.max_bad_gradients` in a row.
    Exception: what the environment raised once too often, or the learner.
  """
  actor_learner = ActorLearner(
    worker, job, stop, job.store.read, replay_gradients, recorded=recorded
  )
  clock = actor_learner.clock

  def check_stop():
    threads.beat()
    if stop.is_set():
      raise threads.Stopped

  while not stop.is_set():
    if actor_learner.minibatches_due:
      contribution, _ = actor_learner.learn_minibatch()
    elif job.store.read().frames < job.frames:
      contribution, _ = actor_learner.play_segment()
    else:
      break
    threads.beat()
    receipt = job.store.push(contribution, while_waiting=check_stop)
    clock.lap('update')
    clock.move('update', 'lock_wait', receipt.lock_wait_seconds)
  job.store.leave(worker.index)


def replay_gradients_of(job: Job) -> replaying.Gradients | None:
  """Returns the gradients of minibatches, clipped; None without a memory."""
  if job.replay is None:
    return None
  return clipping.clipped(job.replay.gradients, job.max_grad_norm)


class ActorLearner:
  """One worker: makes one contribution after another, and pushes none.

  What it contributes depends on its state and on the versions that it reads.

  Attributes:
    clock: the stopwatch of the worker.
  """

  def __init__(
    self,
    worker: Worker,
    job: Job,
    stop: threading.Event,
    read: actor_lib.Read,
    replay_gradients: replaying.Gradients | None = None,
    *,
    recorded: bool = False,
  ):
    """Starts at the worker's state.

    Args:
      worker: works in the calling thread.
      job: shared by all workers.
      stop: ends a segment early, as `work` says.
      read: gives the newest version.
      replay_gradients: of minibatches, clipped, if the job has a replay memory.
      recorded: whether contributions have a trace.
    """
    self._worker = worker
    self._job = job
    self._read_newest = read
    self._recorded = recorded
    self._reads: list[int] = []
    actor = actor_lib.in_training(job.learner, self._read)
    # What a failed attempt has read does not matter.
    self._player = player_lib.Player(
      worker, job, actor, stop, on_attempt=self._reads.clear
    )
    self.clock = self._player.clock
    self._bad = BadGradients(job.max_bad_gradients, f'thread {worker.index}')
    self._replayer = None
    if replay_gradients:
      self._replayer = replaying.Replayer(
        worker, job, replay_gradients, read=self._read
      )

  def _read(self) -> types.Version:
    version = self._read_newest()
    self._reads.append(version.pushes)
    return version

  @property
  def minibatches_due(self) -> int:
    """Minibatches before the next segment."""
    return self._replayer.due if self._replayer else 0

  def play_segment(
    self, *, due: int | None = None
  ) -> tuple[Contribution, types.Segment]:
    """Plays a segment, and learns from it if the learner does.

    Args:
      due: minibatches after it; by default as many as the memory allows now.

    Raises:
      Exception: as `work`.
    """
    learner, player = self._job.learner, self._player
    segment, played = player.play()
    if self._replayer:
      played = self._replayer.remember(segment, played, due=due)
    newest = self._read()
    version = newest if learner.acting == 'newest' else segment.version
    grads, events, values = None, (), _NO_VALUES
    if learner.learns_from_segments:
      grads, values = self._job.gradients(
        version.params, newest.target_params, segment.segment
      )
      values = np.asarray(values)  # Waits for the gradient.
      player.clock.lap('gradients')
      grads, event = self._bad.checked(grads, values)
      events = (event,)
    trace = None
    if self._recorded:
      trace = Trace(
        reads=tuple(self._reads),
        of_segment=_checksum(
          *segment.segment[1:5], _sampled(segment.segment.obs)
        ),
        of_gradient=_checksum(values),
        new_seed=player.new_seed,
        minibatches_due=self.minibatches_due,
      )
    return Contribution(
      grads=grads,
      frames=player.frames,
      read_version=version.updates,
      played=(played,),
      events=events,
      optimizer=self._worker.index,
      trace=trace,
    ), segment.segment

  def learn_minibatch(self) -> tuple[Contribution, memory_lib.Minibatch]:
    """Learns from the next minibatch.

    Raises:
      BadGradientError: as `work`.
    """
    assert self._replayer
    self._reads.clear()
    learnt = self._replayer.learn(self.clock)
    grads, event = self._bad.checked(
      learnt.grads, learnt.values, of_replay=True
    )
    if learnt.outlier:
      grads = None
    minibatch, trace = learnt.minibatch, None
    if self._recorded:
      trace = Trace(
        reads=tuple(self._reads),
        of_segment=_checksum(minibatch.where, minibatch.weight),
        of_gradient=_checksum(learnt.values),
        minibatches_due=self.minibatches_due,
        memory_changes=int(minibatch.changes),
      )
    return Contribution(
      grads=grads,
      frames=0,
      read_version=learnt.read_version,
      played=(learnt.played,),
      events=() if learnt.outlier else (event,),
      optimizer=self._worker.index,
      rate_scale=self._job.learner.replay_rate_scale,
      # Errors that are not finite are no priorities.
      replayed=() if grads is None else (learnt.replayed,),
      outliers=int(learnt.outlier),
      trace=trace,
    ), minibatch


def _sampled(obs: np.ndarray) -> np.ndarray:
  """Returns about a thousand numbers of each step, which take little time."""
  flat = np.asarray(obs).reshape(len(obs), -1)
  return flat[:, :: 1 + flat.shape[1] // 1024]


def _checksum(*arrays: np.ndarray) -> int:
  """Returns a CRC-32 of the bytes of arrays, one after the other."""
  total = 0
  for each in arrays:
    total = zlib.crc32(np.asarray(each).tobytes(), total)
  return total


RUNTIME = runtime.Runtime(
  name='asynchronous',
  settings_type=Settings,
  arrange=Asynchronous,
  description='each thread acts, learns and updates independently (A3C)',
  updates_alone=True,
  replays=True,
)
