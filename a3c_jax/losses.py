"""The paper's losses: arrays in, arrays out.

Each takes one stream, time first, and returns the loss of each step: the caller
reduces it (the paper sums), and uses `jax.vmap` for several streams. Gradients
flow into the `_tm1` network outputs only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax import checks, returns


class ValueStats(NamedTuple):
  """Per-step figures of a value-based loss."""

  qa_tm1: jax.Array  # [T] float32, Q of the action taken
  error_tm1: jax.Array  # [T] float32, target minus that


class PolicyStats(NamedTuple):
  """Per-step figures of an actor-critic loss."""

  policy_loss: jax.Array  # [T] float32, -log π(a|s) · advantage
  value_loss: jax.Array  # [T] float32, half squared error, before value_cost
  entropy: jax.Array  # [T] float32, nats
  advantage_tm1: jax.Array  # [T] float32, R - V


def _half_squared_error(q_tm1, a_tm1, target_tm1):
  qa_tm1 = jnp.take_along_axis(q_tm1, a_tm1[:, None], axis=1)[:, 0]
  error_tm1 = jax.lax.stop_gradient(target_tm1) - qa_tm1
  return 0.5 * error_tm1**2, ValueStats(qa_tm1=qa_tm1, error_tm1=error_tm1)


def one_step_q_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_t: jax.Array,
) -> tuple[jax.Array, ValueStats]:
  """Half squared one-step Q-learning error of each step.

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
  >>> loss.tolist(), stats.error_tm1.tolist()  # ½ (2 + ½·4 - 1)²
  ([4.5], [3.0])

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_t: [T, A] float32, Q(s_t, ·; θ⁻); without effect where
      `discount_t` is 0.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  checks.check_shapes(
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
  """Half squared one-step Sarsa error of each step.

      L_{t-1}(θ) = ½ (r_t + γ_t Q(s_t, a_t; θ⁻) - Q(s_{t-1}, a_{t-1}; θ))²

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4, which writes no ½.
  T is the number of steps, A the number of actions.

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_t: [T, A] float32, Q(s_t, ·; θ⁻); without effect where
      `discount_t` is 0.
    a_t: [T] int32, the action really taken in s_t, each in [0, A).

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  checks.check_shapes(
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
  """Half squared n-step Q-learning error of each step of one segment.

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
    target_q_bootstrap: [A] float32, Q(s_T, ·; θ⁻); without effect if
      `discount_t[-1]` is 0.
    selector_q_bootstrap: [A] float32, whose best action counts; None for
      `target_q_bootstrap` itself.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  if selector_q_bootstrap is None:
    selector_q_bootstrap = target_q_bootstrap
  checks.check_shapes(
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


def _check_actor_critic(v_tm1, r_t, discount_t, v_bootstrap, **policy):
  checks.check_shapes(
    **policy,
    v_tm1=(v_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    v_bootstrap=(v_bootstrap, ''),
  )


def _actor_critic(
  log_pi_tm1,
  entropy_tm1,
  v_tm1,
  r_t,
  discount_t,
  v_bootstrap,
  *,
  entropy_cost,
  value_cost,
):
  return_tm1 = returns.nstep_returns(r_t, discount_t, v_bootstrap)
  error_tm1 = jax.lax.stop_gradient(return_tm1) - v_tm1
  # The advantage weighs the score function as a constant: Algorithm S3.
  advantage_tm1 = jax.lax.stop_gradient(error_tm1)
  policy_loss = -log_pi_tm1 * advantage_tm1
  value_loss = 0.5 * error_tm1**2
  loss = policy_loss + value_cost * value_loss - entropy_cost * entropy_tm1
  return loss, PolicyStats(
    policy_loss=policy_loss,
    value_loss=value_loss,
    entropy=entropy_tm1,
    advantage_tm1=advantage_tm1,
  )


def a3c_loss(
  logits_tm1: jax.Array,
  v_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  v_bootstrap: jax.Array,
  *,
  entropy_cost: float,
  value_cost: float,
) -> tuple[jax.Array, PolicyStats]:
  """Advantage actor-critic loss of each step, for discrete actions.

      R_T = V(s_T),    R_{t-1} = r_t + γ_t R_t
      L_{t-1} = -log π(a_{t-1}|s_{t-1}) (R_{t-1} - V(s_{t-1}))
                + c ½ (R_{t-1} - V(s_{t-1}))² - β H(π(·|s_{t-1}))

  The advantage in the first term is a constant. Source: Mnih et al. 2016,
  arXiv:1602.01783, Algorithm S3 with the entropy of section 4. T is the segment
  length, A the number of actions.

  Args:
    logits_tm1: [T, A] float32, unnormalised log π(·|s_{t-1}). Has a gradient.
    v_tm1: [T] float32, V(s_{t-1}). Has a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    v_bootstrap: [] float32, V(s_T); without effect if `discount_t[-1]` is 0.
    entropy_cost: β, reward units per nat.
    value_cost: c, weight of the half squared value error.

  Returns:
    [T] float32 loss, and PolicyStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  critic = (v_tm1, r_t, discount_t, v_bootstrap)
  _check_actor_critic(
    *critic, logits_tm1=(logits_tm1, 'TA'), a_tm1=(a_tm1, 'T')
  )
  log_pi = jax.nn.log_softmax(logits_tm1)
  return _actor_critic(
    jnp.take_along_axis(log_pi, a_tm1[:, None], axis=1)[:, 0],
    -jnp.sum(jnp.exp(log_pi) * log_pi, axis=1),
    *critic,
    entropy_cost=entropy_cost,
    value_cost=value_cost,
  )


def gaussian_a3c_loss(
  mean_tm1: jax.Array,
  variance_tm1: jax.Array,
  v_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  v_bootstrap: jax.Array,
  *,
  entropy_cost: float,
  value_cost: float,
) -> tuple[jax.Array, PolicyStats]:
  """Advantage actor-critic loss of each step, for a spherical Gaussian policy.

      log π(a|s) = -½ (|a - μ(s)|² / σ²(s) + D log 2πσ²(s))
      H(π(·|s)) = D/2 (log 2πσ²(s) + 1)

  and otherwise as in `a3c_loss`. Source: Mnih et al. 2016, arXiv:1602.01783,
  sections 5.3 and 9. The supplement prints the negative of ½ (log 2πσ² + 1) as
  a cost; a positive `entropy_cost` here raises the entropy all the same. T is
  the segment length, D the number of action dimensions.

  Args:
    mean_tm1: [T, D] float32, μ(s_{t-1}). Has a gradient.
    variance_tm1: [T] float32, σ²(s_{t-1}) > 0, one for all dimensions. Has a
      gradient.
    v_tm1: [T] float32, V(s_{t-1}). Has a gradient.
    a_tm1: [T, D] float32, actions as sampled, before any clipping.
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    v_bootstrap: [] float32, V(s_T); without effect if `discount_t[-1]` is 0.
    entropy_cost: reward units per nat of differential entropy.
    value_cost: weight of the half squared value error.

  Returns:
    [T] float32 loss, and PolicyStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  critic = (v_tm1, r_t, discount_t, v_bootstrap)
  _check_actor_critic(
    *critic,
    mean_tm1=(mean_tm1, 'TD'),
    variance_tm1=(variance_tm1, 'T'),
    a_tm1=(a_tm1, 'TD'),
  )
  dimensions = mean_tm1.shape[1]
  log_variance = jnp.log(variance_tm1)
  log_2pi_variance = math.log(2 * math.pi) + log_variance
  # A constant, even where the caller computed it from the mean.
  a_tm1 = jax.lax.stop_gradient(a_tm1)
  squared_distance = jnp.sum((a_tm1 - mean_tm1) ** 2, axis=1)
  return _actor_critic(
    # Not a quotient: in its gradient 1 / σ⁴ would overflow for a small σ.
    -0.5
    * (
      squared_distance * jnp.exp(-log_variance) + dimensions * log_2pi_variance
    ),
    0.5 * dimensions * (log_2pi_variance + 1),
    *critic,
    entropy_cost=entropy_cost,
    value_cost=value_cost,
  )
