"""Whole runs, on small tasks, with real threads."""

import csv
import dataclasses
import functools
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

import flax.linen as nn
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.vector import AutoresetMode
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from results import digest, read_rows
from short_runs import make_ctrl_c

import a3c_jax
from a3c_jax import networks
from a3c_jax.acting import rollout
from a3c_jax.algorithms import value_based
from a3c_jax.core import errors, signals, workers
from a3c_jax.envs import catch, control, gym, replayable
from a3c_jax.envs import domain as domain_lib
from a3c_jax.runs import (
  checkpoints,
  evaluation,
  loading,
  log,
  setting_up,
  training,
  workdir,
)
from a3c_jax.settings import build, config

WAIT_SECONDS = 120.0

# (name of the thread, event) of everything compiled in this process so far.
COMPILED = []


def _note_compilation(event, duration, **kwargs):
  del duration, kwargs
  if event == '/jax/core/compile/backend_compile_duration':
    COMPILED.append(threading.current_thread().name)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def make_config(workdir, *, domain='catch', **given):
  defaults = {
    'threads': 1,
    'frames': 100,
    'log_seconds': 1000.0,
    'eval_frames': 0,
  }
  return config.make(
    domain,
    workdir=str(workdir),
    **defaults | given,
  )


def run_config(settings, *makers, **how):
  """A run that obeys signals and is looked at often."""
  with signals.Signals() as received:
    return training.run(
      settings, *makers, signals=received, period_seconds=0.01, **how
    )


def run(workdir, make_env=None, make_learner=build.make_learner, **given):
  settings = make_config(workdir, **given)
  return run_config(settings, make_env, lambda env: make_learner(settings, env))


def saved(folder):
  """The counts of frames of the checkpoints in a folder."""
  return sorted(int(path.name) for path in folder.iterdir())


def our_threads():
  return [
    thread.name
    for thread in threading.enumerate()
    if thread.name.startswith('actor-learner')
  ]


def make_wide():
  """A torso with a kernel whose gradient is handed over in factors."""
  return networks.MLPTorso(obs_dims=2, hidden=(700,))


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


def test_a_gain_widens_the_initial_weights_of_any_learner(tmp_path):
  def make_learner(settings, env):
    del env
    network = networks.QNetwork(networks.MLPTorso(obs_dims=2), 3)
    return value_based.nstep_q(network)

  torsos = [
    run(
      tmp_path / str(gain),
      make_learner=make_learner,
      algo='nstep_q',
      learning_rate=1e-9,  # So that they stay.
      init_gain=gain,
    ).params['params']['torso']
    for gain in (1.0, 3.0)
  ]
  kernels = [torso['Linear_0']['Dense_0']['kernel'] for torso in torsos]
  np.testing.assert_allclose(kernels[1], 3 * kernels[0], atol=1e-5)
  biases = [torso['Linear_0']['Dense_0']['bias'] for torso in torsos]
  np.testing.assert_allclose(biases[1], biases[0], atol=1e-5)


def test_a_learner_with_a_target_needs_an_algorithm_with_its_period(tmp_path):
  def make_learner(settings, env):
    del settings, env
    network = networks.QNetwork(networks.MLPTorso(obs_dims=2), 3)
    return value_based.nstep_q(network)

  with pytest.raises(errors.UsageError, match='^--algo=a3c: .*_period_frames'):
    run(tmp_path, make_learner=make_learner, algo='a3c')


def test_another_process_gives_the_same_bits(tmp_path):
  code = (
    'import conftest, training_test; '
    f'print(training_test.one_run_digest({str(tmp_path / "b")!r}, "a3c"))'
  )
  output = subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
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
    {'threads': 2, 'frames': 1001, 'domain': 'repeats'},
  ],
)
def test_stops_within_a_segment_per_thread(tmp_path, monkeypatch, given):
  monkeypatch.setattr(domain_lib, '_registered', {})
  domain_lib.register(
    catch.DOMAIN._replace(name='repeats', action_repeat=lambda options: 4)
  )
  result = run(tmp_path, t_max=5, **given)
  repeat = 4 if 'domain' in given else 1
  segment = 5 * repeat
  assert given['frames'] <= result.frames
  assert result.frames < given['frames'] + given['threads'] * segment
  assert result.frames == result.updates * segment
  # A game lasts 9 steps; each thread may be within one.
  games = result.frames / repeat / 9
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
    run(tmp_path, make_env, threads=3, frames=10**9, max_env_restarts=0)
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
    run(tmp_path, make_env, threads=1, frames=10**9, max_env_restarts=0)
  assert read_rows(tmp_path / 'train.csv') == []


