"""Finds units whose ReLU gives 0 for every input, and so learn nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax.core import types

_COLLECTION = 'a3c_jax_dead_units'


def watch(
  module: nn.Module,
  name: str,
  x: jax.Array,
  activate: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> None:
  """Notes the share of dead units of a layer, for `shares`.

  Computes nothing in any other call.

  Args:
    module: notes it, in its compact `__call__`.
    name: of the layer in that module. Names in alphabetical order are layers in
      their order.
    x: [N, ..., F], of F units.
    activate: gives what their ReLU gives, of x; nothing if x is that.
  """
  if module.is_initializing() or not module.is_mutable_collection(_COLLECTION):
    return
  active = jnp.any(activate(x) > 0, axis=tuple(range(x.ndim - 1)))
  module.put_variable(_COLLECTION, name, 1.0 - jnp.mean(active))


def shares(
  network: types.Network, params: types.Params, *inputs: Any
) -> jax.Array:
  """Returns the share of units that are dead in all inputs, [L].

  There is a share for each layer with a ReLU of the built-in torsos, in their
  order. A channel of a convolution is one unit.
  """
  _, found = network.apply(params, *inputs, mutable=[_COLLECTION])
  return jnp.asarray(jax.tree.leaves(found.get(_COLLECTION, {})), jnp.float32)
