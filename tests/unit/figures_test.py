"""The paper's figures of made-up runs, small enough to count by hand."""

import math

import numpy as np
import pytest

from a3c_jax.envs import gym
from a3c_jax.reproduce import (
  curves,
  drawing,
  figures,
  intervals,
  scores,
  tables,
)
from a3c_jax.settings import config

NOTHING = np.array([])


def make_trial(
  returns=(),
  evaluations=(),
  *,
  algo='a3c',
  game='catch',
  method=None,
  threads=2,
  optimizer='shared_rmsprop',
  learning_rate=1e-3,
  seconds=3600.0,
):
  """An episode and an evaluation end every 100 frames and `seconds`."""

  def columns(values, name):
    places = np.arange(1, 1 + len(values))
    return {
      'frames': 100 * places,
      'seconds': seconds * places,
      name: np.array(values, float),
      'standard_error': np.full(len(values), 0.5),
    }

  settings = config.make('gym', environment=gym.Options(env=game), algo=algo)
  run = curves.Run(
    path=None,
    config=settings,
    episodes=columns(returns, 'episode_return') if returns else {},
    train={'frames': np.array([100.0, 1000.0])},
    evaluations=columns(evaluations, 'mean_return') if evaluations else {},
  )
  return scores.Trial(
    game, method or algo, threads, optimizer, learning_rate, run
  )


def test_a_policys_score_is_that_of_its_newest_hundred_episodes():
  trial = make_trial([50.0] * 30 + [1.0] * 50 + [3.0] * 50, [7.0])
  assert scores.score(trial) == 2.0
  assert scores.score(make_trial([4.0, 5.0])) == 4.5
  assert math.isnan(scores.score(make_trial()))


def test_a_value_methods_score_is_that_of_its_newest_evaluation():
  trial = make_trial([50.0], [7.0, 9.0], algo='nstep_q')
  assert scores.score(trial) == 9.0
  assert math.isnan(scores.score(make_trial([50.0], algo='one_step_q')))


@pytest.mark.parametrize(
  ('runs', 'of_50', 'count'),
  [(50, 5, 5), (50, 3, 3), (10, 5, 1), (25, 3, 2), (1, 5, 1), (3, 3, 1)],
)
def test_as_many_of_the_best_as_in_the_paper(runs, of_50, count):
  trials = [
    make_trial([float(number)], learning_rate=1e-3 + number)
    for number in range(runs)
  ]
  chosen = scores.best(trials, of_50=of_50)
  assert [scores.score(trial) for trial in chosen] == [
    runs - 1.0 - place for place in range(count)
  ]


def test_a_run_without_a_score_is_not_the_best():
  assert scores.best([make_trial()], of_50=5) == []
  worst = make_trial([-1.0])
  assert scores.best([make_trial(), worst], of_50=5) == [worst]


def test_all_seeds_of_the_best_learning_rate_count():
  good = [make_trial([x], learning_rate=1e-4) for x in (9.0, 2.0, 1.0)]
  bad = [make_trial([x], learning_rate=1e-3) for x in (5.0, -4.0)]
  assert scores.best([*bad, *good], of_50=5) == good
  assert scores.best([make_trial(), *good], of_50=5) == good
  text = scores.describe(good)
  assert text == (
    '4.00 [1.00, 9.00] of 3 runs after 0.001 million frames (learning rates '
    '0.0001)'
  )
  text = scores.describe(good[:1])
  assert text == '9.00 after 0.001 million frames (learning rates 0.0001)'


def test_curves_are_means_over_runs_by_frames_and_hours():
  trials = [make_trial([1.0, 2.0]), make_trial([3.0, 6.0])]
  by_frames = scores.learning_curve(trials, 'frames')
  assert by_frames.x[-1] == pytest.approx(200, rel=0.02)
  assert (by_frames.mean[0], by_frames.mean[-1]) == (2.0, 4.0)
  assert (by_frames.lowest[-1], by_frames.highest[-1]) == (2.0, 6.0)
  by_hours = scores.learning_curve(trials, 'hours')
  assert by_hours.x[-1] == pytest.approx(2.0, rel=0.02)
  evaluated = make_trial([9.0], [1.0, 5.0], algo='nstep_q')
  assert scores.learning_curve([evaluated], 'frames').mean[-1] == 5.0
  assert scores.learning_curve([make_trial()], 'frames') is None


