"""Updates from a replay memory in train.csv."""

import json
import math

import numpy as np
import pytest
from results import read_rows

from a3c_jax.core import events
from a3c_jax.parameters import store
from a3c_jax.runs import log as log_lib

REPLAY_NAMES = ['replay_age', 'replay_loss']


def make_log(workdir, stat_names=('loss',), **given):
  return log_lib.RunLog(
    workdir,
    run={'algo': 'pgql'},
    stat_names=list(stat_names),
    replay_names=REPLAY_NAMES,
    total_frames=1000,
    action_repeat=1,
    **given,
  )


def applied(*values, of_replay=False, lag=0):
  """An update of a segment of two steps, or of a minibatch."""
  receipt = store.Receipt(100, 1, lag, 0.0)
  event = events.LearningStatistics(np.float32(values), of_replay)
  policy_lags = np.array([] if of_replay else [lag] * 2, np.int64)
  return store.Applied(receipt, 0, policy_lags, 1.0, (event,))


def minibatch(*values, lag=0):
  return applied(*values, of_replay=True, lag=lag)


def only_played():
  return store.Applied(store.Receipt(100, 0, 0, 0.0), 0, np.array([]), 1.0, ())


def write(log, frames, updates):
  log.write_row(frames=frames, seconds=1.0, updates=updates, learning_rate=0.5)


def columns(workdir, *names):
  return [
    tuple(float(row[name]) for name in names)
    for row in read_rows(workdir / 'train.csv')
  ]


def test_each_kind_of_update_has_means_of_its_own(tmp_path):
  with make_log(tmp_path) as log:
    log.applied([applied(2, lag=1), minibatch(10, 0.5), minibatch(30, 1.5)])
    log.applied([minibatch(20, 4, lag=3)])
    write(log, 100, 4)
  assert columns(tmp_path, 'loss', *REPLAY_NAMES) == [(2, 20, 2)]
  # A lag is of every update, a policy lag of steps that were acted on.
  assert columns(tmp_path, 'lag', 'policy_lag', 'updates') == [(1, 1, 4)]


def test_what_did_not_happen_since_the_last_row_is_nan(tmp_path):
  with make_log(tmp_path) as log:
    log.applied([applied(2)])
    write(log, 100, 1)
    log.applied([minibatch(10, 5)])
    write(log, 200, 2)
  names = ('loss', *REPLAY_NAMES, 'policy_lag')
  first, second = columns(tmp_path, *names)
  np.testing.assert_array_equal(first, (2, math.nan, math.nan, 0))
  np.testing.assert_array_equal(second, (math.nan, 10, 5, math.nan))


def test_there_are_rows_while_the_memory_is_filled(tmp_path):
  # DQN learns from nothing else, so there is no update before.
  with make_log(tmp_path, stat_names=()) as log:
    log.applied([only_played()])
    write(log, 100, 0)
    write(log, 100, 0)
    write(log, 200, 0)
    log.applied([minibatch(1, 2)])
    write(log, 300, 1)
    # Filled again after a restart without it.
    write(log, 400, 1)
  names = ('frames', 'lag', *REPLAY_NAMES)
  nan = math.nan
  np.testing.assert_array_equal(
    columns(tmp_path, *names),
    [
      (100, nan, nan, nan),
      (200, nan, nan, nan),
      (300, 0, 1, 2),
      (400, nan, nan, nan),
    ],
  )


def test_without_a_memory_there_is_no_row_without_an_update(tmp_path):
  with log_lib.RunLog(
    tmp_path,
    run={'algo': 'a3c'},
    stat_names=['loss'],
    total_frames=1000,
    action_repeat=1,
  ) as log:
    write(log, 100, 0)
  assert read_rows(tmp_path / 'train.csv') == []


def test_sums_of_both_kinds_go_on_after_a_restart(tmp_path):
  with make_log(tmp_path) as log:
    log.applied([applied(2), minibatch(10, 1), minibatch(20, 2)])
    position = json.loads(json.dumps(log.position(50)))
    log.applied([minibatch(1000, 1000)])  # Lost.
  with make_log(tmp_path, position=position) as log:
    log.applied([applied(4), minibatch(60, 3)])
    write(log, 100, 5)
  assert columns(tmp_path, 'loss', *REPLAY_NAMES) == [(3, 30, 2)]


@pytest.mark.parametrize('name', ['replay_age', 'lag', 'frames'])
def test_a_scalar_of_segments_has_another_name(tmp_path, name):
  with pytest.raises(ValueError, match=f'^{name}: '):
    make_log(tmp_path, stat_names=['loss', name])


def test_values_and_names_must_be_as_many(tmp_path):
  with make_log(tmp_path) as log, pytest.raises(ValueError):
    log.applied([minibatch(1)])
