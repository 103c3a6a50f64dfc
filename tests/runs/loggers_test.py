"""What loggers receive of a run, and what their errors do."""

import json
import logging
import math
import threading

from catch_runs import run
import pytest
from results import read_rows

import a3c_jax
from a3c_jax import Logger
from a3c_jax.core import errors
from a3c_jax.runs import tracking, workdir
from a3c_jax.runs.logger import TrainRow
from a3c_jax.settings import config


class Recorder(Logger):
  """Keeps all that it receives."""

  def __init__(self):
    self.rows, self.evaluations, self.episodes = [], [], []
    self.checkpoints, self.progress = [], []
    self.closed = 0

  def on_row(self, row):
    self.rows.append(row)

  def on_evaluation(self, row):
    self.evaluations.append(row)

  def on_episode(self, row):
    self.episodes.append(row)

  def on_checkpoint(self, path):
    assert path.is_file()
    self.checkpoints.append(int(path.name))

  def on_progress(self, progress):
    self.progress.append(progress)

  def close(self):
    self.closed += 1


def test_a_logger_receives_what_the_files_have(tmp_path):
  heard = Recorder()
  run(
    tmp_path,
    frames=400,
    eval_frames=200,
    checkpoint_frames=100,
    keep=100,
    loggers=[heard],
  )
  of_file = lambda name: read_rows(tmp_path / name)
  rows = of_file('train.csv')
  assert [row.frames for row in heard.rows] == [int(x['frames']) for x in rows]
  assert heard.rows[-1].figures['mean_return'] == pytest.approx(
    float(rows[-1]['mean_return'])
  )
  assert sum(heard.rows[0].lags.values()) == heard.rows[0].figures['updates']
  assert 'lag_0' not in heard.rows[0].scalars
  episodes = of_file('episodes.csv')
  assert [(x.frames, x.episode_return) for x in heard.episodes] == [
    (int(x['frames']), float(x['episode_return'])) for x in episodes
  ]
  evaluations = of_file('eval.csv')
  assert [x.mean_return for x in heard.evaluations] == [
    float(x['mean_return']) for x in evaluations
  ]
  saved = sorted(int(x.name) for x in (tmp_path / 'checkpoints').iterdir())
  assert sorted({*heard.checkpoints}) == saved
  assert heard.checkpoints[-1] == 400
  assert heard.progress[-1].total_frames == 400
  assert heard.closed == 1


class Stop(Exception):
  pass


class Raising(Recorder):
  """Raises once, at the first report of a kind after some frames."""

  def __init__(self, method, error):
    super().__init__()
    self._method, self._error = method, error

  def __getattribute__(self, name):
    value = super().__getattribute__(name)
    if name.startswith('on_') and name == self._method and self.rows:
      self._method = None
      return self._raise
    return value

  def _raise(self, report):
    raise self._error


@pytest.mark.parametrize(
  'method',
  ['on_row', 'on_episode', 'on_evaluation', 'on_checkpoint', 'on_progress'],
)
def test_what_a_logger_raises_ends_the_run_and_nothing_is_lost(
  tmp_path, method
):
  raising, other = Raising(method, Stop('enough')), Recorder()
  with pytest.raises(Stop, match='^enough$') as caught:
    run(
      tmp_path,
      frames=10**6,
      log_seconds=0.02,
      eval_frames=200,
      eval_episodes=1,
      checkpoint_frames=200,
      keep=1000,
      record=True,
      loggers=[raising, other],
    )
  assert not getattr(caught.value, '__notes__', [])
  assert (raising.closed, other.closed) == (1, 1)
  # The files have all that happened, and so has the other logger.
  newest = max(int(x.name) for x in (tmp_path / 'checkpoints').iterdir())
  assert newest == other.checkpoints[-1]
  episodes = read_rows(tmp_path / 'episodes.csv')
  assert len(episodes) == len(other.episodes)
  assert {int(row['episode_frames']) for row in episodes} == {9}
  assert newest - 9 < 9 * len(episodes) <= newest
  rows = read_rows(tmp_path / 'train.csv')
  assert len(rows) == len(other.rows)
  counted = sum(
    int(row[name]) for row in rows for name in row if name[:4] == 'lag_'
  )
  assert counted == int(rows[-1]['updates'])
  best = [
    row for row in read_rows(tmp_path / 'eval.csv') if row['best'] == 'True'
  ]
  kept = {int(path.name) for path in (tmp_path / 'best').iterdir()}
  assert {int(row['frames']) for row in best} <= kept
  # It resumes there, and the record is whole.
  result = run(tmp_path, frames=10**6, seconds=0.01, record=True)
  assert result.frames >= newest
  *_, last = a3c_jax.rerun(tmp_path, trust=True)
  assert last.after.frames == result.frames