@pytest.mark.parametrize(
  ('score', 'place'),
  [(0.0, 1.0), (5.0, 1.5), (10.0, 2.0), (12.0, 3.5), (14.0, 4.0)],
)
def test_where_a_curve_first_reaches_a_score(score, place):
  x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 10.0, 10.0, 14.0])
  assert scores.reached(x, y, score) == place


def test_a_score_that_is_never_reached():
  assert math.isnan(scores.reached(np.ones(2), np.zeros(2), 1.0))
  assert math.isnan(scores.reached(np.ones(2), np.zeros(2), math.nan))


def make_curve(*means):
  mean = np.array(means)
  return curves.Curve(np.arange(len(mean)), mean, mean, mean)


def test_the_reference_score_is_one_that_all_reach():
  all_curves = [make_curve(-1.0, 7.0, 2.0), make_curve(1.0, 3.0, 4.0)]
  # From 0, the mean of the first, three quarters of the way to 4.
  assert scores.reference_score(all_curves) == 3.0
  worse = [make_curve(2.0, 1.0), make_curve(2.0, 9.0)]
  assert math.isnan(scores.reference_score(worse))


def test_a_picture_is_not_kept_by_pyplot():
  pytest.importorskip('matplotlib')
  from matplotlib import pyplot

  before = pyplot.get_fignums()
  picture, table = drawing.subplots(1, 2, size=(4.0, 2.0))
  assert pyplot.get_fignums() == before
  assert picture.axes == [*table.flat]
  assert table.shape == (1, 2)


def test_table_2():
  pytest.importorskip('matplotlib')
  # One thread is at 8 after 800 frames, two after 400; in a quarter of the
  # time each.
  one = make_trial([*map(float, range(1, 11))], threads=1)
  two = make_trial([2.0, 4.0, 6.0, 8.0, 10.0], threads=2, seconds=900.0)
  drawn = tables.table2([one, two], 'title', of_50=3, reference=8.0)
  first, second = drawn.rows
  assert (first['threads'], second['threads']) == (1, 2)
  assert first['frames'] == pytest.approx(800, rel=0.03)
  assert second['frames'] == pytest.approx(400, rel=0.03)
  assert second['seconds'] == pytest.approx(3600, rel=0.03)
  assert (first['speedup_by_frames'], first['speedup_by_seconds']) == (1, 1)
  assert second['speedup_by_frames'] == pytest.approx(2, rel=0.06)
  assert second['speedup_by_seconds'] == pytest.approx(8, rel=0.06)
  assert (first['paper'], second['paper']) == (1.0, 2.1)
  assert drawn.summary[1].endswith('by seconds; paper 2.1')
  # The reference is the curves' own unless given: from 1 and 2 to 10.
  (row, _) = tables.table2([two, one], 'title', of_50=3).rows
  assert row['threads'] == 1
  assert row['reference_score'] == pytest.approx(1.5 + 0.75 * 8.5)


def test_table_2_over_the_smallest_number_of_threads():
  pytest.importorskip('matplotlib')
  trials = [make_trial([0.0, 8.0], threads=number) for number in (4, 2)]
  drawn = tables.table2(trials, 'title', of_50=3)
  # 3.7 of the paper's, over its 2.1.
  assert [row['paper'] for row in drawn.rows] == [1.0, 1.76]
  assert [row['speedup_by_frames'] for row in drawn.rows] == [1, 1]


