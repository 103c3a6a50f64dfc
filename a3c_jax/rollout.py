"""The rollout core: an environment and a way to act become segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax import base, normalization, telemetry

_LONGEST_PROGRAM = 32  # Steps: each is compiled for itself.


class Carry(NamedTuple):
  """What one thread keeps from one segment to the next, for its K games."""

  obs: np.ndarray  # [K, ...] newest observation, as the environment gave it
  is_first: np.ndarray  # [K] bool, it is the first of its episode
  action: np.ndarray | None  # [K, ...], drawn on arrival but not yet taken
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


def compile_program(
  env: gymnasium.vector.VectorEnv,
  learner: base.Learner,
  carry: Carry,
  *,
  t_max: int,
  params: base.Params,
) -> None:
  """Compiles the program of `collect`, if it will use one; plays nothing."""
  program = _program_of(env, learner, t_max)
  if program:
    arguments = _arguments(program, learner, carry, t_max, params)
    _program.lower(*arguments, np.ones(env.num_envs, np.float32)).compile()


def joined(activations: Sequence[Any]) -> Any:
  """`Segment.activations`, of what `act_and_keep` kept of each step."""

  def join(*steps):
    shape = (sum(map(len, steps)), *steps[0].shape[1:])
    return np.concatenate(steps, out=_aligned_empty(shape, steps[0].dtype))

  return jax.tree.map(join, *activations) if activations else ()


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
  snapshot: Callable[[], base.Version],
  exploration_epsilon: np.ndarray,
  phases: telemetry.Phases,
  reward_scale: float = 1.0,
  moments: base.RunningStatistics | None = None,
) -> tuple[Carry, base.Segment, list[Episode], np.ndarray]:
  """Plays `t_max` steps of K games, over the ends of episodes.

  `env` resets in the step that ends an episode (`AutoresetMode.SAME_STEP`). A
  step's `info['life_loss']` [K] bool, where the environment gives one, marks
  states beyond which nothing counts although the episode goes on.

  A terminal step has discount 0. A truncated one has discount 0 too, and what
  the learner takes the final observation to be worth is added to its reward.

  The arrays of a segment are made afresh each time: JAX may alias them, so
  refilling them would change a segment that is still in use.

  Where both `env` and the learner can, all steps are one XLA program. It plays
  the same, but needs neither Python nor its lock: with threads enough to wait
  for one another, that is what they would wait for.

  Args:
    env: resets in the same step, raw rewards; may have a `base.EnvProgram`.
    learner: how to act, and what a truncated state is worth.
    carry: from `start` or from the last segment.
    t_max: T, steps.
    gamma: γ per step.
    reward_clip: largest reward kept, in absolute value; None keeps all.
    snapshot: gives the parameters to use, asked at each step, or once for all
      steps of a program.
    exploration_epsilon: [] or [K] float32, ε of this segment; [K] for what
      `compile_program` has compiled.
    phases: where the time of acting and of the emulator is added up.
    reward_scale: what rewards are multiplied by, before they are clipped.
    moments: by which the learner sees observations normalised, if it does.

  Returns:
    The carry for the next segment, the segment, the episodes that ended, and
    the observations [T, K, ...] that were acted on, as the environment gave
    them.
  """
  program = None if moments else _program_of(env, learner, t_max)
  if program:
    played = _play_in_program(
      env, program, learner, carry, t_max, snapshot, exploration_epsilon, phases
    )
  else:
    played = _play(
      env,
      learner,
      carry,
      t_max,
      gamma,
      snapshot,
      exploration_epsilon,
      phases,
      moments,
    )

  r_t = (reward_scale * played.reward).astype(np.float32)
  if reward_clip is not None:
    np.minimum(np.maximum(r_t, -reward_clip), reward_clip, out=r_t)
  done = played.done
  segment = base.Segment(
    obs=played.obs,
    a=played.a,
    r_t=r_t + played.final_worth,
    discount_t=np.where(done | played.life_loss, 0, gamma).astype(np.float32),
    is_first=np.concatenate([carry.is_first[None], done]),
    state=carry.state,
    activations=played.activations,
  )
  sums = (carry.episode_return, carry.clipped_return, carry.episode_steps)
  sums, ended = _sums_of_episodes(
    sums, (played.reward, r_t, np.ones_like(done, np.int64)), done
  )
  carry = Carry(
    played.seen[t_max], done[-1], played.action, played.state, played.key, *sums
  )
  episodes = [
    Episode(float(raw_return), float(clipped_return), int(steps))
    for raw_return, clipped_return, steps in ended
  ]
  return carry, segment, episodes, played.seen[:-1]


class _Played(NamedTuple):
  """What `t_max` steps of K games gave."""

  seen: np.ndarray  # [T+1, K, ...] observations, as the environment gave them
  obs: np.ndarray  # [T+1, K, ...] the same, as the learner saw them
  a: np.ndarray  # [T+1, K, ...]
  reward: np.ndarray  # [T, K] raw
  final_worth: np.ndarray  # [T, K] float32, γ · value where an episode was cut
  done: np.ndarray  # [T, K] bool
  life_loss: np.ndarray  # [T, K] bool
  action: np.ndarray | None  # as in `Carry`
  state: base.State
  key: jax.Array
  activations: Any


def _play(
  env,
  learner,
  carry,
  t_max,
  gamma,
  snapshot,
  exploration_epsilon,
  phases,
  moments,
) -> _Played:
  streams = env.num_envs
  normalize = normalization.normalizer(moments)
  shape = (t_max + 1, *carry.obs.shape)
  dtype = carry.obs.dtype if moments is None else np.dtype(np.float32)
  obs = _aligned_empty(shape, dtype)
  seen = obs if moments is None else np.empty(shape, carry.obs.dtype)
  a = []
  reward = np.empty((t_max, streams))
  final_worth = np.zeros((t_max, streams), np.float32)
  done = np.zeros((t_max, streams), bool)
  life_loss = np.zeros((t_max, streams), bool)
  activations = []
  seen[0] = carry.obs
  obs[0] = normalize(carry.obs)
  action, state, key = carry.action, carry.state, carry.key
  choose = learner.act_and_keep or learner.act

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
    a.append(action)
    phases.lap('other')
    next_obs, reward[t], terminated, truncated, info = env.step(action)
    seen[t + 1] = next_obs
    if moments is not None:
      obs[t + 1] = normalize(seen[t + 1])
    phases.lap('emulator')
    action = None
    done[t] = terminated | truncated
    life_loss[t] = _life_loss(info, done[t])
    if not done[t].any():
      continue
    # Beyond a lost life nothing counts, so a time limit there cuts nothing off.
    cut = truncated & ~terminated & ~life_loss[t]
    if cut.any():
      final_obs = seen[t + 1].copy()
      for k in np.flatnonzero(cut):
        final_obs[k] = info['final_obs'][k]
      params, target_params, *_ = snapshot()
      value, key = learner.bootstrap(
        params,
        target_params,
        state,
        normalize(final_obs),
        key,
        exploration_epsilon,
      )
      final_worth[t] = np.where(cut, gamma * np.asarray(value), 0.0)
      phases.lap('acting')
    state = _reset_where(done[t], learner.initial_state(streams), state)

  if learner.acts_on == 'newest':
    # Drawn when the state is reached, so Sarsa's target holds the action that
    # the next segment begins with.
    action, state, key = act(t_max)
  a.append(np.zeros_like(a[0]) if action is None else action)
  return _Played(
    seen,
    obs,
    np.stack(a),
    reward,
    final_worth,
    done,
    life_loss,
    action,
    state,
    key,
    joined(activations),
  )


def _life_loss(info, done):
  """Marks [K] of this step, also of the last step of an episode."""
  lost = info.get('life_loss', False)
  if 'final_info' in info:  # There `info` is that of the reset.
    lost = np.where(done, info['final_info'].get('life_loss', False), lost)
  return lost


def _program_of(env, learner, t_max) -> base.EnvProgram | None:
  if learner.act_and_keep and t_max <= _LONGEST_PROGRAM:
    return base.program_of(env, t_max)
  return None


def _arguments(program, learner, carry, t_max, params) -> tuple:
  return (
    learner.act_and_keep,
    learner.initial_state,
    program.step,
    t_max,
    program.state,
    params,
    carry.state,
    carry.obs,
    carry.key,
  )


def _play_in_program(
  env, program, learner, carry, t_max, snapshot, exploration_epsilon, phases
) -> _Played:
  phases.lap('other')
  arguments = _arguments(program, learner, carry, t_max, snapshot().params)
  obs, told, state, key, env_state, activations = _program(
    *arguments, exploration_epsilon
  )
  a, reward, done, life_loss = np.asarray(told)
  a = a.astype(np.int32)
  env.played(a, jax.tree.map(np.asarray, env_state))
  phases.lap('playing')
  obs = np.asarray(obs)
  return _Played(
    seen=obs,
    obs=obs,
    a=np.concatenate([a, np.zeros_like(a[:1])]),
    reward=reward,
    final_worth=np.zeros_like(reward),
    done=done.astype(bool),
    life_loss=life_loss.astype(bool),
    action=None,
    state=state,
    key=key,
    activations=activations,
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _program(
  act_and_keep,
  initial_state,
  step,
  t_max,
  env_state,
  params,
  state,
  obs,
  key,
  exploration_epsilon,
):
  """`t_max` steps without Python."""
  all_obs, told, activations = [obs], [], []
  # Not a scan: XLA would hand over what is in its loop to its own threads.
  for _ in range(t_max):
    action, state, key, kept = act_and_keep(
      params, state, obs, key, exploration_epsilon
    )
    env_state, (obs, reward, done, life_loss) = step(env_state, action)
    state = _reset_where(done, initial_state(len(obs)), state, jnp.where)
    all_obs.append(obs)
    activations.append(kept)
    # In one array, since each costs Python some microseconds.
    step_told = (action, reward, done, life_loss)
    told.append(jnp.stack([x.astype(jnp.float32) for x in step_told]))
  told = jnp.stack(told, axis=1)
  kept = jax.tree.map(lambda *steps: jnp.concatenate(steps), *activations)
  return jnp.stack(all_obs), told, state, key, env_state, kept


def _sums_of_episodes(before, added, done):
  """Sums over the steps of each episode.

  Args:
    before: arrays [K], sums up to these steps, of the episodes that go on.
    added: for each of them an array [T, K].
    done: [T, K], the step is the last of its episode.

  Returns:
    For each the sums [K] of the episodes that go on beyond these steps, and for
    each episode that ended, in their order, its sums.
  """
  sums = [x.copy() for x in before]
  ended = []
  for t, ends in enumerate(done):
    for total, y in zip(sums, added, strict=True):
      total += y[t]
    for k in np.flatnonzero(ends):
      ended.append([total[k] for total in sums])
      for total in sums:
        total[k] = 0
  return sums, ended


def _reset_where(done, initial_state, state, where=np.where):
  def reset(initial, kept):
    return where(done.reshape(-1, *[1] * (kept.ndim - 1)), initial, kept)

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
