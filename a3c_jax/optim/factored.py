"""Gradients of large kernels as factors; for update rules and stores alone.

With few rows, the gradient of a large kernel is larger than its two factors. An
update rule that multiplies them itself writes no array of that size to memory.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.networks import forward_cache

FEW_ROWS = 10  # With more, a dense gradient is faster.
FEW_ROWS_TO_SEND = 64  # The same, if it has to be sent to another process.


class _Outer(NamedTuple):
  """The factors of a kernel's gradient x.T @ dy."""

  x: jax.Array  # [N, in]
  dy: jax.Array  # [N, out]


@dataclasses.dataclass(frozen=True, eq=False)
class Factored:
  """A gradient of all parameters in which kernels may be factors.

  JAX takes it for a leaf that is not an array, and it has no arithmetic: `jit`,
  `+` and optax's functions raise instead of computing with the factors. `dense`
  converts it for them.

  Attributes:
    tree: like `trained(params)`, with an `_Outer` in the place of some kernels.
  """

  tree: Any


def gradients(
  loss: Callable[..., tuple[jax.Array, Any]],
  activations_of: Callable[[types.Params, types.Segment], Any],
  dense_gradients: types.GradientsFn,
) -> types.FactoredGradients:
  """Returns the factored form of `forward_cache.gradients(loss)`.

  Args:
    loss: as for `forward_cache.gradients`.
    activations_of: `(params, segment)` gives the activations of a segment that
      has none.
    dense_gradients: `Learner.gradients`, the same in the dense form.

  Returns:
    Gradients with factors for each large kernel; without in a long segment: a
    last argument `most_rows` says how many rows a factor may have.
  """

  def of_segment(params, target_params, segment, most_rows):
    def loss_of(trained, activations):
      variables = types.with_trained(params, trained)
      return loss(variables, target_params, segment, activations)

    activations = segment.kept or activations_of(params, segment)
    gradient = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
    (grads, dactivations), stats = gradient(types.trained(params), activations)
    layers = _in_factors(grads['params'], activations, dactivations, most_rows)
    return grads | {'params': layers}, stats

  program = jax.jit(of_segment, static_argnums=3)

  def factored_gradients(params, target_params, segment, most_rows=FEW_ROWS):
    grads, stats = program(params, target_params, segment, most_rows)
    return Factored(grads), stats

  return types.FactoredGradients(dense_gradients, factored_gradients)


def _in_factors(grads, activations, dactivations, most_rows):
  """Returns gradients with an `_Outer` for each layer with a cached input."""
  grads = dict(grads)
  for name, value in activations.items():
    layer = forward_cache.layer_of(name)
    if layer is None:
      grads[name] = _in_factors(
        grads[name], value, dactivations[name], most_rows
      )
    elif 'input' in value:
      outer = _Outer(value['input'], dactivations[name]['output'])
      if not _is_smaller(outer, most_rows):
        continue
      dense = grads[layer]['Dense_0'] | {'kernel': outer}  # Of `Linear`.
      grads[layer] = grads[layer] | {'Dense_0': dense}
  return grads


def _is_smaller(outer, most_rows):
  """Whether factors have few rows, or else fewer numbers than their product."""
  (rows, inputs), (_, outputs) = outer.x.shape, outer.dy.shape
  fewer = rows * (inputs + outputs) < inputs * outputs
  return rows <= most_rows and (rows <= FEW_ROWS or fewer)


def opened(grads: Any) -> Any:
  """Returns the tree of a `Factored`, for a jitted function, or `grads`."""
  return grads.tree if isinstance(grads, Factored) else grads


def dense(grads: Any) -> Any:
  """Returns a gradient of which every leaf is an array."""
  return multiplied_out(opened(grads))


def of_few_rows(grads: Any) -> Any:
  """Returns a gradient whose factors have at most `FEW_ROWS` rows.

  The others are multiplied.

  Args:
    grads: a gradient that was sent, dense or in factors.
  """
  if not isinstance(grads, Factored):
    return grads
  return Factored(_with_products(grads.tree))


@jax.jit
def _with_products(tree):
  def multiply(grad):
    if isinstance(grad, _Outer) and len(grad.x) > FEW_ROWS:
      return grad.x.T @ grad.dy
    return grad

  return jax.tree.map(multiply, tree, is_leaf=_is_outer)


def multiplied_out(tree: Any) -> Any:
  """Returns an opened gradient with an array for each pair of factors."""

  def multiply(grad):
    if not isinstance(grad, _Outer):
      return grad
    # In this form XLA fuses the product with the update of each weight.
    rows = [x[:, None] * dy[None] for x, dy in zip(*grad, strict=True)]
    return sum(rows[1:], start=rows[0])

  return jax.tree.map(multiply, tree, is_leaf=_is_outer)


def scaled(tree: Any, factor: jax.Array) -> Any:
  """Returns an opened gradient times a number."""

  def scale(grad):
    if isinstance(grad, _Outer):
      return grad._replace(dy=grad.dy * factor)
    return grad * factor

  return jax.tree.map(scale, tree, is_leaf=_is_outer)


def global_norm(tree: Any) -> jax.Array:
  """Returns the L2 norm of an opened gradient from its factors."""

  def squared(grad):
    if isinstance(grad, _Outer):
      x, dy = grad
      # Rounding, relative to the sum of squares of rows, may make it negative.
      return jnp.maximum(jnp.sum((x @ x.T) * (dy @ dy.T)), 0.0)
    return jnp.sum(grad**2)

  leaves = jax.tree.leaves(tree, is_leaf=_is_outer)
  return jnp.sqrt(sum(map(squared, leaves)))


def _is_outer(grad):
  return isinstance(grad, _Outer)
