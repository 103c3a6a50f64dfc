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


def lambda_returns(
  r_t: jax.Array, discount_t: jax.Array, v_t: jax.Array, *, lambda_: float
) -> jax.Array:
  """Computes the λ-return of each step within a segment.

      G_T = V(s_T),    G_{t-1} = r_t + γ_t ((1 - λ) V(s_t) + λ G_t)

  λ = 1 gives the longest return, `nstep_returns`; λ = 0 the one-step return.
  Where V is the value of the best action, this is Peng's Q(λ).
  Source: Sutton and Barto 2018, equation 12.18; Peng and Williams 1996,
  doi:10.1007/BF00114731.

  >>> import numpy as np
  >>> r, half, v = np.array([1.0, 2.0]), np.full(2, 0.5), np.array([2.0, 4.0])
  >>> lambda_returns(r, half, v, lambda_=0.5).tolist()  # 1 + ½ (1 + ½·4), 4
  [2.5, 4.0]

  Args:
    r_t: [T] float32, rewards.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    v_t: [T] float32, V(s_1) … V(s_T); no effect where `discount_t` is 0.
    lambda_: in [0, 1].

  Returns:
    [T] float32.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees.
  """
  shapes.check_shapes(
    r_t=(r_t, 'T'), discount_t=(discount_t, 'T'), v_t=(v_t, 'T')
  )
  r_t = r_t + discount_t * (1 - lambda_) * v_t
  return nstep_returns(r_t, lambda_ * discount_t, v_t[-1])


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


# What weighs the score function ∇ log π(a|s) of each step: `policy_weights`.
POLICY_WEIGHTS = ('return', 'baseline', 'q', 'td', 'nstep', 'gae')


def policy_weights(
  kind: str,
  v_tm1: jax.Array,
  r_t: jax.Array,
  discount_t: jax.Array,
  bootstrap: jax.Array,
  *,
  baseline_tm1: jax.Array | None = None,
  qa_tm1: jax.Array | None = None,
  lambda_: float | None = None,
) -> jax.Array:
  """Computes what weighs the score function of each step in a policy gradient.

      g = Σ_t Ψ_{t-1} ∇ log π(a_{t-1}|s_{t-1})

      R_T = bootstrap,    R_{t-1} = r_t + γ_t R_t
      δ_{t-1} = r_t + γ_t V(s_t) - V(s_{t-1})

      'return':    Ψ_{t-1} = R_{t-1}                           REINFORCE
      'baseline':  Ψ_{t-1} = R_{t-1} - b(s_{t-1})              the same, with b
      'q':         Ψ_{t-1} = Q(s_{t-1}, a_{t-1})               Q actor-critic
      'td':        Ψ_{t-1} = δ_{t-1}                           TD actor-critic
      'nstep':     Ψ_{t-1} = R_{t-1} - V(s_{t-1})              A3C
      'gae':       Ψ_{t-1} = δ_{t-1} + γ_t λ Ψ_t,  Ψ_T = 0     GAE

  REINFORCE takes the return of a whole episode: then `discount_t[-1]` is 0, and
  the bootstrap value has no effect, and the gradient is unbiased whatever b and
  V are. Within a segment the bootstrap value stands for what follows. It biases
  the gradient as far as V is not the value of the policy; so do 'td', and 'gae'
  with λ < 1.
  Source: Schulman et al. 2016, arXiv:1506.02438, equations 1 and 16; for
  'nstep' Mnih et al. 2016, arXiv:1602.01783, Algorithm S3; for 'return' and
  'baseline' Williams 1992, doi:10.1007/BF00992696.

  >>> import numpy as np
  >>> v, r, half = np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.full(2, 0.5)
  >>> for kind in ('return', 'nstep', 'td'):
  ...   print(kind, policy_weights(kind, v, r, half, np.array(4.0)).tolist())
  return [3.0, 4.0]
  nstep [2.0, 2.0]
  td [1.0, 2.0]
  >>> gae = policy_weights('gae', v, r, half, np.array(4.0), lambda_=0.5)
  >>> gae.tolist()  # 1 + ½·½·2, and 2
  [1.5, 2.0]

  Args:
    kind: one of `POLICY_WEIGHTS`.
    v_tm1: [T] float32, V(s_{t-1}).
    r_t: [T] float32, rewards.
    discount_t: [T] float32, γ per step; 0 where the episode ended.
    bootstrap: [] float32, V(s_T).
    baseline_tm1: [T] float32, b(s_{t-1}), any function of the state, for
      'baseline'.
    qa_tm1: [T] float32, Q(s_{t-1}, a_{t-1}), for 'q'. With a function of the
      state subtracted, such as Σ_a π(a|s) Q(s, a), it varies less.
    lambda_: λ in [0, 1], for 'gae'.

  Returns:
    [T] float32. It has the gradients of its inputs: for a policy gradient, stop
    them.

  Raises:
    ValueError: while tracing, naming the argument whose shape disagrees or that
      the kind needs, or the allowed kinds.
  """
  if kind not in POLICY_WEIGHTS:
    raise ValueError(f'kind={kind!r}: allowed: {", ".join(POLICY_WEIGHTS)}')
  given = {'baseline_tm1': baseline_tm1, 'qa_tm1': qa_tm1, 'lambda_': lambda_}
  needed = {'baseline': 'baseline_tm1', 'q': 'qa_tm1', 'gae': 'lambda_'}
  for name, value in given.items():
    if (value is not None) != (needed.get(kind) == name):
      verb = 'needs' if value is None else 'does not take'
      raise ValueError(f'kind={kind!r} {verb} {name}')
  shapes.check_shapes(
    v_tm1=(v_tm1, 'T'),
    r_t=(r_t, 'T'),
    discount_t=(discount_t, 'T'),
    bootstrap=(bootstrap, ''),
    **{
      name: (value, 'T')
      for name, value in given.items()
      if value is not None and name != 'lambda_'
    },
  )
  if qa_tm1 is not None:
    return qa_tm1
  if kind == 'td':
    return r_t + discount_t * _following(v_tm1, bootstrap) - v_tm1
  if lambda_ is not None:
    v = jnp.append(v_tm1, bootstrap)
    return generalized_advantages(r_t, discount_t, v, lambda_=lambda_)
  return_tm1 = nstep_returns(r_t, discount_t, bootstrap)
  if baseline_tm1 is not None:
    return return_tm1 - baseline_tm1
  return return_tm1 - v_tm1 if kind == 'nstep' else return_tm1


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
