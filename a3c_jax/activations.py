"""What acting computed, kept so that the gradient need not compute it again.

Where parameters do not change within a segment, the forward pass of its
gradient is what acting has done already. And the gradient of a large matrix, of
few rows, is shorter told by what it is a product of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax import base

_COLLECTION = 'a3c_jax_activations'
_PREFIX = 'kept_'  # Of what was kept, by the name of its layer.
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


def given(params: Any, activations: Any) -> Any:
  """Parameters whose network need not be computed again.

  `network.apply` of the result to the inputs of all steps gives what it gave in
  each, and has the gradient that it would have: only the backward pass is left
  to do.

  Args:
    params: those that the activations were computed with.
    activations: from `apply_and_keep`, of all steps at once; its inputs have
      time as their first axis.
  """
  return params | {_COLLECTION: activations}


def call(parent: nn.Module, layer: nn.Module, x: jax.Array) -> jax.Array:
  """`layer(x)`; keeps it, or takes what was kept.

  Only for a torso that a whole network calls once, whose rows are the steps in
  their order: elsewhere, what was kept of one step after another would not be
  what the layer computes for all of them.

  Args:
    parent: the torso, in its compact `__call__`.
    layer: its child, a `networks.Linear` or `networks.Convolution`.
    x: [N, ...] its input.

  Returns:
    [N, ...] its output.
  """
  y = layer(x)
  name = _PREFIX + layer.name
  if parent.is_initializing():
    return y
  if parent.is_mutable_collection(_COLLECTION):
    kept = {'output': y}
    if y.ndim == 2 and x.shape[1] * y.shape[1] >= _LARGE:
      kept['input'] = x
    parent.put_variable(_COLLECTION, name, kept)
  elif parent.has_variable(_COLLECTION, name):
    return _known(y, parent.get_variable(_COLLECTION, name)['output'])
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
    loss: `(params, target_params, segment, kept) -> (loss, stats)`, which
      applies the network once to `given(params, kept)` and all observations but
      the last; all that has a gradient comes from there.
    keep: `(params, segment) -> kept`, for a segment without activations.

  Returns:
    `(params, target_params, segment) -> (grads, stats)`. In a long segment
    every gradient is an array.
  """

  def of_segment(params, target_params, segment):
    def loss_of(trained, kept):
      variables = base.with_trained(params, trained)
      return loss(variables, target_params, segment, kept)

    kept = segment.activations or keep(params, segment)
    gradient = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
    (grads, kept_grads), stats = gradient(base.trained(params), kept)
    layers = _in_factors(grads['params'], kept, kept_grads)
    return grads | {'params': layers}, stats

  return of_segment


def _in_factors(grads, kept, kept_grads):
  """Gradients with an `Outer` for each layer whose input was kept."""
  grads = dict(grads)
  for name, value in kept.items():
    layer = name.removeprefix(_PREFIX)
    if layer == name:
      grads[name] = _in_factors(grads[name], value, kept_grads[name])
    elif 'input' in value and len(value['input']) <= _FEW_ROWS:
      outer = Outer(value['input'], kept_grads[name]['output'])
      dense = grads[layer]['Dense_0'] | {'kernel': outer}  # Of `Linear`.
      grads[layer] = grads[layer] | {'Dense_0': dense}
  return grads


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
      # Rounding, of the size of all rows' squares, may make it negative.
      return jnp.maximum(jnp.sum((x @ x.T) * (dy @ dy.T)), 0.0)
    return jnp.sum(grad**2)

  leaves = jax.tree.leaves(grads, is_leaf=_is_outer)
  return jnp.sqrt(sum(map(squared, leaves)))


def _is_outer(grad):
  return isinstance(grad, Outer)
