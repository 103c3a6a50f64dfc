"""Whole runs, on small tasks, with real threads."""

import collections
import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
import threading

from catch_runs import make_config, our_threads, run, saved
import flax.linen as nn
import gymnasium
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import programs
from programs import succeeded
import pytest
from results import digest, read_record, read_rows
from short_runs import run_config

import a3c_jax
from a3c_jax import networks
from a3c_jax.algorithms import value_based
from a3c_jax.core import errors, output, threads
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.envs import domain as domain_lib
from a3c_jax.parameters import locked
from a3c_jax.runs import checkpoint_store, display, training
from a3c_jax.runtimes import asynchronous
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import build

# (name of the thread, event) of everything compiled in this process so far.
COMPILED = []


def _note_compilation(event, duration, **kwargs):
  del duration, kwargs
  if event == '/jax/core/compile/backend_compile_duration':
    COMPILED.append(threading.current_thread().name)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def one_run_digest(workdir, algo):
  """Used in another process too."""
  return digest(run(pathlib.Path(workdir), algo=algo, frames=400).params)


@pytest.mark.parametrize('seconds', [0.0, -1.0, float('nan')])
def test_a_period_must_be_above_zero(tmp_path, seconds):
  workdir = tmp_path / 'run'
  with pytest.raises(ValueError, match='period_seconds'):
    training.run(make_config(workdir), period_seconds=seconds)
  assert not workdir.exists()


@pytest.mark.parametrize('given', [{'threads': 2}, {'eval_frames': 100}])
def test_an_environment_must_be_new_at_each_call(tmp_path, given):
  config = make_config(tmp_path / 'run', **given)
  env = build.make_env(config)()
  with pytest.raises(errors.UsageError, match='make_env'):
    training.run(config, lambda: env)
  assert not (tmp_path / 'run' / 'config.json').exists()


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


def make_own_learner(settings, env):
  del settings, env
  network = networks.QNetwork(networks.MLPTorso(obs_dims=2), 3)
  return value_based.nstep_q(network)


def test_a_gain_widens_the_initial_weights_of_any_learner(tmp_path):
  torsos = [
    run(
      tmp_path / str(gain),
      make_learner=make_own_learner,
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


def test_a_run_takes_another_store_and_another_runtime(tmp_path, monkeypatch):
  class Counting(locked.LockedStore):
    """Counts the contributions of each thread by its name."""

    pushed = collections.Counter()

    def push(self, contribution, **given):
      self.pushed[threading.current_thread().name] += 1
      return super().push(contribution, **given)

  class InTurns(asynchronous.Asynchronous):
    """Gives all workers to one thread, one after the other."""

    def threads(self):
      def body(stop):
        for worker in self._team:
          asynchronous.work(worker, self._job, stop)

      return threads.ThreadGroup({'alone': body})

  monkeypatch.setattr(runtimes, '_runtimes', dict(runtimes._runtimes))
  runtimes.register(
    asynchronous.RUNTIME._replace(name='in_turns', arrange=InTurns)
  )
  settings = make_config(
    tmp_path, threads=2, frames=100, t_max=5, runtime='in_turns'
  )
  result = run_config(settings, make_store=Counting)
  assert result.updates == Counting.pushed['alone'] == Counting.pushed.total()
  assert result.finished


def test_a_new_run_tells_its_store_where_each_worker_starts(tmp_path):
  told = []

  class Told(locked.LockedStore):
    def restore(self, state):
      told.extend(int(each.action_log.seeds[0]) for each in state.worker_states)
      super().restore(state)

  settings = make_config(tmp_path, threads=3, frames=100)
  assert run_config(settings, make_store=Told).finished
  rngs = [np.random.default_rng([settings.seed, index]) for index in range(3)]
  seeds = [int(rng.integers(2**31 - 1)) for rng in rngs]
  assert told == [seed % replayable.TRAINING_SEEDS for seed in seeds]


def test_a_learner_with_a_target_needs_an_algorithm_with_its_period(tmp_path):
  with pytest.raises(errors.UsageError, match='^--algo=a3c: .*_period_frames'):
    run(tmp_path, make_learner=make_own_learner, algo='a3c')


def test_another_process_gives_the_same_bits(tmp_path):
  code = (
    'import conftest, training_test; '
    f'print(training_test.one_run_digest({str(tmp_path / "b")!r}, "a3c"))'
  )
  env = {'PYTHONPATH': os.pathsep.join(sys.path)}
  out = succeeded(programs.run('-c', code, cwd=tmp_path, env=env))
  assert out.split()[-1] == one_run_digest(tmp_path / 'a', 'a3c')


@pytest.mark.parametrize(
  'given',
  [
    {'threads': 1, 'frames': 400},
    {'threads': 3, 'frames': 1001},
    {'threads': 2, 'frames': 1001, 'domain': 'repeats'},
  ],
)
def test_a_run_stops_within_one_segment_of_each_thread(
  tmp_path, monkeypatch, given
):
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
  episodes = result.frames / repeat / 9
  assert episodes - given['threads'] < result.episodes <= episodes
  assert our_threads() == []
  (row,) = read_rows(tmp_path / 'train.csv')
  if given['threads'] == 1:
    assert float(row['lag']) == 0
  assert 0 <= float(row['lag']) < result.updates


def test_files_of_a_run(tmp_path):
  result = run(tmp_path / 'new' / 'folder', algo='nstep_q', threads=2)
  workdir = pathlib.Path(result.workdir)
  assert workdir == tmp_path / 'new' / 'folder'
  record = read_record(workdir)
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


def test_seconds_end_the_run_and_each_row_is_later(tmp_path):
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


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'a3c'},
    {'algo': 'a3c', 'lstm': True},
    {'algo': 'nstep_q', 'optimizer': 'rmsprop'},
    {'algo': 'one_step_sarsa', 'optimizer': 'momentum_sgd'},
    {'algo': 'a3c', 'lag_correction': 'vtrace'},
    {'runtime': 'synchronous', 'lstm': True, 'reduce': 'mean'},
    {'runtime': 'synchronous', 'algo': 'one_step_q'},
    {'runtime': 'queues', 'lstm': True, 'lag_correction': 'vtrace'},
    {'runtime': 'queues', 'algo': 'nstep_q', 'min_training_segments': 2},
    {'runtime': 'queues', 'threads': 5, 'prediction_batch': 4},
  ],
)
def test_threads_compile_nothing(tmp_path, given):
  def make_one():  # Every game is cut, so values of final states are needed.
    return gymnasium.wrappers.TimeLimit(catch.Catch(), 7)

  before = len(COMPILED)
  given = {'threads': 2, 'frames': 500, 'eval_frames': 100} | given
  run(tmp_path, gym.make(make_one, num_envs=2), **given)
  compiled = COMPILED[before:]
  # These end before workers start.
  assert {name.partition('-')[0] for name in set(compiled)} <= {
    'MainThread',
    'compile',
    'reset',
  }


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


