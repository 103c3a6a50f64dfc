"""Runs whose environments, gradients or disks fail."""

import functools
import shutil
import threading
import traceback

from catch_runs import (
  Breaks,
  Failure,
  Swings,
  at_step,
  breaking,
  each_runtime,
  full,
  full_after_the_start,
  our_threads,
  player_of,
  run,
  saved,
  vector,
)
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from results import read_rows
from short_runs import WAIT_SECONDS, run_config

from a3c_jax.core import errors
from a3c_jax.envs import catch, control, gym
from a3c_jax.runs import checkpoints, log
from a3c_jax.runtimes import asynchronous
from a3c_jax.settings import build, config


@each_runtime
def test_an_exception_in_a_thread_ends_the_run(tmp_path, runtime):
  make_env, made = breaking(at_step=23, thread=2)
  with pytest.raises(Failure, match='the game broke') as raised:
    run(
      tmp_path,
      make_env,
      runtime=runtime,
      threads=3,
      frames=10**9,
      max_env_restarts=0,
    )
  where = f'raised in thread {player_of(runtime, 2)}'
  assert raised.value.__notes__ == [where]
  frames = [
    frame.name for frame in traceback.extract_tb(raised.value.__traceback__)
  ]
  assert frames[-1] == 'fail'
  assert 'collect' in frames
  assert our_threads() == []
  assert len(made) == 3
  assert all(env.closed for env in made)
  # The thread that failed had done four segments of five steps, two episodes.
  # The newest segments of an agent may still wait for a trainer.
  rows = read_rows(tmp_path / 'episodes.csv')
  if runtime != 'queues':
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
  assert [env.closed for env in made] == [True]


def test_a_first_reset_that_fails_ends_the_run_after_the_others(tmp_path):
  begun, made = threading.Event(), []

  class Resets(catch.Catch):
    closed = False

    def __init__(self):
      super().__init__()
      self.number = len(made)
      made.append(self)

    def reset(self, **kwargs):
      if self.number == 1:
        begun.set()
        raise Failure('no reset')
      assert begun.wait(WAIT_SECONDS)  # Of another thread, at the same time.
      assert not self.closed
      return super().reset(**kwargs)

    def close(self):
      self.closed = True

  with pytest.raises(Failure) as raised:
    run(tmp_path, lambda: vector(Resets), threads=3)
  assert raised.value.__notes__ == ['raised in thread reset-1']
  assert [env.closed for env in made] == [True] * 3
  assert our_threads() == []


@each_runtime
def test_a_broken_environment_is_replaced(tmp_path, caplog, runtime):
  make_env, made = breaking(at_step=23, thread=1)
  result = run(tmp_path, make_env, runtime=runtime, threads=2, frames=3000)
  assert result.finished
  assert len(made) == 3
  assert made[1].closed
  logged = caplog.text
  assert "thread 1 raised Failure('the game broke'); replaced, 1 of" in logged
  (*_, row) = read_rows(tmp_path / 'train.csv')
  assert row['env_restarts'] == '1'


@each_runtime
def test_an_environment_that_breaks_again_and_again_ends_the_run(
  tmp_path, runtime
):
  make_env = lambda: vector(lambda: Breaks(7))
  with pytest.raises(Failure):
    run(tmp_path, make_env, runtime=runtime, frames=3000, max_env_restarts=2)
  assert len(list((tmp_path / 'checkpoints').iterdir())) >= 1


def test_an_environment_whose_resets_fail_is_replaced(tmp_path, caplog):
  class FailsAtReset(catch.Catch):
    def reset(self, **kwargs):
      raise Failure('no reset')

  breaks = lambda: Breaks(at_step=23)
  makers = iter([breaks, FailsAtReset, FailsAtReset, catch.Catch])
  make_env = lambda: vector(next(makers))
  assert run(tmp_path, make_env, frames=1000).finished
  logged = caplog.text
  assert logged.count("raised Failure('no reset'); replaced") == 2
  (row,) = read_rows(tmp_path / 'train.csv')
  assert row['env_restarts'] == '3'


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


@pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
def test_an_environment_cannot_end_the_process(tmp_path, caplog, kind):
  def leave():
    raise kind('mine')

  result = run(tmp_path / 'step', at_step(5, leave))
  assert (result.finished, result.frames) == (True, 100)
  logged = f'the environment raised {kind("mine")!r}'
  assert f'raised RuntimeError({logged!r}); replaced' in caplog.text
  with pytest.raises(RuntimeError, match='the environment raised') as raised:
    run(tmp_path / 'constructor', leave)
  assert isinstance(raised.value.__cause__, kind)
  assert not (tmp_path / 'constructor').exists()


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


