"""Plays a segment as one XLA program, if environment and actor allow it.

The result is identical to that of `stepwise`, but the loop runs without the
GIL, which limits throughput when there are more threads than cores.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import steps as steps_lib
from a3c_jax.core import stopwatch, types

_LONGEST_PROGRAM = 32  # Steps: XLA compiles each of them.


def program_of(
  env: gymnasium.vector.VectorEnv, actor: actor_lib.Actor, num_steps: int
) -> types.EnvProgram | None:
  """Returns the program of the next steps; None if there cannot be one."""
  normalizes = actor.version.statistics is not None
  if actor.pure_act is None or normalizes or num_steps > _LONGEST_PROGRAM:
    return None
  return types.program_of(env, num_steps)


def can_begin(actor: actor_lib.Actor, carry: carry_lib.Carry) -> bool:
  """Whether the carry has the first action, if a program takes it from there.

  A run's first segment has none yet, nor has that of a new environment.
  """
  return not actor.decides_on_arrival or carry.action is not None


def compile_program(
  program: types.EnvProgram,
  actor: actor_lib.Actor,
  carry: carry_lib.Carry,
  num_steps: int,
) -> None:
  """Compiles the program that `play` calls; plays nothing."""
  num_envs = len(carry.obs)
  epsilon = np.ones(num_envs, np.float32)
  if not can_begin(actor, carry):
    carry = carry._replace(action=np.zeros(num_envs, np.int32))
  arguments = _arguments(program, actor, carry, num_steps)
  _program.lower(*arguments, epsilon).compile()


def play(
  env: Any,
  program: types.EnvProgram,
  actor: actor_lib.Actor,
  carry: carry_lib.Carry,
  *,
  num_steps: int,
  epsilon: np.ndarray,
  clock: stopwatch.Stopwatch,
  on_step: Callable[[], None],
) -> steps_lib.Steps:
  """Plays T = `num_steps` steps as `rollout.collect` does.

  `program` is from `program_of`, and `env` has `played` as `types.EnvProgram`
  says. The actor has begun the segment; `can_begin`. `epsilon` is [K] float32.
  """
  on_step()
  clock.lap('other')
  arguments = _arguments(program, actor, carry, num_steps)
  obs, outputs, pending, state, key, env_state, kept = _program(
    *arguments, epsilon
  )
  action, reward, done, life_loss = np.asarray(outputs)
  action = action.astype(np.int32)
  env.played(action, jax.tree.map(np.asarray, env_state))
  last = np.zeros_like(action[0])
  if pending is not None:
    last = pending = np.asarray(pending)
  clock.lap('playing')
  obs = np.asarray(obs)
  return steps_lib.Steps(
    raw_obs=obs,
    obs=obs,
    action=np.concatenate([action, last[None]]),
    reward=reward,
    bootstrap_value=np.zeros_like(reward),
    done=done.astype(bool),
    truncated=np.zeros(done.shape, bool),
    life_loss=life_loss.astype(bool),
    pending_action=pending,
    state=state,
    key=key,
    kept=kept,
    versions=np.full(num_steps, actor.version.updates),
  )


def _arguments(program, actor, carry, num_steps) -> tuple:
  """Returns the arguments of `_program` before ε."""
  return (
    actor.pure_act,
    actor.initial_state,
    program.step,
    num_steps,
    program.state,
    actor.version.params,
    carry.state,
    carry.obs,
    carry.key,
    carry.action,
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _program(
  pure_act,
  initial_state,
  step,
  num_steps,
  env_state,
  params,
  state,
  obs,
  key,
  pending,
  epsilon,
):
  """Acts and steps `num_steps` times without Python.

  If an action is pending, that is the first one. The action of the last
  observation is then drawn too.
  """
  on_arrival = pending is not None
  all_obs, outputs, kept = [obs], [], []
  # Not a scan: XLA would run the body of its loop on its own threads.
  for _ in range(num_steps):
    decision = pure_act(params, state, obs, key, epsilon)
    kept.append(decision[3])
    action, pending = pending, None
    if action is None:
      action, state, key, _ = decision
    env_state, (obs, reward, done, life_loss) = step(env_state, action)
    state = steps_lib.reset_where(
      done, initial_state(len(obs)), state, jnp.where
    )
    all_obs.append(obs)
    # One array, since each costs Python some microseconds.
    of_step = (action, reward, done, life_loss)
    outputs.append(jnp.stack([x.astype(jnp.float32) for x in of_step]))
  if on_arrival:
    pending, state, key, _ = pure_act(params, state, obs, key, epsilon)
  outputs = jnp.stack(outputs, axis=1)
  kept = jax.tree.map(lambda *steps: jnp.concatenate(steps), *kept)
  return jnp.stack(all_obs), outputs, pending, state, key, env_state, kept
