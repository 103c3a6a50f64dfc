"""The rollout core: it collects segments from an environment and an actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import fused, normalization, stepwise
from a3c_jax.acting import steps as steps_lib
from a3c_jax.core import events, stopwatch, types
from a3c_jax.replay import memory


class RolloutSpec(NamedTuple):
  """Length, discount and rewards of all segments of a run."""

  steps: int  # T
  gamma: float  # γ per step
  reward_scale: float = 1.0  # multiplies rewards, before they are clipped
  reward_clip: float | None = None  # largest absolute reward; None: no clip


class Rollout(NamedTuple):
  """One segment, and what else `collect` returns."""

  carry: carry_lib.Carry  # where the next segment begins
  segment: types.Segment
  episodes: tuple[events.EpisodeEnded, ...]  # in order
  version: types.Version  # that the actor used last
  acted_versions: np.ndarray  # [T] int64, `updates` of the version of each step
  # Of this segment's raw observations, obs[:-1]; None without normalization.
  statistics: types.RunningStatistics | None
  transitions: memory.Transitions  # the same steps, for a replay memory


def collect(
  env: gymnasium.vector.VectorEnv,
  actor: actor_lib.Actor,
  carry: carry_lib.Carry,
  spec: RolloutSpec,
  *,
  epsilon: Callable[[int], np.ndarray],
  clock: stopwatch.Stopwatch,
  on_step: Callable[[], None] = lambda: None,
) -> Rollout:
  """Plays one segment in K environments; episodes may end within it.

  A terminal step has discount 0. A truncated step has discount 0 too, and γ
  times the bootstrap value of the final observation is added to its reward. If
  a step's `info['life_loss']` [K] bool is set, its discount is 0, although the
  episode continues.

  If both `env` and the actor allow it, all steps are one XLA program (`fused`).

  Args:
    env: resets in the step that ends an episode (`AutoresetMode.SAME_STEP`) and
      returns raw rewards; may have a `types.EnvProgram`.
    actor: chooses actions.
    carry: from `carry.start` or from the last segment.
    spec: length, discount and rewards.
    epsilon: ε of exploration, [] or [K], as a function of the emulator frames
      of the version that the segment begins with; [K] for an actor with
      `pure_act`.
    clock: measures the time of acting and of the emulator.
    on_step: called before every step, or once before a program; an exception
      from it ends the segment.
  """
  version = actor.begin_segment()
  epsilon_now = np.asarray(epsilon(version.frames), np.float32)
  how = {'epsilon': epsilon_now, 'clock': clock, 'on_step': on_step}
  if not actor.decides_on_arrival:
    # A run may resume with another way of acting than the one that drew it.
    carry = carry._replace(action=None)
  program = fused.program_of(env, actor, spec.steps)
  if program and fused.can_begin(actor, carry):
    steps = fused.play(env, program, actor, carry, num_steps=spec.steps, **how)
  else:
    steps = stepwise.play(env, actor, carry, spec.steps, **how)

  r_t = _scaled_and_clipped(steps.reward, spec)
  done = steps.done
  segment = types.Segment(
    obs=steps.obs,
    a=steps.action,
    r_t=r_t + spec.gamma * steps.bootstrap_value,
    discount_t=np.where(done | steps.life_loss, 0, spec.gamma).astype(
      np.float32
    ),
    is_first=np.concatenate([carry.is_first[None], done]),
    state=carry.state,
    kept=steps.kept,
  )
  carry, episodes = _carry_after(carry, steps, r_t)
  statistics = None
  if version.statistics is not None:
    acted_on = steps.raw_obs[:-1]
    statistics = normalization.of(acted_on.reshape(-1, *acted_on.shape[2:]))
  return Rollout(
    carry=carry,
    segment=segment,
    episodes=episodes,
    version=actor.version,
    acted_versions=steps.versions,
    statistics=statistics,
    transitions=memory.Transitions(
      obs=steps.raw_obs,
      a=segment.a[:-1],
      r_t=r_t,
      discount_t=segment.discount_t,
      is_first=segment.is_first,
      truncated=steps.truncated,
    ),
  )


def compile_for(
  env: gymnasium.vector.VectorEnv,
  actor: actor_lib.Actor,
  carry: carry_lib.Carry,
  num_steps: int,
) -> None:
  """Compiles what `collect` calls; plays nothing."""
  actor.begin_segment()
  obs = actor.normalize(carry.obs)
  epsilon = np.ones(len(obs), np.float32)
  actor.act(obs, carry.state, carry.key, epsilon)
  actor.bootstrap(obs, carry.state, carry.key, epsilon)
  program = fused.program_of(env, actor, num_steps)
  if program:
    fused.compile_program(program, actor, carry, num_steps)


def example_segment(
  actor: actor_lib.Actor, carry: carry_lib.Carry, num_steps: int
) -> types.Segment:
  """Returns a segment of zeros with the shapes and types of `collect`'s."""
  actor.begin_segment()
  obs = actor.normalize(carry.obs)
  num_envs = len(obs)
  epsilon = np.ones(num_envs, np.float32)
  decision = actor.act(obs, carry.state, carry.key, epsilon)
  action = decision.action
  return types.Segment(
    obs=np.zeros((num_steps + 1, *obs.shape), obs.dtype),
    a=np.zeros((num_steps + 1, *action.shape), action.dtype),
    r_t=np.zeros((num_steps, num_envs), np.float32),
    discount_t=np.zeros((num_steps, num_envs), np.float32),
    is_first=np.zeros((num_steps + 1, num_envs), bool),
    state=carry.state,
    kept=steps_lib.joined([decision.kept] * num_steps),
  )


def _scaled_and_clipped(reward, spec) -> np.ndarray:
  """Returns rewards [T, K] float32 for the learner."""
  with np.errstate(over='ignore'):  # Infinite; the gradient is dropped then.
    r_t = (spec.reward_scale * reward).astype(np.float32)
  if spec.reward_clip is not None:
    np.minimum(np.maximum(r_t, -spec.reward_clip), spec.reward_clip, out=r_t)
  return r_t


def _carry_after(carry, steps, r_t):
  """Returns the carry after these steps, and the episodes that ended."""
  sums, ended = carry_lib.add_up_episodes(
    (carry.episode_return, carry.clipped_return, carry.episode_steps),
    (steps.reward, r_t, np.ones_like(steps.done, np.int64)),
    steps.done,
  )
  episode_return, clipped_return, episode_steps = sums
  carry = carry_lib.Carry(
    obs=steps.raw_obs[-1],
    is_first=steps.done[-1],
    action=steps.pending_action,
    state=steps.state,
    key=steps.key,
    episode_return=episode_return,
    clipped_return=clipped_return,
    episode_steps=episode_steps,
  )
  episodes = tuple(
    events.EpisodeEnded(float(raw_return), float(clipped_return), int(length))
    for raw_return, clipped_return, length in ended
  )
  return carry, episodes
