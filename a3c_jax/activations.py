"""What acting computed, kept so that the gradient need not compute it again.

Where parameters do not change within a segment, the forward pass of its
gradient is what acting has done already. And the gradient of a large matrix, of
few rows, is shorter told by what it is a product of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

_COLLECTION = 'activations'
_FEW_ROWS = 10  # With more, the product is faster made by itself.
_LARGE = 2**16  # Weights.


class Outer(NamedTuple):
  """The gradient of a kernel, x.T @ dy, not yet multiplied out."""

  x: jax.Array  # [N, in]
  dy: jax.Array  # [N, out]


def apply_and_keep(
  network: nn.Module, params: Any, *inputs: Any
) -> tuple[Any, Any]:
  """`network.apply`, and what its layers computed, for `given`."""
  output, kept = network.apply(params, *inputs, mutable=[_COLLECTION])
  return output, kept.get(_COLLECTION, {})


def given(params: Any, activations: Sequence[Any]) -> Any:
  """Parameters whose network need not be computed again.

  `network.apply` of the result to the inputs of all steps gives what it gave in
  each, and has the gradient that it would have: only the backward pass is left
  to do.

  Args:
    params: those that the activations were computed with.
    activations: from `apply_and_keep`, of one part of the steps after another;
      its inputs have time as their first axis.
  """
  return params | {_COLLECTION: _joined(activations)}


def _joined(activations):
  return jax.tree.map(lambda *steps: jnp.concatenate(steps), *activations)


def recall(layer: nn.Module, x: jax.Array | None, y: jax.Array) -> jax.Array:
  """Called by a layer: keeps what it computed, or takes what was kept.

  Args:
    layer: that calls; what it is called twice for is not kept.
    x: its input, if it is a `Dense_0`, whose kernel may be large.
    y: its output.

  Returns:
    The output.
  """
  if layer.is_initializing():
    return y
  if layer.is_mutable_collection(_COLLECTION):
    again = layer.has_variable(_COLLECTION, 'output')
    layer.put_variable(_COLLECTION, 'output', () if again else y)
    if x is not None and x.shape[-1] * y.shape[-1] >= _LARGE:
      layer.put_variable(_COLLECTION, 'input', () if again else x)
  elif layer.has_variable(_COLLECTION, 'output'):
    kept = layer.get_variable(_COLLECTION, 'output')
    return y if isinstance(kept, tuple) else _known(y, kept)
  return y


@jax.custom_vjp
def _known(y, kept):
  """What was kept, with the gradient of y: XLA leaves out what only y needs."""
  del y
  return kept


_known.defvjp(lambda y, kept: (kept, None), lambda _, dy: (dy, dy))


def gradients(
  loss: Callable[..., tuple[jax.Array, Any]],
  keep: Callable[[Any, Any], Any],
) -> Callable[..., Any]:
  """`jax.grad(loss, has_aux=True)`, but an `Outer` for a large kernel.

  Args:
    loss: `(params, target_params, segment) -> (loss, stats)`, which applies the
      network once to `given(params, segment.activations)` and all observations
      but the last; all that has a gradient comes from there.
    keep: `(params, segment) -> activations` of that, for a segment without.

  Returns:
    `(params, target_params, segment) -> (grads, stats)`. In a long segment
    every gradient is an array.
  """

  def of_all(params, activations, target_params, segment):
    segment = segment._replace(activations=activations)
    return loss(params, target_params, segment)

  def both(params, target_params, segment):
    steps = segment.activations or (keep(params, segment),)
    (grads, step_grads), stats = jax.grad(of_all, argnums=(0, 1), has_aux=True)(
      params, steps, target_params, segment
    )
    if segment.r_t.size <= _FEW_ROWS:
      layers = _in_factors(grads['params'], _joined(steps), _joined(step_grads))
      grads = grads | {'params': layers}
    return grads, stats

  return both


def _in_factors(grads, kept, kept_grads):
  if jax.tree.leaves(kept.get('input', ())):
    flat = lambda y: y.reshape(-1, y.shape[-1])
    kernel = Outer(flat(kept['input']), flat(kept_grads['output']))
    return grads | {'Dense_0': grads['Dense_0'] | {'kernel': kernel}}
  return grads | {
    name: _in_factors(grads[name], kept[name], kept_grads[name])
    for name in kept
    if name not in ('input', 'output')
  }


def multiplied_out(grads: Any) -> Any:
  """Gradients with an array for each `Outer`."""

  def multiply(grad):
    if not isinstance(grad, Outer):
      return grad
    # Written so that XLA makes it one loop with what is done to each weight.
    rows = [x[:, None] * dy[None] for x, dy in zip(*grad, strict=True)]
    return sum(rows[1:], start=rows[0])

  return jax.tree.map(multiply, grads, is_leaf=_is_outer)


def scaled(grads: Any, factor: jax.Array) -> Any:
  """Gradients times a number."""

  def scale(grad):
    if isinstance(grad, Outer):
      return grad._replace(dy=grad.dy * factor)
    return grad * factor

  return jax.tree.map(scale, grads, is_leaf=_is_outer)


def global_norm(grads: Any) -> jax.Array:
  """L2 norm over all weights, without multiplying anything out."""

  def squared(grad):
    if isinstance(grad, Outer):
      x, dy = grad
      # Rounding may make it negative where it is next to nothing.
      return jnp.maximum(jnp.sum((x @ x.T) * (dy @ dy.T)), 0.0)
    return jnp.sum(grad**2)

  leaves = jax.tree.leaves(grads, is_leaf=_is_outer)
  return jnp.sqrt(sum(map(squared, leaves)))


def _is_outer(grad):
  return isinstance(grad, Outer)
