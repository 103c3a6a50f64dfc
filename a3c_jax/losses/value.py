"""Losses of value-based algorithms."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax.core import shapes
from a3c_jax.losses import returns


class ValueStats(NamedTuple):
  """Statistics of each step of a value-based loss."""

  qa_tm1: jax.Array  # [T] float32, Q of the action taken


def _half_squared_error(q_tm1, a_tm1, target_tm1):
  qa_tm1 = jnp.take_along_axis(q_tm1, a_tm1[:, None], axis=1)[:, 0]
  error_tm1 = jax.lax.stop_gradient(target_tm1) - qa_tm1
  return 0.5 * error_tm1**2, ValueStats(qa_tm1)


def one_step_q_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_t: jax.Array,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared one-step Q-learning error of each step.

      L_{t-1}(θ) = ½ (r_t + γ_t max_a Q(s_t, a; θ⁻) - Q(s_{t-1}, a_{t-1}; θ))²

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm 1, which writes no ½.
  T is the number of steps, A the number of actions.

  >>> import numpy as np
  >>> loss, stats = one_step_q_loss(
  ...   q_tm1=np.array([[1.0, 7.0]], np.float32),
  ...   a_tm1=np.array([0]),
  ...   r_t=np.array([2.0], np.float32),
  ...   discount_t=np.array([0.5], np.float32),
  ...   target_q_t=np.array([[4.0, 3.0]], np.float32),
  ... )
  >>> loss.tolist(), stats.qa_tm1.tolist()  # ½ (2 + ½·4 - 1)²
  ([4.5], [1.0])

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_t: [T, A] float32, Q(s_t, ·; θ⁻); no effect where
      `discount_t` is 0.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(
    q_tm1=(q_tm1, 'TA'),
    a_tm1=(a_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    target_q_t=(target_q_t, 'TA'),
  )
  target_tm1 = r_t + discount_t * jnp.max(target_q_t, axis=1)
  return _half_squared_error(q_tm1, a_tm1, target_tm1)


def one_step_sarsa_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_t: jax.Array,
  a_t: jax.Array,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared one-step Sarsa error of each step.

      L_{t-1}(θ) = ½ (r_t + γ_t Q(s_t, a_t; θ⁻) - Q(s_{t-1}, a_{t-1}; θ))²

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4, which writes no ½.
  T is the number of steps, A the number of actions.

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_t: [T, A] float32, Q(s_t, ·; θ⁻); no effect where
      `discount_t` is 0.
    a_t: [T] int32, the action that was taken in s_t, each in [0, A).

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(
    q_tm1=(q_tm1, 'TA'),
    a_tm1=(a_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    target_q_t=(target_q_t, 'TA'),
    a_t=(a_t, 'T'),
  )
  qa_t = jnp.take_along_axis(target_q_t, a_t[:, None], axis=1)[:, 0]
  return _half_squared_error(q_tm1, a_tm1, r_t + discount_t * qa_t)


def nstep_q_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_bootstrap: jax.Array,
  selector_q_bootstrap: jax.Array | None = None,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared n-step Q-learning error of each step.

      R_T = max_a Q(s_T, a; θ⁻),    R_{t-1} = r_t + γ_t R_t
      L_{t-1}(θ) = ½ (R_{t-1} - Q(s_{t-1}, a_{t-1}; θ))²

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm S2, which sums the steps
  of a segment (the caller's reduction) and writes no ½. T is the segment
  length, A the number of actions. With a selector, R_T is
  Q(s_T, argmax_a selector; θ⁻), as in Double Q-learning (van Hasselt et al.
  2016, arXiv:1509.06461, equation 4).

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_bootstrap: [A] float32, Q(s_T, ·; θ⁻); no effect if
      `discount_t[-1]` is 0.
    selector_q_bootstrap: [A] float32, chooses the action of R_T; None for
      `target_q_bootstrap`.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  if selector_q_bootstrap is None:
    selector_q_bootstrap = target_q_bootstrap
  shapes.check_shapes(
    q_tm1=(q_tm1, 'TA'),
    a_tm1=(a_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    target_q_bootstrap=(target_q_bootstrap, 'A'),
    selector_q_bootstrap=(selector_q_bootstrap, 'A'),
  )
  best = jnp.argmax(selector_q_bootstrap)
  bootstrap = jnp.asarray(target_q_bootstrap)[best]
  target_tm1 = returns.nstep_returns(r_t, discount_t, bootstrap)
  return _half_squared_error(q_tm1, a_tm1, target_tm1)
