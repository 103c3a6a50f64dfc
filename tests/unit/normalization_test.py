from gymnasium.wrappers import utils
import numpy as np
import pytest

from a3c_jax.acting import normalization
from a3c_jax.core import types


def test_by_hand():
  statistics = types.RunningStatistics(
    np.array([1.0, -2.0]), np.array([4.0, 0.25]), np.array(3.0)
  )
  normalize = normalization.normalizer(statistics)
  obs = np.array([[5.0, -2.0], [-1.0, -1.0]], np.float32)
  normalized = normalize(obs)
  np.testing.assert_allclose(normalized, [[2.0, 0.0], [-1.0, 2.0]], rtol=1e-6)
  assert normalized.dtype == np.float32
  np.testing.assert_array_equal(obs, [[5.0, -2.0], [-1.0, -1.0]])


def test_of_some_observations_alone():
  # 1 and 5: mean 3, variance 4; 10 and 10.
  mean, variance, count = normalization.of(np.uint8([[1, 10], [5, 10]]))
  np.testing.assert_array_equal(mean, [3.0, 10.0])
  np.testing.assert_array_equal(variance, [4.0, 0.0])
  assert count == 2
  assert mean.dtype == variance.dtype == count.dtype == np.float64


def test_of_two_and_one_more():
  # 1 and 5: mean 3, variance 4. And 9: mean 5, variance (16 + 0 + 16) / 3.
  statistics = normalization.merged(
    normalization.initial((1,)), normalization.of(np.array([[1.0], [5.0]]))
  )
  np.testing.assert_allclose(statistics.mean, [3.0], rtol=1e-3)
  np.testing.assert_allclose(statistics.variance, [4.0], rtol=1e-3)
  statistics = normalization.merged(
    statistics, normalization.of(np.array([[9.0]], np.float32))
  )
  np.testing.assert_allclose(statistics.mean, [5.0], rtol=1e-3)
  np.testing.assert_allclose(statistics.variance, [32 / 3], rtol=1e-3)
  assert statistics.mean.dtype == np.float64


def test_in_parts_as_all_at_once():
  # Far from 0, where a sum of squares would have lost the variance.
  obs = np.random.default_rng(0).normal(1e4, 1e-2, (900, 2, 3))
  parts = whole = normalization.initial((2, 3))
  for part in np.split(obs, [1, 40, 41, 600]):
    parts = normalization.merged(parts, normalization.of(part))
  whole = normalization.merged(whole, normalization.of(obs))
  for one, other in zip(parts, whole, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-9)
  np.testing.assert_allclose(parts.mean, obs.mean(axis=0), rtol=1e-6)


def test_in_two_steps_in_the_same_bits_as_gymnasium():
  # As its wrapper does at once, with the number of observations as an int.
  rng = np.random.default_rng(0)
  statistics = normalization.initial((3,))
  expected = normalization.initial((3,))
  for count in (5, 1, 7):
    obs = rng.normal(3.0, 20.0, (count, 3)).astype(np.float32)
    statistics = normalization.merged(statistics, normalization.of(obs))
    obs = obs.astype(np.float64)
    expected = utils.update_mean_var_count_from_moments(
      *expected, obs.mean(axis=0), obs.var(axis=0), count
    )
    for one, other in zip(statistics, expected, strict=True):
      np.testing.assert_array_equal(one, other)


def test_before_anything_was_seen_nothing_changes():
  normalize = normalization.normalizer(normalization.initial((3,)))
  obs = np.array([[0.5, -2.0, 9.0]], np.float32)
  np.testing.assert_allclose(normalize(obs), obs, rtol=1e-6)


def test_a_number_that_never_changed_stays_finite():
  obs = np.full((50, 1), 7.0)
  statistics = normalization.merged(
    normalization.initial((1,)), normalization.of(obs)
  )
  normalize = normalization.normalizer(statistics)
  assert abs(normalize(np.array([[7.0]], np.float32))[0, 0]) < 0.1
  # Then it does, and is far from all observations so far.
  np.testing.assert_array_equal(
    normalize(np.array([[1e6], [-1e6]], np.float32)), [[10.0], [-10.0]]
  )


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_without_statistics(dtype):
  obs = np.ones((2, 3), dtype)
  assert normalization.normalizer(None)(obs) is obs
