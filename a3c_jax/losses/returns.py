"""Returns and advantages of one environment, time first."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax.core import shapes


def nstep_returns(
  r_t: jax.Array, discount_t: jax.Array, bootstrap: jax.Array
) -> jax.Array:
  """Computes the longest return of each step within a segment.

      R_T = bootstrap,    R_{t-1} = r_t + γ_t R_t

  The last step gets a one-step return, the first a T-step one.
  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithms S2 and S3.

  >>> import numpy as np
  >>> half = np.full(2, 0.5)
  >>> nstep_returns(np.array([1.0, 2.0]), half, np.array(4.0)).tolist()
  [3.0, 4.0]

  Args:
    r_t: [T] float32, rewards.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    bootstrap: [] float32, value of the state after the last step.

  Returns:
    [T] float32.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(
    r_t=(r_t, 'T'), discount_t=(discount_t, 'T'), bootstrap=(bootstrap, '')
  )
  start = jnp.asarray(bootstrap, jnp.result_type(r_t, discount_t, bootstrap))
  _, return_tm1 = jax.lax.scan(
    _step_back, start, (r_t, discount_t), reverse=True
  )
  return return_tm1


# Not nested: outside of `jax.jit`, scan compiles each new function again.
def _step_back(return_t, reward_and_discount):
  reward, discount = reward_and_discount
  return_tm1 = reward + discount * return_t
  return return_tm1, return_tm1


def over_steps(
  r_t: jax.Array, discount_t: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes the one step that T steps are together, for n-step targets.

      r = r_1 + γ_1 r_2 + … + γ_1 … γ_{T-1} r_T,    γ = γ_1 γ_2 … γ_T

  r + γ V(s_T) is the return of the first step. Nothing counts that follows the
  end of an episode.
  Source: Mnih et al. 2016, arXiv:1602.01783, section 4, the n-step return.

  >>> import numpy as np
  >>> reward, discount = over_steps(np.array([1.0, 2.0]), np.full(2, 0.5))
  >>> reward.item(), discount.item()
  (2.0, 0.25)

  Args:
    r_t: [T] float32, rewards.
    discount_t: [T] float32, γ per step; 0 where the episode ended.

  Returns:
    Reward [] and discount [], float32.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(r_t=(r_t, 'T'), discount_t=(discount_t, 'T'))
  zero = jnp.zeros((), jnp.result_type(r_t, discount_t))
  return nstep_returns(r_t, discount_t, zero)[0], jnp.prod(discount_t)


def generalized_advantages(
  r_t: jax.Array, discount_t: jax.Array, v: jax.Array, *, lambda_: float
) -> jax.Array:
  """Computes exponentially weighted advantages.

      δ_{t-1} = r_t + γ_t V(s_t) - V(s_{t-1}),    A_{t-1} = δ_{t-1} + γ_t λ A_t

  λ = 1 gives the n-step return minus the value, A3C's advantage. λ = 0 gives
  the one-step temporal difference.
  Source: Schulman et al. 2016, arXiv:1506.02438, equation 16.

  >>> import numpy as np
  >>> one = np.ones(2, np.float32)
  >>> generalized_advantages(one, one / 2, np.zeros(3), lambda_=1.0).tolist()
  [1.5, 1.0]

  Args:
    r_t: [T] float32, rewards.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    v: [T+1] float32, V(s_0) … V(s_T).
    lambda_: in [0, 1].

  Returns:
    [T] float32.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(r_t=(r_t, 'T'), discount_t=(discount_t, 'T'), v=(v, 'T1'))
  delta_tm1 = r_t + discount_t * v[1:] - v[:-1]
  return nstep_returns(delta_tm1, lambda_ * discount_t, jnp.zeros_like(v[0]))


class VTrace(NamedTuple):
  """Corrected targets of each step; constants in a loss."""

  target_tm1: jax.Array  # [T] float32, of V(s_{t-1})
  advantage_tm1: jax.Array  # [T] float32, of the action a_{t-1}


def vtrace(
  v_tm1: jax.Array,
  log_ratio_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  bootstrap: jax.Array,
  *,
  clip_rho: float = 1.0,
  clip_c: float = 1.0,
) -> VTrace:
  """Computes V-trace targets of steps that another policy has played.

      ρ = min(clip_rho, π/μ),    c = min(clip_c, π/μ)
      v_{t-1} = V(s_{t-1}) + ρ_{t-1} (r_t + γ_t V(s_t) - V(s_{t-1}))
                + γ_t c_{t-1} (v_t - V(s_t)),    v_T = V(s_T)
      A_{t-1} = ρ_{t-1} (r_t + γ_t v_t - V(s_{t-1}))

  With π = μ they are the n-step return, and that return minus the value.
  Source: Espeholt et al. 2018, arXiv:1802.01561, section 4.1.

  >>> import numpy as np
  >>> half, zero = np.full(2, 0.5), np.zeros(2)
  >>> vtrace(zero, zero, np.array([1.0, 2.0]), half, np.array(4.0)).target_tm1
  Array([3., 4.], dtype=float32)

  Args:
    v_tm1: [T] float32, V(s_{t-1}).
    log_ratio_tm1: [T] float32, log π(a_{t-1}|s_{t-1}) - log μ(a_{t-1}|s_{t-1}).
    r_t: [T] float32, rewards.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    bootstrap: [] float32, V(s_T).
    clip_rho: largest weight of a step; the fixed point depends on it.
    clip_c: largest weight of the steps that follow.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(
    v_tm1=(v_tm1, 'T'),
    log_ratio_tm1=(log_ratio_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    bootstrap=(bootstrap, ''),
  )
  # The minimum of logarithms: a large ratio must not overflow.
  rho_tm1 = jnp.exp(jnp.minimum(log_ratio_tm1, math.log(clip_rho)))
  c_tm1 = jnp.exp(jnp.minimum(log_ratio_tm1, math.log(clip_c)))
  delta_tm1 = rho_tm1 * (
    r_t + discount_t * _following(v_tm1, bootstrap) - v_tm1
  )
  error_tm1 = nstep_returns(
    delta_tm1, discount_t * c_tm1, jnp.zeros_like(bootstrap)
  )
  target_tm1 = v_tm1 + error_tm1
  return VTrace(
    target_tm1,
    rho_tm1 * (r_t + discount_t * _following(target_tm1, bootstrap) - v_tm1),
  )


def _following(value_tm1, bootstrap):
  return jnp.concatenate([value_tm1[1:], bootstrap[None]])