def test_an_exception_in_the_main_thread_stops_the_others(
  tmp_path, monkeypatch
):
  def progress(self, frames, seconds):
    raise Failure

  monkeypatch.setattr(log.RunLog, 'progress', progress)
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
  given = {'threads': 2, 'frames': 500, 'eval_frames': 100} | given
  run(tmp_path, gym.make(make_one, num_envs=2), **given)
  compiled = COMPILED[before:]
  assert compiled
  assert set(compiled) == {'MainThread'}


def test_gradients_are_traced_once(tmp_path):
  traced = []

  def make_learner(settings, env):
    learner = build.make_learner(settings, env)

    def act(*args):
      traced.append('act')
      return learner.act(*args)

    def gradients(*args):
      traced.append('gradients')
      return learner.gradients(*args)

    return learner._replace(
      act=jax.jit(act), act_and_keep=None, gradients=jax.jit(gradients)
    )

  run(tmp_path, make_learner=make_learner, threads=3, frames=500)
  assert sorted(traced) == ['act', 'gradients']


class Interrupts(catch.Catch):
  """Catch that ends the run at one step, as Ctrl-C does."""

  def __init__(self, at_step, ctrl_c):
    super().__init__()
    self._at_step = at_step
    self._ctrl_c = ctrl_c
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == self._at_step:
      self._ctrl_c()
    return super().step(action)


def interrupted(monkeypatch, workdir, at_step, **given):
  """A run that ends at a step of a thread; those that it replays count too."""
  ctrl_c = make_ctrl_c(monkeypatch)
  make_env = gym.make(
    lambda: Interrupts(at_step, ctrl_c),
    num_envs=given.get('envs_per_thread', 1),
  )
  result = run(workdir, make_env, **given)
  assert not result.finished
  assert 0 < result.frames < given['frames']
  assert f'--workdir={workdir}' in training.describe(result)
  return result


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'a3c', 'lstm': True},
    {'algo': 'one_step_sarsa', 'optimizer': 'momentum_sgd'},
    {'algo': 'nstep_q', 'optimizer': 'rmsprop', 'envs_per_thread': 3},
    {'algo': 'a3c', 't_max': 5, 'network': 'training_test:make_wide'},
  ],
)
def test_a_stopped_run_ends_in_the_same_bits(tmp_path, monkeypatch, given):
  monkeypatch.setattr(replayable, 'RESEED_STEPS', 500)
  given |= {
    'frames': 6000,
    'anneal_frames': 7000,
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
  rows = [
    read_rows(tmp_path / name / 'episodes.csv') for name in ('whole', 'parts')
  ]
  for row in [row for table in rows for row in table]:
    del row['seconds']
  assert rows[0] == rows[1]
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


def test_many_threads_go_on(tmp_path, monkeypatch):
  given = {'algo': 'nstep_q', 'threads': 3, 'frames': 8000}
  first = interrupted(monkeypatch, tmp_path, 900, **given)
  last = run(tmp_path, **given)
  assert last.finished
  assert last.episodes > first.episodes
  rows = read_rows(tmp_path / 'episodes.csv')
  assert len(rows) == last.episodes
  for thread in '012':
    frames = [int(row['frames']) for row in rows if row['thread'] == thread]
    assert frames == sorted(set(frames))


class Unrepeatable(catch.Catch):
  """Where the ball falls depends on more than the seed."""

  def reset(self, *, seed=None, options=None):
    return super().reset(seed=int.from_bytes(os.urandom(3)), options=options)


def test_games_that_cannot_be_repeated_begin_anew(tmp_path, caplog):
  make_env = gym.make(Unrepeatable)
  given = {'threads': 2, 'algo': 'nstep_q'}
  # Catch has 5 columns, so two games may be the same by chance.
  for frames in (1000, 2000, 3000, 4000, 5000):
    run(
      tmp_path,
      make_env,
      frames=frames,
      anneal_frames=10**6,
      override=('frames',),
      **given,
    )
  assert 'environments do not repeat what they did' in caplog.text


def test_a_broken_environment_is_made_anew(tmp_path, caplog):
  make_env, made = breaking(at_step=23, thread=1)
  result = run(tmp_path, make_env, threads=2, frames=3000)
  assert result.finished
  assert len(made) == 3
  assert made[1].closed
  told = caplog.text
  assert "thread 1 raised Failure('the game broke'); replaced, 1 of" in told
  (*_, row) = read_rows(tmp_path / 'train.csv')
  assert row['env_restarts'] == '1'


def test_an_environment_that_breaks_again_and_again_ends_the_run(tmp_path):
  def make_env():
    return gymnasium.vector.SyncVectorEnv(
      [lambda: Breaks(7)], autoreset_mode=AutoresetMode.SAME_STEP
    )

  with pytest.raises(Failure):
    run(tmp_path, make_env, frames=3000, max_env_restarts=2)
  assert len(list((tmp_path / 'checkpoints').iterdir())) >= 1


def bad_gradients(which):
  """A learner whose gradients of some calls are not finite."""
  calls = []

  def make_learner(settings, env):
    learner = build.make_learner(settings, env)

    def gradients(params, target_params, segment):
      grads, stats = learner.gradients(params, target_params, segment)
      bad = jnp.where(segment.r_t[0, 0] > 10, jnp.nan, 0.0)
      return jax.tree.map(lambda grad: grad + bad, grads), stats

    return learner._replace(gradients=gradients)

  class Poisoned(catch.Catch):
    def step(self, action):
      calls.append(None)
      obs, reward, *ends = super().step(action)
      return obs, 100.0 if which(len(calls)) else reward, *ends

  make_env = gym.make(Poisoned)
  calls.clear()  # Of the trial before there is a run.
  return make_learner, make_env


@pytest.mark.parametrize('network', ['mlp', 'training_test:make_wide'])
def test_a_gradient_that_is_not_finite_is_dropped(tmp_path, caplog, network):
  # Steps 6, 21 and 36 are the first ones of their segments.
  make_learner, make_env = bad_gradients(lambda step: step in (6, 21, 36))
  result = run(
    tmp_path,
    make_env,
    make_learner,
    network=network,
    t_max=5,
    max_bad_gradients=1,
    frames=500,
  )
  assert result.finished
  assert result.updates == 100 - 3
  for leaf in jax.tree.leaves(result.params):
    assert np.isfinite(leaf).all()
  (*_, row) = read_rows(tmp_path / 'train.csv')
  assert row['bad_gradients'] == '3'
  assert np.isfinite(float(row['loss']))
  assert 'gradient of thread 0 dropped: params/' in caplog.text


def test_too_many_bad_gradients_in_a_row_end_the_run(tmp_path):
  make_learner, make_env = bad_gradients(lambda step: step > 100)
  with pytest.raises(
    errors.BadGradientError, match='3 gradients in a row.*params/'
  ):
    run(
      tmp_path, make_env, make_learner, t_max=5, max_bad_gradients=2, frames=500
    )
  # Only the checkpoint of the beginning, none of what came to nothing.
  assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['0']


def test_a_checkpoint_that_cannot_be_written_ends_in_one_line(
  tmp_path, monkeypatch
):
  run(tmp_path, frames=500)

  def save(self, state, *, best):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save)
  given = {'frames': 1000, 'override': ('frames', 'anneal_frames')}
  with pytest.raises(errors.RunError) as error:
    run(tmp_path, **given)
  assert str(error.value).count('\n') == 0
  assert 'No space left on device' in str(error.value)
  assert our_threads() == []
  monkeypatch.undo()
  assert run(tmp_path, **given).finished


