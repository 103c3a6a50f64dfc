"""The record that both ways of playing a segment give."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from a3c_jax.core import types


class Steps(NamedTuple):
  """What T steps of K environments gave; time first."""

  raw_obs: np.ndarray  # [T+1, K, ...], as the environment gave them
  obs: np.ndarray  # [T+1, K, ...] the same, as the network takes them
  action: np.ndarray  # [T+1, K, ...], 0 at T unless drawn on arrival
  reward: np.ndarray  # [T, K] raw
  bootstrap_value: np.ndarray  # [T, K] float32, 0 but where truncated
  done: np.ndarray  # [T, K] bool, the step is the last of its episode
  life_loss: np.ndarray  # [T, K] bool
  pending_action: np.ndarray | None  # [K, ...], drawn on arrival
  state: types.State  # recurrent state before obs[T]
  key: jax.Array  # PRNG key of the next draw
  activations: Any  # as in `Segment`


def joined(activations: Sequence[Any]) -> Any:
  """`Segment.activations`, of those of each step."""

  def join(*steps):
    shape = (sum(map(len, steps)), *steps[0].shape[1:])
    return np.concatenate(steps, out=aligned_empty(shape, steps[0].dtype))

  if not activations or activations[0] == ():
    return ()
  return jax.tree.map(join, *activations)


def reset_where(
  done: np.ndarray, initial: types.State, state: types.State, where=np.where
) -> types.State:
  """The initial state where an episode is done, else the state as it is.

  Args:
    done: [K] bool.
    initial: pytree of [K, ...].
    state: likewise.
    where: of NumPy, or of JAX inside a program.
  """

  def reset(first, kept):
    return where(done.reshape(-1, *[1] * (kept.ndim - 1)), first, kept)

  return jax.tree.map(reset, initial, state)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """An array that JAX on the CPU uses in place.

  JAX copies what is not aligned to 64 bytes, and a large copy happens on
  another thread, so the call that waits for it does too.
  """
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + 64, np.uint8)
  offset = -memory.ctypes.data % 64
  return memory[offset : offset + size].view(dtype).reshape(shape)
