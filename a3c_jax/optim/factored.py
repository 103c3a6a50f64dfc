"""Gradients of large kernels as factors; for update rules and stores alone.

With few rows, the gradient of a large matrix is shorter told by what it is a
product of, and an update rule that multiplies it out where it needs it writes
no array of that size to memory.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.networks import forward_cache

_FEW_ROWS = 10  # With more, the product is faster made by itself.


class _Outer(NamedTuple):
  """The gradient of a kernel, x.T @ dy, not yet multiplied out."""

  x: jax.Array  # [N, in]
  dy: jax.Array  # [N, out]


@dataclasses.dataclass(frozen=True, eq=False)
class Factored:
  """A gradient, of all parameters, that may hold kernels as their factors.

  For JAX it is a leaf that is no array, and it has no arithmetic: `jit`, `+`
  and optax's functions raise instead of computing with the factors. `dense`
  gives a gradient for these.

  Attributes:
    tree: like `trained(params)`, but for an `_Outer` where factors are.
  """

  tree: Any


def gradients(
  loss: Callable[..., tuple[jax.Array, Any]],
  keep: Callable[[Any, Any], Any],
  dense_gradients: Callable[..., tuple[types.Params, types.Stats]],
) -> types.FactoredGradients:
  """The factored form of `forward_cache.gradients(loss, keep)`.

  Args:
    loss: as for `forward_cache.gradients`.
    keep: likewise.
    dense_gradients: `Learner.gradients`, which are the same, dense.

  Returns:
    Gradients with factors for each large kernel, and without in a long segment.
  """

  def of_segment(params, target_params, segment):
    def loss_of(trained, kept):
      variables = types.with_trained(params, trained)
      return loss(variables, target_params, segment, kept)

    kept = segment.activations or keep(params, segment)
    gradient = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
    (grads, kept_grads), stats = gradient(types.trained(params), kept)
    layers = _in_factors(grads['params'], kept, kept_grads)
    return grads | {'params': layers}, stats

  program = jax.jit(of_segment)

  def factored_gradients(params, target_params, segment):
    grads, stats = program(params, target_params, segment)
    return Factored(grads), stats

  return types.FactoredGradients(dense_gradients, factored_gradients)


def _in_factors(grads, kept, kept_grads):
  """Gradients with an `_Outer` for each layer whose input was kept."""
  grads = dict(grads)
  for name, value in kept.items():
    layer = forward_cache.layer_of(name)
    if layer is None:
      grads[name] = _in_factors(grads[name], value, kept_grads[name])
    elif 'input' in value and len(value['input']) <= _FEW_ROWS:
      outer = _Outer(value['input'], kept_grads[name]['output'])
      dense = grads[layer]['Dense_0'] | {'kernel': outer}  # Of `Linear`.
      grads[layer] = grads[layer] | {'Dense_0': dense}
  return grads


def opened(grads: Any) -> Any:
  """The tree within `Factored`, for a jitted function; others as they are."""
  return grads.tree if isinstance(grads, Factored) else grads


def dense(grads: Any) -> Any:
  """A gradient of which every leaf is an array."""
  return multiplied_out(opened(grads))


def multiplied_out(tree: Any) -> Any:
  """An opened gradient with an array for each pair of factors."""

  def multiply(grad):
    if not isinstance(grad, _Outer):
      return grad
    # Written so that XLA makes it one loop with what is done to each weight.
    rows = [x[:, None] * dy[None] for x, dy in zip(*grad, strict=True)]
    return sum(rows[1:], start=rows[0])

  return jax.tree.map(multiply, tree, is_leaf=_is_outer)


def scaled(tree: Any, factor: jax.Array) -> Any:
  """An opened gradient times a number."""

  def scale(grad):
    if isinstance(grad, _Outer):
      return grad._replace(dy=grad.dy * factor)
    return grad * factor

  return jax.tree.map(scale, tree, is_leaf=_is_outer)


def global_norm(tree: Any) -> jax.Array:
  """L2 norm of an opened gradient, without multiplying anything out."""

  def squared(grad):
    if isinstance(grad, _Outer):
      x, dy = grad
      # Rounding, of the size of all rows' squares, may make it negative.
      return jnp.maximum(jnp.sum((x @ x.T) * (dy @ dy.T)), 0.0)
    return jnp.sum(grad**2)

  leaves = jax.tree.leaves(tree, is_leaf=_is_outer)
  return jnp.sqrt(sum(map(squared, leaves)))


def _is_outer(grad):
  return isinstance(grad, _Outer)
