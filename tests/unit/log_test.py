"""Files and lines of a run, read back."""

import csv
import json
import math

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from a3c_jax.core import events
from a3c_jax.parameters import store
from a3c_jax.runs import display, logger
from a3c_jax.runs import log as log_lib

RUN = {'algo': 'a3c', 'env': 'pong', 'seed': 3}
LAG_COUNTS = [
  'lag_0',
  'lag_1',
  'lag_2',
  'lag_3_4',
  'lag_5_8',
  'lag_9_16',
  'lag_17_32',
  'lag_33_64',
  'lag_65_up',
]
TRAIN_COLUMNS = [
  *RUN,
  'frames',
  'seconds',
  'frames_per_second',
  'updates',
  'learning_rate',
  'loss',
  'entropy',
  'lag',
  *LAG_COUNTS,
  'policy_lag',
  'policy_lag_p95',
  'policy_lag_max',
  'lock_wait_ms',
  'episodes',
  'mean_return',
  'env_restarts',
  'bad_gradients',
]
EPISODE_COLUMNS = [
  *RUN,
  'frames',
  'seconds',
  'thread',
  'episode_return',
  'clipped_return',
  'episode_frames',
]


def make_log(workdir, **changes):
  arguments = {
    'run': RUN,
    'stat_names': ['loss', 'entropy'],
    'total_frames': 1000,
    'action_repeat': 4,
  }
  return log_lib.RunLog(workdir, **arguments | changes)


def applied(*happened, frames=100, lag=0, lock_wait=0.0, thread=0, lags=(0,)):
  """A contribution that was applied 1.25 seconds after training began."""
  receipt = store.Receipt(frames, 1, lag, lock_wait)
  return store.Applied(receipt, thread, np.array(lags, int), 1.25, happened)


def update(loss=0.0, entropy=0.0, lag=0, lock_wait=0.0, lags=(0,)):
  values = np.array([loss, entropy], np.float32)
  return applied(
    events.LearningStatistics(values), lag=lag, lock_wait=lock_wait, lags=lags
  )


def episode(frames=100, episode_return=5.0, thread=0):
  ended = events.EpisodeEnded(episode_return, 2.0, 10)
  return applied(ended, frames=frames, thread=thread, lags=())


def report(log, *contributions):
  log.applied(contributions)


def read_rows(path):
  with path.open(newline='') as file:
    reader = csv.DictReader(file)
    return reader.fieldnames, list(reader)


def read_events(path):
  """All events of a file.

  A record is a length (8 bytes), its checksum (4), the data and theirs (4).
  """
  data = path.read_bytes()
  while data:
    length = int.from_bytes(data[:8], 'little')
    yield event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]


def read_scalars(workdir):
  """All (tag, step, value) of the one event file."""
  (path,) = workdir.glob('events.out.tfevents.*')
  return [
    (value.tag, event.step, value.simple_value)
    for event in read_events(path)
    for value in event.summary.value
  ]


def test_rows_are_means_since_the_last_row(tmp_path):
  with make_log(tmp_path) as log:
    report(log, update(loss=1.0, lag=1, lock_wait=0.002, lags=[1] * 18))
    report(
      log, update(loss=4.0, entropy=1.0, lag=2, lock_wait=0.004, lags=[2, 5])
    )
    report(log, episode(episode_return=5.0), episode(episode_return=8.0))
    log.write_row(frames=100, seconds=2.0, updates=2, learning_rate=0.5)
    report(log, update(loss=-3.0))
    log.write_row(frames=130, seconds=8.0, updates=3, learning_rate=0.25)
  columns, rows = read_rows(tmp_path / 'train.csv')
  assert columns == TRAIN_COLUMNS
  numbers = [
    {name: float(row[name]) for name in TRAIN_COLUMNS[3:]} for row in rows
  ]
  assert numbers == [
    {
      'frames': 100,
      'seconds': 2,
      'frames_per_second': 50,
      'updates': 2,
      'learning_rate': 0.5,
      'loss': 2.5,
      'entropy': 0.5,
      'lag': 1.5,
      **dict.fromkeys(LAG_COUNTS, 0) | {'lag_1': 1, 'lag_2': 1},
      'policy_lag': 1.25,  # (18 · 1 + 2 + 5) / 20
      'policy_lag_p95': 2,
      'policy_lag_max': 5,
      'lock_wait_ms': pytest.approx(3),
      'episodes': 2,
      'mean_return': 6.5,
      'env_restarts': 0,
      'bad_gradients': 0,
    },
    {
      'frames': 130,
      'seconds': 8,
      # 30 frames in 6 seconds.
      'frames_per_second': 5,
      'updates': 3,
      'learning_rate': 0.25,
      'loss': -3,
      'entropy': 0,
      'lag': 0,
      **dict.fromkeys(LAG_COUNTS, 0) | {'lag_0': 1},
      'policy_lag': 0,
      'policy_lag_p95': 0,
      'policy_lag_max': 0,
      'lock_wait_ms': 0,
      'episodes': 2,
      'mean_return': 6.5,
      'env_restarts': 0,
      'bad_gradients': 0,
    },
  ]
  for row in rows:
    assert [row[name] for name in RUN] == ['a3c', 'pong', '3']


