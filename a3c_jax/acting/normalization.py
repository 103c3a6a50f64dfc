"""Normalization of observations by their running mean and variance."""

from __future__ import annotations

from collections.abc import Callable

from gymnasium.wrappers import utils
import numpy as np

from a3c_jax.core import types

_FIRST_COUNT = 1e-4  # Of mean 0 and variance 1, as in Gymnasium's wrapper.
_VARIANCE_EPSILON = 1e-8
_FARTHEST = 10.0  # Standard deviations.


def initial(shape: tuple[int, ...]) -> types.RunningStatistics:
  """Returns statistics of no observations, with mean 0 and variance 1."""
  return types.RunningStatistics(
    np.zeros(shape), np.ones(shape), np.array(_FIRST_COUNT)
  )


def of(obs: np.ndarray) -> types.RunningStatistics:
  """Returns the statistics of these observations alone.

  Args:
    obs: [N, ...], N >= 1.
  """
  obs = np.asarray(obs, np.float64)
  return types.RunningStatistics(
    obs.mean(axis=0), obs.var(axis=0), np.array(len(obs), np.float64)
  )


def merged(
  one: types.RunningStatistics, other: types.RunningStatistics
) -> types.RunningStatistics:
  """Returns the statistics of the observations of both."""
  mean, variance, count = utils.update_mean_var_count_from_moments(*one, *other)
  return types.RunningStatistics(mean, variance, np.asarray(count))


def normalizer(
  statistics: types.RunningStatistics | None,
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the function that normalizes observations [..., *shape].

      (obs - mean) / √(variance + 1e-8), clipped to [-10, 10]

  Args:
    statistics: None leaves observations as they are.

  Returns:
    A function that returns a new float32 array, or its argument.
  """
  if statistics is None:
    return lambda obs: obs
  mean = statistics.mean.astype(np.float32)
  scale = 1 / np.sqrt(statistics.variance + _VARIANCE_EPSILON)
  scale = scale.astype(np.float32)

  def normalize(obs):
    obs = (obs - mean) * scale
    return np.minimum(np.maximum(obs, -_FARTHEST), _FARTHEST)

  return normalize
