"""Asynchronous workers: each one acts, learns and pushes independently."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import threading
from typing import Any
import zlib

import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import errors, fields, threads, types
from a3c_jax.optim import clipping, staleness
from a3c_jax.parameters import hogwild, locked, per_leaf
from a3c_jax.parameters.store import Contribution, MakeStore, Trace
from a3c_jax.replay import memory as memory_lib
from a3c_jax.runtimes import player as player_lib
from a3c_jax.runtimes import replaying, runtime, warm_up
from a3c_jax.runtimes.bad_gradients import BadGradients
from a3c_jax.runtimes.runtime import Job, Worker

_STORES: dict[str, MakeStore] = {
  'locked': locked.LockedStore,
  'per_leaf': per_leaf.PerLeafStore,
  'hogwild': hogwild.HogwildStore,
}
# Fields of a contribution that are about its gradient.
_OF_GRADIENT = (
  'grads',
  'read_version',
  'read_params',
  'events',
  'rate_scale',
)
_NO_VALUES = np.empty(0, np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(runtime.BoundedLagSettings):
  """How threads share parameters, and what is recorded and measured."""

  record: bool = fields.true_or_false(
    'Write to trace.bin in which order threads read and updated the '
    'parameters, so that experiments/rerun.py can repeat the run bit for bit.',
    default=False,
    source='ours',
    may_override=False,
  )

  consistency: str = fields.setting(
    'How threads change the parameters. locked: one after another. per_leaf: '
    'with a lock for each array. hogwild: without locks, as in the paper, by '
    'adding to shared arrays; parts of updates may be lost. But for locked, a '
    'version may have parts of an update.',
    'locked, per_leaf, hogwild; a barrier is --runtime=synchronous, and a '
    'bound of the lag --max_lag',
    lambda value: value in _STORES,
    default='locked',
    source='ours: no update is lost',
    may_override=False,
  )
  inject_lag: int = fields.count(
    runtime.INJECT_LAG,
    least=0,
    most=10_000,
    default=0,
    source='ours',
  )
  staleness_rate: str = fields.one_of(
    'Factor of the learning rate for a stale gradient. inverse: 1 / lag.',
    staleness.RATES,
    default='none',
    source='paper: none. Zhang et al. 2016: inverse',
  )
  delay_compensation: float = fields.not_negative(
    "λ of g + λ g² (θ - θ'), which takes the place of a gradient g of older "
    "parameters θ'; 0 for none. g is that of a segment, after clipping.",
    default=0.0,
    source='paper: none. Zheng et al. 2017: 0.04 for a mean over examples',
  )
  measure_staleness: int = fields.count(
    'Gradients of each thread for one that is compared with the gradient of '
    'the same segment at the newest parameters: the column staleness_cosine. 0 '
    'for no comparison.',
    least=0,
    default=0,
    source='ours',
  )

  @property
  def recorded(self) -> bool:
    return self.record

  @property
  def measured_gradients(self) -> int:
    return self.measure_staleness

  @property
  def make_store(self) -> MakeStore:
    return _STORES[self.consistency]

  @property
  def correction(self) -> staleness.Correction:
    return staleness.Correction(self.staleness_rate, self.delay_compensation)

  @property
  def held_gradients(self) -> int:
    return self.inject_lag

  def check_together(self) -> None:
    super().check_together()
    if self.consistency != 'locked':
      for name, given, why in (
        ('record', self.record, 'parts of updates overlap by chance'),
        ('max_lag', self.max_lag, 'nothing counts updates exactly'),
      ):
        if given:
          raise errors.UsageError(
            f'--{name}={given} with --consistency={self.consistency}: {why}; '
            f'allowed: --consistency=locked, or --{name}={type(given)(0)}'
          )
    if self.inject_lag and self.max_lag:
      raise errors.UsageError(
        f'--inject_lag={self.inject_lag} with --max_lag={self.max_lag}: '
        'gradients held back would be late; allowed: --max_lag=0'
      )


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
    del settings
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
        if job.meter:
          job.meter.measure(grads, segment, version)
          job.meter.mean()  # Of zeros.
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
  actor_learner = ActorLearner(
    worker, job, stop, job.store.read, replay_gradients
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
  ):
    """Starts at the worker's state.

    Args:
      worker: works in the calling thread.
      job: shared by all workers.
      stop: ends a segment early, as `work` says.
      read: gives the newest version.
      replay_gradients: of minibatches, clipped, if the job has a replay memory.
    """
    self._worker = worker
    self._gradients = 0  # of segments
    # Fields of contributions, the versions acted on, and segments.
    self._held: collections.deque[
      tuple[dict[str, Any], np.ndarray, types.Segment | None]
    ] = collections.deque()
    self._job = job
    self._read_newest = read
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

  def restart(self, seed: int) -> None:
    """Starts new episodes with a seed, as if the environment had failed."""
    self._player.restart(seed)

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
    if self._job.traced:
      trace = Trace(
        reads=tuple(self._reads),
        of_segment=_checksum(
          *segment.segment[1:5], _sampled(segment.segment.obs)
        ),
        of_gradient=_checksum(values),
        new_seed=player.new_seed,
        minibatches_due=self.minibatches_due,
      )
    contribution = Contribution(
      grads=grads,
      frames=player.frames,
      read_version=version.updates,
      played=(played,),
      events=events,
      optimizer=self._worker.index,
      trace=trace,
      read_params=version.params if self._job.needs_read_params else None,
    )
    if learner.learns_from_segments:
      contribution = self._delayed(contribution, segment.segment)
    return contribution, segment.segment

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
    if self._job.traced:
      trace = Trace(
        reads=tuple(self._reads),
        of_segment=_checksum(minibatch.where, minibatch.weight),
        of_gradient=_checksum(learnt.values),
        minibatches_due=self.minibatches_due,
        memory_changes=int(minibatch.changes),
      )
    contribution = Contribution(
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
      read_params=(learnt.read_params if self._job.needs_read_params else None),
    )
    return self._delayed(contribution), minibatch

  def _delayed(
    self, contribution: Contribution, segment: types.Segment | None = None
  ) -> Contribution:
    """Returns a contribution with an older gradient, if those are held back.

    All that does not belong to the gradient is contributed at once.
    """
    if not self._job.inject_lag:
      self._measure(contribution, segment)
      return contribution
    (played,) = contribution.played
    of_gradient = {name: getattr(contribution, name) for name in _OF_GRADIENT}
    self._held.append((of_gradient, played.acted_versions, segment))
    if len(self._held) <= self._job.inject_lag:
      return contribution._replace(grads=None, events=(), read_params=None)
    of_gradient, acted_versions, segment = self._held.popleft()
    played = played._replace(acted_versions=acted_versions)
    contribution = contribution._replace(played=(played,), **of_gradient)
    self._measure(contribution, segment)
    return contribution

  def _measure(
    self, contribution: Contribution, segment: types.Segment | None
  ) -> None:
    """Measures the gradient of a segment, if it is its turn."""
    meter = self._job.meter
    if meter and segment and contribution.grads is not None:
      self._gradients += 1
      if self._gradients % meter.every == 0:
        meter.measure(contribution.grads, segment, self._job.store.read())


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
