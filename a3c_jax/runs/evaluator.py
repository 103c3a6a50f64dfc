"""Evaluates parameters in a separate thread while a run trains."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import NamedTuple

from a3c_jax.core import events, types, workers
from a3c_jax.envs import replayable
from a3c_jax.runs import evaluation
from a3c_jax.runs import policy as policy_lib


class Evaluated(NamedTuple):
  """One version and its scores."""

  version: types.Version
  summary: evaluation.Summary


class Evaluator:
  """Evaluates one version at a time."""

  def __init__(
    self,
    make_env: Callable[[], replayable.Recorded],
    learner: types.Learner,
    *,
    episodes: int,
    seed: int,
    max_steps: int,
    max_env_restarts: int,
    incidents: events.EventQueue,
  ):
    """Makes the environment.

    Args:
      make_env: one call at a time; the first of its environments counts.
      learner: the algorithm.
      episodes: number of one evaluation.
      seed: of all evaluations.
      max_steps: agent decisions after which an episode is truncated.
      max_env_restarts: how often a failed environment may be replaced.
      incidents: where a replacement is reported.
    """
    self._make_env = make_env
    self._env = make_env()
    self._learner = learner
    self._episodes = episodes
    self._seed = seed
    self._max_steps = max_steps
    self._restarts_left = max_env_restarts
    self._incidents = incidents
    self._workers: workers.Workers | None = None
    self._evaluated: Evaluated | None = None

  def warm_up(self, version: types.Version) -> None:
    """Compiles the policy, in this thread."""
    policy = self._policy(version)
    obs, _ = self._env.reset(seed=evaluation.episode_seed(self._seed, 0))
    policy(obs, policy.initial_state(num_envs=self._env.num_envs))

  def _policy(self, version):
    return policy_lib.Policy(self._learner, version)

  @property
  def error(self) -> BaseException | None:
    """The exception that ended the thread; None without one."""
    return self._workers.error if self._workers else None

  @property
  def busy(self) -> bool:
    """Whether an evaluation is running, or `drain` has not returned it yet."""
    return self._workers is not None

  @property
  def progress(self) -> dict[str, int]:
    """The name of the thread that evaluates, and its count of signs of life."""
    return self._workers.alive() if self._workers else {}

  def start(self, version: types.Version) -> None:
    """Starts to evaluate a version; only while not busy."""
    seed = evaluation.episode_seed(self._seed, version.frames)
    policy = self._policy(version)

    def body(thread, stop):
      del thread
      episodes = [
        self._play(policy, evaluation.episode_seed(seed, index), stop)
        for index in range(self._episodes)
      ]
      self._evaluated = Evaluated(version, evaluation.summarize(episodes))

    self._workers = workers.Workers(body, 1, name='evaluation')
    self._workers.start()

  def _play(self, policy, seed, stop: threading.Event):
    def on_step():
      if stop.is_set():
        raise workers.Stopped

    while True:
      try:
        return evaluation.play(
          self._env,
          policy,
          seed=seed,
          max_steps=self._max_steps,
          on_step=on_step,
        )
      except Exception as error:
        self._env.check_failure(error, stop)
        if not self._restarts_left:
          raise
        self._restarts_left -= 1
        self._incidents.add(
          events.Incident(
            'env_restarts',
            f'the environment of the evaluation raised {error!r}; it was '
            'replaced',
          )
        )
        self._env.abandon()
        self._env = self._make_env()

  def drain(self, timeout: float = 0.0) -> Evaluated | None:
    """Returns the result of an evaluation that has ended, once.

    Args:
      timeout: seconds to wait for an evaluation that is running.

    Returns:
      None if none has ended since the last call.
    """
    if self._workers is None or self._workers.wait(timeout):
      return None
    if self._workers.error is None:
      self._workers = None
    evaluated, self._evaluated = self._evaluated, None
    return evaluated

  def wake(self) -> None:
    """Ends a `drain` that waits; a signal handler may call it."""
    running = self._workers
    if running:
      running.wake()

  def stop(self, timeout: float) -> list[str]:
    """Ends an evaluation that is running, without a result.

    Args:
      timeout: seconds to wait for its thread.

    Returns:
      The name of the thread if it did not end.
    """
    return self._workers.stop(timeout) if self._workers else []

  def close(self) -> None:
    """Closes the environment."""
    self._env.close()
