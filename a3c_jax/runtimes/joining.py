"""Joins segments of several workers into one."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from a3c_jax.acting import steps as steps_lib
from a3c_jax.core import arrays as arrays_lib
from a3c_jax.core import types


def joined(segments: Sequence[types.Segment]) -> types.Segment:
  """Returns one segment of the environments of all, in their order.

  Args:
    segments: each of T steps of K environments.

  Returns:
    A segment of T steps of N·K environments.
  """
  if len(segments) == 1:
    return segments[0]
  steps = len(segments[0].r_t)

  def beside(arrays):
    # [T, K, ...] to [T, N·K, ...], in memory that JAX does not copy.
    first = arrays[0]
    shape = (len(first), sum(x.shape[1] for x in arrays), *first.shape[2:])
    out = arrays_lib.aligned_empty(shape, first.dtype)
    return np.concatenate(arrays, axis=1, out=out)

  def beside_flat(*arrays):
    # [T·K, ...] to [T·N·K, ...].
    by_step = [np.asarray(x).reshape(steps, -1, *x.shape[1:]) for x in arrays]
    return beside(by_step).reshape(-1, *by_step[0].shape[2:])

  each = {
    name: beside([getattr(segment, name) for segment in segments])
    for name in ('obs', 'a', 'r_t', 'discount_t', 'is_first')
  }
  return types.Segment(
    **each,
    state=steps_lib.joined([segment.state for segment in segments]),
    kept=jax.tree.map(beside_flat, *[segment.kept for segment in segments]),
  )