def test_episode_rows(tmp_path):
  with make_log(tmp_path) as log:
    report(log, episode(frames=100, episode_return=-21.0, thread=2))
    assert log.episodes == 1
    # Whole lines reach the disk while the run goes on.
    columns, rows = read_rows(tmp_path / 'episodes.csv')
  assert columns == EPISODE_COLUMNS
  assert rows == [
    {
      'algo': 'a3c',
      'env': 'pong',
      'seed': '3',
      'frames': '100',
      'seconds': '1.250',
      'thread': '2',
      'episode_return': '-21.0',
      'clipped_return': '2.0',
      'episode_frames': '40',
    }
  ]


def test_mean_return_is_of_the_newest_hundred(tmp_path):
  with make_log(tmp_path) as log:
    assert math.isnan(log.mean_return)
    report(log, *[episode(episode_return=1000.0)] * 50)
    report(
      log, *[episode(episode_return=1.0)] * 99, episode(episode_return=2.0)
    )
    assert log.mean_return == pytest.approx(1.01)
    assert log.episodes == 150


def test_no_row_without_updates(tmp_path):
  with make_log(tmp_path) as log:
    log.write_row(frames=0, seconds=1.0, updates=0, learning_rate=0.5)
    report(log, update())
    log.write_row(frames=20, seconds=2.0, updates=1, learning_rate=0.5)
    log.write_row(frames=20, seconds=3.0, updates=1, learning_rate=0.5)
  _, rows = read_rows(tmp_path / 'train.csv')
  # The speed is still that since the beginning: 20 frames in 2 seconds.
  assert [row['frames_per_second'] for row in rows] == ['10.0']
  assert rows[0]['mean_return'] == 'nan'


def test_one_row_per_frame_though_an_update_is_told_of_late(tmp_path):
  with make_log(tmp_path) as log:
    report(log, update(loss=1.0))
    log.write_row(frames=20, seconds=2.0, updates=2, learning_rate=0.5)
    report(log, update(loss=2.0))  # It had come before that row.
    log.write_row(frames=20, seconds=3.0, updates=2, learning_rate=0.5)
    report(log, update(loss=4.0))
    log.write_row(frames=40, seconds=4.0, updates=3, learning_rate=0.5)
  _, rows = read_rows(tmp_path / 'train.csv')
  assert [(row['frames'], row['loss']) for row in rows] == [
    ('20', '1.0'),
    ('40', '3.0'),
  ]


def test_tensorboard_gets_the_same_figures_but_no_nan(tmp_path):
  with make_log(tmp_path) as log:
    report(log, update(loss=1.5))
    log.write_row(frames=10, seconds=1.0, updates=1, learning_rate=0.5)
    report(log, update(loss=2.5), episode(frames=15, episode_return=4.0))
    log.write_row(frames=20, seconds=2.0, updates=2, learning_rate=0.25)
  scalars = read_scalars(tmp_path)
  assert ('train/loss', 10, 1.5) in scalars
  assert ('train/loss', 20, 2.5) in scalars
  assert ('train/learning_rate', 20, 0.25) in scalars
  assert ('episode/return', 15, 4.0) in scalars
  assert ('episode/frames', 15, 40.0) in scalars
  # No mean return at frame 10, where no episode had ended.
  means = [scalar for scalar in scalars if scalar[0] == 'train/mean_return']
  assert means == [('train/mean_return', 20, 4.0)]
  names = {tag for tag, step, _ in scalars if step == 20}
  # The counts of lags are one histogram.
  shown = {*TRAIN_COLUMNS[4:], 'lag_histogram'} - {*LAG_COUNTS}
  assert names == {f'train/{name}' for name in shown}


