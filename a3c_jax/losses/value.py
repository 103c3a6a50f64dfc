"""Losses of value-based algorithms."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax.core import shapes
from a3c_jax.losses import policy, returns


class ValueStats(NamedTuple):
  """Statistics of each step of a value-based loss."""

  qa_tm1: jax.Array  # [T] float32, Q of the action taken
  # [T] float32, target minus Q, neither weighted nor clipped.
  error_tm1: jax.Array


def _error_loss(q_tm1, a_tm1, target_tm1, *, weight_tm1=None, error_clip=None):
  qa_tm1 = policy.of_action(q_tm1, a_tm1)
  error_tm1 = jax.lax.stop_gradient(target_tm1) - qa_tm1
  loss_tm1 = 0.5 * error_tm1**2
  if weight_tm1 is not None:
    shapes.check_shapes(q_tm1=(q_tm1, 'TA'), weight_tm1=(weight_tm1, 'T'))
    weight_tm1 = jax.lax.stop_gradient(weight_tm1)
    loss_tm1 = weight_tm1 * loss_tm1
  if error_clip is not None:
    loss_tm1 = _with_bounded_gradient(
      loss_tm1, error_tm1, weight_tm1, error_clip
    )
  return loss_tm1, ValueStats(qa_tm1, error_tm1)


def _check_shapes(q_tm1, a_tm1, r_t, discount_t, **others):
  """Checks what all these losses take, and others as `shapes.check_shapes`."""
  shapes.check_shapes(
    q_tm1=(q_tm1, 'TA'),
    a_tm1=(a_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    **others,
  )


def _with_bounded_gradient(loss_tm1, error_tm1, weight_tm1, error_clip):
  """Returns the loss, linear in the error δ where |w δ| > error_clip."""
  if not error_clip > 0:
    raise ValueError(f'error_clip={error_clip}: allowed: > 0, or None')
  if weight_tm1 is None:
    weight_tm1 = jnp.ones_like(error_tm1)
  size_tm1 = jnp.abs(error_tm1)
  beyond = weight_tm1 * size_tm1 > error_clip
  # A weight of 0 is never beyond, and must not divide.
  ends = error_clip / jnp.where(beyond, weight_tm1, 1.0)
  linear = error_clip * (size_tm1 - 0.5 * ends)
  return jnp.where(beyond, linear, loss_tm1)


def one_step_q_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_t: jax.Array,
  *,
  weight_tm1: jax.Array | None = None,
  error_clip: float | None = None,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared one-step Q-learning error of each step.

      δ_{t-1} = r_t + γ_t max_a Q(s_t, a; θ⁻) - Q(s_{t-1}, a_{t-1}; θ)
      L_{t-1}(θ) = ½ δ_{t-1}²

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm 1, which writes no ½.
  T is the number of steps, A the number of actions.

  With weights w and a clip c, the gradient by Q(s_{t-1}, a_{t-1}) is
  -clip(w δ, -c, c): the loss is w ½ δ² up to |w δ| = c, and from there on
  c (|δ| - c / 2w). The clip is that of Mnih et al. 2015,
  doi:10.1038/nature14236, the weight that of Schaul et al. 2016,
  arXiv:1511.05952, Algorithm 1. As in dqn_zoo, the weight comes first.

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
    weight_tm1: [T] float32 >= 0, w of each step, such as an importance weight;
      None for 1. A constant.
    error_clip: bound of |w δ| in the gradient, > 0; None for no bound.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees, or
      `error_clip` if it is not positive.
  """
  _check_shapes(
    q_tm1,
    a_tm1,
    r_t,
    discount_t,
    target_q_t=(target_q_t, 'TA'),
  )
  target_tm1 = r_t + discount_t * jnp.max(target_q_t, axis=1)
  return _error_loss(
    q_tm1, a_tm1, target_tm1, weight_tm1=weight_tm1, error_clip=error_clip
  )


