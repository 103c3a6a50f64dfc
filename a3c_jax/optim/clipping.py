"""Gradients with a bounded global norm."""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.core import types
from a3c_jax.optim import factored

# `(params, target_params, segment) -> (gradients, scalars [S] float32 in the
# order of `stat_names`)`.
_AT_ONCE = 8  # Gradients that one program adds.
ClippedGradients = Callable[
  [types.Params, types.Params, types.Segment], tuple[types.Params, jax.Array]
]


def clipped(
  gradients: Callable[..., tuple],
  max_grad_norm: float | None,
) -> Callable[..., tuple]:
  """Returns a Learner's gradients with a bounded global norm, jitted.

  Gradients and norm are one program, which saves a call. All scalars are in one
  array, since each array costs Python some microseconds.

  Args:
    gradients: `Learner.gradients`, or another function that gives gradients,
      scalars and whatever else, which is returned as it is.
    max_grad_norm: L2 norm over all parameters; None never scales.

  Returns:
    A function that gives the gradients of `types.trained` alone. The last of
    its scalars is the norm before scaling.
  """

  def clipped_gradients(*arguments):
    grads, stats, *rest = gradients(*arguments)
    grads = types.trained(grads)
    grad_norm = factored.global_norm(grads)
    if max_grad_norm is not None:
      grads = _bounded(grads, grad_norm, max_grad_norm)
    values = [stats[name] for name in sorted(stats)]
    return grads, jnp.stack([*values, grad_norm]), *rest

  return jax.jit(clipped_gradients)


def _bounded(grads, grad_norm, max_grad_norm: float):
  # A cond: scaling by 1 would cost a quarter of the gradient's time.
  return jax.lax.cond(
    grad_norm > max_grad_norm,
    lambda grads: factored.scaled(grads, max_grad_norm / grad_norm),
    lambda grads: grads,
    grads,
  )


def combined(
  max_grad_norm: float | None, *, divisor: float
) -> Callable[..., tuple[types.Params, jax.Array]]:
  """Returns the sum of several gradients, divided and clipped, jitted.

  Args:
    max_grad_norm: L2 norm of the result over all parameters; None never scales.
    divisor: of the sum.

  Returns:
    `(shares) -> (gradients, scalars)`. Each share is a pair that `clipped`
    gives. Shares are added in their order. The scalars are the means of those
    of the shares; the last is the norm of the divided sum before clipping.
  """

  def finish(shares, count):
    grads, values = _added(shares)
    grads = jax.tree.map(lambda leaf: leaf / divisor, grads)
    grad_norm = factored.global_norm(grads)
    if max_grad_norm is not None:
      grads = _bounded(grads, grad_norm, max_grad_norm)
    return grads, (values / count).at[-1].set(grad_norm)

  finish = jax.jit(finish)

  def sum_of(shares):
    count = len(shares)
    # In parts: XLA takes long to compile a program of many arguments.
    while len(shares) > _AT_ONCE:
      shares = [
        _add(shares[first : first + _AT_ONCE])
        for first in range(0, len(shares), _AT_ONCE)
      ]
    return finish(shares, np.float32(count))

  return sum_of


def _added(shares):
  trees, values = zip(*shares, strict=True)
  return jax.tree.map(lambda *leaves: sum(leaves), *trees), sum(values)


_add = jax.jit(_added)


def of_learner(
  learner: types.Learner,
  max_grad_norm: float | None,
  *,
  factored_rows: int,
) -> ClippedGradients:
  """Returns `clipped` gradients in the fastest form that a store accepts.

  Args:
    learner: the algorithm.
    max_grad_norm: L2 norm over all parameters; None never scales.
    factored_rows: of the store.

  Returns:
    As `clipped`. The gradients are `factored.Factored` if the store accepts
    that and the learner has that form.
  """
  gradients = _factored_form(learner, factored_rows)
  if gradients is None:
    return clipped(learner.gradients, max_grad_norm)
  program = clipped(_opened(gradients), max_grad_norm)

  def clipped_factors(params, target_params, segment):
    grads, stats = program(params, target_params, segment)
    return factored.Factored(grads), stats

  return clipped_factors


def stat_names(
  learner: types.Learner, *arguments: Any, factored_rows: int
) -> list[str]:
  """Returns the names of the scalars of `of_learner`; computes nothing.

  Args:
    learner: as for `of_learner`.
    *arguments: of a call of its gradients.
    factored_rows: as for `of_learner`, so that JAX traces only once.
  """
  gradients = _factored_form(learner, factored_rows)
  _, stats = jax.eval_shape(_opened(gradients or learner.gradients), *arguments)
  return [*sorted(stats), 'grad_norm']


def _factored_form(learner, rows) -> types.GradientsFn | None:
  form = learner.factored_gradients
  # If `gradients` was replaced, the factored form is of the old ones.
  if not rows or form is None or form.dense is not learner.gradients:
    return None
  return functools.partial(form.gradients, most_rows=rows)


def _opened(gradients):
  def opened(*arguments):
    grads, stats = gradients(*arguments)
    return factored.opened(grads), stats

  return opened
