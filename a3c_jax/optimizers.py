"""The paper's three optimizers, as optax transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from a3c_jax import activations, base


class Optimizer(NamedTuple):
  """How a gradient becomes an update.

  Attributes:
    transformation: the update before it is multiplied by -learning_rate.
    per_thread: whether each thread keeps statistics of its own.
  """

  transformation: optax.GradientTransformation
  per_thread: bool


def _rms(decay: float, epsilon: float) -> optax.GradientTransformation:
  """optax.scale_by_rms, but an `Outer` is never written to memory."""
  # g starts at 0, and ε is under the root: equations S2 and S3.
  rms = optax.scale_by_rms(
    decay=decay, eps=epsilon, initial_scale=0.0, eps_in_sqrt=True
  )

  def update(updates, state, params=None):
    del params
    nu = optax.tree.update_moment(
      activations.multiplied_out(updates), state.nu, decay, order=2
    )
    # Multiplied out a second time, which is cheaper than to store the result.
    updates = activations.multiplied_out(jax.lax.optimization_barrier(updates))
    direction = jax.tree.map(
      lambda grad, square: grad * jax.lax.rsqrt(square + epsilon), updates, nu
    )
    return direction, state._replace(nu=nu)

  return optax.GradientTransformation(rms.init, update)


def shared_rmsprop(*, decay: float, epsilon: float) -> Optimizer:
  """RMSProp whose statistics g all threads share.

      g ← α g + (1 - α) Δθ²,    θ ← θ - η Δθ / √(g + ε)

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4, equation 1.

  Args:
    decay: α per update, in [0, 1).
    epsilon: ε, squared gradient units.
  """
  return Optimizer(_rms(decay, epsilon), per_thread=False)


def rmsprop(*, decay: float, epsilon: float) -> Optimizer:
  """As `shared_rmsprop`, with a g for each thread: section 7, equation S3."""
  return Optimizer(_rms(decay, epsilon), per_thread=True)


def momentum_sgd(*, momentum: float) -> Optimizer:
  """Stochastic gradient descent with a momentum for each thread.

      m ← α m + (1 - α) Δθ,    θ ← θ - η m

  Source: Mnih et al. 2016, arXiv:1602.01783, section 7.

  Args:
    momentum: α per update, in [0, 1).
  """
  ema = optax.ema(momentum, debias=False)

  def update(updates, state, params=None):
    return ema.update(activations.multiplied_out(updates), state, params)

  return Optimizer(
    optax.GradientTransformation(ema.init, update), per_thread=True
  )


def clipped(
  gradients: Callable[..., tuple[base.Params, base.Stats]],
  max_grad_norm: float | None,
) -> Callable[..., tuple[base.Params, jax.Array]]:
  """A Learner's `gradients` scaled down to a largest global norm, jitted.

  One program with the gradients themselves, so it costs no further call. All
  scalars come in one array, since each array costs Python some microseconds.

  Args:
    gradients: `Learner.gradients`.
    max_grad_norm: L2 norm over all parameters; None never scales.

  Returns:
    A function like `gradients`, without what is not learnt. Its second result
    is [S] float32: the stats in the order of `stat_names`, of which the last is
    the norm before scaling.
  """

  def clipped_gradients(params, target_params, segment):
    grads, stats = gradients(params, target_params, segment)
    grads = base.trained(grads)
    grad_norm = activations.global_norm(grads)
    if max_grad_norm is not None:
      # A pass over all parameters would cost a quarter of the gradient.
      grads = jax.lax.cond(
        grad_norm > max_grad_norm,
        lambda grads: activations.scaled(grads, max_grad_norm / grad_norm),
        lambda grads: grads,
        grads,
      )
    values = [stats[name] for name in sorted(stats)]
    return grads, jnp.stack([*values, grad_norm])

  return jax.jit(clipped_gradients)


def stat_names(gradients: Callable[..., Any], *arguments) -> list[str]:
  """Names of the scalars that `clipped(gradients, …)` gives; computes nothing.

  Args:
    gradients: `Learner.gradients`.
    *arguments: of a call of it.
  """
  _, stats = jax.eval_shape(gradients, *arguments)
  return [*sorted(stats), 'grad_norm']