def double_q_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_t: jax.Array,
  selector_q_t: jax.Array,
  *,
  weight_tm1: jax.Array | None = None,
  error_clip: float | None = None,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared Double Q-learning error of each step.

      a* = argmax_a selector(s_t, a)
      δ_{t-1} = r_t + γ_t Q(s_t, a*; θ⁻) - Q(s_{t-1}, a_{t-1}; θ)
      L_{t-1}(θ) = ½ δ_{t-1}²

  Source: van Hasselt et al. 2016, arXiv:1509.06461, equation 4, in which the
  selector is Q(·; θ). Weights and clip are as in `one_step_q_loss`. T is the
  number of steps, A the number of actions.

  >>> import numpy as np
  >>> loss, stats = double_q_loss(
  ...   q_tm1=np.array([[1.0, 7.0]], np.float32),
  ...   a_tm1=np.array([0]),
  ...   r_t=np.array([2.0], np.float32),
  ...   discount_t=np.array([0.5], np.float32),
  ...   target_q_t=np.array([[4.0, 8.0]], np.float32),
  ...   selector_q_t=np.array([[1.0, 0.0]], np.float32),
  ... )
  >>> loss.tolist(), stats.error_tm1.tolist()  # ½ (2 + ½·4 - 1)²
  ([4.5], [3.0])

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_t: [T, A] float32, Q(s_t, ·; θ⁻); no effect where
      `discount_t` is 0.
    selector_q_t: [T, A] float32, of which the best action counts.
    weight_tm1: [T] float32 >= 0, w of each step, such as an importance weight;
      None for 1. A constant.
    error_clip: bound of |w δ| in the gradient, > 0; None for no bound.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees, or
      `error_clip` if it is not positive.
  """
  _check_shapes(
    q_tm1,
    a_tm1,
    r_t,
    discount_t,
    target_q_t=(target_q_t, 'TA'),
    selector_q_t=(selector_q_t, 'TA'),
  )
  best_t = jnp.argmax(selector_q_t, axis=1)
  best_q_t = policy.of_action(target_q_t, best_t)
  return _error_loss(
    q_tm1,
    a_tm1,
    r_t + discount_t * best_q_t,
    weight_tm1=weight_tm1,
    error_clip=error_clip,
  )


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
  _check_shapes(
    q_tm1,
    a_tm1,
    r_t,
    discount_t,
    target_q_t=(target_q_t, 'TA'),
    a_t=(a_t, 'T'),
  )
  qa_t = policy.of_action(target_q_t, a_t)
  return _error_loss(q_tm1, a_tm1, r_t + discount_t * qa_t)


def nstep_q_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_bootstrap: jax.Array,
  selector_q_bootstrap: jax.Array | None = None,
  *,
  weight_tm1: jax.Array | None = None,
  error_clip: float | None = None,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared n-step Q-learning error of each step.

      R_T = max_a Q(s_T, a; θ⁻),    R_{t-1} = r_t + γ_t R_t
      L_{t-1}(θ) = ½ (R_{t-1} - Q(s_{t-1}, a_{t-1}; θ))²

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm S2, which sums the steps
  of a segment (the caller's reduction) and writes no ½. T is the segment
  length, A the number of actions. With a selector, R_T is
  Q(s_T, argmax_a selector; θ⁻), as in Double Q-learning (van Hasselt et al.
  2016, arXiv:1509.06461, equation 4). Weights and clip are as in
  `one_step_q_loss`.

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_bootstrap: [A] float32, Q(s_T, ·; θ⁻); no effect if
      `discount_t[-1]` is 0.
    selector_q_bootstrap: [A] float32, chooses the action of R_T; None for
      `target_q_bootstrap`.
    weight_tm1: [T] float32 >= 0, w of each step, such as an importance weight;
      None for 1. A constant.
    error_clip: bound of |w δ| in the gradient, > 0; None for no bound.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees, or
      `error_clip` if it is not positive.
  """
  if selector_q_bootstrap is None:
    selector_q_bootstrap = target_q_bootstrap
  _check_shapes(
    q_tm1,
    a_tm1,
    r_t,
    discount_t,
    target_q_bootstrap=(target_q_bootstrap, 'A'),
    selector_q_bootstrap=(selector_q_bootstrap, 'A'),
  )
  best = jnp.argmax(selector_q_bootstrap)
  bootstrap = jnp.asarray(target_q_bootstrap)[best]
  target_tm1 = returns.nstep_returns(r_t, discount_t, bootstrap)
  return _error_loss(
    q_tm1, a_tm1, target_tm1, weight_tm1=weight_tm1, error_clip=error_clip
  )


def q_lambda_loss(
  q_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  target_q_t: jax.Array,
  *,
  lambda_: float,
  weight_tm1: jax.Array | None = None,
  error_clip: float | None = None,
) -> tuple[jax.Array, ValueStats]:
  """Computes half the squared error of each step to Peng's Q(λ) target.

      G_{t-1} = r_t + γ_t ((1 - λ) max_a Q(s_t, a; θ⁻) + λ G_t)
      G_T = max_a Q(s_T, a; θ⁻)
      L_{t-1}(θ) = ½ (G_{t-1} - Q(s_{t-1}, a_{t-1}; θ))²

  λ = 1 gives `nstep_q_loss`, λ = 0 `one_step_q_loss`. The return is not cut
  where an action was not the best one.
  Source: Peng and Williams 1996, doi:10.1007/BF00114731; with a network and
  without θ⁻ in Gallici et al. 2024, arXiv:2407.04811 (PQN). T is the segment
  length, A the number of actions. Weights and clip are as in
  `one_step_q_loss`.

  Args:
    q_tm1: [T, A] float32, Q(s_{t-1}, ·; θ). The only input with a gradient.
    a_tm1: [T] int32, actions taken, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    target_q_t: [T, A] float32, Q(s_t, ·; θ⁻); no effect where
      `discount_t` is 0.
    lambda_: in [0, 1].
    weight_tm1: [T] float32 >= 0, w of each step, such as an importance weight;
      None for 1. A constant.
    error_clip: bound of |w δ| in the gradient, > 0; None for no bound.

  Returns:
    [T] float32 loss in squared reward units, and ValueStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees, or
      `error_clip` if it is not positive.
  """
  _check_shapes(
    q_tm1,
    a_tm1,
    r_t,
    discount_t,
    target_q_t=(target_q_t, 'TA'),
  )
  v_t = jnp.max(target_q_t, axis=1)
  target_tm1 = returns.lambda_returns(r_t, discount_t, v_t, lambda_=lambda_)
  return _error_loss(
    q_tm1, a_tm1, target_tm1, weight_tm1=weight_tm1, error_clip=error_clip
  )