def test_table_2_of_a_game_without_the_smallest_number_of_threads():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([0.0, 1.0, 8.0, 8.0], threads=1),
    make_trial([0.0, 8.0, 8.0, 8.0], threads=2),
    make_trial([0.0, 8.0], game='cartpole', threads=2),
    make_trial([0.0, 8.0], game='cartpole', threads=4),
  ]
  drawn = tables.table2(trials, 'title', of_50=3)
  gains = [row['speedup_by_frames'] for row in drawn.rows]
  assert gains[0] == 1
  assert gains[2:] == ['', '']
  assert [row['paper'] for row in drawn.rows] == [1.0, 2.1, 2.1, 3.7]
  # The other game's first is not taken for a gain of 1.
  assert drawn.summary[1].startswith(
    f'a3c, 2 threads: {gains[1]:.2f} times by frames, '
  )
  assert len(drawn.summary) == 2


def test_threads_and_optimizers_are_of_one_colour_in_all_panels():
  pytest.importorskip('matplotlib')

  def colors(drawn):
    return {
      (line.get_label(), line.get_color())
      for axes in drawn.picture.axes
      for line in axes.get_lines()
      if not line.get_label().startswith('paper')
    }

  trials = [
    make_trial([1.0, 2.0], threads=1),
    make_trial([1.0, 2.0], threads=2),
    make_trial([1.0, 2.0], game='cartpole', threads=2),
  ]
  drawn = figures.learning_by_threads(trials, 't', of_50=3, against='frames')
  assert colors(drawn) == {('1 thread', 'C0'), ('2 threads', 'C1')}
  trials = [
    make_trial([1.0], optimizer='rmsprop'),
    make_trial([1.0], optimizer='shared_rmsprop'),
    make_trial([1.0], game='cartpole', optimizer='shared_rmsprop'),
  ]
  assert colors(figures.figure_s5(trials, 't')) == {
    ('ours, rmsprop', 'C0'),
    ('ours, shared_rmsprop', 'C1'),
  }


def test_table_2_of_a_score_that_is_not_reached():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([0.0, 1.0], threads=1),
    make_trial([0.0, 5.0], threads=2),
  ]
  drawn = tables.table2(trials, 'title', of_50=3, reference=4.0)
  assert [row['frames'] == '' for row in drawn.rows] == [True, False]
  assert [row['speedup_by_frames'] for row in drawn.rows] == ['', '']
  worse = make_trial([5.0, 1.0], threads=1)
  drawn = tables.table2([worse], 'title', of_50=3)
  assert drawn.rows[0]['reference_score'] == ''
  assert (
    drawn.summary[0]
    == 'catch a3c: the scores do not rise to one that all reach'
  )


@pytest.mark.parametrize('against', ['frames', 'hours'])
def test_curves_by_threads_are_of_the_best(against):
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([score], game='pong', threads=threads, learning_rate=rate)
    for threads in (1, 8)
    for rate, score in [(1e-3, -20.0 - threads), (2e-3, -3.0 + threads)]
  ]
  drawn = figures.learning_by_threads(trials, 't', of_50=3, against=against)
  ours = [row for row in drawn.rows if row['series'] == 'ours']
  assert [(row['threads'], row['score'], row['runs']) for row in ours] == [
    (1, -2.0, 1),
    (8, 5.0, 1),
  ]
  paper = [row for row in drawn.rows if row['series'] != 'ours']
  assert all(f', {row["threads"]} thread' in row['series'] for row in paper)
  assert {row['x'] for row in drawn.rows} == {against}
  number = {'frames': 3, 'hours': 4}[against]
  assert {row['series'] for row in drawn.rows} == {
    'ours',
    f'paper, A3C, 1 thread (Fig. {number})',
    f'paper, A3C, 8 threads (Fig. {number})',
  }
  assert drawn.summary[1].startswith('pong a3c, 8 threads: 5.00 after ')


def test_spread_is_from_the_lowest_to_the_highest_run():
  pytest.importorskip('matplotlib')
  trials = [make_trial([score], game='pong') for score in (1.0, 3.0) * 10]
  drawn = figures.figure1(trials, 'title', of_50=50)
  row = drawn.rows[0]
  assert (row['lowest'], row['score'], row['highest']) == (1.0, 2.0, 3.0)
  assert row['runs'] == 20


