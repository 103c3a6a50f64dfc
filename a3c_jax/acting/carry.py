"""The carry: what one segment passes on to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gymnasium
import jax
import numpy as np

from a3c_jax.core import observations, types


class Carry(NamedTuple):
  """The state of the K environments of one thread between two segments."""

  obs: np.ndarray  # [K, ...] newest raw observation
  is_first: np.ndarray  # [K] bool, obs is the first of its episode
  action: np.ndarray | None  # [K, ...], drawn on arrival, not yet executed
  state: types.State  # recurrent state before obs
  key: jax.Array  # PRNG key of the thread
  episode_return: np.ndarray  # [K] float64, raw rewards so far
  clipped_return: np.ndarray  # [K] float64
  episode_steps: np.ndarray  # [K] int64


def start(
  env: gymnasium.vector.VectorEnv,
  learner: types.Learner,
  *,
  seed: int,
  key: jax.Array,
) -> Carry:
  """Resets the environments with a seed and returns the first carry.

  Raises:
    ValueError: if `acting` is not 'snapshot' and the learner has a recurrent
      state. An action drawn on arrival would advance it before its segment.
  """
  num_envs = env.num_envs
  state = learner.initial_state(num_envs)
  if learner.acting != 'snapshot' and jax.tree.leaves(state):
    raise ValueError(f'acting={learner.acting!r} cannot have a recurrent state')
  obs, _ = env.reset(seed=seed)
  return Carry(
    obs=observations.as_network_input(obs),
    is_first=np.ones(num_envs, bool),
    action=None,
    state=state,
    key=key,
    episode_return=np.zeros(num_envs),
    clipped_return=np.zeros(num_envs),
    episode_steps=np.zeros(num_envs, np.int64),
  )


def add_up_episodes(
  before: Sequence[np.ndarray], added: Sequence[np.ndarray], done: np.ndarray
) -> tuple[list[np.ndarray], list[list]]:
  """Returns sums over the steps of each episode.

  Args:
    before: arrays [K], the sums of unfinished episodes before these steps.
    added: for each of them an array [T, K].
    done: [T, K] bool, the step is the last of its episode.

  Returns:
    The sums [K] of the episodes that are unfinished after these steps, one
    array per quantity; and the sums of each episode that ended, in order.
  """
  sums = [x.copy() for x in before]
  ended = []
  any_ends = np.any(done, axis=1)
  for t in range(len(done)):
    for total, y in zip(sums, added, strict=True):
      total += y[t]
    if not any_ends[t]:
      continue
    for k in np.flatnonzero(done[t]):
      ended.append([total[k] for total in sums])
      for total in sums:
        total[k] = 0
  return sums, ended
