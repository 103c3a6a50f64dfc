"""What others published, against figures copied by hand."""

import numpy as np
import pytest

from a3c_jax.envs import reference_scores
from a3c_jax.reproduce import published

# The four algorithms of the paper.
OWN = ('a3c', 'nstep_q', 'one_step_q', 'one_step_sarsa')


def test_human_normalized_scores():
  # Table 2 of arXiv:1511.06581: Pong 14.6 by a human, -20.7 at random.
  pong = reference_scores.reference('pong', 'noop30')
  assert pong == (-20.7, 14.6)
  assert reference_scores.human_normalized(-20.7, pong) == 0
  assert reference_scores.human_normalized(14.6, pong) == pytest.approx(100)
  assert reference_scores.human_normalized(-3.05, pong) == pytest.approx(50)
  assert reference_scores.reference('pong', 'sticky') is None
  assert reference_scores.reference('CartPole-v1', 'plain') is None
  assert reference_scores.reference('air_raid', 'noop30') is None
  assert reference_scores.reference('alien', 'noop30') == (227.8, 7127.7)


def test_a_score_in_percent_needs_a_reference():
  assert reference_scores.normalized('pong', 'noop30', -3.05) == pytest.approx(
    50
  )
  assert reference_scores.normalized('pong', 'sticky', -3.05) is None
  assert reference_scores.normalized('catch', 'plain', 1.0) is None


def test_the_scale_of_every_game_rises():
  scales = [
    reference_scores.reference(game, 'noop30') for game in published.atari57()
  ]
  assert len(scales) == 57
  assert all(scale.human > scale.random for scale in scales)


@pytest.mark.parametrize('algo', OWN)
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
  dqn = published.paper_curve('pong', 'dqn', threads=2, against='hours')
  assert dqn.label == 'paper, DQN (Fig. 1)'
  double = published.paper_curve(
    'pong', 'double_dqn', threads=2, against='hours'
  )
  assert double is None


def test_the_paper_has_no_curve_of_other_games():
  for game in ('seaquest', 'catch', 'CartPole-v1'):
    assert not published.paper_curve(game, 'a3c', threads=1, against='hours')


@pytest.mark.parametrize(
  'method',
  [row['method'] for row in reference_scores.rows('paper_table1.csv')],
)
def test_table_1_is_made_of_table_s3(method):
  # The paper's own rounding, and that of the scores: 0.3 percent points.
  printed = published.table1(method)
  made = published.summarize(published.paper_normalized(method))
  assert made.games == printed.games
  assert made.mean == pytest.approx(printed.mean, abs=0.35)
  assert made.median == pytest.approx(printed.median, abs=0.35)


def test_rows_of_table_1():
  assert published.table1('A3C_LSTM_4days') == (623.0, 112.6, 57)
  assert published.table1('DQN') == (121.9, 47.5, 49)
  assert len(published.atari57()) == 57


def test_video_pinball_has_a_rule_of_its_own():
  # Random 20452.0, human 15641.1: 331628.1 / 15641.1, but for DQN and Gorila.
  assert published.paper_normalized('A3C_FF_4days')[
    'video_pinball'
  ] == pytest.approx(2120.235, abs=1e-3)
  assert published.paper_normalized('DQN')['video_pinball'] == pytest.approx(
    4.6540, abs=1e-3
  )
  # Random -20.7 would be no-op's; from human starts it is -18.0, human 15.5.
  assert published.paper_normalized('A3C_FF_1day')['pong'] == pytest.approx(
    100 * (published.paper_scores('A3C_FF_1day')['pong'] + 18.0) / 33.5
  )


def test_a_summary():
  percents = {'one': 0.0, 'two': 100.0, 'three': 20.0}
  assert published.summarize(percents) == (40.0, 20.0, 3)
  with pytest.raises(ValueError, match='no game'):
    published.summarize({})


@pytest.mark.parametrize('game', published.paper_games())
def test_figure_1_has_dqn_and_the_four(game):
  curves = published.figure1(game)
  assert {*curves} == {*OWN, 'dqn'}
  assert curves['nstep_q'].label == 'paper, n-step Q (Fig. 1)'
  assert all(curve.x[-1] == 15 for curve in curves.values())


