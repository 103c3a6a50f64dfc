"""Recurrent cores."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.networks import layers


class LSTMCore(nn.Module):
  """An LSTM over time that forgets at the start of an episode.

  Attributes:
    cells: number of cells.
  """

  cells: int = 256

  def initial_state(self, streams: int) -> types.State:
    """Zeros: a pair of [streams, cells]."""
    zeros = jnp.zeros((streams, self.cells), jnp.float32)
    return zeros, zeros

  @nn.compact
  def __call__(
    self, x: jax.Array, state: types.State, is_first: jax.Array
  ) -> tuple[jax.Array, types.State]:
    """Runs over [T, K, F] from `state`; `is_first` [T, K] zeroes the state."""
    # All gates in one product, and what comes from x for all steps at once;
    # flax's cell would join its kernels, 2 MB of them, again in every step.
    init = layers.uniform(self.cells)
    from_x = nn.Dense(4 * self.cells, kernel_init=init, bias_init=init)(x)
    kernel = self.param('kernel', init, (self.cells, 4 * self.cells))

    def step(state, inputs):
      from_x, is_first = inputs
      memory, output = jax.tree.map(
        lambda kept: jnp.where(is_first[:, None], 0.0, kept), state
      )
      gates = from_x + output @ kernel
      admit, keep, candidate, release = jnp.split(gates, 4, axis=1)
      memory = nn.sigmoid(keep) * memory + nn.sigmoid(admit) * nn.tanh(
        candidate
      )
      output = nn.sigmoid(release) * nn.tanh(memory)
      return (memory, output), output

    state, x = jax.lax.scan(step, state, (from_x, is_first))
    return x, state
