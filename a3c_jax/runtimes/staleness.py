"""Measures how far stale gradients point away from fresh ones."""

from __future__ import annotations

import collections
import math

import jax
import jax.numpy as jnp
import optax

from a3c_jax.core import types
from a3c_jax.optim import factored


@jax.jit
def cosine(one: types.Params, other: types.Params) -> jax.Array:
  """Returns the cosine of the angle between two dense gradients.

  It is NaN if one of them is 0.
  """
  dot = optax.tree.vdot
  squares = dot(one, one) * dot(other, other)
  return jnp.asarray(dot(one, other) / jnp.sqrt(squares))


class Meter:
  """Compares some gradients with those of the newest parameters.

  All threads share one: a deque needs no lock.
  """

  def __init__(self, learner: types.Learner, gradients, every: int):
    """Starts with no measurement.

    Args:
      learner: whose gradients are measured.
      gradients: `(params, target_params, segment)` gives them and scalars.
      every: gradients of a worker for one that is measured.
    """
    self.every = every
    self._keeps_activations = learner.keeps_activations
    self._gradients = gradients
    self._cosines: collections.deque[float] = collections.deque()

  def measure(
    self, grads: types.Params, segment: types.Segment, newest: types.Version
  ) -> None:
    """Notes the cosine between a gradient and that of the newest version.

    Args:
      grads: of the segment, dense or factored, at any version.
      segment: that they are of.
      newest: the version that they are about to change.
    """
    if self._keeps_activations:  # Those are of the version acted on.
      segment = segment._replace(kept=())
    fresh, _ = self._gradients(newest.params, newest.target_params, segment)
    dense = [types.trained(factored.dense(each)) for each in (grads, fresh)]
    self._cosines.append(float(cosine(*dense)))

  def mean(self) -> float:
    """Returns the mean since the last call, and forgets it; NaN for none."""
    found = [self._cosines.popleft() for _ in range(len(self._cosines))]
    found = [value for value in found if not math.isnan(value)]
    return sum(found) / len(found) if found else math.nan