def test_figure_1_stands_beside_the_papers_curves():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([-21.0, -20.0], game='pong', threads=16),
    make_trial([], [-19.0], game='pong', algo='nstep_q', threads=16),
  ]
  drawn = figures.figure1(trials, 'title', of_50=5)
  series = {(row['method'], row['x'], row['series']) for row in drawn.rows}
  assert series == {
    ('a3c', 'hours', 'ours'),
    ('a3c', 'frames', 'ours'),
    ('a3c', 'hours', 'paper, A3C (Fig. 1)'),
    ('a3c', 'frames', 'paper, A3C, 16 threads (Fig. 3)'),
    ('nstep_q', 'hours', 'ours'),
    ('nstep_q', 'frames', 'ours'),
    ('nstep_q', 'hours', 'paper, n-step Q (Fig. 1)'),
    ('nstep_q', 'frames', 'paper, n-step Q, 16 threads (Fig. 3)'),
    ('dqn', 'hours', 'paper, DQN (Fig. 1)'),
  }
  threads = {(row['series'], row['threads']) for row in drawn.rows}
  assert ('paper, A3C (Fig. 1)', 16) in threads
  assert ('paper, DQN (Fig. 1)', 1) in threads
  assert drawn.summary == [
    'pong a3c: -20.50 after 0.001 million frames (learning rates 0.001)',
    'pong nstep_q: -19.00 after 0.001 million frames (learning rates 0.001)',
  ]


def test_dqn_of_figure_1_is_drawn_beside_the_papers():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([], [score], game='pong', algo='dqn', threads=1)
    for score in (-20.0, -10.0)
  ]
  drawn = figures.figure1(trials, 'title', of_50=5)
  ours = [row for row in drawn.rows if row['series'] == 'ours']
  assert [(row['x'], row['score'], row['runs']) for row in ours] == [
    ('hours', -15.0, 2),
    ('frames', -15.0, 2),
  ]
  others = {row['series'] for row in drawn.rows} - {'ours'}
  assert others == {'paper, DQN (Fig. 1)'}
  hours = [row for row in drawn.rows if row['series'] in others]
  assert len(hours) == 16  # Once, not as a baseline too.


def test_figure_2_has_every_learning_rate_and_the_papers():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([score], game='pong', learning_rate=rate)
    for rate, score in [(1e-4, -20.0), (1e-3, 5.0), (5e-3, 1.0)]
  ]
  unfinished = make_trial(game='pong', learning_rate=7e-3)
  drawn = figures.figure2([*trials, unfinished], 'title')
  ours = [row for row in drawn.rows if row['series'] == 'ours']
  assert [(row['learning_rate'], row['score']) for row in ours] == [
    (1e-4, -20.0),
    (1e-3, 5.0),
    (5e-3, 1.0),
  ]
  assert len(drawn.rows) == 3 + 50
  assert drawn.summary == [
    'pong a3c: best 5.00 (learning rate 0.001), median 1.00 of 3'
  ]


def test_figure_s5_ranks_learning_rates_by_optimizer():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial(
      [score], game='seaquest', optimizer=optimizer, learning_rate=score / 1e3
    )
    for optimizer in ('rmsprop', 'shared_rmsprop')
    for score in (1.0, 4.0)
  ]
  drawn = figures.figure_s5(trials, 'title')
  ours = [
    (row['optimizer'], row['rank_of_50'], row['score'])
    for row in drawn.rows
    if row['series'] == 'ours'
  ]
  # Each of two runs stands for 25 of the paper's 50.
  assert ours == [
    ('rmsprop', 13.0, 4.0),
    ('rmsprop', 38.0, 1.0),
    ('shared_rmsprop', 13.0, 4.0),
    ('shared_rmsprop', 38.0, 1.0),
  ]
  assert len(drawn.rows) == 4 + 2 * 50


