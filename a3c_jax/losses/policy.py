"""Losses of policy-based algorithms."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax.core import shapes
from a3c_jax.losses import returns

# Of the policy lag between acting and learning: what `correction` may be.
CORRECTIONS = ('none', 'epsilon', 'vtrace')
# What `advantage` may be: those of `returns.POLICY_WEIGHTS` that need no whole
# episode, and nothing but a value.
ADVANTAGES = ('nstep', 'td', 'gae', 'return')
LOG_EPSILON = 1e-6  # Babaeizadeh et al. 2017.


class PolicyStats(NamedTuple):
  """Statistics of each step of an actor-critic loss."""

  policy_loss: jax.Array  # [T] float32, -log π(a|s) · what weighs it
  value_loss: jax.Array  # [T] float32, half squared error, before value_cost
  entropy: jax.Array  # [T] float32, nats


def _check_actor_critic(v_tm1, r_t, discount_t, v_bootstrap, **policy):
  shapes.check_shapes(
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
  advantage,
  lambda_,
  correction,
  log_mu_tm1,
):
  if correction not in CORRECTIONS:
    raise ValueError(
      f'correction={correction!r}: allowed: {", ".join(CORRECTIONS)}'
    )
  if advantage not in ADVANTAGES:
    raise ValueError(
      f'advantage={advantage!r}: allowed: {", ".join(ADVANTAGES)}'
    )
  if correction == 'vtrace':
    if advantage != 'nstep':
      raise ValueError(
        f"correction='vtrace' with advantage={advantage!r}: allowed: "
        "advantage='nstep'"
      )
    shapes.check_shapes(v_tm1=(v_tm1, 'T'), log_mu_tm1=(log_mu_tm1, 'T'))
    corrected = returns.vtrace(
      v_tm1, log_pi_tm1 - log_mu_tm1, r_t, discount_t, v_bootstrap
    )
    return_tm1, advantage_tm1 = corrected.target_tm1, corrected.advantage_tm1
  else:
    return_tm1 = returns.nstep_returns(r_t, discount_t, v_bootstrap)
    if advantage == 'nstep':
      advantage_tm1 = return_tm1 - v_tm1
    elif advantage == 'return':
      advantage_tm1 = return_tm1
    else:
      advantage_tm1 = returns.policy_weights(
        advantage,
        v_tm1=v_tm1,
        r_t=r_t,
        discount_t=discount_t,
        bootstrap=v_bootstrap,
        lambda_=lambda_ if advantage == 'gae' else None,
      )
  error_tm1 = jax.lax.stop_gradient(return_tm1) - v_tm1
  # The advantage weighs the score function as a constant: Algorithm S3.
  advantage_tm1 = jax.lax.stop_gradient(advantage_tm1)
  score_tm1 = log_pi_tm1
  if correction == 'epsilon':
    score_tm1 = jnp.logaddexp(log_pi_tm1, math.log(LOG_EPSILON))
  policy_loss = -score_tm1 * advantage_tm1
  value_loss = 0.5 * error_tm1**2
  loss = policy_loss + value_cost * value_loss - entropy_cost * entropy_tm1
  return loss, PolicyStats(
    policy_loss=policy_loss,
    value_loss=value_loss,
    entropy=entropy_tm1,
  )


def of_action(values: jax.Array, a: jax.Array) -> jax.Array:
  """Returns values [N, A] of actions [N] int32: [N]."""
  return jnp.take_along_axis(values, a[:, None], axis=1)[:, 0]


def entropy(log_pi: jax.Array) -> jax.Array:
  """Returns H(π) [...], in nats, given log π [..., A]."""
  return -jnp.sum(jnp.exp(log_pi) * log_pi, axis=-1)


def log_probability(logits: jax.Array, a: jax.Array) -> jax.Array:
  """Returns log π(a) [N] of actions [N] int32, given logits [N, A]."""
  return of_action(jax.nn.log_softmax(logits), a)


def _gaussian(mean, variance, a):
  """Returns log π(a) [N], and log 2πσ² [N]."""
  log_variance = jnp.log(variance)
  log_2pi_variance = math.log(2 * math.pi) + log_variance
  squared_distance = jnp.sum((a - mean) ** 2, axis=1)
  # Not a quotient: in its gradient 1 / σ⁴ would overflow for a small σ.
  log_density = -0.5 * (
    squared_distance * jnp.exp(-log_variance) + mean.shape[1] * log_2pi_variance
  )
  return log_density, log_2pi_variance


def gaussian_log_density(
  mean: jax.Array, variance: jax.Array, a: jax.Array
) -> jax.Array:
  """Returns log π(a) [N] of actions [N, D], as `gaussian_a3c_loss` defines it.

  Args:
    mean: [N, D].
    variance: [N], one for all dimensions.
    a: [N, D].
  """
  return _gaussian(mean, variance, a)[0]


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
  advantage: str = 'nstep',
  lambda_: float = 1.0,
  correction: str = 'none',
  log_mu_tm1: jax.Array | None = None,
) -> tuple[jax.Array, PolicyStats]:
  """Computes the actor-critic loss of each step, for discrete actions.

      R_T = V(s_T),    R_{t-1} = r_t + γ_t R_t
      L_{t-1} = -log π(a_{t-1}|s_{t-1}) (R_{t-1} - V(s_{t-1}))
                + c ½ (R_{t-1} - V(s_{t-1}))² - β H(π(·|s_{t-1}))

  The advantage in the first term is a constant. Source: Mnih et al. 2016,
  arXiv:1602.01783, Algorithm S3 with the entropy of section 4. T is the segment
  length, A the number of actions.

  Another `advantage` changes the first term alone. The value is regressed on R
  whatever it is: Schulman et al. 2016, arXiv:1506.02438, section 5, do so with
  any λ, with the return of λ = 1.

  Args:
    logits_tm1: [T, A] float32, unnormalised log π(·|s_{t-1}). Has a gradient.
    v_tm1: [T] float32, V(s_{t-1}). Has a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    v_bootstrap: [] float32, V(s_T); no effect if `discount_t[-1]` is 0.
    entropy_cost: β, reward units per nat.
    value_cost: c, weight of the half squared value error.
    advantage: what weighs the score function, one of `ADVANTAGES`, as
      `returns.policy_weights` defines them: 'nstep', as above; 'td'; 'gae'; or
      'return', R without V.
    lambda_: λ of 'gae', in [0, 1]; 1 is 'nstep' but for rounding.
    correction: of the lag between μ, the policy that acted, and π. 'none'.
      'epsilon' has log(π + 1e-6) in the place of log π: an action that has
      become very unlikely has no gradient. 'vtrace' replaces R and the
      advantage by those of `returns.vtrace`; `advantage` must be 'nstep'.
    log_mu_tm1: [T] float32, log μ(a_{t-1}|s_{t-1}), for 'vtrace'.

  Returns:
    [T] float32 loss, and PolicyStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees, or
      the allowed advantages and corrections.
  """
  critic = (v_tm1, r_t, discount_t, v_bootstrap)
  _check_actor_critic(
    *critic, logits_tm1=(logits_tm1, 'TA'), a_tm1=(a_tm1, 'T')
  )
  log_pi = jax.nn.log_softmax(logits_tm1)
  return _actor_critic(
    of_action(log_pi, a_tm1),
    entropy(log_pi),
    *critic,
    entropy_cost=entropy_cost,
    value_cost=value_cost,
    advantage=advantage,
    lambda_=lambda_,
    correction=correction,
    log_mu_tm1=log_mu_tm1,
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
  advantage: str = 'nstep',
  lambda_: float = 1.0,
  correction: str = 'none',
  log_mu_tm1: jax.Array | None = None,
) -> tuple[jax.Array, PolicyStats]:
  """Computes the actor-critic loss of each step, for a Gaussian policy.

      log π(a|s) = -½ (|a - μ(s)|² / σ²(s) + D log 2πσ²(s))
      H(π(·|s)) = D/2 (log 2πσ²(s) + 1)

  The policy is spherical: σ² is the same in all dimensions. All else is as in
  `a3c_loss`. Source: Mnih et al. 2016, arXiv:1602.01783, sections 5.3 and 9.
  The supplement adds -½ (log 2πσ² + 1) as a cost. Here, too, a positive
  `entropy_cost` raises the entropy. T is the segment length, D the number of
  action dimensions.

  Args:
    mean_tm1: [T, D] float32, μ(s_{t-1}). Has a gradient.
    variance_tm1: [T] float32, σ²(s_{t-1}) > 0, one for all dimensions. Has a
      gradient.
    v_tm1: [T] float32, V(s_{t-1}). Has a gradient.
    a_tm1: [T, D] float32, sampled actions, before any clipping.
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    v_bootstrap: [] float32, V(s_T); no effect if `discount_t[-1]` is 0.
    entropy_cost: reward units per nat of differential entropy.
    value_cost: weight of the half squared value error.
    advantage: as in `a3c_loss`.
    lambda_: as in `a3c_loss`.
    correction: as in `a3c_loss`.
    log_mu_tm1: as in `a3c_loss`, a density.

  Returns:
    [T] float32 loss, and PolicyStats of [T] arrays.

  Raises:
    ValueError: as `a3c_loss`.
  """
  critic = (v_tm1, r_t, discount_t, v_bootstrap)
  _check_actor_critic(
    *critic,
    mean_tm1=(mean_tm1, 'TD'),
    variance_tm1=(variance_tm1, 'T'),
    a_tm1=(a_tm1, 'TD'),
  )
  # A constant, even if the caller computed it from the mean.
  a_tm1 = jax.lax.stop_gradient(a_tm1)
  log_pi, log_2pi_variance = _gaussian(mean_tm1, variance_tm1, a_tm1)
  return _actor_critic(
    log_pi,
    0.5 * mean_tm1.shape[1] * (log_2pi_variance + 1),
    *critic,
    entropy_cost=entropy_cost,
    value_cost=value_cost,
    advantage=advantage,
    lambda_=lambda_,
    correction=correction,
    log_mu_tm1=log_mu_tm1,
  )
