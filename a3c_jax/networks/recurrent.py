"""Recurrent cores."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.networks import layers


class LSTMCore(nn.Module):
  """An LSTM over time whose state is zero at the start of each episode.

      i, f, g, o = x W + h U + b    (input, forget, cell and output gate)
      c ← σ(f) c + σ(i) tanh(g),    h ← σ(o) tanh(c)

  Attributes:
    cells: number of cells.
  """

  cells: int = 256

  def initial_state(self, num_envs: int) -> types.State:
    """Returns zeros: (c, h), cell and hidden state, [num_envs, cells] each."""
    zeros = jnp.zeros((num_envs, self.cells), jnp.float32)
    return zeros, zeros

  @nn.compact
  def __call__(
    self, x: jax.Array, state: types.State, is_first: jax.Array
  ) -> tuple[jax.Array, types.State]:
    """Returns h [T, K, cells] and the last state.

    Args:
      x: [T, K, F] float32.
      state: (c, h) before x[0].
      is_first: [T, K] bool; the state is zero before these steps.
    """
    # One product gives all gates, and one product of x all steps. flax's cell
    # would join its kernels (2 MB) again in every step.
    init = layers.uniform(self.cells)
    from_x = nn.Dense(4 * self.cells, kernel_init=init, bias_init=init)(x)
    kernel = self.param('kernel', init, (self.cells, 4 * self.cells))

    def step(state, inputs):
      from_x, is_first = inputs
      c, h = jax.tree.map(
        lambda before: jnp.where(is_first[:, None], 0.0, before), state
      )
      gates = from_x + h @ kernel
      input_gate, forget_gate, cell_gate, output_gate = jnp.split(
        gates, 4, axis=1
      )
      c = nn.sigmoid(forget_gate) * c + nn.sigmoid(input_gate) * nn.tanh(
        cell_gate
      )
      h = nn.sigmoid(output_gate) * nn.tanh(c)
      return (c, h), h

    state, h = jax.lax.scan(step, state, (from_x, is_first))
    return h, state