def test_an_error_of_a_loggers_server_is_not_one_of_the_disk(tmp_path):
  error = ConnectionRefusedError(111, 'my server is down')
  with pytest.raises(ConnectionRefusedError, match='my server is down'):
    run(
      tmp_path,
      frames=10**6,
      log_seconds=0.02,
      loggers=[Raising('on_row', error)],
    )


class BadEnd(Recorder):
  def close(self):
    super().close()
    raise ValueError('no end')


def test_a_logger_that_cannot_be_closed_costs_no_result(tmp_path, caplog):
  one, two = BadEnd(), BadEnd()
  result = run(tmp_path / 'a', frames=100, loggers=[one, two])
  assert result.finished
  assert (one.closed, two.closed) == (1, 1)
  assert caplog.text.count("closing a logger failed: ValueError('no end')") == 2
  with pytest.raises(Stop) as caught:
    run(
      tmp_path / 'b',
      frames=10**6,
      log_seconds=0.02,
      loggers=[Raising('on_row', Stop()), one],
    )
  assert caught.value.__notes__ == [
    "closing a logger failed: ValueError('no end')"
  ]


class Service:
  """A tracking service in memory."""

  def __init__(self, fails=()):
    self.sent, self.finished, self._fails = [], False, fails

  def send(self, scalars, frames):
    if len(self.sent) in self._fails:
      raise OSError('no network')
    self.sent.append((frames, scalars))

  def finish(self, *, done):
    self.finished = done


def test_a_tracker_sends_finite_numbers(tmp_path):
  service = Service()
  tracker = tracking.Tracker('mine', lambda: service)
  run(tmp_path, frames=200, eval_frames=100, eval_episodes=1, loggers=[tracker])
  assert service.finished
  frames, scalars = service.sent[-1]
  sent = [frames for frames, scalars in service.sent if 'train/lag' in scalars]
  rows = read_rows(tmp_path / 'train.csv')
  assert sent == [int(row['frames']) for row in rows]
  names = {name for _, scalars in service.sent for name in scalars}
  assert {'train/loss', 'train/lag', 'eval/mean_return'} <= names
  # NaN for a single episode, text and the axis are not sent.
  assert not {'eval/standard_error', 'eval/policy', 'train/frames'} & names
  assert all(
    math.isfinite(value)
    for _, scalars in service.sent
    for value in scalars.values()
  )


@pytest.mark.parametrize('connects', [False, True])
def test_a_run_outlives_its_tracker(tmp_path, caplog, connects):
  def connect():
    if not connects:
      raise OSError('no network')
    return Service(fails=(0,))

  result = run(
    tmp_path, frames=200, loggers=[tracking.Tracker('mine', connect)]
  )
  assert result.finished
  assert [
    record.message
    for record in caplog.records
    if record.levelno == logging.WARNING
  ] == ['the run is not tracked any more: mine: no network']