def test_table_1_is_of_the_newest_evaluations():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([], [3.0, -3.05], game='pong', method='a3c_1_day'),
    make_trial([], [30.5], game='breakout', method='a3c_1_day'),
    make_trial([5.0], game='qbert', method='a3c_1_day'),
  ]
  drawn = tables.table1(trials, 'title')
  pong, breakout, *gorila = drawn.rows
  # Half of the way from -20.7 to 14.6, and all of that from 1.7 to 30.5.
  assert (pong['score'], pong['human_normalized']) == (-3.05, 50.0)
  assert (breakout['score'], breakout['human_normalized']) == (30.5, 100.0)
  assert (pong['paper_score'], pong['standard_error']) == (11.4, 0.5)
  assert (pong['PFRL'], breakout['ChainerRL']) == (20.9, 569.9)
  assert [(row['method'], row['game'], row['score']) for row in gorila] == [
    ('Gorila', 'pong', ''),
    ('Gorila', 'breakout', ''),
  ]
  assert gorila[0]['paper_score'] == 16.7 and gorila[0]['PFRL'] == ''
  line, of_gorila = drawn.summary
  assert of_gorila.endswith('on all 49 215.2%, 71.3%, from human starts')
  assert line.startswith(
    'a3c_1_day: mean 75.0%, median 75.0%, interquartile mean 75.0% of 2 games'
  )
  assert line.endswith('on all 57 344.1%, 68.2%, from human starts')


def test_table_1_of_games_that_a_row_of_the_paper_lacks():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([], [score], game=game, method='dqn', algo='dqn')
    for game, score in [('pong', 14.6), ('skiing', -4336.9)]
  ]
  drawn = tables.table1(trials, 'title')
  pong, skiing, *_ = drawn.rows
  assert (pong['score'], pong['paper_score']) == (14.6, 16.2)
  assert pong['Wang et al. 2016'] == 19.5
  assert (skiing['paper_score'], skiing['paper_normalized']) == ('', '')
  assert skiing['own paper, 5 minutes'] == ''
  assert 'paper on 1 of these games' in drawn.summary[0]
  only = tables.table1(trials[1:], 'title')
  assert 'paper none of these games, on all 49' in only.summary[0]


def test_table_1_of_several_runs_has_their_mean_and_interval():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([], [score], game='pong', method='a3c_1_day')
    for score in (-3.0, 0.0, 12.0)
  ] + [make_trial([], [30.5], game='breakout', method='a3c_1_day')]
  drawn = tables.table1(trials, 'title')
  pong, breakout, *gorila = drawn.rows
  assert (pong['runs'], pong['score'], pong['standard_error']) == (3, 3.0, '')
  assert (pong['low'], pong['high']) == (-3.0, 12.0)
  assert (breakout['runs'], breakout['standard_error']) == (1, 0.5)
  assert (breakout['low'], breakout['high']) == ('', '')
  assert gorila[0]['runs'] == ''
  # Of 50.1, 58.6, 92.6 and 100% the middle two.
  assert 'interquartile mean 75.6% [50.1, 92.6] of 2' in drawn.summary[0]


def test_interquartile_mean():
  stats = pytest.importorskip('scipy.stats')
  runs = [[3.0, 50.0, 7.0], [-4.0, 1.0, 900.0], [2.0], [8.0, 9.0]]
  value, (low, high) = intervals.of_games(runs)
  assert value == pytest.approx(stats.trim_mean(np.concatenate(runs), 0.25))
  assert low < value < high
  # Runs are drawn within their game: where those are equal, nothing varies.
  assert intervals.of_games([[1.0, 1.0], [5.0, 5.0]]) == (3.0, (3.0, 3.0))