def test_a_failure_and_a_full_disk_are_both_told(tmp_path, monkeypatch):
  def save(self, state, *, best):
    if state.store.version.frames:
      raise OSError(28, 'No space left on device')

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save)
  make_env, _ = breaking(at_step=23)
  with pytest.raises(Failure, match='the game broke') as raised:
    run(tmp_path, make_env, frames=10**9, max_env_restarts=0)
  where, disk = raised.value.__notes__
  assert where == 'raised in actor-learner thread 0'
  assert 'the checkpoint of frame' in disk and 'No space left' in disk


def test_a_file_that_cannot_be_written_ends_in_one_line(tmp_path, monkeypatch):
  def write_row(self, **figures):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(log.RunLog, 'write_row', write_row)
  with pytest.raises(errors.RunError, match='No space left on device'):
    run(tmp_path, frames=500)
  monkeypatch.undo()
  assert run(tmp_path, frames=500).finished


def test_a_corrupt_checkpoint_is_moved_aside(tmp_path, monkeypatch, caplog):
  given = {'frames': 4000, 'checkpoint_frames': 500}
  whole = run(tmp_path / 'whole', **given)
  interrupted(monkeypatch, tmp_path / 'parts', 2000, **given)
  folder = tmp_path / 'parts' / 'checkpoints'
  steps = sorted(int(path.name) for path in folder.iterdir())
  assert len(steps) > 1
  newest = folder / str(steps[-1])
  data = bytearray(newest.read_bytes())
  data[len(data) // 2] ^= 255
  newest.write_bytes(data)
  last = run(tmp_path / 'parts', **given)
  assert digest(last.params) == digest(whole.params)
  told = caplog.text
  assert f'checkpoint of frame {steps[-1]} is corrupt' in told
  assert f'resuming at frame {steps[-2]:,}' in told
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
  run(tmp_path, network='training_test:make_small')
  with pytest.raises(errors.UsageError) as error:
    run(tmp_path, network='mlp', override=('network',))
  assert str(error.value).startswith(f'--workdir={tmp_path}: its checkpoint')
  assert 'params/' in str(error.value)


def make_small():
  return networks.MLPTorso(obs_dims=2, hidden=(8,))


class Scored(catch.Catch):
  """For evaluations: what it gives for an episode is prescribed."""

  def __init__(self, scores):
    super().__init__()
    self._scores = iter(scores)

  def reset(self, *, seed=None, options=None):
    self._score = next(self._scores, 0.0)
    return super().reset(seed=seed, options=options)

  def step(self, action):
    obs, reward, terminated, truncated, info = super().step(action)
    return obs, self._score if reward else 0.0, terminated, truncated, info


def run_scored(workdir, scores, **given):
  settings = make_config(workdir, eval_episodes=1, **given)
  return run_config(
    settings,
    gym.make(catch.Catch),
    functools.partial(build.make_learner, settings),
    # Evaluations begin with a reset that is not played.
    lambda: gymnasium.vector.SyncVectorEnv(
      [lambda: Scored([0.0, *scores])], autoreset_mode=AutoresetMode.SAME_STEP
    ),
  )


def test_the_best_parameters_are_kept(tmp_path):
  run_scored(tmp_path, [5.0], frames=100, eval_frames=10**6)
  more = {'override': ('frames', 'anneal_frames'), 'eval_frames': 10**6}
  run_scored(tmp_path, [4.0], frames=200, **more)
  rows = read_rows(tmp_path / 'eval.csv')
  assert [row['mean_return'] for row in rows] == ['5.0', '4.0']
  assert [row['best'] for row in rows] == ['True', 'False']
  assert saved(tmp_path / 'best') == [100]
  result = run_scored(tmp_path, [6.0], frames=300, keep=1, **more)
  assert saved(tmp_path / 'best') == [300]
  best, *_ = checkpoints.read_params(tmp_path, 'best', result.params)
  assert digest(best) == digest(result.params)


def test_no_evaluation_where_none_is_wanted(tmp_path):
  run(tmp_path, eval_frames=0)
  assert read_rows(tmp_path / 'eval.csv') == []


def test_evaluations_do_not_touch_training(tmp_path):
  given = {'algo': 'one_step_q', 'frames': 2000}
  plain = run(tmp_path / 'plain', **given)
  evaluated = run(tmp_path / 'evaluated', eval_frames=1, **given)
  assert digest(plain.params) == digest(evaluated.params)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
  more = {'override': ('frames', 'anneal_frames'), 'eval_frames': 10**6}
  run_scored(tmp_path, [float('nan')], frames=100, **more)
  assert saved(tmp_path / 'best') == []
  run_scored(tmp_path, [-5.0], frames=200, **more)
  assert saved(tmp_path / 'best') == [200]


def test_an_environment_that_breaks_in_replay_begins_anew(tmp_path, caplog):
  run(tmp_path, frames=500)
  makers = iter([lambda: Breaks(at_step=50), catch.Catch, catch.Catch])

  def make_env():
    return gymnasium.vector.SyncVectorEnv(
      [next(makers)], autoreset_mode=AutoresetMode.SAME_STEP
    )

  more = {'override': ('frames', 'anneal_frames')}
  assert run(tmp_path, make_env, frames=1000, **more).finished
  told = caplog.text
  assert "environment of thread 0 raised Failure('the game broke')" in told
  assert '1 of 1 environments do not repeat' in told
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '1'


def test_an_environment_whose_resets_fail_is_made_anew(tmp_path, caplog):
  class FailsAtReset(catch.Catch):
    def reset(self, **kwargs):
      raise Failure('no reset')

  makers = iter(
    [
      lambda: Breaks(at_step=23),
      FailsAtReset,
      FailsAtReset,
      catch.Catch,
    ]
  )

  def make_env():
    return gymnasium.vector.SyncVectorEnv(
      [next(makers)], autoreset_mode=AutoresetMode.SAME_STEP
    )

  assert run(tmp_path, make_env, frames=1000).finished
  told = caplog.text
  assert told.count("raised Failure('no reset'); replaced") == 2
  (row,) = read_rows(tmp_path / 'train.csv')
  assert row['env_restarts'] == '3'


def test_a_signal_ends_a_long_segment(tmp_path, monkeypatch):
  steps = []

  class Signals(catch.Catch):
    def step(self, action):
      steps.append(1)
      if len(steps) == 10:
        signal.raise_signal(signal.SIGTERM)
      return super().step(action)

  result = run(tmp_path, gym.make(Signals), t_max=10_000, frames=10**6)
  assert not result.finished
  assert result.frames == 0
  assert our_threads() == []


def test_an_error_in_an_evaluation_ends_the_run(tmp_path):
  settings = make_config(
    tmp_path, threads=2, frames=10**9, eval_frames=100, max_env_restarts=0
  )

  def make_eval_env():
    return gymnasium.vector.SyncVectorEnv(
      [lambda: Breaks(at_step=3)], autoreset_mode=AutoresetMode.SAME_STEP
    )

  with pytest.raises(Failure, match='the game broke') as raised:
    run_config(
      settings,
      gym.make(catch.Catch),
      functools.partial(build.make_learner, settings),
      make_eval_env,
    )
  assert raised.value.__notes__ == ['raised in evaluation thread 0']
  assert our_threads() == []
  frames = [int(path.name) for path in (tmp_path / 'checkpoints').iterdir()]
  assert max(frames) >= 100


def test_a_signal_ends_an_evaluation(tmp_path, monkeypatch):
  # At the end of a run, and without an end of its own.
  class Endless(catch.Catch):
    def step(self, action):
      obs, *_ = super().step(1)
      self._ball = (0, 0)
      steps.append(1)
      if len(steps) == 50:
        signal.raise_signal(signal.SIGINT)
      return obs, 0.0, False, False, {}

  steps = []
  settings = make_config(tmp_path, eval_frames=10**6)
  result = run_config(
    settings,
    gym.make(catch.Catch),
    functools.partial(build.make_learner, settings),
    gym.make(Endless),
  )
  assert not result.finished
  assert read_rows(tmp_path / 'eval.csv') == []
  assert (tmp_path / 'checkpoints' / str(result.frames)).exists()


class Swings(PendulumEnv):
  """Pendulum of short episodes that may end the run at one step."""

  def __init__(self, at_step=None, ctrl_c=None):
    super().__init__()
    self._at_step = at_step
    self._ctrl_c = ctrl_c
    self._taken = 0

  def reset(self, **kwargs):
    self._steps = 0
    return super().reset(**kwargs)

  def step(self, action):
    self._taken += 1
    self._steps += 1
    if self._taken == self._at_step:
      self._ctrl_c()
    obs, reward, *_ = super().step(action)
    return obs, reward, False, self._steps == 30, {}


def swing(workdir, at_step=None, ctrl_c=None, **given):
  settings = config.make(
    'control',
    workdir=str(workdir),
    environment=control.Options(env='swings'),
    **{'threads': 1, 'eval_frames': 300, 'eval_episodes': 1, 't_max': 8}
    | given,
  )
  return run_config(
    settings,
    gym.make(
      lambda: Swings(at_step, ctrl_c), num_envs=settings.envs_per_thread
    ),
    functools.partial(build.make_learner, settings),
    gym.make(Swings),
  )


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
  like = jax.tree.map(np.asarray, last.params)
  moments = [
    checkpoints.read_params(tmp_path / name, 'latest', like)[1]
    for name in ('whole', 'parts')
  ]
  if given.get('normalize_obs', True):
    # Every observation that was acted on, once.
    assert float(moments[0].count) == pytest.approx(whole.frames)
    jax.tree.map(np.testing.assert_array_equal, *moments)
  else:
    assert moments == [None, None]


def test_observations_that_are_not_finite_end_the_run_in_one_line(
  tmp_path, caplog
):
  class Spoilt(Swings):
    def step(self, action):
      obs, *rest = super().step(action)
      return obs if self._steps < 9 else obs * np.nan, *rest

  settings = config.make(
    'control',
    workdir=str(tmp_path),
    environment=control.Options(env='spoilt'),
    threads=1,
    eval_frames=0,
  )
  with pytest.raises(errors.RunError, match=r'Spoilt.*observation\[0\] is nan'):
    run_config(
      settings,
      gym.make(Spoilt),
      functools.partial(build.make_learner, settings),
    )
  assert 'replaced, 3 of at most 3 times' in caplog.text
  assert saved(tmp_path / 'checkpoints') == [0]


class Far(gymnasium.Env):
  """Observations 50, 52, 50, 52, … and rewards of 3."""

  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, dtype=np.float32):
    self.observation_space = gymnasium.spaces.Box(0, 99, (1,), dtype)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._steps = 0
    return self._observe(), {}

  def step(self, action):
    self._steps += 1
    return self._observe(), 3.0, self._steps == 40, False, {}

  def _observe(self):
    space = self.observation_space
    return np.full(space.shape, 50 + 2 * (self._steps % 2), space.dtype)


