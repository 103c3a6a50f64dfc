"""Minibatches of transitions, and how a learner sees them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.core import types


class Minibatch(NamedTuple):
  """B windows of T transitions each.

  S is how many frames an observation stacks; 1 if observations are stored as
  they are. Observation t of a window is made of frames [:, t : t+S]. Those
  older than its episode are other frames, where it had 0: see `segment_of`.
  """

  frames: np.ndarray  # [B, S+T, ...], aligned to 64 bytes, so not copied by JAX
  is_first: np.ndarray  # [B, S+T] bool, the frame is the first of its episode
  a: np.ndarray  # [B, T, ...]
  r_t: np.ndarray  # [B, T] float32
  discount_t: np.ndarray  # [B, T] float32
  weight: (
    np.ndarray
  )  # [B] float32, (N · P)^-β over the largest of the minibatch
  where: np.ndarray  # [B, 2] int64, stream and index, for `reprioritize`
  age: np.ndarray  # [B] int64, transitions that its stream added since
  changes: np.ndarray  # [] int64, of the worker's memory before it was drawn


def segment_of(minibatch: Minibatch, *, stack: int) -> types.Segment:
  """Returns a minibatch as T steps of B environments.

  For use inside `jax.jit`. Frames of an observation that are older than its
  episode become 0, as the environment had them.

  Args:
    minibatch: of numbers or tracers.
    stack: S, how many frames an observation stacks; 1 if it has no such axis.

  Returns:
    A segment without recurrent state and without kept activations. Its obs are
    [T+1, B, S, ...], or [T+1, B, ...] if S is 1; a[T] is 0.

  Raises:
    ValueError: if the minibatch is not of stacks of S frames.
  """
  frames, is_first = minibatch.frames, minibatch.is_first
  steps = minibatch.r_t.shape[1]
  if frames.shape[1] != stack + steps:
    raise ValueError(
      f'frames has shape {list(frames.shape)}, expected [B, S+T, ...] with'
      f' S = {stack} and T = {steps}'
    )
  obs = [frames[:, t : t + stack] for t in range(steps + 1)]
  if stack == 1:
    obs = [x[:, 0] for x in obs]
  else:
    obs = [
      _without_older(x, is_first[:, t : t + stack]) for t, x in enumerate(obs)
    ]
  a = jnp.swapaxes(minibatch.a, 0, 1)
  time_first: dict[str, Any] = {
    'obs': jnp.stack(obs),
    'a': jnp.concatenate([a, jnp.zeros_like(a[:1])]),
    'r_t': jnp.swapaxes(minibatch.r_t, 0, 1),
    'discount_t': jnp.swapaxes(minibatch.discount_t, 0, 1),
    'is_first': jnp.swapaxes(is_first[:, stack - 1 :], 0, 1),
  }
  return types.Segment(**time_first, state=())


def _without_older(stacks: Any, is_first: Any) -> jax.Array:
  """Zeroes the frames [B, S, ...] that an episode's first frame follows."""
  firsts_from_here = jnp.cumsum(is_first[:, ::-1], axis=1)[:, ::-1]
  older = firsts_from_here - is_first > 0
  older = older.reshape(*older.shape, *[1] * (stacks.ndim - 2))
  return jnp.where(older, jnp.zeros_like(stacks), stacks)