def test_tensorboard_gets_a_histogram_of_lags(tmp_path):
  with make_log(tmp_path) as log:
    report(log, *[update(lag=lag) for lag in (0, 3, 3, 5)])
    log.write_row(frames=10, seconds=1.0, updates=4, learning_rate=0.5)
  (path,) = tmp_path.glob('events.out.tfevents.*')
  (found,) = [
    value.histo
    for event in read_events(path)
    for value in event.summary.value
    if value.tag == 'train/lag_histogram'
  ]
  assert (found.min, found.max, found.num) == (0, 5, 4)
  assert (found.sum, found.sum_squares) == (11, 43)
  assert [*found.bucket_limit] == [0.5, 3.5, 5.5]
  assert [*found.bucket] == [1, 2, 1]


def test_files_are_closed_when_the_run_fails(tmp_path):
  with pytest.raises(ZeroDivisionError), make_log(tmp_path) as log:
    report(log, update(loss=1.5), episode())
    log.write_row(frames=10, seconds=1.0, updates=1, learning_rate=0.5)
    raise ZeroDivisionError
  assert len(read_rows(tmp_path / 'train.csv')[1]) == 1
  assert len(read_rows(tmp_path / 'episodes.csv')[1]) == 1
  assert ('train/loss', 10, 1.5) in read_scalars(tmp_path)
  with pytest.raises(ValueError, match='closed'):
    report(log, episode())


def shown_run(workdir):
  """A run of two looks and one row between them, as a script shows it."""
  with display.shown() as shown:
    line = display.ProgressLine(shown)
    with make_log(workdir, total_frames=40_000, loggers=[line]) as log:
      yield from steps(log)


def steps(log):
  report(log, update(), episode(episode_return=2.0))
  log.report_progress(12_000, 2.0)
  log.tell_loggers()
  yield
  log.write_row(frames=20_000, seconds=4.0, updates=1, learning_rate=0.5)
  log.incident(events.Incident('env_restarts', 'a game broke'))
  yield


def test_a_live_line_has_scores_lag_frames_and_speed_in_80_columns():
  shown = Shown()
  line = display.ProgressLine(shown)
  progress = logger.Progress(9_999, 10_000, 1.4, math.nan)
  line.on_progress(progress)
  line.on_row(logger.TrainRow(100, {'lag': 1.04}, {}))
  line.on_evaluation(EVAL_ROW._replace(mean_return=-19.956))
  line.on_progress(progress._replace(mean_return=-20.734))
  line.on_row(logger.TrainRow(100, {'lag': 9.96}, {}))
  line.on_row(logger.TrainRow(100, {'lag': math.nan}, {}))
  line.on_evaluation(EVAL_ROW._replace(mean_return=123_456.7))
  longest = progress._replace(
    frames=123_456_789, mean_return=-123_456.7, frames_per_second=99_999
  )
  line.on_progress(longest)
  assert shown.texts == [
    'return none yet  9,999 frames  1/s',
    'return -20.73  eval -19.96  lag 1.0  9,999 frames  1/s',
    'return -123457  eval 123457  lag 10.0  123.46M  99,999/s',
  ]


class Shown:
  """A display that keeps the texts of its live line."""

  def __init__(self):
    self.texts = []

  def update(self, text, *, done, total):
    del done, total
    self.texts.append(text)


