"""Plays a segment step by step: any environment, any actor."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import steps as steps_lib
from a3c_jax.core import arrays, stopwatch


def play(
  env: gymnasium.vector.VectorEnv,
  actor: actor_lib.Actor,
  carry: carry_lib.Carry,
  num_steps: int,
  *,
  epsilon: np.ndarray,
  clock: stopwatch.Stopwatch,
  on_step: Callable[[], None],
) -> steps_lib.Steps:
  """Plays T = `num_steps` steps as `rollout.collect` does.

  The actor has begun the segment. `epsilon` is [] or [K] float32.
  """
  num_envs = env.num_envs
  raw_obs, obs = _empty_observations(actor, carry, num_steps)
  normalizes = obs is not raw_obs
  actions, kept = [], []
  reward = np.empty((num_steps, num_envs))
  bootstrap_value = np.zeros((num_steps, num_envs), np.float32)
  done = np.zeros((num_steps, num_envs), bool)
  was_truncated = np.zeros((num_steps, num_envs), bool)
  life_loss = np.zeros((num_steps, num_envs), bool)
  versions = np.empty(num_steps, np.int64)
  action, state, key = carry.action, carry.state, carry.key

  for t in range(num_steps):
    on_step()
    clock.lap('other')
    if action is None or actor.pure_act:
      # What is kept must be of this segment's parameters, also for an action
      # that was drawn before.
      decision = actor.act(obs[t], state, key, epsilon)
      kept.append(decision.kept)
      if action is None:
        action, state, key, _ = decision
      clock.lap('acting')
    # An action that was drawn on arrival counts as drawn now.
    versions[t] = actor.version.updates
    actions.append(action)
    raw_obs[t + 1], reward[t], terminated, truncated, info = env.step(action)
    if normalizes:
      obs[t + 1] = actor.normalize(raw_obs[t + 1])
    clock.lap('emulator')
    action = None
    ends = terminated | truncated
    done[t] = ends
    life_loss[t] = _life_loss(info, ends)
    if not ends.any():
      continue
    # A lost life has discount 0, so a truncation in that step has no value.
    bootstraps = truncated & ~terminated & ~life_loss[t]
    was_truncated[t] = bootstraps
    if bootstraps.any():
      final_obs = _final_observations(raw_obs[t + 1], bootstraps, info)
      final_obs = actor.normalize(final_obs)
      value, key = actor.bootstrap(final_obs, state, key, epsilon)
      bootstrap_value[t] = np.where(bootstraps, value, 0.0)
      clock.lap('acting')
    state = steps_lib.reset_where(ends, actor.initial_state(num_envs), state)

  if actor.decides_on_arrival:
    clock.lap('other')
    action, state, key, _ = actor.act(obs[num_steps], state, key, epsilon)
    clock.lap('acting')
  actions.append(np.zeros_like(actions[0]) if action is None else action)
  return steps_lib.Steps(
    raw_obs=raw_obs,
    obs=obs,
    action=np.stack(actions),
    reward=reward,
    bootstrap_value=bootstrap_value,
    done=done,
    truncated=was_truncated,
    life_loss=life_loss,
    pending_action=action,
    state=state,
    key=key,
    kept=steps_lib.joined(kept),
    versions=versions,
  )


def _empty_observations(actor, carry, num_steps):
  """Returns arrays [T+1, K, ...] of raw and normalized observations.

  Only the first observations are set. Each segment needs new arrays: JAX may
  alias them, so refilling them would change a segment that is still in use.
  Without normalization both are the same array.
  """
  first = actor.normalize(carry.obs)
  shape = (num_steps + 1, *carry.obs.shape)
  obs = arrays.aligned_empty(shape, first.dtype)
  obs[0] = first
  if first is carry.obs:
    return obs, obs
  raw_obs = np.empty(shape, carry.obs.dtype)
  raw_obs[0] = carry.obs
  return raw_obs, obs


def _final_observations(obs, truncated, info):
  """Returns observations [K, ...]; final ones where truncated."""
  final_obs = obs.copy()
  for k in np.flatnonzero(truncated):
    final_obs[k] = info['final_obs'][k]
  return final_obs


def _life_loss(info, done):
  """Returns this step's marks [K], also of the last step of an episode."""
  lost = info.get('life_loss', False)
  if 'final_info' in info:  # There `info` is that of the reset.
    lost = np.where(done, info['final_info'].get('life_loss', False), lost)
  return lost