def collected(workdir, monkeypatch, make_env, **given):
  """The segments that the learner was given, and the result."""
  segments = []
  collect = rollout.collect

  def noting(*args, **kwargs):
    played = collect(*args, **kwargs)
    segments.append(played.segment)
    return played

  monkeypatch.setattr(rollout, 'collect', noting)
  settings = make_config(workdir, frames=60, t_max=10, **given)
  result = run_config(
    settings,
    gym.make(make_env),
    lambda env: build.make_learner(settings, env),
  )
  return segments, result


def test_the_learner_gets_normalised_observations_and_scaled_rewards(
  tmp_path, monkeypatch
):
  segments, result = collected(
    tmp_path,
    monkeypatch,
    Far,
    normalize_obs=True,
    reward_scale=0.5,
    eval_frames=30,
  )
  for segment in segments:
    np.testing.assert_allclose(segment.r_t, 1.5)
  # 50 and 52 are one standard deviation below and above their mean.
  last = segments[-1].obs[:-1, 0, 0]
  np.testing.assert_allclose(np.abs(last), 1.0, atol=0.01)
  # What acts later sees them so too, by the moments at the end.
  seen = []
  act = lambda params, state, obs: (seen.append(obs), (np.zeros(1), state))[1]
  policy = loading.load(
    tmp_path,
    make_env=gym.make(Far),
    make_learner=lambda env: build.make_learner(
      workdir.read_config(tmp_path), env
    )._replace(greedy=act),
    greedy=True,
  ).learner_policy
  policy(np.array([[50.0], [52.0]]), policy.initial_state())
  np.testing.assert_allclose(seen[0], [[-1.0], [1.0]], atol=0.01)