def test_plain_lines_where_there_is_no_terminal(tmp_path, capsys, monkeypatch):
  for name in ('FORCE_COLOR', 'TTY_COMPATIBLE'):
    monkeypatch.delenv(name, raising=False)
  assert [*shown_run(tmp_path)] == [None, None]
  captured = capsys.readouterr()
  assert captured.out == 'return 2.00  20,000 frames  5,000/s\n'
  assert captured.err == 'warning: a game broke\n'


def test_live_line_on_a_terminal(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv('FORCE_COLOR', '1')
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '80')
  run = shown_run(tmp_path)
  next(run)
  first = capsys.readouterr().out
  assert '30%' in first
  assert 'return 2.00  12,000 frames  6,000/s' in first
  next(run)
  later = capsys.readouterr().out
  assert '20,000' not in later  # The row goes to the file, not over the line.
  assert 'warning: a game broke' in later
  assert [*run] == []


def test_a_library_prints_nothing(tmp_path, capsys):
  with make_log(tmp_path) as log:
    report(log, update())
    log.write_row(frames=20, seconds=4.0, updates=1, learning_rate=0.5)
    log.incident(events.Incident('env_restarts', 'a game broke'))
    log.evaluation(EVAL_ROW)
  captured = capsys.readouterr()
  assert (captured.out, captured.err) == ('', '')


def write(log, frames):
  """Five frames before, an episode ends; at these frames a row is written."""
  report(log, update(loss=frames), episode(frames=frames - 5))
  log.write_row(
    frames=frames, seconds=frames / 10, updates=frames, learning_rate=0.5
  )


EVAL_ROW = logger.EvalRow(
  frames=20,
  seconds=1.25,
  protocol='noop30',
  policy='sampled',
  episodes=3,
  mean_return=-3.0,
  median_return=-2.5,
  standard_error=0.5,
  lowest_return=-4.0,
  highest_return=-1.0,
  mean_steps=100.0,
  truncated_episodes=0,
  human_normalized=50.125,
  best=True,
)


def test_an_evaluation_is_written_and_logged(tmp_path, caplog):
  with make_log(tmp_path) as log:
    log.evaluation(EVAL_ROW)
    log.evaluation(EVAL_ROW._replace(human_normalized=None, best=False))
    nan = float('nan')
    log.evaluation(EVAL_ROW._replace(mean_return=nan, standard_error=nan))
  with (tmp_path / 'eval.csv').open(newline='') as file:
    rows = [*csv.DictReader(file)]
  assert [*rows[0]][-14:] == [*logger.EvalRow._fields]
  assert [row['human_normalized'] for row in rows] == ['50.125', '', '50.125']
  assert [row['best'] for row in rows] == ['True', 'False', 'True']
  assert rows[0]['protocol'] == 'noop30'
  lines = caplog.messages
  line = 'evaluation at frame 20: mean return -3.00 ± 0.50, 3 episodes, noop30'
  assert lines == [
    line + ', 50.1% of human',
    line,
    line.replace('-3.00 ± 0.50', 'nan') + ', 50.1% of human',
  ]
  (path,) = tmp_path.glob('events.out.tfevents.*')
  scalars = {
    (value.tag, event.step): value.simple_value
    for event in read_events(path)
    for value in event.summary.value
  }
  assert scalars == {
    ('eval/mean_return', 20): -3.0,
    ('eval/median_return', 20): -2.5,
    ('eval/human_normalized', 20): 50.125,
  }


def test_files_resume_at_a_position(tmp_path):
  for name in ('stopped', 'whole'):
    (tmp_path / name).mkdir()
  with make_log(tmp_path / 'stopped') as log:
    write(log, 10)
    report(log, update(loss=30.0), episode(frames=12, episode_return=9.0))
    position = json.loads(json.dumps(log.position(14)))
    write(log, 20)  # All of this is lost.
    log.evaluation(EVAL_ROW)
  with make_log(tmp_path / 'stopped', position=position) as log:
    assert log.episodes == 2
    write(log, 30)
    mean_return = log.mean_return
  with make_log(tmp_path / 'whole') as log:
    write(log, 10)
    report(log, update(loss=30.0), episode(frames=12, episode_return=9.0))
    write(log, 30)
    assert mean_return == log.mean_return
  for name in ('train.csv', 'episodes.csv', 'eval.csv'):
    stopped, whole = (
      (tmp_path / folder / name).read_text() for folder in ('stopped', 'whole')
    )
    assert stopped == whole


