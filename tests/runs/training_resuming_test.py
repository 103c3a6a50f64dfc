"""A run that is stopped and resumed ends as one that is not."""

import os
import shutil

from catch_runs import (
  Breaks,
  each_runtime,
  interrupted,
  run,
  saved,
  swing,
  vector,
)
import jax
import numpy as np
import pytest
from results import digest, read_rows, same_episodes
from short_runs import make_ctrl_c

from a3c_jax.core import errors
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.runs import checkpoints


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'nstep_q', 'optimizer': 'rmsprop', 'envs_per_thread': 3},
    {'algo': 'a3c', 't_max': 5, 'network': 'catch_runs:make_wide'},
    {'algo': 'a3c', 'lstm': True, 'runtime': 'synchronous', 'threads': 2},
    {'algo': 'one_step_q', 'runtime': 'synchronous', 'threads': 2},
    {
      'algo': 'one_step_sarsa',
      'acting': 'snapshot',
      'envs_per_thread': 2,
      'optimizer': 'momentum_sgd',
    },
  ],
)
def test_a_stopped_run_ends_in_the_same_bits(tmp_path, monkeypatch, given):
  monkeypatch.setattr(replayable, 'RESEED_STEPS', 500)
  given |= {
    'frames': 4000,
    'anneal_frames': 5000,
    'checkpoint_frames': 1000,
    'eval_frames': 500,
  }
  whole = run(tmp_path / 'whole', **given)
  first = interrupted(monkeypatch, tmp_path / 'parts', 550, **given)
  # Of which an episode more than RESEED_STEPS are replayed, at most.
  second = interrupted(monkeypatch, tmp_path / 'parts', 600, **given)
  assert second.frames > first.frames
  last = run(tmp_path / 'parts', **given)
  assert last.finished
  assert (last.frames, last.updates) == (whole.frames, whole.updates)
  assert last.episodes == whole.episodes
  assert digest(last.params) == digest(whole.params)
  same_episodes(tmp_path / 'whole', tmp_path / 'parts')
  train = read_rows(tmp_path / 'parts' / 'train.csv')
  for name in ('frames', 'seconds', 'updates', 'episodes'):
    values = [float(row[name]) for row in train]
    assert values == sorted(values)
  assert len({row['frames'] for row in train}) == len(train)
  scores = read_rows(tmp_path / 'parts' / 'eval.csv')
  frames = [int(row['frames']) for row in scores]
  assert frames == sorted(set(frames))
  # Whether an evaluation is over before the run ends is chance, but for this.
  assert frames[-1] == last.frames
  best = max(scores, key=lambda row: float(row['mean_return']))
  assert best['frames'] == str(max(saved(tmp_path / 'parts' / 'best')))
  assert best['best'] == 'True'


def test_a_finished_run_stays_as_it_is(tmp_path, monkeypatch):
  # The main thread looks so often that it writes checkpoints at the very end.
  given = {
    'threads': 3,
    'frames': 2000,
    'checkpoint_frames': 100,
    'eval_frames': 500,
  }

  def state():
    names = ('episodes.csv', 'train.csv', 'eval.csv')
    return [(tmp_path / name).read_text() for name in names] + [
      saved(tmp_path / name) for name in ('checkpoints', 'best')
    ]

  first = run(tmp_path, **given)
  kept = state()
  for change in ({}, {'eval_frames': 0}, {}):
    again = run(tmp_path, **given | change)
    assert again.finished
    assert digest(again.params) == digest(first.params)
    assert again.episodes == first.episodes
    assert state() == kept


@each_runtime
def test_many_threads_resume(tmp_path, monkeypatch, runtime):
  given = {'algo': 'nstep_q', 'threads': 3, 'frames': 8000}
  given |= {'runtime': runtime}
  first = interrupted(monkeypatch, tmp_path, 900, **given)
  last = run(tmp_path, **given)
  assert last.finished
  assert last.episodes > first.episodes
  rows = read_rows(tmp_path / 'episodes.csv')
  assert len(rows) == last.episodes
  for thread in '012':
    frames = [int(row['frames']) for row in rows if row['thread'] == thread]
    assert frames == sorted(set(frames))
    assert frames


class Unrepeatable(catch.Catch):
  """Where the ball falls depends on more than the seed."""

  def reset(self, *, seed=None, options=None):
    return super().reset(seed=int.from_bytes(os.urandom(3)), options=options)


def test_environments_that_do_not_repeat_start_new_episodes(tmp_path, caplog):
  make_env = gym.make(Unrepeatable)
  given = {'threads': 2, 'algo': 'nstep_q'}
  # Catch has 5 columns, so two episodes may be the same by chance.
  for frames in (200, 400, 600, 800, 1000):
    run(
      tmp_path,
      make_env,
      frames=frames,
      anneal_frames=10**6,
      override=('frames',),
      **given,
    )
  assert 'environments do not repeat what they did' in caplog.text


