"""Made-up transitions, and whole observations to compare a memory with."""

from typing import Any, NamedTuple

import numpy as np

from a3c_jax import replay

FRAME = (2,)  # shape of one frame


class Step(NamedTuple):
  """One transition of one environment, with its whole observation."""

  obs: np.ndarray
  is_first: bool
  a: int
  r: float
  discount: float
  truncated: bool  # or the environment was replaced after it
  age: int  # steps since the episode's first


class Worker:
  """Makes segments of K environments, and remembers every step.

  Attributes:
    history: of each environment, its steps.
  """

  def __init__(self, rng, *, num_envs, stack, ends=0.2, mid_episode=False):
    self.rng, self.num_envs, self.stack, self.ends = rng, num_envs, stack, ends
    self.history: list[list[Step]] = [[] for _ in range(num_envs)]
    self._count = 0
    self._obs = [self._first() for _ in range(num_envs)]
    self._age = [0] * num_envs
    if mid_episode:
      for env in range(num_envs):
        for _ in range(stack):
          self._obs[env] = self._next(self._obs[env])
        self._age[env] = stack

  def segment(self, steps, replace=False) -> replay.Transitions:
    """Returns T steps; `replace` starts all environments anew before."""
    if replace:
      for env, history in enumerate(self.history):
        if self._age[env] and history:
          history[-1] = history[-1]._replace(truncated=True)
        self._obs[env], self._age[env] = self._first(), 0
    obs, first = [list(self._obs)], [[age == 0 for age in self._age]]
    results = []
    for _ in range(steps):
      results.append([self._step(env) for env in range(self.num_envs)])
      obs.append(list(self._obs))
      first.append([age == 0 for age in self._age])

    def array(field, dtype):
      return np.array(
        [[getattr(x, field) for x in row] for row in results], dtype
      )

    return replay.Transitions(
      obs=np.array(obs, np.float32),
      a=array('a', np.int32),
      r_t=array('r', np.float32),
      discount_t=array('discount', np.float32),
      is_first=np.array(first),
      truncated=array('truncated', bool),
    )

  def _step(self, env) -> Step:
    done = self.rng.random() < self.ends
    step = Step(
      obs=self._obs[env],
      is_first=self._age[env] == 0,
      a=int(self.rng.integers(1000)),
      r=float(np.float32(self.rng.normal())),
      discount=0.0 if done else 0.5,
      truncated=bool(done and self.rng.random() < 0.5),
      age=self._age[env],
    )
    self.history[env].append(step)
    self._obs[env] = self._first() if done else self._next(self._obs[env])
    self._age[env] = 0 if done else self._age[env] + 1
    return step

  def _frame(self):
    self._count += 1
    return np.array([self._count, self.rng.random()], np.float32)

  def _first(self):
    if self.stack == 1:
      return self._frame()
    obs = np.zeros((self.stack, *FRAME), np.float32)
    obs[-1] = self._frame()
    return obs

  def _next(self, obs):
    if self.stack == 1:
      return self._frame()
    return np.concatenate([obs[1:], self._frame()[None]])


def memory_for(*, stack=1, **settings: Any) -> replay.Memory:
  """Returns a memory for the segments of a `Worker`."""
  return replay.Memory(
    obs_shape=(stack, *FRAME) if stack > 1 else FRAME,
    obs_dtype=np.dtype(np.float32),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    stack=stack,
    **settings,
  )


def startable(history, *, rows, stack, steps) -> list[int]:
  """Returns where windows of `steps` may begin in a ring of `rows`."""
  head = len(history)
  low = max(0, head - rows)

  def fits(i):
    oldest = i - min(stack - 1, history[i].age)
    cut = any(x.truncated for x in history[i : i + steps])
    return oldest >= low and not cut

  return [i for i in range(low, head - steps) if fits(i)]
