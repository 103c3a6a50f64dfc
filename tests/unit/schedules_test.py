import numpy as np
import pytest

from a3c_jax.core import schedules


@pytest.mark.parametrize(
  ('frames', 'expected'),
  [(0, 1.0), (1_000_000, 0.775), (2_000_000, 0.55), (4_000_000, 0.1)],
)
def test_exploration_by_hand(frames, expected):
  # From 1 to 0.1: 1 - 0.9·(frames / 4e6).
  found = schedules.linear(frames, start=1.0, end=0.1, over=4_000_000)
  assert found == pytest.approx(expected)


def test_stays_at_the_end():
  assert schedules.linear(101, start=7e-4, end=0.0, over=100) == 0.0
  assert schedules.linear(10**9, start=1.0, end=0.5, over=100) == 0.5


def test_may_rise():
  assert schedules.linear(50, start=0.0, end=3.0, over=200) == 0.75


def test_falls_with_every_frame():
  values = [
    schedules.linear(frames, start=7e-4, end=0.0, over=1000)
    for frames in range(1001)
  ]
  assert values[0] == 7e-4
  np.testing.assert_allclose(np.diff(values), -7e-7, rtol=1e-6)