def test_a_corrupt_checkpoint_is_moved_aside(tmp_path, monkeypatch, caplog):
  given = {'frames': 4000, 'checkpoint_frames': 500}
  whole = run(tmp_path / 'whole', **given)
  interrupted(monkeypatch, tmp_path / 'parts', 2000, **given)
  folder = tmp_path / 'parts' / 'checkpoints'
  steps = saved(folder)
  assert len(steps) > 1
  newest = folder / str(steps[-1])
  data = bytearray(newest.read_bytes())
  data[len(data) // 2] ^= 255
  newest.write_bytes(data)
  last = run(tmp_path / 'parts', **given)
  assert digest(last.params) == digest(whole.params)
  logged = caplog.text
  assert f'checkpoint of frame {steps[-1]} is corrupt' in logged
  assert f'resuming at frame {steps[-2]:,}' in logged
  assert (tmp_path / 'parts' / f'corrupt-{steps[-1]}').exists()


@pytest.mark.parametrize('lost', ['damaged', 'removed'])
def test_results_without_a_checkpoint_are_not_overwritten(tmp_path, lost):
  run(tmp_path)
  folder = tmp_path / 'checkpoints'
  if lost == 'removed':
    shutil.rmtree(folder)
  else:
    for path in folder.rglob('*'):
      if path.is_file():
        path.write_bytes(b'')
  kept = (tmp_path / 'episodes.csv').read_bytes()
  for _ in range(2):
    with pytest.raises(errors.UsageError) as error:
      run(tmp_path)
    assert str(error.value) == (
      f'--workdir={tmp_path}: holds results, but no checkpoint to resume from; '
      'allowed: another folder'
    )
  assert (tmp_path / 'episodes.csv').read_bytes() == kept


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
  run(tmp_path, network='catch_runs:make_small')
  with pytest.raises(errors.UsageError) as error:
    run(tmp_path, network='mlp', override=('network',))
  assert str(error.value).startswith(f'--workdir={tmp_path}: its checkpoint')
  assert 'params/' in str(error.value)


def test_an_environment_that_breaks_in_replay_is_replaced(tmp_path, caplog):
  run(tmp_path, frames=500)
  makers = iter([lambda: Breaks(at_step=50), catch.Catch, catch.Catch])

  def make_env():
    return vector(next(makers))

  more = {'override': ('frames', 'anneal_frames')}
  assert run(tmp_path, make_env, frames=1000, **more).finished
  logged = caplog.text
  assert "environment of thread 0 raised Failure('the game broke')" in logged
  assert '1 of 1 environments do not repeat' in logged
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '1'


@pytest.mark.parametrize(
  'given',
  [
    {'envs_per_thread': 2},
    {'envs_per_thread': 1, 'lstm': False, 'normalize_obs': False},
  ],
)
def test_a_stopped_run_with_continuous_actions_ends_in_the_same_bits(
  tmp_path, monkeypatch, given
):
  monkeypatch.setattr(replayable, 'RESEED_STEPS', 100)
  given |= {'frames': 1200, 'checkpoint_frames': 200, 'reward_scale': 0.1}
  whole = swing(tmp_path / 'whole', **given)
  ctrl_c = make_ctrl_c(monkeypatch)
  first = swing(tmp_path / 'parts', 150, ctrl_c, **given)
  assert 0 < first.frames < 1200
  last = swing(tmp_path / 'parts', **given)
  assert (last.finished, last.frames) == (True, whole.frames)
  assert digest(last.params) == digest(whole.params)
  template = jax.tree.map(np.asarray, last.params)
  statistics = [
    checkpoints.read_params(tmp_path / name, 'latest', template)[1]
    for name in ('whole', 'parts')
  ]
  if given.get('normalize_obs', True):
    # Every observation that was acted on, once.
    assert float(statistics[0].count) == pytest.approx(whole.frames)
    jax.tree.map(np.testing.assert_array_equal, *statistics)
  else:
    assert statistics == [None, None]


@each_runtime
@pytest.mark.parametrize('algo', ['one_step_q', 'one_step_sarsa'])
def test_a_run_resumes_with_another_way_of_acting(tmp_path, runtime, algo):
  # A way that draws no action on arrival gets a checkpoint that has one.
  for part, acting in enumerate(['newest', 'snapshot', 'newest'], 1):
    result = run(
      tmp_path,
      algo=algo,
      acting=acting,
      runtime=runtime,
      frames=200 * part,
      anneal_frames=1000,
      override=('frames', 'acting'),
    )
    assert result.finished


def test_other_numbers_of_environments_start_new_episodes(tmp_path, caplog):
  run(tmp_path, frames=200, envs_per_thread=1)
  caplog.clear()
  result = run(
    tmp_path,
    frames=400,
    envs_per_thread=3,
    override=('frames', 'envs_per_thread', 'anneal_frames'),
  )
  assert result.finished
  assert '1 of 1 environments do not repeat' in caplog.text
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '0'


def test_corrupt_checkpoints_stay_if_none_is_intact(tmp_path):
  run(tmp_path, frames=200)
  files = [*(tmp_path / 'checkpoints').iterdir()]
  for path in files:
    path.write_bytes(b'')
  with pytest.raises(errors.UsageError, match='no checkpoint to resume from'):
    run(tmp_path, frames=200)
  assert sorted(files) == sorted((tmp_path / 'checkpoints').iterdir())
