"""The cache of acting's forward pass, which the gradient uses again.

Where parameters do not change within a segment, acting has already done the
forward pass of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from a3c_jax.core import types

_COLLECTION = 'a3c_jax_activations'
_PREFIX = 'kept_'  # Before a layer's name, of its cached activations.
_LARGE = 2**16  # Weights.


def apply_and_keep(
  network: types.Network, params: types.Params, *inputs: Any
) -> tuple[Any, Any]:
  """Returns `network.apply` and its layers' activations, for `given`."""
  output, activations = network.apply(params, *inputs, mutable=[_COLLECTION])
  return output, activations.get(_COLLECTION, {})


def given(params: Any, activations: Any) -> Any:
  """Returns variables with which the network reads cached activations.

  `network.apply` of them to the inputs of all steps gives the outputs and the
  gradient that the network would have. Only the backward pass is computed.

  Args:
    params: those that the activations were computed with.
    activations: from `apply_and_keep`, of all steps at once. The inputs have
      time as their first axis.
  """
  return params | {_COLLECTION: activations}


def call(parent: nn.Module, layer: nn.Module, x: jax.Array) -> jax.Array:
  """Returns `layer(x)`; caches it, or reads it from the cache.

  Only for a torso that a whole network calls once, with one row per step in
  order. Elsewhere the cached steps, joined, are not what the layer computes
  for all steps at once.

  Args:
    parent: the torso, in its compact `__call__`.
    layer: its child, a `networks.Linear` or `networks.Convolution`.
    x: [N, ...] its input.

  Returns:
    [N, ...] its output.
  """
  y = layer(x)
  name = f'{_PREFIX}{layer.name}'
  if parent.is_initializing():
    return y
  if parent.is_mutable_collection(_COLLECTION):
    cached = {'output': y}
    if y.ndim == 2 and x.shape[1] * y.shape[1] >= _LARGE:
      cached['input'] = x
    parent.put_variable(_COLLECTION, name, cached)
  elif parent.has_variable(_COLLECTION, name):
    return _known(y, parent.get_variable(_COLLECTION, name)['output'])
  return y


@jax.custom_vjp
def _known(y, cached):
  """Returns the cached value with y's gradient: XLA leaves y itself out."""
  del y
  return cached


_known.defvjp(lambda y, cached: (cached, None), lambda _, dy: (dy, dy))


def gradients(loss: Callable[..., tuple[jax.Array, Any]]) -> types.GradientsFn:
  """Returns `Learner.gradients` of a loss, jitted, with acting's forward pass.

  Args:
    loss: `(params, target_params, segment, activations) -> (loss, stats)`. It
      applies the network once to `given(params, activations)` and all
      observations but the last. Only that call has a gradient.
  """

  def of_segment(params, target_params, segment):
    def loss_of(trained):
      variables = types.with_trained(params, trained)
      return loss(variables, target_params, segment, segment.kept or {})

    return jax.grad(loss_of, has_aux=True)(types.trained(params))

  return jax.jit(of_segment)


def layer_of(name: str) -> str | None:
  """Returns the layer that a cache entry belongs to; None for a module."""
  layer = name.removeprefix(_PREFIX)
  return None if layer == name else layer
