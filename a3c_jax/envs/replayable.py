"""Remembers how an environment came to its state, to bring another one there.

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

# An episode that ends so many steps after its game's last seeded reset is
# followed by the next one: to go on after a stop, all steps since are replayed.
RESEED_STEPS = 20_000
# Training resets games with seeds below this, plus k for game k of K; those of
# evaluations are well above, so that no evaluation plays a training game.
TRAINING_SEEDS = 2**30


class ActionLog(NamedTuple):
  """What a recorded environment did since its oldest seeded reset."""

  seeds: np.ndarray  # [K] int64 of the newest seeded reset of each game
  starts: np.ndarray  # [K] int64, how many of the actions came before it
  actions: np.ndarray  # [N, K, ...]


def next_seed(seed: int) -> int:
  """The seed of the reset that follows the one with this seed."""
  return int(np.random.default_rng(seed).integers(TRAINING_SEEDS))


@contextlib.contextmanager
def without_exit() -> Iterator[None]:
  """Turns a SystemExit of an environment into an error like any other.

  A KeyboardInterrupt too, unless it may be Python's own for Ctrl-C: then it is
  the environment that raised it.

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
  """A vector environment whose state can be reached again.

  Attributes:
    failure: what the environment raised in its last step or reset, or None.
  """

  def __init__(
    self,
    env: gymnasium.vector.VectorEnv,
    *,
    reseed_steps: int | None = None,
  ):
    """Wraps an environment that resets in the same step.

    Args:
      env: its `reset` knows `options['reset_mask']`, and takes a seed per game.
      reseed_steps: steps after which the end of an episode is followed by a
        seeded reset; unless given, the environment's metadata 'reseed_steps',
        or `RESEED_STEPS`.
    """
    super().__init__(env)
    self.failure: Exception | None = None
    self._reseed_steps = reseed_steps or env.metadata.get(
      'reseed_steps', RESEED_STEPS
    )
    self._begin(np.zeros(env.num_envs, np.int64))

  def _begin(self, seeds):
    self._seeds = seeds
    self._starts = np.zeros_like(seeds)
    shape, dtype = self.env.action_space.shape, self.env.action_space.dtype
    self._actions = np.empty((64, *shape), dtype)
    self._steps = 0

  def reset(self, *, seed=None, options=None):
    """Resets all games; `seed` is an int, of the first of them."""
    self._begin(seed + np.arange(self.num_envs))
    with self._noting_failure():
      return self.env.reset(seed=self._seeds.tolist(), options=options)

  @contextlib.contextmanager
  def _noting_failure(self):
    workers.beat()
    try:
      with without_exit():
        yield
    except Exception as error:
      self.failure = error
      raise
    workers.beat()

  def _note(self, actions):
    """Notes actions [N, K, ...]."""
    steps = self._steps + len(actions)
    while steps > len(self._actions):
      # A new array: `past` has handed out the rows of the old one.
      self._actions = np.concatenate(
        [self._actions, np.empty_like(self._actions)]
      )
    self._actions[self._steps : steps] = actions
    self._steps = steps

  def program(self, steps: int) -> types.EnvProgram | None:
    """That of the environment; None where a seeded reset may be due."""
    if (self._steps + steps - self._starts >= self._reseed_steps).any():
      return None
    return types.program_of(self.env, steps)

  def played(self, actions: np.ndarray, state: Any) -> None:
    """Notes the actions [N, K, ...] that a program took, and its last state."""
    workers.beat()
    self._note(actions)
    self.env.played(actions, state)

  def step(self, actions):
    self._note(np.asarray(actions)[None])
    with self._noting_failure():
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
    forget = self._starts.min()
    self._actions = self._actions[forget:].copy()
    self._starts -= forget
    self._steps -= forget
    if self._steps == 0:
      self._begin(self._seeds)
    obs, _ = self.env.reset(
      seed=self._seeds.tolist(), options={'reset_mask': due}
    )
    return obs

  def abandon(self) -> None:
    """Closes the environment, whatever that raises: it is broken already."""
    with contextlib.suppress(Exception), without_exit():
      self.close()

  def close(self, **kwargs):
    try:
      return self.env.close(**kwargs)
    finally:
      self.unwrapped.closed = True  # Or it is closed again when it is deleted.

  def action_log(self) -> ActionLog:
    """How the games came to where they are; costs no copy."""
    return ActionLog(self._seeds, self._starts, self._actions[: self._steps])

  def replay(
    self, past: ActionLog, on_step: Callable[[], None] = lambda: None
  ) -> np.ndarray:
    """Does again what `past` tells, and returns the observation [K, ...].

    `on_step` is called before every step; what it raises ends the replay.

    An environment that depends on more than seeds and actions gives another one
    than it gave then.
    """
    seeds = past.seeds.tolist()
    with self._noting_failure():
      obs, _ = self.env.reset(seed=seeds)
      for step in range(len(past.actions) + 1):
        on_step()
        workers.beat()
        due = (past.starts == step) & (step > 0)
        if due.any():
          obs, _ = self.env.reset(seed=seeds, options={'reset_mask': due})
        if step < len(past.actions):
          obs, *_ = self.env.step(past.actions[step])
    self._begin(past.seeds)
    self._starts = past.starts
    self._actions = np.concatenate([past.actions, self._actions])
    self._steps = len(past.actions)
    return obs
