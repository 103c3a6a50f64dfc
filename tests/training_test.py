"""Whole runs, on small tasks, with real threads."""

import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import traceback

import gymnasium
from gymnasium.vector import AutoresetMode
import jax
import jax.monitoring
import numpy as np
import pytest

from a3c_jax import agents, checks, config, telemetry, training
from a3c_jax.envs import catch, gym

WAIT_SECONDS = 120.0

# (name of the thread, event) of everything compiled in this process so far.
COMPILED = []


def _note_compilation(event, duration, **kwargs):
  del duration, kwargs
  if event == '/jax/core/compile/backend_compile_duration':
    COMPILED.append(threading.current_thread().name)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def make_config(workdir, **given):
  defaults = {'threads': 1, 'frames': 100, 'log_seconds': 1000.0}
  return config.make(
    'catch',
    workdir=str(workdir),
    environment={'name': 'catch'},
    **defaults | given,
  )


def run(workdir, make_env=None, make_learner=agents.make_learner, **given):
  settings = make_config(workdir, **given)
  return training.run(
    settings,
    make_env or gym.make(catch.Catch),
    lambda env: make_learner(settings, env),
  )


def read_rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def digest(params):
  """A hash of all bits of all parameters."""
  leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]
  return hashlib.sha256(b''.join(leaves)).hexdigest()


def our_threads():
  return [
    thread.name
    for thread in threading.enumerate()
    if thread.name.startswith('actor-learner')
  ]


class Failure(Exception):
  """What the scripted environment raises."""


class Breaks(catch.Catch):
  """Catch that fails at a given step."""

  def __init__(self, at_step=None):
    super().__init__()
    self._at_step = at_step
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == self._at_step:
      self._fail()
    return super().step(action)

  def _fail(self):
    raise Failure('the game broke')


def breaking(at_step, thread=0):
  """Environments one after another, of which one breaks; and all of them."""
  made = []

  def make_env():
    fails = len(made) == thread
    env = gymnasium.vector.SyncVectorEnv(
      [lambda: Breaks(at_step if fails else None)],
      autoreset_mode=AutoresetMode.SAME_STEP,
    )
    made.append(env)
    return env

  return make_env, made


def one_run_digest(workdir, algo):
  """Used in another process too."""
  return digest(run(pathlib.Path(workdir), algo=algo, frames=400).params)


def test_one_thread_repeats_exactly(tmp_path):
  given = {'algo': 'one_step_sarsa', 'frames': 400}
  runs = [run(tmp_path / name, **given) for name in 'ab']
  assert digest(runs[0].params) == digest(runs[1].params)
  other = run(tmp_path / 'c', seed=2, **given)
  assert digest(other.params) != digest(runs[0].params)
  rows = [read_rows(tmp_path / name / 'episodes.csv') for name in 'abc']
  for row in [row for table in rows for row in table]:
    del row['seconds'], row['seed']
  assert rows[0] == rows[1] != rows[2]


def test_another_process_gives_the_same_bits(tmp_path):
  code = (
    'import conftest, training_test; '
    f'print(training_test.one_run_digest({str(tmp_path / "b")!r}, "a3c"))'
  )
  tests = pathlib.Path(__file__).parent
  path = os.pathsep.join(
    [str(tests), str(tests.parent), os.environ.get('PYTHONPATH', '')]
  )
  output = subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | {'PYTHONPATH': path},
    capture_output=True,
    text=True,
    check=True,
    timeout=WAIT_SECONDS,
  ).stdout
  assert output.split()[-1] == one_run_digest(tmp_path / 'a', 'a3c')


@pytest.mark.parametrize(
  'given',
  [
    {'threads': 1, 'frames': 400},
    {'threads': 3, 'frames': 1001},
    {'threads': 2, 'frames': 1001, 'action_repeat': 4},
  ],
)
def test_stops_within_a_segment_per_thread(tmp_path, given):
  result = run(tmp_path, t_max=5, **given)
  segment = 5 * given.get('action_repeat', 1)
  assert given['frames'] <= result.frames
  assert result.frames < given['frames'] + given['threads'] * segment
  assert result.frames == result.updates * segment
  # A game lasts 9 steps; each thread may be within one.
  games = result.frames / given.get('action_repeat', 1) / 9
  assert games - given['threads'] < result.episodes <= games
  assert our_threads() == []
  (row,) = read_rows(tmp_path / 'train.csv')
  if given['threads'] == 1:
    assert float(row['lag']) == 0
  assert 0 <= float(row['lag']) < result.updates


def test_files_of_a_run(tmp_path):
  result = run(tmp_path / 'new' / 'folder', algo='nstep_q', threads=2)
  workdir = pathlib.Path(result.workdir)
  assert workdir == tmp_path / 'new' / 'folder'
  record = json.loads((workdir / 'config.json').read_text())
  expected = make_config(workdir, algo='nstep_q', threads=2)
  assert record['config'] == json.loads(
    json.dumps(dataclasses.asdict(expected))
  )
  assert record['versions']['jax'] == jax.__version__
  episodes = read_rows(workdir / 'episodes.csv')
  assert len(episodes) == result.episodes > 0
  for row in episodes:
    assert (row['algo'], row['env'], row['seed']) == ('nstep_q', 'catch', '1')
    assert row['episode_return'] in ('1.0', '-1.0')
    assert row['episode_frames'] == '9'
    assert row['thread'] in ('0', '1')
  (row,) = read_rows(workdir / 'train.csv')
  assert int(row['frames']) == result.frames
  assert int(row['updates']) == result.updates
  assert int(row['episodes']) == result.episodes
  assert float(row['mean_return']) == pytest.approx(result.mean_return)
  # All of the frames are over, so the learning rate has come to nothing.
  assert float(row['learning_rate']) == 0
  for name in ('loss', 'mean_q', 'grad_norm'):
    assert np.isfinite(float(row[name]))
  assert list(workdir.glob('events.out.tfevents.*'))
  assert set(result.phases) >= {'acting', 'emulator', 'gradients', 'update'}
  assert str(workdir) in training.describe(result)