def test_table_2_of_several_runs_has_intervals():
  pytest.importorskip('matplotlib')
  # One thread is at 8 after 200, 400 and 800 frames; two threads after 100,
  # and one of its runs never.
  one = [
    make_trial([8.0 * (n >= first) for n in range(1, 11)], threads=1)
    for first in (2, 4, 8)
  ]
  two = [make_trial([8.0] * 10, threads=2), make_trial([0.0] * 10, threads=2)]
  drawn = tables.table2([*one, *two], 'title', of_50=3, reference=8.0)
  first, second = drawn.rows
  assert (first['runs'], second['runs']) == (3, 2)
  # All three are there after 800 frames, and so is their mean.
  assert first['frames'] == pytest.approx(800, rel=0.03)
  assert first['frames_low'] == pytest.approx(200, rel=0.06)
  assert first['frames_high'] == pytest.approx(800, rel=0.03)
  assert first['seconds_high'] == pytest.approx(8 * 3600, rel=0.03)
  # It has no gain over itself.
  assert first['speedup_by_frames_low'] == ''
  # The mean of its two runs is 4: only some of the draws reach it.
  assert second['frames'] == ''
  assert second['frames_low'] == pytest.approx(100, rel=0.11)
  assert second['frames_high'] == math.inf
  assert second['speedup_by_frames_low'] == 0.0
  assert second['speedup_by_frames_high'] == pytest.approx(8, rel=0.15)
  assert drawn.summary[0].endswith('frames of 3 runs')
  alone = tables.table2([one[0], two[0]], 'title', of_50=3, reference=8.0)
  assert [row['frames_low'] for row in alone.rows] == ['', '']
  # The best rates alone are chosen: their spread is no interval.
  rates = [
    make_trial([0.0, 8.0, 8.0], threads=1, learning_rate=1e-4 * (1 + number))
    for number in range(50)
  ]
  (row,) = tables.table2(rates, 'title', of_50=3, reference=8.0).rows
  assert (row['runs'], row['frames_low']) == (3, '')
  assert '[' not in scores.describe(scores.best(rates, of_50=3))


def test_gains_do_not_pair_the_runs_of_two_numbers_of_threads():
  pytest.importorskip('matplotlib')

  def gain(ones, twos):
    trials = [
      make_trial([8.0 * (n >= first) for n in range(1, 41)], threads=threads)
      for threads, firsts in ((1, ones), (2, twos))
      for first in firsts
    ]
    _, row = tables.table2(trials, 'title', of_50=3, reference=4.0).rows
    return row['speedup_by_frames_low'], row['speedup_by_frames_high']

  firsts = [4, 8, 16, 32, 40]
  low, high = gain(firsts, firsts)
  # Were they paired, each draw's gain would be 1.
  assert low < 0.5 and high > 2
  other_low, other_high = gain(firsts, firsts[::-1])
  assert (low, high) == pytest.approx((other_low, other_high), rel=0.3)


def test_several_seeds_of_a_learning_rate_are_one_place():
  pytest.importorskip('matplotlib')
  trials = [
    make_trial([score], learning_rate=rate)
    for rate, score in [(1e-3, 1.0), (1e-3, 5.0), (2e-3, 4.0), (2e-3, 4.0)]
  ]
  drawn = figures.figure_s5(trials, 'title')
  ours = [row for row in drawn.rows if row['series'] == 'ours']
  assert [(row['rank_of_50'], row['score']) for row in ours] == [
    (13.0, 4.0),
    (38.0, 3.0),
  ]
  assert drawn.summary[0].endswith(
    'best 4.00 [4.00, 4.00] of 2 runs of 2 learning rates'
  )
  (line,) = figures.figure2(trials, 'title').summary
  assert line == (
    'catch a3c: best 4.00 [4.00, 4.00] of 2 runs (learning rate 0.002), '
    'median 3.50 of 2'
  )


def test_intervals_by_hand():
  # Of two runs a quarter of the draws is each of them alone.
  assert intervals.of_mean([1.0, 2.0]) == (1.0, 2.0)
  assert intervals.of_mean([3.0] * 5) == (3.0, 3.0)
  assert np.isnan(intervals.of_mean([3.0])).all()
  assert intervals.of_mean([5.0, 1.0, 3.0]) == (1.0, 5.0)
  # Each draw counts the 1 binomially: Binomial(20, 0.05), whose quantiles are
  # 0 and 3.
  assert intervals.of_mean([0.0] * 19 + [1.0]) == (0.0, 3 / 20)
  assert intervals.describe([2.0]) == '2.00'
  assert intervals.describe([2.0, 4.0]) == '3.00 [2.00, 4.00] of 2 runs'
  assert intervals.describe([2.0, math.nan, 4.0]) == (
    '3.00 [2.00, 4.00] of 2 of 3 runs'
  )
  assert intervals.describe([math.nan]) == 'none yet'