def test_evaluations_of_a_run_normalise_by_its_moments(tmp_path, monkeypatch):
  made = []

  class Policy(evaluation.Policy):
    def __init__(self, learner, version, **kwargs):
      made.append((version.frames, version.statistics))
      super().__init__(learner, version, **kwargs)

  monkeypatch.setattr(evaluation, 'Policy', Policy)
  _, result = collected(
    tmp_path, monkeypatch, Far, normalize_obs=True, eval_frames=30
  )
  frames, moments = made[-1]
  assert frames == result.frames
  assert float(moments.count) == pytest.approx(result.frames, abs=0.01)


def test_bytes_are_normalised_as_floats_are(tmp_path):
  runs = []
  for dtype in (np.uint8, np.float32):
    with pytest.MonkeyPatch.context() as patch:
      folder = tmp_path / np.dtype(dtype).name
      make_env = functools.partial(Far, dtype)
      given = {'normalize_obs': True, 'eval_frames': 30}
      runs.append(collected(folder, patch, make_env, **given))
  (bytes_, one), (floats, other) = runs
  jax.tree.map(np.testing.assert_array_equal, bytes_, floats)
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


class Lost(io.TextIOBase):
  """Standard output whose reader has ended, as `head` does."""

  encoding = 'ascii'

  def write(self, text):
    raise BrokenPipeError

  def flush(self):
    raise BrokenPipeError


