"""Gradients whose global norm is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.optim import factored

ClippedGradients = Callable[..., tuple[types.Params, jax.Array]]


def clipped(
  gradients: Callable[..., tuple[types.Params, types.Stats]],
  max_grad_norm: float | None,
) -> ClippedGradients:
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
    grads = types.trained(grads)
    grad_norm = factored.global_norm(grads)
    if max_grad_norm is not None:
      # A pass over all parameters would cost a quarter of the gradient.
      grads = jax.lax.cond(
        grad_norm > max_grad_norm,
        lambda grads: factored.scaled(grads, max_grad_norm / grad_norm),
        lambda grads: grads,
        grads,
      )
    values = [stats[name] for name in sorted(stats)]
    return grads, jnp.stack([*values, grad_norm])

  return jax.jit(clipped_gradients)


def of_learner(
  learner: types.Learner,
  max_grad_norm: float | None,
  *,
  accepts_factored: bool,
) -> ClippedGradients:
  """`clipped` gradients in the fastest form that their receiver accepts.

  Args:
    learner: whose gradients are wanted.
    max_grad_norm: L2 norm over all parameters; None never scales.
    accepts_factored: of the store, or of the update rule.

  Returns:
    As `clipped`. The gradients are `factored.Factored` if the receiver accepts
    that and the learner has that form.
  """
  gradients = _factored_form(learner) if accepts_factored else None
  if gradients is None:
    return clipped(learner.gradients, max_grad_norm)
  program = clipped(_opened(gradients), max_grad_norm)

  def clipped_factors(params, target_params, segment):
    grads, stats = program(params, target_params, segment)
    return factored.Factored(grads), stats

  return clipped_factors


def stat_names(
  learner: types.Learner, *arguments: Any, accepts_factored: bool
) -> list[str]:
  """Names of the scalars that `of_learner` gives; computes nothing.

  Args:
    learner: as for `of_learner`.
    *arguments: of a call of its gradients.
    accepts_factored: as for `of_learner`; then nothing is traced a second time.
  """
  gradients = _factored_form(learner) if accepts_factored else None
  _, stats = jax.eval_shape(_opened(gradients or learner.gradients), *arguments)
  return [*sorted(stats), 'grad_norm']


def _factored_form(learner) -> Callable[..., Any] | None:
  form = learner.factored_gradients
  # Whoever replaced `gradients` means the new ones.
  if form is None or form.dense is not learner.gradients:
    return None
  return form.gradients


def _opened(gradients):
  def opened(*arguments):
    grads, stats = gradients(*arguments)
    return factored.opened(grads), stats

  return opened
