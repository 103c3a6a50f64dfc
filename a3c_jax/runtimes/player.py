"""Plays the segments of one worker, and replaces environments that fail."""

from __future__ import annotations

from collections.abc import Callable
import threading

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import events, stopwatch, threads
from a3c_jax.parameters.store import Played
from a3c_jax.runtimes.runtime import Job, Worker


class Player:
  """Plays one segment after another, in the thread that uses it.

  Attributes:
    frames: emulator frames of a segment.
    new_seed: of environments that replaced failing ones in the newest segment;
      None without.
    clock: the stopwatch of the worker.
  """

  def __init__(
    self,
    worker: Worker,
    job: Job,
    actor: actor_lib.Actor,
    stop: threading.Event,
    *,
    on_attempt: Callable[[], None] = lambda: None,
  ):
    """Starts at the worker's state, with a new stopwatch.

    Args:
      worker: whose environments are played.
      job: shared by all workers.
      actor: chooses actions.
      stop: ends a segment early when it is set. On the step-by-step path that
        discards the segment.
      on_attempt: called before each attempt to play a segment.
    """
    self.clock = worker.stopwatch = stopwatch.Stopwatch()
    self.frames = job.spec.steps * worker.env.num_envs * job.action_repeat
    self._worker = worker
    self._job = job
    self._actor = actor
    self._stop = stop
    self._restarts = 0
    self._carry: carry_lib.Carry | None = worker.state.carry
    self._key = worker.state.carry.key
    self._on_attempt = on_attempt
    self.new_seed: int | None = None
    self._next_seed: int | None = None

  def restart(self, seed: int) -> None:
    """Starts new episodes with a seed before the next segment."""
    assert self._carry is not None
    self._key = self._carry.key
    self._carry, self._next_seed = None, seed

  def play(self) -> tuple[rollout.Rollout, Played]:
    """Returns the next segment, and what a store must know of it.

    An environment that raises is replaced, up to `job.max_env_restarts` times;
    its unfinished segment is lost.

    Raises:
      Stopped: if the thread ends within the segment.
      Exception: what the environment raised once too often, or the actor.
    """
    worker, job = self._worker, self._job
    self.new_seed, self._next_seed = self._next_seed, None
    while True:
      self._on_attempt()
      try:
        if self._carry is None:  # Of a new environment.
          assert self.new_seed is not None
          worker.start(job.learner, seed=self.new_seed, key=self._key)
          self._carry = worker.state.carry
        self._key = self._carry.key
        segment = rollout.collect(
          worker.env,
          self._actor,
          self._carry,
          job.spec,
          epsilon=worker.exploration_epsilon,
          clock=self.clock,
          on_step=self._end_if_stopped,
        )
        break
      except Exception as error:
        self._replace_env(error)
    self._carry = segment.carry
    if worker.index == 0:  # One is enough, and it takes memory.
      worker.seen = segment.segment.obs
    threads.beat()
    self.clock.lap('other')
    return segment, Played(
      worker=worker.index,
      worker_state=WorkerState(segment.carry, worker.env.action_log()),
      acted_versions=segment.acted_versions,
      events=segment.episodes,
      statistics=segment.statistics,
    )

  def _end_if_stopped(self) -> None:
    if self._stop.is_set():
      raise threads.Stopped

  def _replace_env(self, error: Exception) -> None:
    """Raises unless the environment failed and may be replaced."""
    worker, job = self._worker, self._job
    worker.env.check_failure(error, self._stop)
    if self._restarts == job.max_env_restarts:
      raise error
    self._restarts += 1
    job.incidents.add(
      events.Incident(
        'env_restarts',
        f'environment of thread {worker.index} raised {error!r}; replaced, '
        f'{self._restarts} of at most {job.max_env_restarts} times',
      )
    )
    self.new_seed = worker.replace_env(job.make_env)
    self._carry = None