class Lost(io.TextIOBase):
  """Standard output whose reader has ended, as `head` does."""

  encoding = 'ascii'

  def write(self, text):
    raise BrokenPipeError

  def flush(self):
    raise BrokenPipeError


def test_output_that_is_lost_costs_no_frames(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'stdout', Lost())
  with output.losable(), display.shown() as shown:
    result = run(
      tmp_path,
      frames=100,
      eval_frames=50,
      log_seconds=0.001,
      loggers=[display.ProgressLine(shown)],
    )
    shown.print_result(training.describe(result))
  assert (result.finished, result.frames) == (True, 100)
  assert saved(tmp_path / 'checkpoints')[-1] == 100
  assert len(read_rows(tmp_path / 'eval.csv')) > 0


def test_seconds_never_decrease_from_row_to_row(tmp_path, monkeypatch):
  # Threads report while the main thread, which has looked at the clock, waits.
  run(tmp_path, threads=3, frames=4000, checkpoint_frames=100, keep=100)
  rows = (tmp_path / 'episodes.csv').read_bytes()
  store = checkpoint_store.Store(tmp_path / 'checkpoints', read_only=True)
  assert len(store.frames()) > 3
  for frames in store.frames():
    record = store.record(frames)['run']
    kept = rows[: record['log']['positions']['episodes.csv']].decode()
    seconds = [float(row['seconds']) for row in csv.DictReader(kept.split())]
    assert seconds == sorted(seconds)
    assert not seconds or record['seconds'] >= max(seconds) - 5e-4


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
  for resumed in (False, True):
    monkeypatch.chdir(tmp_path)
    settings = make_config('runs/[x]', eval_frames=50, profile='traces')
    make_env = gym.make(Wanders)  # Which tries it, and so wanders.
    result = run_config(settings, make_env)
    assert result.workdir == str(tmp_path / 'runs/[x]')
    assert 'results in runs/[x]' in training.describe(result)
    logged = caplog.text
    assert ('resuming at frame 100' in logged) == resumed
    assert '--profile=traces' in logged
  assert list(Wanders.folder.iterdir()) == []
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'elsewhere',
    'runs',
    'traces',
  ]
  make_env = gym.make(Wanders)
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


def test_every_step_of_an_environment_is_a_sign_of_life(tmp_path):
  beats = []

  class Slow(catch.Catch):
    def reset(self, **given):
      beats.append(threads.beats(threading.current_thread()))
      return super().reset(**given)

    def step(self, action):
      beats.append(threads.beats(threading.current_thread()))
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
