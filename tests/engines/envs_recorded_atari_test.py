"""Replayed Atari games go on as if they had never stopped."""

import pytest
from replays import assert_continues_alike

from a3c_jax.envs import atari

pytest.importorskip('ale_py')


@pytest.mark.parametrize('sticky', [0.0, 0.25])
def test_pong_goes_on_alike(sticky):
  options = atari.Options(game='pong', sticky=sticky)
  past = assert_continues_alike(atari.make(options), before=300, after=300)
  assert past.actions.shape == (300, 1)


def test_breakout_goes_on_alike_through_ends_of_games():
  # Random play loses the five lives within some 200 steps.
  options = atari.Options(game='breakout')
  past = assert_continues_alike(
    atari.make(options), before=1000, after=500, reseed_steps=400
  )
  assert 0 < len(past.actions) < 1000
  assert past.seeds.tolist() != [5]
