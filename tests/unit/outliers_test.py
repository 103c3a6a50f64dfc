"""What counts as an outlier among the errors of minibatches."""

import math

import numpy as np
import pytest

from a3c_jax.acting.worker_state import ReplayErrors
from a3c_jax.runtimes import outliers


def after(errors):
  before = ReplayErrors()
  for error in errors:
    before = outliers.updated(before, error)
  return before


def test_mean_and_variance_are_those_of_the_first_hundred():
  errors = np.random.default_rng(0).uniform(0, 9, 100)
  for count in (1, 2, 50, 100):
    found = after(errors[:count])
    assert found.count == count
    assert found.mean == pytest.approx(np.mean(errors[:count]))
    assert found.variance == pytest.approx(np.var(errors[:count]))


def test_later_ones_weigh_a_hundredth_by_hand():
  # d = 5 - 2 = 3: m = 2 + 3/100, v = 99/100 (1 + 9/100).
  found = outliers.updated(ReplayErrors(200, mean=2.0, variance=1.0), 5.0)
  assert found == pytest.approx((201, 2.03, 0.99 * 1.09))


def test_an_outlier_is_above_the_mean_and_some_deviations():
  usual = after([1.0, 3.0] * 50)  # Mean 2, deviation 1.
  found = [
    outliers.is_outlier(error, usual, deviations=3.0)
    for error in (0.0, 2.0, 4.99, 5.01, math.inf, math.nan)
  ]
  assert found == [False, False, False, True, True, True]
  assert outliers.is_outlier(3.6, usual, deviations=1.5)
  assert not outliers.is_outlier(3.4, usual, deviations=1.5)


def test_a_hundred_minibatches_come_first():
  for count, expected in ((0, False), (99, False), (100, True)):
    usual = after([1.0] * count)
    assert outliers.is_outlier(1e6, usual, deviations=3.0) == expected


@pytest.mark.parametrize('error', [math.inf, math.nan])
def test_errors_that_are_not_finite_do_not_count(error):
  before = after([1.0, 2.0])
  assert outliers.updated(before, error) == before


@pytest.mark.parametrize(('deviations', 'most'), [(3.0, 11), (1.0, 69)])
@pytest.mark.parametrize('jump', [1.5, 1e6])
@pytest.mark.parametrize('usual', [[1.0] * 1000, [0.9, 1.1] * 5000])
def test_a_jump_for_good_does_not_end_learning(deviations, most, jump, usual):
  # The first n with 1 - 0.99^n > 1 / (1 + k²).
  assert 1 - 0.99**most > 1 / (1 + deviations**2) > 1 - 0.99 ** (most - 1)
  errors = after(usual)
  discarded = 0
  while outliers.is_outlier(jump, errors, deviations):
    errors = outliers.updated(errors, jump)
    discarded += 1
  # Fewer if errors differed before.
  assert 0 < discarded <= most
  if len(usual) == 1000:
    assert discarded == most
