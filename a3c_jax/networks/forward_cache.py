"""What acting computed, kept so that the gradient need not compute it again.

Where parameters do not change within a segment, the forward pass of its
gradient is what acting has done already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from a3c_jax.core import types

_COLLECTION = 'a3c_jax_activations'
_PREFIX = 'kept_'  # Of what was kept, by the name of its layer.
_LARGE = 2**16  # Weights.


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
) -> Callable[..., tuple[types.Params, types.Stats]]:
  """`Learner.gradients` of a loss, jitted, with acting's forward pass.

  Args:
    loss: `(params, target_params, segment, kept) -> (loss, stats)`, which
      applies the network once to `given(params, kept)` and all observations but
      the last; all that has a gradient comes from there.
  """

  def of_segment(params, target_params, segment):
    def loss_of(trained):
      variables = types.with_trained(params, trained)
      return loss(variables, target_params, segment, segment.activations or {})

    return jax.grad(loss_of, has_aux=True)(types.trained(params))

  return jax.jit(of_segment)


def layer_of(name: str) -> str | None:
  """The layer whose output is kept under this name; None for a module."""
  layer = name.removeprefix(_PREFIX)
  return None if layer == name else layer
