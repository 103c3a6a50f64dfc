"""Pictures of runs, of those that the results page shows."""

import pathlib

import pytest

from a3c_jax.reproduce import curves, run_pictures

RUNS = pathlib.Path(__file__).parents[2] / 'experiments/results/quick'


def draw(*names, **options):
  pytest.importorskip('matplotlib')
  groups = curves.group([curves.read(RUNS / name) for name in names])
  return run_pictures.draw(groups, **options)


def test_each_game_has_scores_of_its_own():
  figure = draw(
    'breakout_a3c-seed1',
    'space_invaders_a3c-seed1',
    paper=True,
    diagnostics=False,
  )
  assert [axes.get_title() for axes in figure.axes] == [
    *['breakout'] * 2,
    *['space_invaders'] * 2,
  ]
  for axes, lowest, highest in zip(
    figure.axes, (0, 0, 150, 150), (400, 400, 650, 650), strict=True
  ):
    ours, paper = axes.get_lines()[0], axes.get_lines()[-1]
    assert lowest < ours.get_ydata().min() < ours.get_ydata().max() < highest
    assert 'paper, A3C, 2 threads' in paper.get_label()
    assert paper.get_color() == ours.get_color()
    assert max(paper.get_ydata()) < 400
  colors = {axes.get_lines()[0].get_color() for axes in figure.axes}
  assert colors == {'C0', 'C1'}


def test_runs_of_one_game_share_panels():
  figure = draw('a3c-seed1', 'nstep_q-seed1')
  scores, *_ = figure.axes
  colors = [line.get_color() for line in scores.get_lines()]
  assert {'C0', 'C1'} <= {*colors}
  assert scores.get_title() == ''
  labels = [axes.get_ylabel() for axes in figure.axes]
  assert labels.count('score of an episode') == 2
  assert 'entropy of the policy, nats' in labels  # of A3C alone