def test_a_service_that_hangs_is_given_up(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(tracking, '_CLOSE_SECONDS', 0.01)
  free = threading.Event()

  def connect():
    free.wait()
    return Service()

  result = run(
    tmp_path, frames=200, loggers=[tracking.Tracker('mine', connect)]
  )
  assert result.finished
  assert 'not tracked any more: mine: it did not take the rest' in caplog.text
  free.set()


def test_a_slow_service_does_not_fill_the_memory(monkeypatch, caplog):
  monkeypatch.setattr(tracking, '_MOST_WAITING', 2)
  free = threading.Event()
  service = Service()
  tracker = tracking.Tracker('mine', lambda: free.wait() and service)
  for frames in range(9):
    tracker.on_row(TrainRow(frames, {'lag': 1.0}, {}))
  assert caplog.text.count('not tracked any more: mine: it takes too long') == 1
  free.set()
  tracker.close()
  assert service.sent == []


def test_a_service_without_its_package_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  for name in ('wandb', 'mlflow'):
    with pytest.raises(
      errors.UsageError, match=f'^--tracker={name}: {name} is'
    ):
      run(tmp_path / 'run', frames=20, tracker=name)
  assert not (tmp_path / 'run').exists()


def test_wandb_without_a_login_is_refused(tmp_path, monkeypatch):
  pytest.importorskip('wandb')
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))
  monkeypatch.delenv('WANDB_API_KEY', raising=False)
  monkeypatch.delenv('WANDB_MODE', raising=False)
  monkeypatch.setattr('wandb.login', lambda **given: False)
  with pytest.raises(errors.UsageError, match='wandb: nobody is logged in'):
    run(tmp_path / 'run', frames=20, tracker='wandb')
  assert not (tmp_path / 'run').exists()


def test_wandb_offline_has_one_run_for_all_sessions(tmp_path, monkeypatch):
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  path = tmp_path / 'mine'
  run(path, frames=200, seconds=0.001, tracker='wandb')
  (name,) = json.loads((path / 'tracking.json').read_text()).values()
  run(path, frames=200)  # The run remembers that it is tracked.
  assert workdir.read_config(path).tracker == 'wandb'
  assert json.loads((path / 'tracking.json').read_text()) == {'wandb': name}
  written = sorted(path.glob('wandb/offline-run-*/run-*.wandb'))
  assert {file.name for file in written} == {f'run-{name}.wandb'}
  assert b'train/lag' in b''.join(file.read_bytes() for file in written)


@pytest.mark.filterwarnings('ignore')
def test_mlflow_has_one_run_for_all_sessions(tmp_path, monkeypatch):
  mlflow = pytest.importorskip('mlflow')
  pytest.importorskip('sqlalchemy')
  uri = f'sqlite:///{tmp_path}/mlflow.db'
  monkeypatch.setenv('MLFLOW_TRACKING_URI', uri)
  monkeypatch.setenv('MLFLOW_EXPERIMENT_NAME', 'catch')
  path = tmp_path / 'mine'
  run(path, frames=100, tracker='mlflow')
  run(path, frames=200, override=('frames',), tracker='mlflow')
  client = mlflow.MlflowClient(uri)
  experiment = client.get_experiment_by_name('catch')
  (found,) = client.search_runs([experiment.experiment_id])
  assert found.info.status == 'FINISHED'
  assert found.data.params['algo'] == 'a3c'
  history = client.get_metric_history(found.info.run_id, 'train/mean_return')
  assert [point.step for point in history][-1] == 200
  assert len(history) >= 2


def test_a_stranger_may_not_name_the_run(tmp_path):
  for text in ('{"wandb": "../x"}', '{"wandb": 3}', '[]', 'x', '{"wandb": ""}'):
    (tmp_path / 'tracking.json').write_text(text)
    assert tracking._known(tmp_path) == {}


def test_allowed_trackers():
  with pytest.raises(errors.UsageError, match='^--tracker=x: allowed: none'):
    config.make('catch', tracker='x')
