"""RMSProp, with statistics that are shared or one set per worker."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from a3c_jax.optim import factored
from a3c_jax.optim.rule import UpdateRule, of_optax


def shared_rmsprop(
  learning_rate: Callable[[int], float],
  *,
  decay: float,
  epsilon: float,
  start: float = 0.0,
) -> UpdateRule:
  """Returns RMSProp with statistics g that all workers share.

      g ← α g + (1 - α) Δθ²,    θ ← θ - η Δθ / √(g + ε)

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4, equation 1.

  Args:
    learning_rate: η as a function of global emulator frames.
    decay: α per update, in [0, 1).
    epsilon: ε, squared gradient units.
    start: g before the first update, squared gradient units. With 0, the first
      step of each weight is η / √(1 - α) where ε is small.
  """
  return _rule(learning_rate, decay, epsilon, start, per_worker=False)


def rmsprop(
  learning_rate: Callable[[int], float],
  *,
  decay: float,
  epsilon: float,
  start: float = 0.0,
) -> UpdateRule:
  """Returns `shared_rmsprop` with a g for each worker.

  Source: section 7, equation S3.
  """
  return _rule(learning_rate, decay, epsilon, start, per_worker=True)


def centered_rmsprop(
  learning_rate: Callable[[int], float], *, decay: float, epsilon: float
) -> UpdateRule:
  """Returns RMSProp that divides by the deviation of gradients, for DQN.

      g ← α g + (1 - α) Δθ,    n ← α n + (1 - α) Δθ²
      θ ← θ - η Δθ / √(n - g² + ε)

  All workers share g and n, which start at 0.
  Source: the code of Mnih et al. 2015, doi:10.1038/nature14236
  (github.com/google-deepmind/dqn, NeuralQLearner.lua), after Graves 2013,
  arXiv:1308.0850, without the momentum of the step there.

  Args:
    learning_rate: η as a function of global emulator frames.
    decay: α per update, in [0, 1).
    epsilon: ε, squared gradient units.
  """
  return of_optax(_scale_by_deviation(decay, epsilon), learning_rate)


def _scale_by_deviation(decay, epsilon) -> optax.GradientTransformation:
  """Returns optax.scale_by_stddev whose root is never of a negative number."""
  stddev = optax.scale_by_stddev(decay=decay, eps=epsilon, initial_scale=0.0)

  def update(updates, state, params=None):
    del params
    mu = optax.tree.update_moment(updates, state.mu, decay, order=1)
    nu = optax.tree.update_moment(updates, state.nu, decay, order=2)

    def divided(grad, mean, square):
      # Rounding, relative to n, may make the variance less than -ε.
      variance = jnp.maximum(square - mean**2, 0.0)
      return grad * jax.lax.rsqrt(variance + epsilon)

    direction = jax.tree.map(divided, updates, mu, nu)
    return direction, state._replace(mu=mu, nu=nu)

  return optax.GradientTransformation(stddev.init, update)


def _rule(learning_rate, decay, epsilon, start, *, per_worker) -> UpdateRule:
  return of_optax(
    _scale_by_rms(decay, epsilon, start),
    learning_rate,
    per_worker=per_worker,
    takes_factors=True,
  )


def _scale_by_rms(decay, epsilon, start) -> optax.GradientTransformation:
  """Returns optax.scale_by_rms that never writes a product to memory."""
  # ε is under the root: equations S2 and S3.
  rms = optax.scale_by_rms(
    decay=decay, eps=epsilon, initial_scale=start, eps_in_sqrt=True
  )

  def update(updates, state, params=None):
    del params
    nu = optax.tree.update_moment(
      factored.multiplied_out(updates), state.nu, decay, order=2
    )
    # Multiplying a second time is cheaper than storing the product.
    updates = factored.multiplied_out(jax.lax.optimization_barrier(updates))
    direction = jax.tree.map(
      lambda grad, square: grad * jax.lax.rsqrt(square + epsilon), updates, nu
    )
    return direction, state._replace(nu=nu)

  return optax.GradientTransformation(rms.init, update)
