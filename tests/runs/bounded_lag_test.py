"""Runs that bound the lag of gradients."""

import json

from catch_runs import interrupted, make_config, our_threads, run
import pytest
from results import read_rows

from a3c_jax.core import errors
from a3c_jax.settings import config


@pytest.mark.parametrize('algo', ['a3c', 'one_step_q'])
def test_a_run_of_threads_that_wait_for_each_other_ends(tmp_path, algo):
  result = run(
    tmp_path, algo=algo, threads=3, frames=900, max_lag=2, when_late='wait'
  )
  assert result.finished
  # Every segment of 5 steps is learnt; each thread may do one too many.
  assert result.updates == result.frames / 5
  (row,) = read_rows(tmp_path / 'train.csv')
  assert float(row['late_gradients']) == 0
  assert float(row['lag']) <= 2
  assert not our_threads()


def test_one_thread_is_never_late(tmp_path):
  bounded = run(tmp_path / 'a', max_lag=1)
  plain = run(tmp_path / 'b')
  assert bounded.updates == plain.updates
  (row,) = read_rows(tmp_path / 'a/train.csv')
  assert row['late_gradients'] == '0'
  (row,) = read_rows(tmp_path / 'b/train.csv')
  assert 'late_gradients' not in row


def test_threads_that_wait_can_be_interrupted_and_resume(monkeypatch, tmp_path):
  given = {'threads': 3, 'frames': 900, 'max_lag': 2, 'when_late': 'wait'}
  interrupted(monkeypatch, tmp_path, 70, **given)
  assert not our_threads()
  result = run(tmp_path, **given)
  assert result.finished
  assert result.updates == result.frames / 5


@pytest.mark.parametrize('max_lag', [1, 2])
def test_threads_that_wait_need_room_for_all_others(tmp_path, max_lag):
  given = {'threads': 4, 'max_lag': max_lag}
  with pytest.raises(errors.UsageError) as error:
    make_config(tmp_path, when_late='wait', **given)
  (line,) = str(error.value).splitlines()
  assert line.startswith(f'--max_lag={max_lag}: ') and 'at least 3' in line
  make_config(tmp_path, when_late='drop', **given)
  for enough in (0, 3):
    make_config(tmp_path, when_late='wait', **given | {'max_lag': enough})


@pytest.mark.parametrize('runtime', ['synchronous', 'queues'])
def test_workers_that_update_together_have_no_such_bound(tmp_path, runtime):
  with pytest.raises(errors.UsageError, match='^--max_lag: not a setting of'):
    make_config(tmp_path, runtime=runtime, max_lag=3)


def test_a_run_from_before_these_settings_resumes_without_a_bound(tmp_path):
  run(tmp_path, frames=100)
  path = tmp_path / 'config.json'
  record = json.loads(path.read_text())
  for name in ('max_lag', 'when_late'):
    del record['config']['arrangement'][name]
  del record['config']['adagrad_epsilon']
  path.write_text(json.dumps(record))
  resumed = config.make('catch', workdir=str(tmp_path), frames=100)
  assert resumed.arrangement.lag_bound is None
  assert run(tmp_path, frames=100).finished