def test_seconds_end_the_run_and_rows_tell_of_it(tmp_path):
  # The main thread looks about once a second, and writes a row each time.
  result = run(
    tmp_path, threads=2, frames=10**9, seconds=1.5, log_seconds=0.001
  )
  assert 0 < result.frames < 10**9
  assert result.seconds >= 1.5
  assert our_threads() == []
  frames = [int(row['frames']) for row in read_rows(tmp_path / 'train.csv')]
  assert len(frames) >= 2
  assert frames == sorted(set(frames))
  assert frames[-1] == result.frames


def test_an_exception_in_a_thread_ends_the_run(tmp_path):
  make_env, made = breaking(at_step=23, thread=2)
  with pytest.raises(Failure, match='the game broke') as raised:
    run(tmp_path, make_env, threads=3, frames=10**9)
  assert raised.value.__notes__ == ['raised in actor-learner thread 2']
  frames = [
    frame.name for frame in traceback.extract_tb(raised.value.__traceback__)
  ]
  assert frames[-1] == '_fail'
  assert 'collect' in frames
  assert our_threads() == []
  assert len(made) == 3
  assert all(env.closed for env in made)
  # The thread that failed had done four segments of five steps, two games.
  rows = read_rows(tmp_path / 'episodes.csv')
  assert [row['thread'] for row in rows].count('2') == 2
  (row,) = read_rows(tmp_path / 'train.csv')
  assert int(row['updates']) >= 4


def test_an_exception_at_the_first_step_ends_the_run(tmp_path):
  make_env, _ = breaking(at_step=1)
  with pytest.raises(Failure):
    run(tmp_path, make_env, threads=1, frames=10**9)
  assert read_rows(tmp_path / 'train.csv') == []


def test_an_exception_in_the_main_thread_stops_the_others(
  tmp_path, monkeypatch
):
  def show(self, **figures):
    raise Failure

  monkeypatch.setattr(telemetry.Log, 'show', show)
  make_env, made = breaking(at_step=None)
  with pytest.raises(Failure):
    run(tmp_path, make_env, threads=2, frames=10**9)
  assert our_threads() == []
  assert all(env.closed for env in made)


def test_environments_are_closed_when_the_learner_cannot_be_made(tmp_path):
  def make_learner(settings, env):
    raise Failure

  make_env, made = breaking(at_step=None)
  with pytest.raises(Failure):
    run(tmp_path, make_env, make_learner, threads=2)
  assert [env.closed for env in made] == [True, True]


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'a3c'},
    {'algo': 'a3c', 'lstm': True},
    {'algo': 'nstep_q', 'optimizer': 'rmsprop'},
    {'algo': 'one_step_sarsa', 'optimizer': 'momentum_sgd'},
  ],
)
def test_threads_compile_nothing(tmp_path, given):
  def make_one():  # Every game is cut, so values of final states are needed.
    return gymnasium.wrappers.TimeLimit(catch.Catch(), 7)

  before = len(COMPILED)
  run(tmp_path, gym.make(make_one, envs=2), threads=2, frames=500, **given)
  compiled = COMPILED[before:]
  assert compiled
  assert set(compiled) == {'MainThread'}


def test_gradients_are_traced_once(tmp_path):
  traced = []

  def make_learner(settings, env):
    learner = agents.make_learner(settings, env)

    def act(*args):
      traced.append('act')
      return learner.act(*args)

    def gradients(*args):
      traced.append('gradients')
      return learner.gradients(*args)

    return learner._replace(act=jax.jit(act), gradients=jax.jit(gradients))

  run(tmp_path, make_learner=make_learner, threads=3, frames=500)
  assert sorted(traced) == ['act', 'gradients']


def test_workdir_must_be_new_or_empty(tmp_path):
  (tmp_path / 'empty').mkdir()
  assert run(tmp_path / 'empty').frames >= 100
  kept = (tmp_path / 'empty' / 'train.csv').read_text()
  with pytest.raises(checks.UsageError) as error:
    run(tmp_path / 'empty')
  assert str(error.value) == (
    f'--workdir={tmp_path / "empty"}: is not empty; '
    'allowed: a new or empty folder that can be written to'
  )
  assert (tmp_path / 'empty' / 'train.csv').read_text() == kept


def test_workdir_must_be_a_folder_that_can_be_written_to(tmp_path):
  file = tmp_path / 'file'
  file.write_text('kept')
  for workdir in (file, file / 'below'):
    with pytest.raises(checks.UsageError) as error:
      run(workdir)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'--workdir={workdir}: ')
    assert line.endswith(
      'allowed: a new or empty folder that can be written to'
    )
  assert file.read_text() == 'kept'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_workdir_without_permission(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(checks.UsageError, match='--workdir'):
    run(tmp_path)
  with pytest.raises(checks.UsageError, match='--workdir'):
    run(tmp_path / 'below')