def test_a_file_that_has_lost_rows_resumes_with_whole_ones(tmp_path, caplog):
  with make_log(tmp_path) as log:
    write(log, 10)
    write(log, 20)
    position = log.position(20)
  lines = (tmp_path / 'train.csv').read_bytes().splitlines(keepends=True)
  (tmp_path / 'train.csv').write_bytes(lines[0] + lines[1] + lines[2][:-4])
  (tmp_path / 'eval.csv').unlink()
  (tmp_path / 'episodes.csv').unlink()
  caplog.clear()
  with make_log(tmp_path, position=position) as log:
    logged = [*caplog.messages]
    write(log, 30)
  assert logged == [
    f'{tmp_path}/{name} is shorter than at the checkpoint: rows are lost'
    for name in ('episodes.csv', 'train.csv', 'eval.csv')
  ]
  with (tmp_path / 'train.csv').open(newline='') as file:
    assert [row['frames'] for row in csv.DictReader(file)] == ['10', '30']
  assert (tmp_path / 'eval.csv').read_text().startswith('algo,')


def test_tensorboard_forgets_what_came_after_the_checkpoint(tmp_path):
  with make_log(tmp_path) as log:
    write(log, 10)
    position = log.position(14)
    write(log, 20)
  (first,) = tmp_path.glob('events.out.tfevents.*')
  first = first.rename(tmp_path / 'first')
  with make_log(tmp_path, position=position) as log:
    write(log, 30)
  (second,) = tmp_path.glob('events.out.tfevents.*')
  starts = [
    event.step
    for event in read_events(second)
    if event.session_log.status == event_pb2.SessionLog.START
  ]
  # TensorBoard drops every earlier event whose step is not below this one.
  assert starts == [15]


def tags(workdir):
  """(tag, step) of all that every event file tells, in order of their names."""
  return [
    (value.tag, event.step)
    for path in sorted(workdir.glob('events.out.tfevents.*'))
    for event in read_events(path)
    for value in event.summary.value
  ]


def test_events_stand_where_the_checkpoint_has_them(tmp_path):
  with make_log(tmp_path) as log:
    report(log, episode(frames=5))
    position = json.loads(json.dumps(log.position(14)))
    # On disk already, as the rows of episodes.csv: the process may be killed.
    kept = [('episode/return', 5), ('episode/frames', 5)]
    assert tags(tmp_path) == kept
    log.evaluation(EVAL_ROW._replace(frames=10))  # Ends only now.
    report(log, episode(frames=20))
  assert len(tags(tmp_path)) == 2 + 3 + 2
  # Two sessions, of which the first writes no checkpoint.
  for frames in (30, 40):
    with make_log(tmp_path, position=position) as log:
      report(log, episode(frames=frames))
      second = json.loads(json.dumps(log.position(50)))
    later = [('episode/return', frames), ('episode/frames', frames)]
    assert tags(tmp_path) == kept + later
  with make_log(tmp_path, position=second) as log:
    report(log, episode(frames=60))
  third = [('episode/return', 60), ('episode/frames', 60)]
  assert tags(tmp_path) == kept + later + third
  assert read_rows(tmp_path / 'eval.csv')[1] == []
  # A run restarts if its first session wrote no checkpoint.
  with make_log(tmp_path):
    pass
  assert tags(tmp_path) == []


def test_event_files_of_others_are_left_alone(tmp_path):
  others = tmp_path / 'events.out.tfevents.1.mine'
  others.write_bytes(b'mine')
  with make_log(tmp_path) as log:
    position = log.position(14)
  with make_log(tmp_path, position=position):
    pass
  assert others.read_bytes() == b'mine'
  assert len([*tmp_path.glob('*.a3c_jax')]) >= 2


