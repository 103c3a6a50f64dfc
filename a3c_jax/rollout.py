"""The rollout core: an environment and a way to act become segments."""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import NamedTuple

import gymnasium
import jax
import numpy as np

from a3c_jax import base, telemetry

# What each step keeps are arguments of the gradient: many compile for long.
_MOST_KEPT_STEPS = 32


class Carry(NamedTuple):
  """What one thread keeps from one segment to the next, for its K games."""

  obs: np.ndarray  # [K, ...] newest observation
  is_first: np.ndarray  # [K] bool, it is the first of its episode
  action: np.ndarray | None  # [K] int32, drawn on arrival but not yet taken
  state: base.State  # recurrent state before obs
  key: jax.Array  # PRNG key of the thread
  episode_return: np.ndarray  # [K] float64, raw rewards so far
  clipped_return: np.ndarray  # [K] float64
  episode_steps: np.ndarray  # [K] int64


class Episode(NamedTuple):
  """One finished episode."""

  raw_return: float
  clipped_return: float
  steps: int  # agent decisions


def start(
  env: gymnasium.vector.VectorEnv,
  learner: base.Learner,
  *,
  seed: int,
  key: jax.Array,
) -> Carry:
  """Resets the environment with a seed and begins its first episodes.

  Raises:
    ValueError: for a learner that acts on 'newest' with a recurrent state: the
      action that is drawn on arrival would advance it before its segment.
  """
  streams = env.num_envs
  state = learner.initial_state(streams)
  if learner.acts_on == 'newest' and jax.tree.leaves(state):
    raise ValueError("acts_on='newest' cannot have a recurrent state")
  obs, _ = env.reset(seed=seed)
  return Carry(
    obs=as_network_input(obs),
    is_first=np.ones(streams, bool),
    action=None,
    state=state,
    key=key,
    episode_return=np.zeros(streams),
    clipped_return=np.zeros(streams),
    episode_steps=np.zeros(streams, np.int64),
  )


def acting(learner: base.Learner, t_max: int) -> Callable[..., tuple]:
  """What a learner acts by in segments of `t_max` steps."""
  if learner.act_and_keep and t_max <= _MOST_KEPT_STEPS:
    return learner.act_and_keep
  return learner.act


def as_network_input(obs: np.ndarray) -> np.ndarray:
  """uint8 stays as it is, everything else becomes float32."""
  return obs if obs.dtype == np.uint8 else np.asarray(obs, np.float32)


def collect(
  env: gymnasium.vector.VectorEnv,
  learner: base.Learner,
  carry: Carry,
  *,
  t_max: int,
  gamma: float,
  reward_clip: float | None,
  snapshot: Callable[[], base.Snapshot],
  exploration_epsilon: np.float32,
  phases: telemetry.Phases,
) -> tuple[Carry, base.Segment, list[Episode]]:
  """Plays `t_max` steps of K games, over the ends of episodes.

  `env` resets in the step that ends an episode (`AutoresetMode.SAME_STEP`). A
  step's `info['life_loss']` [K] bool, where the environment gives one, marks
  states beyond which nothing counts although the episode goes on.

  A terminal step has discount 0. A truncated one has discount 0 too, and what
  the learner takes the final observation to be worth is added to its reward.

  The arrays of a segment are made afresh each time: JAX may alias them, so
  refilling them would change a segment that is still in use.

  Args:
    env: resets in the same step, raw rewards.
    learner: how to act, and what a truncated state is worth.
    carry: from `start` or from the last segment.
    t_max: T, steps.
    gamma: γ per step.
    reward_clip: largest reward kept, in absolute value; None keeps all.
    snapshot: gives the parameters to use, asked at each step.
    exploration_epsilon: ε of this segment.
    phases: where the time of acting and of the emulator is added up.

  Returns:
    The carry for the next segment, the segment, and the episodes that ended.
  """
  streams = env.num_envs
  obs = _aligned_empty((t_max + 1, *carry.obs.shape), carry.obs.dtype)
  a = np.zeros((t_max + 1, streams), np.int32)
  r_t = np.empty((t_max, streams), np.float32)
  discount_t = np.full((t_max, streams), gamma, np.float32)
  is_first = np.zeros((t_max + 1, streams), bool)
  episodes = []
  first_state = carry.state
  activations = []
  obs[0] = carry.obs
  is_first[0] = carry.is_first
  action, state, key = carry.action, carry.state, carry.key
  episode_return = carry.episode_return.copy()
  clipped_return = carry.clipped_return.copy()
  episode_steps = carry.episode_steps.copy()

  choose = acting(learner, t_max)

  def act(t):
    phases.lap('other')
    action, next_state, next_key, *kept = choose(
      snapshot().params, state, obs[t], key, exploration_epsilon
    )
    activations.extend(kept)
    action = np.asarray(action)
    phases.lap('acting')
    return action, next_state, next_key

  for t in range(t_max):
    if action is None:
      action, state, key = act(t)
    a[t] = action
    phases.lap('other')
    next_obs, reward, terminated, truncated, info = env.step(action)
    obs[t + 1] = next_obs
    phases.lap('emulator')

    r_t[t] = reward
    if reward_clip is not None:
      np.minimum(np.maximum(reward, -reward_clip), reward_clip, out=r_t[t])
    episode_return += reward
    clipped_return += r_t[t]
    episode_steps += 1
    action = None

    if 'life_loss' in info:
      discount_t[t, np.asarray(info['life_loss'], bool)] = 0.0
    done = terminated | truncated
    if not done.any():
      continue
    cut = truncated & ~terminated
    if cut.any():
      final_obs = obs[t + 1].copy()
      for k in np.flatnonzero(cut):
        final_obs[k] = info['final_obs'][k]
      params, target_params, *_ = snapshot()
      value, key = learner.bootstrap(
        params, target_params, state, final_obs, key, exploration_epsilon
      )
      r_t[t] += np.where(cut, gamma * np.asarray(value), 0.0)
      phases.lap('acting')
    discount_t[t, done] = 0.0
    is_first[t + 1] = done
    state = _reset_where(done, learner.initial_state(streams), state)
    for k in np.flatnonzero(done):
      episodes.append(
        Episode(
          raw_return=float(episode_return[k]),
          clipped_return=float(clipped_return[k]),
          steps=int(episode_steps[k]),
        )
      )
      episode_return[k] = clipped_return[k] = episode_steps[k] = 0

  if learner.acts_on == 'newest':
    # Drawn when the state is reached, so Sarsa's target holds the action that
    # the next segment begins with.
    action, state, key = act(t_max)
    a[t_max] = action

  segment = base.Segment(
    obs, a, r_t, discount_t, is_first, first_state, tuple(activations)
  )
  carry = Carry(
    obs=obs[t_max],
    is_first=is_first[t_max],
    action=action,
    state=state,
    key=key,
    episode_return=episode_return,
    clipped_return=clipped_return,
    episode_steps=episode_steps,
  )
  return carry, segment, episodes


def _reset_where(done, initial_state, state):
  def reset(initial, kept):
    return np.where(done.reshape(-1, *[1] * (kept.ndim - 1)), initial, kept)

  return jax.tree.map(reset, initial_state, state)


def _aligned_empty(shape, dtype):
  """An array that JAX on the CPU uses in place.

  JAX copies what is not aligned to 64 bytes, and a large copy happens on
  another thread, so the call that waits for it does too.
  """
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + 64, np.uint8)
  offset = -memory.ctypes.data % 64
  return memory[offset : offset + size].view(dtype).reshape(shape)
