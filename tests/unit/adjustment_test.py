"""The search for the numbers of agents, predictors and trainers."""

import numpy as np
import pytest

from a3c_jax.runtimes.adjustment import Adjustment, Counts

MOST = Counts(agents=8, predictors=2, trainers=3)


class Changes:
  """A generator whose draws are prescribed."""

  def __init__(self, *draws):
    self._draws = iter(draws)

  def integers(self, low, high, size):
    assert (low, high, size) == (-1, 2, 3)
    return np.array(next(self._draws))


def test_it_starts_with_all_threads():
  assert Adjustment(MOST, np.random.default_rng(0)).counts == MOST


def test_it_keeps_what_is_not_slower_and_returns_from_what_is():
  adjustment = Adjustment(
    MOST, Changes((-1, 0, -1), (-1, -1, 0), (0, 0, 1), (-1, 0, 0))
  )
  first = adjustment.end_window(100)
  assert first == (7, 2, 2)
  # As many frames with fewer threads: it goes on from there.
  second = adjustment.end_window(100)
  assert second == (6, 1, 2)
  # Fewer: it goes back to the first change, and changes that.
  third = adjustment.end_window(99)
  assert third == (7, 2, 3)
  assert adjustment.end_window(50) == (6, 2, 2)
  assert adjustment.counts == (6, 2, 2)


@pytest.mark.parametrize(('change', 'limit'), [(-1, (1, 1, 1)), (1, MOST)])
def test_numbers_stay_within_their_limits(change, limit):
  adjustment = Adjustment(MOST, Changes(*[[change] * 3] * 10))
  for window in range(10):
    counts = adjustment.end_window(window)
  assert counts == limit


def test_the_same_seed_searches_in_the_same_way():
  def counts(seed):
    adjustment = Adjustment(MOST, np.random.default_rng(seed))
    found = [adjustment.end_window(window) for window in range(20)]
    for each in found:
      assert all(type(number) is int for number in each)
      assert all(1 <= n <= most for n, most in zip(each, MOST, strict=True))
    return found

  assert counts(0) == counts(0)
  assert counts(0) != counts(1)
  assert len(set(counts(0))) > 5
