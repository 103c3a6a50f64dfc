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


def test_ends_are_drawn_with_their_probabilities():
  # 10,000 draws: a share's standard deviation is at most 0.005.
  rng = np.random.default_rng(0)
  ends, probabilities = (0.1, 0.01, 0.5), (0.4, 0.3, 0.3)
  drawn = schedules.draw_exploration_ends(
    rng, ends, probabilities, num_envs=10_000
  )
  assert drawn.shape == (10_000,)
  assert set(drawn) == set(ends)
  shares = [np.mean(drawn == end) for end in ends]
  np.testing.assert_allclose(shares, probabilities, atol=0.02)


def test_impossible_ends_are_not_drawn():
  rng = np.random.default_rng(0)
  drawn = schedules.draw_exploration_ends(
    rng, (0.1, 0.2), (0.0, 1.0), num_envs=50
  )
  assert set(drawn) == {0.2}


def test_a_seed_repeats():
  def draws(seed):
    rng = np.random.default_rng(seed)
    return schedules.draw_exploration_ends(
      rng, (1, 2, 3), (0.2, 0.3, 0.5), num_envs=20
    ).tolist()

  assert draws(seed=7) == draws(seed=7)
  assert draws(seed=7) != draws(seed=8)
