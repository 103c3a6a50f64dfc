"""Curves from CSV files, with bins small enough to count by hand."""

import json

import numpy as np
import pytest

from a3c_jax.core import errors
from a3c_jax.reproduce import curves
from a3c_jax.runs import workdir
from a3c_jax.settings import config

EPISODES = 'env,frames,seconds,episode_return\n'


def make_run(path, episodes='', **given):
  settings = config.make('catch', workdir=str(path), **given)
  with workdir.Workdir(settings) as folder:
    folder.claim(0)
  (path / 'episodes.csv').write_text(EPISODES + episodes)
  (path / 'train.csv').write_text('frames,entropy\n10,0.5\n20,nan\n')
  (path / 'eval.csv').write_text(
    'frames,seconds,mean_return,standard_error,human_normalized,best\n'
    '5,1,2,nan,,True\n'
  )
  return curves.read(path)


def test_columns_of_numbers(tmp_path):
  rows = ['9,0.5,1.0', '18,0.75,-1.0', '20,x,1.0', '21,0.8,1.0,1.0', '27']
  run = make_run(tmp_path, '\n'.join(f'catch,{row}' for row in rows))
  assert set(run.episodes) == {'frames', 'seconds', 'episode_return'}
  # One row is damaged, one has too much, and the last is not whole yet.
  np.testing.assert_array_equal(run.episodes['frames'], [9, 18])
  np.testing.assert_array_equal(run.episodes['episode_return'], [1, -1])
  np.testing.assert_array_equal(run.train['entropy'], [0.5, np.nan])
  np.testing.assert_array_equal(run.evaluations['human_normalized'], [np.nan])
  assert run.config.env_name == 'catch'


def test_rows_with_damaged_characters_or_places_do_not_count(tmp_path):
  make_run(tmp_path)
  (tmp_path / 'episodes.csv').write_bytes(
    EPISODES.encode()
    + b'catch,9,0.5,1\ncatch,\xff8,0.6,1\ncatch,1e999,0.7,1\n'
    + b'catch,nan,0.7,1\ncatch,-3,0.7,1\ncatch,9,inf,1\ncatch,1\x002,0.8,1\n'
    + b'c\xffch,20,0.9,2\n'
  )
  run = curves.read(tmp_path)
  np.testing.assert_array_equal(run.episodes['frames'], [9, 20])


@pytest.mark.parametrize(
  ('content', 'problem'),
  [
    (None, 'No such file or directory'),
    (b'', 'is not that of a run'),
    (b'frames,seconds\n1,2\n', 'is not that of a run'),
    (b'\xff\xfe\x00', 'is not that of a run'),
  ],
)
def test_a_folder_without_the_files_is_refused(tmp_path, content, problem):
  make_run(tmp_path)
  (tmp_path / 'episodes.csv').unlink()
  if content is not None:
    (tmp_path / 'episodes.csv').write_bytes(content)
  with pytest.raises(errors.UsageError) as error:
    curves.read(tmp_path)
  assert str(error.value) == (
    f'--workdir={tmp_path}: episodes.csv: {problem}; allowed: the folder of a '
    'run'
  )


def test_seeds_are_one_group_and_settings_tell_groups_apart(tmp_path):
  runs = [
    make_run(tmp_path / name, **given)
    for name, given in {
      'a': {'seed': 1},
      'b': {'seed': 2, 'log_seconds': 5.0},
      'c': {'gamma': 0.5, 'entropy_cost': 0.25},
      'd': {'algo': 'nstep_q', 'threads': 3},
    }.items()
  ]
  groups = curves.group(runs)
  assert [group.label for group in groups] == [
    'A3C, gamma 0.99, entropy cost 0.01',
    'A3C, gamma 0.5, entropy cost 0.25',
    'n-step Q',
  ]
  assert [group.runs for group in groups] == [runs[:2], [runs[2]], [runs[3]]]


def test_games_are_named_where_there_are_several(tmp_path):
  runs = [make_run(tmp_path / name) for name in 'ab']
  path = tmp_path / 'b' / 'config.json'
  record = json.loads(path.read_text())
  record['config'] |= {'domain': 'gym', 'environment': {'env': 'other'}}
  path.write_text(json.dumps(record))
  groups = curves.group([runs[0], curves.read(tmp_path / 'b')])
  assert [group.label for group in groups] == ['A3C on catch', 'A3C on other']


def test_means_of_bins_by_hand():
  # Four bins of width 2: (0, 2], (2, 4], (4, 6], (6, 8], and 0 itself.
  x, y = np.array([0, 2, 3, 8.0]), np.array([1, 3, 5, 9.0])
  curve = curves.binned([(x, y)], 4)
  np.testing.assert_allclose(curve.x, [1, 3, 5, 7])
  # Means 2, 5, nothing, 9: the line from 5 to 9 is at 7 in between.
  np.testing.assert_allclose(curve.mean, [2, 5, 7, 9])
  np.testing.assert_array_equal(curve.lowest, curve.mean)
  np.testing.assert_array_equal(curve.highest, curve.mean)


def test_mean_and_spread_over_runs_by_hand():
  one = np.array([1.0, 3.0]), np.array([4.0, 8.0])
  other = np.array([1.0]), np.array([2.0])  # It ended early.
  curve = curves.binned([one, other], 3)
  np.testing.assert_allclose(curve.x, [0.5, 1.5, 2.5])
  np.testing.assert_allclose(curve.mean, [3, 6, 8])
  np.testing.assert_allclose(curve.lowest, [2, 6, 8])
  np.testing.assert_allclose(curve.highest, [4, 6, 8])


def test_values_that_are_missing_do_not_count():
  x = np.array([1.0, 2.0, 3.0])
  curve = curves.binned([(x, np.array([np.nan, 5.0, np.nan]))], 2)
  np.testing.assert_allclose(curve.mean, [5])
  assert curves.binned([(x, np.full(3, np.nan))], 2) is None
  assert curves.binned([], 2) is None
