"""Gradients of minibatches from a replay memory."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from a3c_jax.core import types


def gradients(loss: Callable[..., tuple]) -> types.ReplayGradientsFn:
  """Returns `Learner.replay_gradients` of a loss, jitted.

  Args:
    loss: `(variables, params, target_params, segment, weight [K])` gives the
      loss [K] or [K, T], and its statistics, which have `qa_tm1` and
      `error_tm1` of the same shape. `variables` are `params`, but only they
      have a gradient.
  """

  def of_minibatch(params, target_params, segment, weight):
    def loss_of(trained):
      variables = types.with_trained(params, trained)
      loss_tm1, stats = loss(variables, params, target_params, segment, weight)
      error_tm1 = jnp.abs(stats.error_tm1)
      scalars = {
        'loss': jnp.mean(loss_tm1),
        'mean_q': jnp.mean(stats.qa_tm1),
        'error': jnp.mean(error_tm1),
      }
      errors = jnp.mean(error_tm1.reshape(len(error_tm1), -1), axis=1)
      return jnp.sum(loss_tm1), (scalars, errors)

    grads, (scalars, errors) = jax.grad(loss_of, has_aux=True)(
      types.trained(params)
    )
    return grads, scalars, errors

  return jax.jit(of_minibatch)
