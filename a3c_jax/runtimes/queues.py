"""Queues: agents play, predictors choose their actions, trainers learn."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import logging
import queue
import threading
from typing import NamedTuple

import jax
import numpy as np

from a3c_jax.core import cpu, fields, stopwatch, threads, types
from a3c_jax.parameters.store import Contribution, Played
from a3c_jax.runtimes import joining, queued_actor, runtime, warm_up
from a3c_jax.runtimes import player as player_lib
from a3c_jax.runtimes.adjustment import Adjustment, Counts
from a3c_jax.runtimes.bad_gradients import BadGradients
from a3c_jax.runtimes.runtime import Job, Worker

_logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.2  # Between two signs of life of a thread that waits.
_WINDOW_SECONDS = 20.0  # The authors' code.
_MOST = 1000
_MOST_OTHERS = 64  # More would only compete with agents for processors.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(runtime.Settings):
  """Settings of queues."""

  agents: int = fields.count(
    'Threads that play. Each has its own environments and no parameters.',
    most=runtime.MOST_THREADS,
    default=4 * cpu.cores(),
    source='ours: GA3C has 32',
  )
  predictors: int = fields.count(
    'Threads that choose the actions of agents.',
    most=_MOST_OTHERS,
    default=1,
    source='ours: GA3C has 2, on a GPU',
  )
  trainers: int = fields.count(
    'Threads that compute gradients.',
    most=_MOST_OTHERS,
    default=1,
    source='ours: GA3C has 2, on a GPU',
  )
  min_training_segments: int = fields.count(
    'Segments of one update. They are joined into one of that many times the '
    'environments.',
    most=_MOST,
    default=1,
    source='GA3C, code',
  )
  training_queue: int = fields.count(
    'Segments that may wait for a trainer. If so many wait, agents wait too. A '
    'longer queue means a larger policy lag.',
    most=100_000,
    default=4,
    source='ours: GA3C has 100; the length is the lag',
  )
  prediction_batch: int = fields.setting(
    'Requests of agents that one prediction answers at most.',
    'a power of 2, at most 1024',
    lambda value: value in [2**n for n in range(11)],
    default=128,
    source='GA3C, code',
  )
  adjust: bool = fields.true_or_false(
    'Change the numbers of working agents, predictors and trainers every 20 '
    'seconds, and keep changes with which training is not slower. The flags '
    'give the largest numbers.',
    default=False,
    source='ours: GA3C adjusts',
  )
  inject_lag: int = fields.count(
    runtime.INJECT_LAG,
    least=0,
    most=10_000,
    default=0,
    source='ours',
  )

  @property
  def num_workers(self) -> int:
    return self.agents


class _Item(NamedTuple):
  """One segment in the training queue."""

  segment: types.Segment
  played: Played
  frames: int


class _Ticket(NamedTuple):
  """A batch of segments, and its place in the order of updates."""

  number: int
  items: list[_Item]


class Queues(runtime.Arrangement):
  """Agents, predictors and trainers, connected by two queues.

  An agent has at most one request in the prediction queue, so that queue needs
  no bound. Updates are applied in the order in which segments were queued, so
  a checkpoint never has a later segment of an agent without an earlier one.

  Source: Babaeizadeh et al. 2017, arXiv:1611.06256.
  """

  def __init__(self, team: Sequence[Worker], job: Job, settings: Settings):
    super().__init__(team, job)
    self._settings = settings
    self._requests: queue.SimpleQueue[queued_actor.Request] = (
      queue.SimpleQueue()
    )
    self._segments: queue.Queue[_Item] = queue.Queue(settings.training_queue)
    self._predictor = queued_actor.Predictor(job.learner, job.store.read)
    self._taking = threading.Lock()
    self._held: collections.deque[list[_Item]] = collections.deque()
    self._next_ticket = 0
    self._turn = threading.Condition()
    self._next_update = 0
    self._bad = BadGradients(job.max_bad_gradients, 'a trainer')
    self._working = Counts(
      settings.agents, settings.predictors, settings.trainers
    )
    # Of each predictor: predictions, and requests that they answered.
    self._answered = [(0, 0)] * settings.predictors
    # Of predictors and trainers, by the name of the thread.
    self._stopwatches: dict[str, stopwatch.Stopwatch] = {}

  def warm_up(self) -> types.Segment:
    job, worker = self._job, self._team[0]
    most = min(len(self._team), self._settings.prediction_batch)

    def ask(request):
      size = 1
      while size <= queued_actor.padded_size(most):
        self._predictor.answer([request] * size, worker.state.carry.key)
        size *= 2
      return request.reply.get()

    actor = queued_actor.QueuedActor(job.learner, job.store.read, ask)
    with warm_up.acting(worker, job, actor) as segment:
      segment = joining.joined([segment] * self._settings.min_training_segments)
      version = job.store.read()
      grads, _ = job.gradients(version.params, version.target_params, segment)
      job.store.warm_up(grads)
      return segment

  def threads(self) -> threads.ThreadGroup:
    settings = self._settings
    bodies = {}
    for kind, count, body in (
      ('agent', settings.agents, self._play),
      ('predictor', settings.predictors, self._predict),
      ('trainer', settings.trainers, self._train),
    ):
      for index in range(count):
        bodies[f'{kind}-{index}'] = self._until_done(
          functools.partial(body, index)
        )
    if settings.adjust:
      bodies['adjuster'] = self._until_done(self._adjust)
    return threads.ThreadGroup(bodies)

  def gauges(self) -> dict[str, float]:
    predictions, requests = map(sum, zip(*self._answered, strict=True))
    return {
      **self._working._asdict(),
      'training_queue': self._segments.qsize(),
      'prediction_batch': requests / predictions if predictions else 0.0,
      **super().gauges(),
    }

  def phases(self) -> dict[str, float]:
    return stopwatch.added(
      [
        *(worker.stopwatch for worker in self._team),
        *self._stopwatches.values(),
      ]
    )

  @property
  def _done(self) -> bool:
    return self._job.store.read().frames >= self._job.frames

  def _check(self, stop: threading.Event) -> None:
    """Shows a sign of life of a thread that waits.

    Raises:
      Stopped: if there is nothing more to wait for.
    """
    threads.beat()
    if stop.is_set() or self._done:
      raise threads.Stopped

  def _until_done(
    self, body: Callable[[threading.Event], None]
  ) -> Callable[[threading.Event], None]:
    """Returns a body that ends if another thread has done the last frames."""

    def run(stop):
      try:
        body(stop)
      except threads.Stopped:
        if not self._done:
          raise

    return run

  def _pause(self, may_work: Callable[[], bool], stop: threading.Event) -> None:
    """Waits while the numbers of working threads leave this one out."""
    while not may_work():
      self._check(stop)
      stop.wait(_POLL_SECONDS)

  def _play(self, index: int, stop: threading.Event) -> None:
    """What an agent does."""
    job = self._job

    def ask(request):
      player.clock.lap('acting')
      self._requests.put(request)
      while True:
        try:
          reply = request.reply.get(timeout=_POLL_SECONDS)
        except queue.Empty:
          self._check(stop)
        else:
          player.clock.lap('waiting')
          return reply

    actor = queued_actor.QueuedActor(job.learner, job.store.read, ask)
    player = player_lib.Player(self._team[index], job, actor, stop)
    while not (stop.is_set() or self._done):
      self._pause(lambda: index < self._working.agents, stop)
      segment, played = player.play()
      item = _Item(segment.segment, played, player.frames)
      while True:
        try:
          self._segments.put(item, timeout=_POLL_SECONDS)
          break
        except queue.Full:
          self._check(stop)
      player.clock.lap('waiting')

  def _predict(self, index: int, stop: threading.Event) -> None:
    """What a predictor does."""
    # Another session of the run must draw other numbers.
    key = jax.random.fold_in(
      jax.random.PRNGKey(self._job.seed), self._job.store.read().updates
    )
    key = jax.random.fold_in(key, index)
    clock = self._stopwatches[f'predictor-{index}'] = stopwatch.Stopwatch()
    while True:
      self._pause(lambda: index < self._working.predictors, stop)
      try:
        requests = [self._requests.get(timeout=_POLL_SECONDS)]
      except queue.Empty:
        self._check(stop)
        continue
      while len(requests) < self._settings.prediction_batch:
        try:
          requests.append(self._requests.get_nowait())
        except queue.Empty:
          break
      clock.lap('waiting')
      key = self._predictor.answer(requests, key)
      threads.beat()
      clock.lap('acting')
      predictions, answered = self._answered[index]
      self._answered[index] = (predictions + 1, answered + len(requests))

  def _train(self, index: int, stop: threading.Event) -> None:
    """What a trainer does."""
    job = self._job
    clock = self._stopwatches[f'trainer-{index}'] = stopwatch.Stopwatch()
    while True:
      # Segments that still wait then are not learnt from.
      self._check(stop)
      self._pause(lambda: index < self._working.trainers, stop)
      ticket = self._take(stop)
      clock.lap('waiting')
      version = job.store.read()
      grads, values = job.gradients(
        version.params,
        version.target_params,
        joining.joined([item.segment for item in ticket.items]),
      )
      values = np.asarray(values)  # Waits for the gradient.
      threads.beat()
      clock.lap('gradients')
      self._apply(ticket, version, grads, values, stop)
      clock.lap('update')

  def _take(self, stop: threading.Event) -> _Ticket:
    """Returns the next batch; only one trainer at a time takes."""
    while not self._taking.acquire(timeout=_POLL_SECONDS):
      self._check(stop)
    try:
      while True:
        items = []
        while len(items) < self._settings.min_training_segments:
          self._check(stop)  # For each segment: there may be many.
          with contextlib.suppress(queue.Empty):
            items.append(self._segments.get(timeout=_POLL_SECONDS))
        self._held.append(items)
        if len(self._held) > self._settings.inject_lag:
          self._next_ticket += 1
          return _Ticket(self._next_ticket - 1, self._held.popleft())
    finally:
      self._taking.release()

  def _apply(self, ticket, version, grads, values, stop) -> None:
    """Pushes a gradient when those before it have been pushed."""
    with self._turn:
      while self._next_update != ticket.number:
        self._turn.wait(_POLL_SECONDS)
        self._check(stop)
    grads, event = self._bad.checked(grads, values)
    self._job.store.push(
      Contribution(
        grads=grads,
        frames=sum(item.frames for item in ticket.items),
        read_version=version.updates,
        played=tuple(item.played for item in ticket.items),
        events=(event,),
      )
    )
    with self._turn:
      self._next_update += 1
      self._turn.notify_all()

  def _adjust(self, stop: threading.Event) -> None:
    """Changes the numbers of working threads after each window."""
    adjustment = Adjustment(
      self._working, np.random.default_rng([self._job.seed, 1])
    )
    began = self._job.store.read().frames
    while True:
      for _ in range(round(_WINDOW_SECONDS / _POLL_SECONDS)):
        self._check(stop)
        stop.wait(_POLL_SECONDS)
      frames = self._job.store.read().frames
      self._working = adjustment.end_window(frames - began)
      began = frames
      _logger.info('%d agents, %d predictors, %d trainers work', *self._working)


RUNTIME = runtime.Runtime(
  name='queues',
  settings_type=Settings,
  arrange=Queues,
  description='agents play, predictors act for them, trainers learn (GA3C)',
  without={
    'record': 'in which chance decides which requests share a prediction',
  },
)
