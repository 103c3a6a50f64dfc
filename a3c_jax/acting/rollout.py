"""The rollout core: an environment and an actor become segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import fused, normalization, stepwise
from a3c_jax.acting import steps as steps_lib
from a3c_jax.core import stopwatch, types


class RolloutSpec(NamedTuple):
  """What a segment is, for all segments of a run."""

  steps: int  # T
  gamma: float  # γ per step
  reward_scale: float = 1.0  # rewards are multiplied by it, before the clip
  reward_clip: float | None = None  # largest absolute reward; None keeps all


class Rollout(NamedTuple):
  """One segment, and what else it gave."""

  carry: carry_lib.Carry  # where the next segment begins
  segment: types.Segment
  episodes: tuple[carry_lib.Episode, ...]  # that ended, in their order
  version: types.Version  # acted on; the last one, if there were several
  statistics: (
    types.RunningStatistics | None
  )  # of the raw observations that were acted
  # on in this segment alone; None unless observations are normalised


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
  """Plays one segment in K environments, over the ends of episodes.

  `env` resets in the step that ends an episode (`AutoresetMode.SAME_STEP`). If
  a step's `info['life_loss']` [K] bool is set, the discount of that step is 0,
  although the episode goes on.

  A terminal step has discount 0. A truncated one has discount 0 too, and γ
  times the bootstrap value of the final observation is added to its reward.

  Where both `env` and the actor can, all steps are one XLA program (`fused`).

  Args:
    env: resets in the same step, raw rewards; may have a `types.EnvProgram`.
    actor: acts.
    carry: from `carry.start` or from the last segment.
    spec: length, discount and rewards.
    epsilon: ε of exploration, [] or [K], as a function of the emulator frames
      of the version that the segment begins with; [K] for an actor with
      `pure_act`.
    clock: counts the time of acting and of the emulator.
    on_step: called before every step, or once before a program; what it raises
      ends the segment.
  """
  version = actor.begin_segment()
  epsilon = np.asarray(epsilon(version.frames), np.float32)
  how = {'epsilon': epsilon, 'clock': clock, 'on_step': on_step}
  program = fused.program_of(env, actor, spec.steps)
  if program:
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
    activations=steps.activations,
  )
  carry, episodes = _carry_after(carry, steps, r_t)
  statistics = None
  if version.statistics is not None:
    acted_on = steps.raw_obs[:-1]
    statistics = normalization.of(acted_on.reshape(-1, *acted_on.shape[2:]))
  return Rollout(carry, segment, episodes, actor.version, statistics)


def compile_for(
  env: gymnasium.vector.VectorEnv,
  actor: actor_lib.Actor,
  carry: carry_lib.Carry,
  num_steps: int,
) -> None:
  """Compiles what `collect` will call; plays nothing."""
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
  """A segment of zeros, with the shapes and types of what `collect` gives."""
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
    activations=steps_lib.joined([decision.kept] * num_steps),
  )


def _scaled_and_clipped(reward, spec) -> np.ndarray:
  """Rewards [T, K] float32 as the learner gets them."""
  r_t = (spec.reward_scale * reward).astype(np.float32)
  if spec.reward_clip is not None:
    np.minimum(np.maximum(r_t, -spec.reward_clip), spec.reward_clip, out=r_t)
  return r_t


def _carry_after(carry, steps, r_t):
  """The carry after these steps, and the episodes that ended in them."""
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
    carry_lib.Episode(float(raw_return), float(clipped_return), int(length))
    for raw_return, clipped_return, length in ended
  )
  return carry, episodes
