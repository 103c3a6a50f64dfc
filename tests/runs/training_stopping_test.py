"""Runs that a signal or Ctrl-C stops, and what comes before and after them."""

import _thread
import os
import signal
import threading
import time

from catch_runs import (
  at_step,
  each_runtime,
  make_config,
  our_threads,
  run,
  saved,
  vector,
)
import pytest
from results import read_rows
from short_runs import WAIT_SECONDS

from a3c_jax.core import errors
from a3c_jax.envs import catch, gym
from a3c_jax.runs import setting_up, training
from a3c_jax.settings import build


@each_runtime
def test_a_signal_ends_a_long_segment(tmp_path, runtime):
  make_env = at_step(10, lambda: signal.raise_signal(signal.SIGTERM))
  result = run(tmp_path, make_env, runtime=runtime, t_max=10_000, frames=10**6)
  assert not result.finished
  assert result.frames == 0
  assert our_threads() == []


def endless(number, act):
  """Episodes without an end, that do something at one step."""
  steps = []

  class Endless(catch.Catch):
    def step(self, action):
      obs, *_ = super().step(1)
      self._ball = (0, 0)
      steps.append(1)
      if len(steps) == number:
        act()
      return obs, 0.0, False, False, {}

  return gym.make(Endless)


def test_a_signal_ends_the_evaluation_at_the_end(tmp_path):
  stop = lambda: signal.raise_signal(signal.SIGINT)
  result = run(tmp_path, make_eval_env=endless(50, stop), eval_frames=10**6)
  assert not result.finished
  assert read_rows(tmp_path / 'eval.csv') == []
  assert (tmp_path / 'checkpoints' / str(result.frames)).exists()


def test_ctrl_c_in_the_evaluation_at_the_end_leaves_all_frames(tmp_path):
  settings = make_config(tmp_path, eval_frames=10**6)
  with pytest.raises(KeyboardInterrupt):
    training.run(settings, make_eval_env=endless(50, _thread.interrupt_main))
  assert saved(tmp_path / 'checkpoints')[-1] == 100
  (row,) = read_rows(tmp_path / 'train.csv')
  assert row['frames'] == '100'


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


@pytest.mark.parametrize(
  ('number', 'runtime'),
  [
    (signal.SIGUSR1, 'asynchronous'),
    (signal.SIGHUP, 'asynchronous'),
    (signal.SIGUSR1, 'synchronous'),
    (signal.SIGUSR1, 'queues'),
  ],
)
def test_a_warning_signal_ends_a_run_in_good_order(tmp_path, number, runtime):
  def warn_twice():
    signal.raise_signal(number)
    signal.raise_signal(number)

  given = {'frames': 10**6, 'max_env_restarts': 0, 'runtime': runtime}
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
    return vector(Warns)

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


def test_a_signal_in_a_replay_leaves_the_run(tmp_path):
  given = {'frames': 600, 'seconds': 1000.0}
  stop = lambda: signal.raise_signal(signal.SIGHUP)
  first = run(tmp_path, at_step(300, stop), **given)
  with pytest.raises(errors.StoppedError) as stopped:
    run(tmp_path, at_step(3, stop), **given)
  assert str(stopped.value) == (
    f'stopped before training began; the run in {tmp_path} is unchanged\n'
    f'to resume: the same command with --workdir={tmp_path}'
  )
  assert saved(tmp_path / 'checkpoints')[-1] == first.frames
  last = run(tmp_path, **given)
  assert (last.finished, last.frames) == (True, 600)


def test_the_result_comes_before_environments_are_closed(tmp_path, caplog):
  calls, release = [], threading.Event()

  def make_env(close):
    class Closes(catch.Catch):
      pass

    Closes.close = close
    return lambda: vector(Closes)

  def fail(env):
    calls.append('closing')
    raise AttributeError('no viewer')

  def leave(env):
    raise SystemExit(3)

  def hang(env):
    assert release.wait(WAIT_SECONDS)

  for name, close, warning in (
    ('fail', fail, "1 of 1 environments raised AttributeError('no viewer')"),
    ('leave', leave, '1 of 1 environments raised SystemExit(3)'),
    ('hang', hang, 'no progress of environment-close for 3 s'),
  ):
    result = run(
      tmp_path / name,
      make_env(close),
      watchdog_seconds=3.0,
      on_result=lambda result: calls.append(result.frames),
    )
    assert result.finished
    assert warning in caplog.text
  release.set()
  assert calls == [100, 'closing', 100, 100]


@pytest.mark.parametrize(
  'computes, spins, seconds',
  [(False, False, 0.05), (True, False, 0.05), (False, True, 0.5)],
)
def test_a_hang_before_training_is_reported(caplog, computes, spins, seconds):
  hung = threading.Event()
  reported = []
  expected = f'no progress of the main thread, making things, for {seconds:g} s'

  def on_hung(reason):
    reported.append(reason)
    hung.set()

  with setting_up.watched(0.05, on_hung, period_seconds=0.01) as stage:
    stage('making things', computes=computes)
    end = time.monotonic() + WAIT_SECONDS
    while spins and expected not in reported:
      assert time.monotonic() < end
    assert hung.wait(WAIT_SECONDS)
  assert expected in reported
  assert 'in test_a_hang_before_training_is_reported' in caplog.text
