"""Logs the seeds and actions of an environment, to restore its state.

The vector emulator cannot be copied, but a seeded reset and the same actions
lead to the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import signal
import threading
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from a3c_jax.core import types, workers
from a3c_jax.envs import spaces

# When an episode ends at least this many steps after the environment's last
# seeded reset, a seeded reset follows. To resume, all steps since are replayed.
RESEED_STEPS = 20_000
# Training resets environment k of K with a seed below this, plus k. Evaluations
# use seeds well above, so that no evaluation plays an episode of training.
TRAINING_SEEDS = 2**30


class ActionLog(NamedTuple):
  """Seeds and actions of K environments since the oldest seeded reset."""

  seeds: np.ndarray  # [K] int64, of the newest seeded reset of each
  starts: np.ndarray  # [K] int64, number of actions before that reset
  actions: np.ndarray  # [N, K, ...]


def next_seed(seed: int) -> int:
  """The seed of the reset that follows the one with this seed."""
  return int(np.random.default_rng(seed).integers(TRAINING_SEEDS))


@contextlib.contextmanager
def without_exit() -> Iterator[None]:
  """Turns an environment's SystemExit or KeyboardInterrupt into an error.

  A KeyboardInterrupt that may be Python's own for Ctrl-C passes unchanged.

  Raises:
    RuntimeError: from what was raised.
  """
  try:
    yield
  except (SystemExit, KeyboardInterrupt) as error:
    if isinstance(error, KeyboardInterrupt) and (
      threading.current_thread() is threading.main_thread()
      and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
      raise
    raise RuntimeError(f'the environment raised {error!r}') from error


class Recorded(gymnasium.vector.VectorWrapper):
  """A vector environment that logs its actions, and can replay a log.

  Attributes:
    failure: the exception of its last step or reset, or None.
  """

  def __init__(
    self,
    env: gymnasium.vector.VectorEnv,
    *,
    reseed_steps: int | None = None,
  ):
    """Wraps an environment that resets in the same step.

    Args:
      env: its `reset` takes `options['reset_mask']`, and a seed for each of the
        K environments.
      reseed_steps: steps after which the end of an episode is followed by a
        seeded reset. By default, the environment's metadata 'reseed_steps', or
        else `RESEED_STEPS`.
    """
    super().__init__(env)
    self.failure: Exception | None = None
    self._reseed_steps = reseed_steps or env.metadata.get(
      'reseed_steps', RESEED_STEPS
    )
    self._start_log(np.zeros(env.num_envs, np.int64))

  def _start_log(self, seeds):
    self._seeds = seeds
    self._starts = np.zeros_like(seeds)
    shape, dtype = spaces.shape_and_dtype(self.env.action_space)
    self._actions = np.empty((64, *shape), dtype)
    self._steps = 0

  def reset(self, *, seed: int, options: dict[str, Any] | None = None):
    """Resets all environments; environment k gets `seed + k`."""
    self._start_log(seed + np.arange(self.num_envs))
    with self._recording_failure():
      return self.env.reset(seed=self._seeds.tolist(), options=options)

  @contextlib.contextmanager
  def _recording_failure(self):
    workers.beat()
    try:
      with without_exit():
        yield
    except Exception as error:
      self.failure = error
      raise
    workers.beat()

  def _append(self, actions):
    """Appends actions [N, K, ...] to the log."""
    steps = self._steps + len(actions)
    while steps > len(self._actions):
      # A new array: `action_log` has returned views of the old one.
      self._actions = np.concatenate(
        [self._actions, np.empty_like(self._actions)]
      )
    self._actions[self._steps : steps] = actions
    self._steps = steps

  def program(self, steps: int) -> types.EnvProgram | None:
    """The environment's program; None if a seeded reset may be due."""
    if (self._steps + steps - self._starts >= self._reseed_steps).any():
      return None
    return types.program_of(self.env, steps)

  def played(self, actions: np.ndarray, state: Any) -> None:
    """Logs the actions [N, K, ...] of a program, and passes on its state."""
    workers.beat()
    self._append(actions)
    env: Any = self.env  # `program` gave one, so it has `played` too.
    env.played(actions, state)

  def step(self, actions):
    self._append(np.asarray(actions)[None])
    with self._recording_failure():
      obs, reward, terminated, truncated, info = self.env.step(actions)
      due = terminated | truncated
      if due.any():
        due &= self._steps - self._starts >= self._reseed_steps
        if due.any():
          obs = self._reseed(due)
    return obs, reward, terminated, truncated, info

  def _reseed(self, due):
    self._seeds = self._seeds.copy()
    self._starts = self._starts.copy()
    for k in np.flatnonzero(due):
      self._seeds[k] = next_seed(int(self._seeds[k]))
      self._starts[k] = self._steps
    dropped = self._starts.min()
    self._actions = self._actions[dropped:].copy()
    self._starts -= dropped
    self._steps -= dropped
    if self._steps == 0:
      self._start_log(self._seeds)
    obs, _ = self.env.reset(
      seed=self._seeds.tolist(), options={'reset_mask': due}
    )
    return obs

  def check_failure(self, error: Exception, stop: threading.Event) -> None:
    """Returns if this environment raised the error, so that it is replaced.

    Args:
      error: that reached the thread which uses the environment.
      stop: ends that thread when it is set.

    Raises:
      Stopped: if the thread ends now. A signal that ends it may have reached
        the processes of the environment too.
      Exception: the error, if something else raised it.
    """
    if error is not self.failure:
      raise error
    if stop.wait(workers.SIGNAL_SECONDS):
      raise workers.Stopped from error

  def abandon(self) -> None:
    """Closes a broken environment; errors of that are ignored."""
    with contextlib.suppress(Exception), without_exit():
      self.close()

  def close(self, **kwargs):
    try:
      return self.env.close(**kwargs)
    finally:
      self.unwrapped.closed = True  # Else deleting it would close it again.

  def action_log(self) -> ActionLog:
    """The seeds and actions that led to the current state; not a copy."""
    return ActionLog(self._seeds, self._starts, self._actions[: self._steps])

  def replay(
    self, log: ActionLog, on_step: Callable[[], None] = lambda: None
  ) -> np.ndarray:
    """Replays a log, and returns the observation [K, ...] that follows.

    The observation differs from the logged run's if the environment depends on
    more than seeds and actions.

    Args:
      log: of an environment with the same options.
      on_step: called before every step. An exception of it ends the replay.
    """
    seeds = log.seeds.tolist()
    with self._recording_failure():
      obs, _ = self.env.reset(seed=seeds)
    for step in range(len(log.actions) + 1):
      on_step()  # What it raises is no failure of the environment.
      with self._recording_failure():
        due = (log.starts == step) & (step > 0)
        if due.any():
          obs, _ = self.env.reset(seed=seeds, options={'reset_mask': due})
        if step < len(log.actions):
          obs, *_ = self.env.step(log.actions[step])
    self._start_log(log.seeds)
    self._starts = log.starts
    self._actions = np.concatenate([log.actions, self._actions])
    self._steps = len(log.actions)
    return obs