def test_values_of_figure_1_at_its_right_edge():
  ends = {
    name: curve.score[-1] for name, curve in published.figure1('qbert').items()
  }
  assert ends == pytest.approx(
    {
      'dqn': 2396,
      'one_step_q': 3689,
      'one_step_sarsa': 3099,
      'nstep_q': 4324,
      'a3c': 11114,
    },
    abs=1,
  )
  assert published.figure1('seaquest') == {}


@pytest.mark.parametrize('algo', OWN)
@pytest.mark.parametrize('game', published.paper_games())
def test_every_scatter_has_50_learning_rates(game, algo):
  points = published.learning_rates(game, algo)
  assert points.shape == (50, 2)
  assert points[:, 0].min() > 1e-4 and points[:, 0].max() < 1e-2


def test_there_is_no_scatter_of_other_games():
  assert published.learning_rates('seaquest', 'a3c') is None
  assert published.learning_rates('catch', 'a3c') is None


def test_the_best_five_learning_rates_of_a3c():
  # Means of the best five, worked out elsewhere from the same points.
  for game, mean in [('breakout', 550), ('pong', 20.9), ('qbert', 10410)]:
    scores = np.sort(published.learning_rates(game, 'a3c')[:, 1])
    assert scores[-5:].mean() == pytest.approx(mean, rel=2e-3)


def test_ranks_of_the_optimizers():
  # Means and best of figure S5, worked out elsewhere.
  for optimizer, mean, best in [
    ('momentum_sgd', 193, 849),
    ('rmsprop', 278, 749),
    ('shared_rmsprop', 400, 861),
  ]:
    ranks = published.optimizer_ranks('breakout', 'a3c', optimizer)
    assert (ranks.x == np.arange(1, 51)).all()
    assert ranks.score.mean() == pytest.approx(mean, abs=1)
    assert ranks.score[0] == pytest.approx(best, abs=1)
    assert (np.diff(ranks.score) <= 0).all()
  assert published.optimizer_ranks('seaquest', 'nstep_q', 'rmsprop') is not None
  assert published.optimizer_ranks('pong', 'a3c', 'rmsprop') is None
  assert published.optimizer_ranks('seaquest', 'one_step_q', 'rmsprop') is None


def test_speedups_of_table_2():
  assert published.speedups('a3c') == {1: 1.0, 2: 2.1, 4: 3.7, 8: 6.9, 16: 12.5}
  assert published.speedups('one_step_q')[16] == 24.1


def test_the_paper_has_no_threads_of_dqn():
  for algo in ('dqn', 'double_dqn', 'pgql'):
    assert published.paper_curve('pong', algo, threads=1, against='frames') is (
      None
    )
    assert published.speedups(algo) == {}


def test_dqn_of_figure_1_had_no_threads():
  threads = {x: c.threads for x, c in published.figure1('pong').items()}
  assert threads == dict.fromkeys(OWN, 16) | {'dqn': 1}
  assert {*published.BASELINES} <= {*threads}


def test_reproductions_of_others():
  pong = published.reproductions('pong', 'A3C_FF_1day')
  assert pong == {'NoisyNet paper': 7, 'ChainerRL': 20.7, 'PFRL': 20.9}
  assert 'ChainerRL' not in published.reproductions('defender', 'A3C_FF_1day')
  assert published.reproductions('catch', 'A3C_FF_1day') == {}


def test_scores_of_dqn_and_its_family_after_no_ops():
  # Table 2 of arXiv:1511.06581, and the tables of the methods' own papers.
  wang, own = 'Wang et al. 2016', 'own paper, 5 minutes'
  assert published.reproductions('pong', 'DQN') == {wang: 19.5, own: 18.9}
  assert published.reproductions('pong', 'Double') == {wang: 20.9}
  assert published.reproductions('pong', 'Dueling') == {wang: 21.0}
  assert published.reproductions('pong', 'Prioritized') == {wang: 20.6}
  assert published.reproductions('breakout', 'Gorila') == {own: 402.2}
  # The papers of DQN and Gorila have 49 games.
  assert published.reproductions('skiing', 'Gorila') == {}
  assert [*published.reproductions('skiing', 'DQN')] == [wang]