def test_output_that_is_lost_costs_no_frames(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'stdout', Lost())
  result = run(tmp_path, frames=100, eval_frames=50, log_seconds=0.001)
  assert (result.finished, result.frames) == (True, 100)
  assert saved(tmp_path / 'checkpoints')[-1] == 100
  assert len(read_rows(tmp_path / 'eval.csv')) > 0


def test_a_folder_that_is_deleted_ends_the_run_in_one_line(tmp_path):
  delete = lambda: shutil.rmtree(tmp_path / 'run')
  with pytest.raises(errors.RunError) as error:
    run(
      tmp_path / 'run',
      at_step(50, delete),
      frames=10**6,
      checkpoint_frames=50,
    )
  line = f'--workdir={tmp_path}/run: No such file or directory; the folder is '
  assert str(error.value) == f'{line}not there any more'
  assert our_threads() == []


def test_a_simulator_that_handles_signals_keeps_none(tmp_path):
  class Handles(catch.Catch):
    def __init__(self):
      super().__init__()
      if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
      self._left = 50

    def step(self, action):
      self._left -= 1
      if not self._left:
        os.kill(os.getpid(), signal.SIGTERM)
      return super().step(action)

  before = signal.getsignal(signal.SIGTERM)
  try:
    result = run(tmp_path, gym.make(Handles), frames=10**6)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert not result.finished


def at_step(number, act):
  """Catch that does something once, at a step of all its games together."""
  steps = []

  class Acts(catch.Catch):
    def step(self, action):
      steps.append(1)
      if len(steps) == number:
        act()
      return super().step(action)

  return gym.make(Acts)


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGHUP])
def test_a_warning_of_the_machine_ends_a_run_in_good_order(tmp_path, number):
  def warn_twice():
    signal.raise_signal(number)
    signal.raise_signal(number)

  given = {'frames': 10**6, 'max_env_restarts': 0}
  first = run(tmp_path, at_step(300, warn_twice), **given)
  assert not first.finished
  assert 0 < first.frames < 10**6
  assert saved(tmp_path / 'checkpoints')[-1] == first.frames
  second = run(
    tmp_path,
    at_step(first.frames + 600, lambda: signal.raise_signal(number)),
    **given,
  )
  assert second.frames > first.frames


