"""Returns and advantages of one environment, time first."""

from __future__ import annotations

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
