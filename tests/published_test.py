"""What others published, against figures copied by hand."""

import numpy as np
import pytest

from a3c_jax import config, published


def test_human_normalized_scores():
  # Table 2 of arXiv:1511.06581: Pong 14.6 by a human, -20.7 at random.
  pong = published.reference('pong', 'noop30')
  assert pong == (-20.7, 14.6)
  assert published.human_normalized(-20.7, pong) == 0
  assert published.human_normalized(14.6, pong) == pytest.approx(100)
  assert published.human_normalized(-3.05, pong) == pytest.approx(50)
  assert published.reference('pong', 'sticky') is None
  assert published.reference('CartPole-v1', 'plain') is None
  assert published.reference('air_raid', 'noop30') is None
  assert published.reference('alien', 'noop30') == (227.8, 7127.7)


def test_the_scale_of_every_game_rises():
  scales = published._references()
  assert len(scales) == 57
  assert all(scale.human > scale.random for scale in scales.values())


@pytest.mark.parametrize('algo', config.ALGORITHMS)
@pytest.mark.parametrize('game', published.paper_games())
def test_there_are_curves_of_five_games_and_four_algorithms(game, algo):
  for threads in (1, 2, 4, 8, 16):
    by_frames = published.paper_curve(
      game, algo, threads=threads, against='frames'
    )
    by_hours = published.paper_curve(
      game, algo, threads=threads, against='hours'
    )
    assert by_frames.x[0] == 0 and by_frames.x[-1] == 49 * 4_000_000
    assert by_hours.x[0] == 0 and by_hours.x[-1] == 15
    assert f', {threads} thread' in by_frames.label
    assert np.isfinite(by_frames.score).all()


def test_a_curve_of_the_paper():
  # Figure 3, Pong, A3C with 8 threads: -10.6 after six epochs.
  curve = published.paper_curve('pong', 'a3c', threads=8, against='frames')
  assert curve.label == 'paper, A3C, 8 threads (Fig. 3)'
  at = np.flatnonzero(curve.x == 24_000_000)
  np.testing.assert_allclose(curve.score[at], -10.58, atol=0.01)
  sarsa = published.paper_curve(
    'qbert', 'one_step_sarsa', threads=3, against='hours'
  )
  assert sarsa.label == 'paper, 1-step SARSA, 4 threads (Fig. S10)'
  one = published.paper_curve('pong', 'nstep_q', threads=1, against='hours')
  assert one.label == 'paper, n-step Q, 1 thread (Fig. 4)'
  many = published.paper_curve('pong', 'a3c', threads=100, against='hours')
  assert many.label == 'paper, A3C, 16 threads (Fig. 4)'


def test_the_paper_has_no_curve_of_other_games():
  for game in ('seaquest', 'catch', 'CartPole-v1'):
    assert not published.paper_curve(game, 'a3c', threads=1, against='hours')