def test_a_signal_that_breaks_the_environment_too_is_no_failure(tmp_path):
  # Ctrl-C of a terminal reaches its processes as well.
  def break_by_signal():
    os.kill(os.getpid(), signal.SIGINT)
    raise EOFError

  result = run(
    tmp_path, at_step(300, break_by_signal), frames=10**6, max_env_restarts=0
  )
  assert not result.finished
  assert saved(tmp_path / 'checkpoints')[-1] == result.frames > 0


@pytest.mark.parametrize('where', ['constructor', 'reset', 'learner'])
def test_a_signal_before_training_leaves_nothing(tmp_path, where):
  closed = []

  def warn(here):
    if here == where:
      signal.raise_signal(signal.SIGUSR1)

  class Warns(catch.Catch):
    def reset(self, **given):
      warn('reset')
      return super().reset(**given)

    def close(self):
      closed.append(self)

  def make_env():
    warn('constructor')
    return gymnasium.vector.SyncVectorEnv(
      [Warns], autoreset_mode=AutoresetMode.SAME_STEP
    )

  def make_learner(settings, env):
    warn('learner')
    return build.make_learner(settings, env)

  with pytest.raises(errors.StoppedError) as stopped:
    run(tmp_path / 'run', make_env, make_learner)
  assert str(stopped.value) == (
    'stopped before training began; nothing was written'
  )
  assert not (tmp_path / 'run').exists()
  assert len(closed) == (where != 'constructor')


def test_a_signal_while_games_are_replayed_leaves_the_run(tmp_path):
  given = {'frames': 600, 'seconds': 1000.0}
  stop = lambda: signal.raise_signal(signal.SIGHUP)
  first = run(tmp_path, at_step(300, stop), **given)
  with pytest.raises(errors.StoppedError) as stopped:
    run(tmp_path, at_step(3, stop), **given)
  assert str(stopped.value) == (
    f'stopped before training began; the run in {tmp_path} is as it was\n'
    f'to go on: the same command with --workdir={tmp_path}'
  )
  assert saved(tmp_path / 'checkpoints')[-1] == first.frames
  last = run(tmp_path, **given)
  assert (last.finished, last.frames) == (True, 600)


def test_a_finished_run_is_told_before_environments_are_closed(
  tmp_path, caplog
):
  told, release = [], threading.Event()

  def make_env(close):
    class Closes(catch.Catch):
      pass

    Closes.close = close
    return lambda: gymnasium.vector.SyncVectorEnv(
      [Closes], autoreset_mode=AutoresetMode.SAME_STEP
    )

  def fail(env):
    told.append('closing')
    raise AttributeError('no viewer')

  def leave(env):
    raise SystemExit(3)

  def hang(env):
    assert release.wait(WAIT_SECONDS)

  for name, close, warning in (
    ('fail', fail, "1 of 1 environments raised AttributeError('no viewer')"),
    ('leave', leave, '1 of 1 environments raised SystemExit(3)'),
    ('hang', hang, 'no progress of environment-close-0 for 3 s'),
  ):
    settings = make_config(tmp_path / name, watchdog_seconds=3.0)
    result = run_config(
      settings,
      make_env(close),
      functools.partial(build.make_learner, settings),
      on_result=lambda result: told.append(result.frames),
    )
    assert result.finished
    assert warning in caplog.text
  release.set()
  assert told == [100, 'closing', 100, 100]


@pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
def test_an_environment_cannot_end_the_process(tmp_path, caplog, kind):
  def leave():
    raise kind('mine')

  result = run(tmp_path / 'step', at_step(5, leave))
  assert (result.finished, result.frames) == (True, 100)
  told = f'the environment raised {kind("mine")!r}'
  assert f'raised RuntimeError({told!r}); replaced' in caplog.text
  with pytest.raises(RuntimeError, match='the environment raised') as raised:
    run(tmp_path / 'constructor', leave)
  assert isinstance(raised.value.__cause__, kind)
  assert not (tmp_path / 'constructor').exists()