@pytest.mark.parametrize(
  ('network', 'runtime', 'source'),
  [
    ('mlp', 'asynchronous', 'thread 0'),
    ('catch_runs:make_wide', 'asynchronous', 'thread 0'),
    ('catch_runs:make_wide', 'synchronous', 'a round of all threads'),
    ('catch_runs:make_wide', 'queues', 'a trainer'),
  ],
)
def test_a_gradient_that_is_not_finite_is_dropped(
  tmp_path, caplog, network, runtime, source
):
  # Steps 6, 21 and 36 are the first ones of their segments.
  make_learner, make_env = bad_gradients(lambda step: step in (6, 21, 36))
  result = run(
    tmp_path,
    make_env,
    make_learner,
    network=network,
    runtime=runtime,
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
  assert f'gradient of {source} dropped: params/' in caplog.text


@each_runtime
def test_too_many_bad_gradients_in_a_row_end_the_run(tmp_path, runtime):
  make_learner, make_env = bad_gradients(lambda step: step > 100)
  with pytest.raises(
    errors.BadGradientError, match='3 gradients in a row.*params/'
  ):
    run(
      tmp_path,
      make_env,
      make_learner,
      runtime=runtime,
      t_max=5,
      max_bad_gradients=2,
      frames=500,
    )
  # Only the checkpoint of the beginning, none of what came to nothing.
  assert saved(tmp_path / 'checkpoints') == [0]


def test_a_checkpoint_that_cannot_be_written_ends_in_one_line(
  tmp_path, monkeypatch
):
  run(tmp_path, frames=500)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', full)
  given = {'frames': 1000, 'override': ('frames', 'anneal_frames')}
  with pytest.raises(errors.RunError) as error:
    run(tmp_path, **given)
  assert str(error.value).count('\n') == 0
  assert 'No space left on device' in str(error.value)
  assert our_threads() == []
  monkeypatch.undo()
  assert run(tmp_path, **given).finished


def test_a_failure_and_a_full_disk_are_both_reported(tmp_path, monkeypatch):
  full_after_the_start(monkeypatch)
  make_env, _ = breaking(at_step=23)
  with pytest.raises(Failure, match='the game broke') as raised:
    run(tmp_path, make_env, frames=10**9, max_env_restarts=0)
  where, disk = raised.value.__notes__
  assert where == 'raised in thread actor-learner-0'
  assert 'the checkpoint of frame' in disk and 'No space left' in disk


def test_a_folder_that_is_deleted_ends_the_run_in_one_line(tmp_path):
  delete = lambda: shutil.rmtree(tmp_path / 'run')
  with pytest.raises(errors.RunError) as error:
    make_env = at_step(50, delete)
    run(tmp_path / 'run', make_env, frames=10**6, checkpoint_frames=50)
  line = f'--workdir={tmp_path}/run: No such file or directory; '
  assert str(error.value) == f'{line}the folder was deleted'
  assert our_threads() == []


@pytest.fixture
def full_at_close(monkeypatch):
  close = log.RunLog.close

  def close_and_fail(self):
    close(self)
    full(self)

  monkeypatch.setattr(log.RunLog, 'close', close_and_fail)


@pytest.mark.parametrize(
  ('what', 'name'),
  [
    (checkpoints.Checkpoints, 'save'),
    (log.RunLog, '__init__'),
    (log.RunLog, 'write_row'),
  ],
)
def test_a_disk_that_is_full_from_the_start_ends_in_one_line(
  tmp_path, monkeypatch, what, name
):
  monkeypatch.setattr(what, name, full)
  with pytest.raises(errors.RunError, match='^--workdir=.*No space left'):
    run(tmp_path)
  assert our_threads() == []
  monkeypatch.undo()
  assert run(tmp_path).finished


def test_a_full_disk_that_also_fails_to_close_files_ends_in_one_line(
  tmp_path, monkeypatch, full_at_close
):
  monkeypatch.setattr(log.RunLog, 'write_row', full)
  with pytest.raises(errors.RunError, match='^--workdir=.*No space left'):
    run(tmp_path)
  monkeypatch.undo()
  assert run(tmp_path).finished


def test_files_that_cannot_be_closed_do_not_hide_a_failure(
  tmp_path, full_at_close
):
  make_env, _ = breaking(at_step=23)
  with pytest.raises(Failure) as raised:
    run(tmp_path, make_env, frames=10**9, max_env_restarts=0)
  assert 'No space left' in raised.value.__notes__[-1]


def test_a_profile_that_cannot_be_written_leaves_nothing(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(errors.UsageError, match='^--profile='):
    run(tmp_path / 'run', profile=str(tmp_path / 'file'))
  assert not (tmp_path / 'run').exists()


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, caplog):
  def make_learner(settings, env):
    learner = build.make_learner(settings, env)
    spoil = lambda leaf: leaf * jnp.inf
    return learner._replace(
      init=lambda key, obs: jax.tree.map(spoil, learner.init(key, obs))
    )

  result = run(tmp_path, None, make_learner, max_bad_gradients=10**6)
  assert result.frames == 100
  assert saved(tmp_path / 'checkpoints') == []
  assert 'no checkpoint: parameters are not finite' in caplog.text


def test_a_failure_in_the_evaluation_at_the_end_is_in_the_last_row(tmp_path):
  makers = iter([lambda: Breaks(at_step=3), catch.Catch])
  make_eval_env = lambda: vector(next(makers))
  result = run(tmp_path, make_eval_env=make_eval_env, eval_frames=10**6)
  assert result.finished
  (row,) = read_rows(tmp_path / 'train.csv')
  assert row['env_restarts'] == '1'


def test_environments_are_replaced_by_as_many_alone(tmp_path):
  made = []

  def make_env():
    made.append(1)
    games = [lambda: Breaks(at_step=3)] * (3 - len(made))  # 2, then 1.
    return vector(*games)

  with pytest.raises(ValueError, match='thread 0 differ'):
    run(tmp_path, make_env, frames=10**9, envs_per_thread=2)


def test_threads_that_end_before_all_frames_are_a_failure(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(asynchronous, 'work', lambda *_: None)
  with pytest.raises(RuntimeError, match='ended at frame 0 of 100'):
    run(tmp_path)
