"""The loss of Q-learning on the action values of a policy (PGQL)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.core import shapes
from a3c_jax.losses import policy


class PgqlStats(NamedTuple):
  """Statistics of each step of `pgql_loss`."""

  q_loss: jax.Array  # [T] float32, half squared error, unweighted
  error_tm1: jax.Array  # [T] float32, δ, unweighted
  qa_tm1: jax.Array  # [T] float32, Q̃ of the action taken
  entropy: jax.Array  # [T] float32, nats


def policy_q_values(
  logits: jax.Array, v: jax.Array, *, alpha: float
) -> jax.Array:
  """Computes the action values that a policy with an entropy bonus implies.

      Q̃(s, a) = α (log π(a|s) + H(π(·|s))) + V(s)

  Their mean under the policy is V(s). They are Q of the policy where the policy
  gradient with α times the entropy is 0: there π = exp((Q - V) / α - H).
  Source: O'Donoghue et al. 2017, arXiv:1611.01626, equation 5.

  >>> import numpy as np
  >>> even = np.zeros((1, 2), np.float32)  # log π = -log 2 and H = log 2.
  >>> policy_q_values(even, np.array([3.0], np.float32), alpha=0.5).tolist()
  [[3.0, 3.0]]

  Args:
    logits: [..., A] float32, unnormalised log π(·|s).
    v: [...] float32, V(s).
    alpha: α, reward units per nat, the weight of the entropy of the policy
      gradient.

  Returns:
    [..., A] float32.

  Raises:
    ValueError: while tracing, if v has other axes than logits but the last.
  """
  if np.shape(v) != np.shape(logits)[:-1]:
    raise ValueError(
      f'v has shape {list(np.shape(v))}, expected '
      f'{list(np.shape(logits)[:-1])} as in logits'
    )
  log_pi = jax.nn.log_softmax(logits)
  entropy = policy.entropy(log_pi)
  return alpha * (log_pi + entropy[..., None]) + v[..., None]


def pgql_loss(
  logits_tm1: jax.Array,
  v_tm1: jax.Array,
  a_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  logits_t: jax.Array,
  v_t: jax.Array,
  *,
  alpha: float,
  value_cost: float = 0.5,
  weight_tm1: jax.Array | None = None,
) -> tuple[jax.Array, PgqlStats]:
  """Computes the loss whose gradient is a Q-learning step of policy and value.

      δ_{t-1} = r_t + γ_t max_b Q̃(s_t, b) - Q̃(s_{t-1}, a_{t-1})
      L_{t-1} = -δ_{t-1} (log π(a_{t-1}|s_{t-1}) + c V(s_{t-1}))

  Q̃ is that of `policy_q_values`. δ is a constant. Only the gradient of L means
  something; `PgqlStats.q_loss` is ½ δ². As the paper has it, the gradient is
  not that of ½ δ²: it leaves out α and ∇H. There are no target parameters.
  Source: O'Donoghue et al. 2017, arXiv:1611.01626, section 4.1, in which the
  value has a step size of its own; c = ½ is A3C's.

  With γ_t V(s_t) in the place of the maximum it would be the actor-critic
  gradient with α times the entropy (equations 6 and 7). T is the number of
  steps, A the number of actions.

  >>> import numpy as np
  >>> one, even = np.ones(1, np.float32), np.zeros((1, 2), np.float32)
  >>> loss, stats = pgql_loss(
  ...   logits_tm1=even,
  ...   v_tm1=2 * one,
  ...   a_tm1=np.array([0]),
  ...   r_t=one,
  ...   discount_t=one / 2,
  ...   logits_t=even,
  ...   v_t=4 * one,
  ...   alpha=0.1,
  ... )
  >>> stats.error_tm1.tolist(), stats.qa_tm1.tolist()  # 1 + ½·4 - 2
  ([1.0], [2.0])

  Args:
    logits_tm1: [T, A] float32, unnormalised log π(·|s_{t-1}). Has a gradient.
    v_tm1: [T] float32, V(s_{t-1}). Has a gradient.
    a_tm1: [T] int32, actions taken by whatever policy, each in [0, A).
    r_t: [T] float32, reward of the step.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    logits_t: [T, A] float32, unnormalised log π(·|s_t); no effect where
      `discount_t` is 0.
    v_t: [T] float32, V(s_t); no effect where `discount_t` is 0.
    alpha: α, reward units per nat, as for `policy_q_values`.
    value_cost: c, weight of the value's gradient.
    weight_tm1: [T] float32 >= 0, weight of each step's loss; None for 1. A
      constant.

  Returns:
    [T] float32 loss, and PgqlStats of [T] arrays.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  weights = {} if weight_tm1 is None else {'weight_tm1': (weight_tm1, 'T')}
  shapes.check_shapes(
    logits_tm1=(logits_tm1, 'TA'),
    v_tm1=(v_tm1, 'T'),
    a_tm1=(a_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    logits_t=(logits_t, 'TA'),
    v_t=(v_t, 'T'),
    **weights,
  )
  log_pi = jax.nn.log_softmax(logits_tm1)
  q_tm1 = policy_q_values(logits_tm1, v_tm1, alpha=alpha)
  qa_tm1 = policy.of_action(q_tm1, a_tm1)
  q_t = policy_q_values(logits_t, v_t, alpha=alpha)
  error_tm1 = jax.lax.stop_gradient(
    r_t + discount_t * jnp.max(q_t, axis=1) - qa_tm1
  )
  step_tm1 = error_tm1
  if weight_tm1 is not None:
    step_tm1 = jax.lax.stop_gradient(weight_tm1) * error_tm1
  loss_tm1 = -step_tm1 * (policy.of_action(log_pi, a_tm1) + value_cost * v_tm1)
  return loss_tm1, PgqlStats(
    q_loss=0.5 * error_tm1**2,
    error_tm1=error_tm1,
    qa_tm1=qa_tm1,
    entropy=policy.entropy(log_pi),
  )