@pytest.mark.parametrize(
  'computes, spins, seconds',
  [(False, False, 0.05), (True, False, 0.05), (False, True, 0.5)],
)
def test_what_hangs_before_training_is_told(caplog, computes, spins, seconds):
  hung = threading.Event()
  told = []
  expected = f'no progress of the main thread, making things, for {seconds:g} s'

  def on_hung(reason):
    told.append(reason)
    hung.set()

  with setting_up.watched(0.05, on_hung, period_seconds=0.01) as stage:
    stage('making things', computes=computes)
    end = time.monotonic() + WAIT_SECONDS
    while spins and expected not in told:
      assert time.monotonic() < end
    assert hung.wait(WAIT_SECONDS)
  assert expected in told
  assert 'in test_what_hangs_before_training_is_told' in caplog.text


def test_every_step_of_a_game_is_a_sign_of_life(tmp_path):
  beats = []

  class Slow(catch.Catch):
    def reset(self, **given):
      beats.append(workers.beats(threading.current_thread()))
      return super().reset(**given)

    def step(self, action):
      beats.append(workers.beats(threading.current_thread()))
      return super().step(action)

  env = replayable.Recorded(gym.make(Slow, num_envs=3)())
  env.reset(seed=1)
  before = beats[:-3]
  for _ in range(20):  # Some of them end an episode.
    env.step(np.ones(3, int))
  replayed = env.action_log()
  env.replay(replayed)
  steps = beats[len(before) :]
  assert len(steps) > 2 * (3 + 3 * 20)
  assert steps == sorted(set(steps))


def test_no_later_row_has_fewer_seconds(tmp_path, monkeypatch):
  # Threads report while the main thread, which has looked at the clock, waits.
  run(tmp_path, threads=3, frames=4000, checkpoint_frames=100, keep=100)
  rows = (tmp_path / 'episodes.csv').read_bytes()
  store = checkpoints.Store(tmp_path / 'checkpoints', read_only=True)
  assert len(store.frames()) > 3
  for frames in store.frames():
    record = store.record(frames)['run']
    kept = rows[: record['log']['positions']['episodes.csv']].decode()
    seconds = [float(row['seconds']) for row in csv.DictReader(kept.split())]
    assert seconds == sorted(seconds)
    assert not seconds or record['seconds'] >= max(seconds) - 5e-4


def test_an_evaluation_of_a_game_without_an_end_is_bounded(tmp_path):
  class Endless(catch.Catch):
    def step(self, action):
      obs, *_ = super().step(1)
      self._ball = (0, 0)
      return obs, 0.5, False, False, {}

  settings = make_config(
    tmp_path, eval_frames=10**6, eval_episodes=2, max_eval_episode_frames=30
  )
  result = run_config(
    settings,
    gym.make(catch.Catch),
    functools.partial(build.make_learner, settings),
    gym.make(Endless),
  )
  assert result.finished
  (row,) = read_rows(tmp_path / 'eval.csv')
  assert (row['mean_steps'], row['mean_return']) == ('30.0', '15.0')
  assert (row['episodes'], row['truncated_episodes']) == ('2', '2')


class Wanders(catch.Catch):
  """A simulator that works in a folder of its own."""

  folder = None

  def reset(self, **kwargs):
    os.chdir(self.folder)
    return super().reset(**kwargs)


def test_an_environment_may_change_the_working_directory(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(Wanders, 'folder', tmp_path / 'elsewhere')
  Wanders.folder.mkdir()
  for going_on in (False, True):
    monkeypatch.chdir(tmp_path)
    settings = make_config('runs/[x]', eval_frames=50, profile='traces')
    result = run_config(
      settings,
      gym.make(Wanders),
      functools.partial(build.make_learner, settings),
    )
    assert result.workdir == str(tmp_path / 'runs/[x]')
    assert 'results in runs/[x]' in training.describe(result)
    told = caplog.text
    assert ('resuming at frame 100' in told) == going_on
    assert '--profile=traces' in told
  assert list(Wanders.folder.iterdir()) == []
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'elsewhere',
    'runs',
    'traces',
  ]
  make_env = gym.make(Wanders)  # Which tries it, and so wanders.
  monkeypatch.chdir(tmp_path)
  policy = a3c_jax.load('runs/[x]', make_env=make_env)
  assert policy.frames == 100


class Masked(nn.Module):
  """A torso with a mask of -∞ that is not learnt."""

  @nn.compact
  def __call__(self, obs):
    obs = obs.reshape(*obs.shape[:-2], -1)
    mask = self.variable(
      'constants', 'mask', lambda: jnp.array([0.0, -jnp.inf])
    )
    x = nn.Dense(2)(obs)
    return nn.softmax(x + jnp.broadcast_to(mask.value, x.shape))


def test_constants_that_are_not_finite_cost_no_checkpoint(tmp_path):
  result = run(tmp_path, network='training_test:Masked')
  assert saved(tmp_path / 'checkpoints')[-1] == result.frames == 100
  mask = result.params['constants']['torso']['mask']
  np.testing.assert_array_equal(mask, [0, -np.inf])
