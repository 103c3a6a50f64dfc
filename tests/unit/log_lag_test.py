"""Policy lag and the figures of a runtime in train.csv."""

import json

import numpy as np
import pytest
from results import read_rows

from a3c_jax.core import events
from a3c_jax.parameters import store
from a3c_jax.runs import log as log_lib

NAMES = ('policy_lag', 'policy_lag_p95', 'policy_lag_max')


def make_log(workdir, **given):
  return log_lib.RunLog(
    workdir,
    run={'algo': 'a3c'},
    stat_names=['loss'],
    total_frames=1000,
    action_repeat=1,
    **given,
  )


def segment(lags, *happened):
  receipt = store.Receipt(100, 1, 0, 0.0)
  return store.Applied(receipt, 0, np.array(lags), 1.0, happened)


def gradient():
  return events.LearningStatistics(np.float32([1]))


def write(log, frames, **given):
  log.write_row(
    frames=frames, seconds=1.0, updates=1, learning_rate=0.5, **given
  )


def lags_of(workdir):
  return [
    tuple(float(row[name]) for name in NAMES)
    for row in read_rows(workdir / 'train.csv')
  ]


def test_policy_lag_is_over_all_steps_of_all_segments(tmp_path):
  with make_log(tmp_path) as log:
    # A contribution of three segments is one update.
    log.applied(
      [
        segment([0] * 10, gradient()),
        segment([2] * 80),
        segment([*[3] * 5, *[40] * 5]),
      ]
    )
    write(log, 100)
    # Each row has its own; steps of dropped gradients count.
    log.applied([segment([7]), segment([7, 7, 9], gradient())])
    write(log, 200)
  rows = read_rows(tmp_path / 'train.csv')
  assert [row['loss'] for row in rows] == ['1.0', '1.0']
  assert lags_of(tmp_path) == [
    # 95 of 100 steps have at most 3.
    ((160 + 15 + 200) / 100, 3, 40),
    (7.5, 9, 9),
  ]


@pytest.mark.parametrize(('larger', 'expected'), [(5, 1), (6, 30)])
def test_the_95th_percentile_is_a_lag_that_occurred(tmp_path, larger, expected):
  with make_log(tmp_path) as log:
    log.applied([segment([1] * (100 - larger), gradient())])
    log.applied([segment([30] * larger)])
    write(log, 100)
  assert lags_of(tmp_path)[0][1] == expected


def test_gradients_are_counted_by_their_lag(tmp_path):
  limits = [0, 1, 2, 4, 8, 16, 32, 64]
  with make_log(tmp_path) as log:
    for lag in [0, *limits, *(limit + 1 for limit in limits), 1000]:
      receipt = store.Receipt(100, 1, lag, 0.0)
      log.applied([store.Applied(receipt, 0, np.array([0]), 1.0, [gradient()])])
    write(log, 100)
  (row,) = read_rows(tmp_path / 'train.csv')
  counts = [int(x) for name, x in row.items() if name.startswith('lag_')]
  # 0, 0 | 1, 1 | 2, 2 | 3, 4 | 5, 8 | 9, 16 | 17, 32 | 33, 64 | 65, 1000
  assert counts == [2] * 9


def test_lags_of_an_unfinished_row_are_resumed(tmp_path):
  with make_log(tmp_path) as log:
    log.applied([segment([1, 1, 5], gradient())])
    position = json.loads(json.dumps(log.position(50)))
  with make_log(tmp_path, position=position) as log:
    log.applied([segment([1, 9], gradient())])
    write(log, 100)
  assert lags_of(tmp_path) == [(17 / 5, 9, 9)]
  (row,) = read_rows(tmp_path / 'train.csv')
  assert row['lag_0'] == '2'


def test_figures_of_the_runtime_are_the_last_columns(tmp_path):
  with make_log(tmp_path, gauge_names=['agents', 'training_queue']) as log:
    log.applied([segment([0], gradient())])
    write(log, 100, gauges={'agents': 3, 'training_queue': 2.5})
  (row,) = read_rows(tmp_path / 'train.csv')
  assert [*row.items()][-2:] == [('agents', '3'), ('training_queue', '2.5')]