def test_a_file_of_an_earlier_version_keeps_its_columns(tmp_path):
  with make_log(tmp_path) as log:
    log.evaluation(EVAL_ROW)
    path = tmp_path / 'eval.csv'
    header, row = path.read_text().splitlines()
    names, values = header.split(','), row.split(',')
    index = names.index('truncated_episodes')
    del names[index], values[index]
    path.write_text(','.join(names) + '\r\n' + ','.join(values) + '\r\n')
    position = log.position(20)
  position['positions']['eval.csv'] = path.stat().st_size
  with make_log(tmp_path, position=position) as log:
    log.evaluation(EVAL_ROW._replace(frames=40, best=False))
  columns, rows = read_rows(path)
  assert columns == names
  assert [row['frames'] for row in rows] == ['20', '40']
  assert [row['best'] for row in rows] == ['True', 'False']
  assert [row['mean_steps'] for row in rows] == ['100.0', '100.0']


def test_a_log_knows_the_most_seconds_of_its_rows(tmp_path):
  with make_log(tmp_path) as log:
    assert log.seconds == 0
    report(log, update(), episode())
    assert log.seconds == 1.25
    log.write_row(frames=10, seconds=2.5, updates=1, learning_rate=0.5)
    assert log.seconds == 2.5
    log.evaluation(EVAL_ROW)  # It began at 1.25.
    assert log.seconds == 2.5


def test_truncated_episodes_are_logged(tmp_path, caplog):
  with make_log(tmp_path) as log:
    log.evaluation(EVAL_ROW._replace(truncated_episodes=2))
  assert '3 episodes, 2 of them truncated, noop30' in caplog.text
  (row,) = read_rows(tmp_path / 'eval.csv')[1]
  assert row['truncated_episodes'] == '2'


def test_incidents_are_counted_and_logged(tmp_path, caplog):
  with make_log(tmp_path) as log:
    report(
      log,
      update(),
      applied(events.Incident('bad_gradients', 'w is nan')),
      applied(events.Incident('bad_gradients', 'w is nan again')),
    )
    log.incident(events.Incident('env_restarts', 'game 3 broke'))
    assert caplog.messages == ['w is nan', 'w is nan again', 'game 3 broke']
    log.write_row(frames=10, seconds=1.0, updates=1, learning_rate=0.5)
  (row,) = read_rows(tmp_path / 'train.csv')[1]
  assert (row['env_restarts'], row['bad_gradients']) == ('1', '2')


def test_names_that_a_spreadsheet_would_compute_are_text(tmp_path):
  with make_log(tmp_path, run=RUN | {'env': '=1+1'}) as log:
    report(log, episode(episode_return=-20.4), update())
    log.write_row(frames=100, seconds=2.0, updates=1, learning_rate=0.5)
    log.evaluation(EVAL_ROW._replace(policy='@mean', mean_return=-3.5))
  for name in ('episodes', 'train', 'eval'):
    _, (row,) = read_rows(tmp_path / f'{name}.csv')
    assert row['env'] == "'=1+1"
  assert row['policy'] == "'@mean"
  assert row['mean_return'] == '-3.5'
  _, (row,) = read_rows(tmp_path / 'episodes.csv')
  assert row['episode_return'] == '-20.4'


def test_positions_after_a_resume_are_those_of_the_files(tmp_path):
  with make_log(tmp_path) as log:
    report(log, episode(frames=10))
    position = log.position(10)
    report(log, episode(frames=20))
  # Nothing is written before the next checkpoint.
  with make_log(tmp_path, position=position) as log:
    again = log.position(10)
  assert again['positions'] == position['positions']
  size = (tmp_path / 'episodes.csv').stat().st_size
  assert size == position['positions']['episodes.csv']


@pytest.mark.parametrize('name', ['lag', 'frames', 'policy_lag_max', 'agents'])
def test_two_columns_of_one_name_are_refused(tmp_path, name):
  with pytest.raises(ValueError, match=f'^{name}: more than one column'):
    make_log(tmp_path, stat_names=['loss', name], gauge_names=['agents'])


def test_numbers_that_are_not_finite_are_no_events(tmp_path, capfd):
  with make_log(tmp_path) as log:
    for number in (math.nan, math.inf, 3.0):
      report(log, episode(episode_return=number))
  returns = [
    each[2] for each in read_scalars(tmp_path) if each[0] == 'episode/return'
  ]
  assert returns == [3.0]
  assert capfd.readouterr() == ('', '')
