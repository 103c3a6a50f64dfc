"""The steps of a segment: what `fused` and `stepwise` return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from a3c_jax.core import arrays, types


class Steps(NamedTuple):
  """T steps of K environments; time first."""

  raw_obs: np.ndarray  # [T+1, K, ...], from the environment
  obs: np.ndarray  # [T+1, K, ...], normalized, for the network
  action: np.ndarray  # [T+1, K, ...], 0 at T unless drawn on arrival
  reward: np.ndarray  # [T, K] raw
  bootstrap_value: np.ndarray  # [T, K] float32, 0 unless truncated
  done: np.ndarray  # [T, K] bool, the step is the last of its episode
  truncated: np.ndarray  # [T, K] bool, has a bootstrap value
  life_loss: np.ndarray  # [T, K] bool
  pending_action: np.ndarray | None  # [K, ...], drawn on arrival
  state: types.State  # recurrent state before obs[T]
  key: jax.Array  # PRNG key of the next draw
  kept: Any  # as in `Segment`
  versions: np.ndarray  # [T] int64, `updates` of the version of each action


def joined(kept: Sequence[Any]) -> Any:
  """Returns `Segment.kept`, given those of each step."""

  def join(*steps):
    shape = (sum(map(len, steps)), *steps[0].shape[1:])
    return np.concatenate(
      steps, out=arrays.aligned_empty(shape, steps[0].dtype)
    )

  return jax.tree.map(join, *kept) if kept else ()


def reset_where(
  done: np.ndarray, initial: types.State, state: types.State, where=np.where
) -> types.State:
  """Returns the initial state where an episode ended, else the state.

  Args:
    done: [K] bool.
    initial: pytree of [K, ...].
    state: pytree of [K, ...].
    where: `np.where`, or `jnp.where` inside a program.
  """

  def reset(first, current):
    return where(done.reshape(-1, *[1] * (current.ndim - 1)), first, current)

  return jax.tree.map(reset, initial, state)
