"""A log goes on after its files were cut anywhere, as a crash leaves them."""

import csv

import numpy as np
import pytest

from a3c_jax.core import events
from a3c_jax.parameters import store
from a3c_jax.runs import log as log_lib
from a3c_jax.runs import logger

# A comma and quotes are cells' own.
RUN = {'algo': 'a3c', 'env': 'my, "own"', 'seed': 3}
FILES = ('episodes.csv', 'train.csv', 'eval.csv')


def open_log(folder, position=None):
  return log_lib.RunLog(
    folder,
    run=RUN,
    stat_names=['loss'],
    total_frames=100,
    action_repeat=4,
    position=position,
  )


def write_one_row_of_each(log, frames):
  happened = (
    events.EpisodeEnded(5.0, 1.0, 10),
    events.LearningStatistics(np.array([0.5])),
  )
  receipt = store.Receipt(frames, 1, 1, 0.001)
  log.applied([store.Applied(receipt, 0, np.zeros(5, int), 1.5, happened)])
  log.write_row(frames=frames, seconds=1.5, updates=1, learning_rate=0.1)
  log.evaluation(
    logger.EvalRow(
      frames=frames,
      seconds=1.5,
      protocol='plain',
      policy='sampled',
      episodes=1,
      mean_return=1.0,
      median_return=1.0,
      standard_error=float('nan'),
      lowest_return=1.0,
      highest_return=1.0,
      mean_steps=9.0,
      truncated_episodes=0,
      human_normalized=None,
      best=False,
    )
  )


def frames_of(content):
  """Of all rows that are whole, as a reader of the file would have them."""
  whole = content[: content.rfind(b'\n') + 1].decode()
  return [int(row['frames']) for row in csv.DictReader(whole.splitlines())]


@pytest.fixture(scope='module')
def before(tmp_path_factory):
  """Files of a log that wrote two rows, a checkpoint, and two more rows."""
  folder = tmp_path_factory.mktemp('log')
  with open_log(folder) as log:
    write_one_row_of_each(log, 10)
    write_one_row_of_each(log, 20)
    position = log.position(20)
    write_one_row_of_each(log, 30)
    write_one_row_of_each(log, 40)
  return {name: (folder / name).read_bytes() for name in FILES}, position


def test_a_file_cut_anywhere_keeps_the_whole_rows_that_a_checkpoint_counted(
  tmp_path, before, caplog
):
  contents, position = before
  for length in range(max(map(len, contents.values())) + 1):
    for name, content in contents.items():
      (tmp_path / name).write_bytes(content[:length])
    caplog.clear()
    with open_log(tmp_path, position):
      pass
    logged = caplog.text
    for name, content in contents.items():
      there = content[: min(length, position['positions'][name])]
      found = (tmp_path / name).read_bytes()
      header = content[: content.index(b'\n') + 1]
      # A header alone where even that was not whole.
      assert found == (there[: there.rfind(b'\n') + 1] or header)
      lost = len(found) < position['positions'][name]
      assert (str(tmp_path / name) in logged) == lost


@pytest.mark.parametrize('lost', [0, 1, 2, 90, 10_000])
def test_rows_that_follow_a_cut_stand_behind_those_that_are_left(
  tmp_path, before, lost
):
  contents, position = before
  left = {}
  for name, content in contents.items():
    content = content[: max(0, position['positions'][name] - lost)]
    (tmp_path / name).write_bytes(content)
    left[name] = frames_of(content)
  with open_log(tmp_path, position) as log:
    write_one_row_of_each(log, 50)
  for name in FILES:
    assert frames_of((tmp_path / name).read_bytes()) == [*left[name], 50]
