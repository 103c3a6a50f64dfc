"""Runs that hang, before training, in it and after it."""

import signal
import threading

from catch_runs import (
  THREADS,
  at_step,
  each_runtime,
  full_after_the_start,
  player_of,
  run,
  saved,
  vector,
)
from programs import run_code
import pytest
from results import read_rows
from short_runs import WAIT_SECONDS

from a3c_jax.core import errors, threads
from a3c_jax.envs import catch
from a3c_jax.parameters import locked
from a3c_jax.runs import setting_up, supervise


class Hang:
  """Environments that hang at one step of them all, until they are released."""

  def __init__(self, at_step):
    self.closed = []
    self.steps = 0
    self.at_step = at_step
    self.released = threading.Event()
    self.on_hang = lambda: None

  def make_env(self):
    hang = self

    class Hangs(catch.Catch):
      def step(self, action):
        hang.steps += 1
        if hang.steps == hang.at_step:
          hang.on_hang()
          assert hang.released.wait(WAIT_SECONDS)
        return super().step(action)

      def close(self):
        hang.closed.append(self)

    return vector(Hangs)


@pytest.fixture
def make_hang(monkeypatch):
  """Makes a Hang, which is released at the end of the test."""
  monkeypatch.setattr(supervise, 'STOP_SECONDS', 0.05)
  made = []

  def make(at_step):
    made.append(Hang(at_step))
    return made[-1]

  yield make
  for hang in made:
    hang.released.set()
  for thread in threading.enumerate():
    if thread.name.startswith((*THREADS, 'compile', 'evaluation', 'replay')):
      thread.join(WAIT_SECONDS)


@each_runtime
def test_a_hang_in_training_leaves_a_checkpoint(
  tmp_path, make_hang, caplog, runtime
):
  hang = make_hang(300)
  given = {'frames': 10**6, 'watchdog_seconds': 1.0, 'runtime': runtime}
  name = player_of(runtime, 0)
  # The others wait for it, and show signs of life.
  with pytest.raises(errors.HungError, match=f'no progress of {name} for'):
    run(tmp_path, hang.make_env, **given)
  assert hang.closed == []
  assert 'in step' in caplog.text
  assert saved(tmp_path / 'checkpoints')[-1] > 0
  (row,) = read_rows(tmp_path / 'train.csv')
  assert int(row['frames']) > 0


def test_a_hang_and_a_full_disk_are_both_reported(
  tmp_path, make_hang, monkeypatch
):
  full_after_the_start(monkeypatch)
  hang = make_hang(300)
  with pytest.raises(errors.HungError) as raised:
    run(tmp_path, hang.make_env, frames=10**6, watchdog_seconds=1.0)
  assert hang.closed == []
  (note,) = raised.value.__notes__
  assert 'the checkpoint of frame' in note and 'No space left' in note


@each_runtime
def test_a_thread_that_holds_the_parameters_hangs(
  tmp_path, make_hang, monkeypatch, caplog, runtime
):
  hang = make_hang(None)
  push = locked.LockedStore.push

  def push_once(self, contribution, **given):
    if self.read().updates == 20:
      with self._lock:
        assert hang.released.wait(WAIT_SECONDS)
    return push(self, contribution, **given)

  monkeypatch.setattr(locked.LockedStore, 'push', push_once)
  given = {'frames': 10**6, 'watchdog_seconds': 1.0, 'runtime': runtime}
  with pytest.raises(errors.HungError) as raised:
    run(tmp_path, hang.make_env, **given)
  assert hang.closed == []
  assert saved(tmp_path / 'checkpoints') == [0]
  assert 'the thread that holds the parameters' in raised.value.__notes__[0]
  assert 'in push_once' in caplog.text


def test_a_hang_in_a_replay_leaves_the_run(tmp_path, make_hang):
  given = {'frames': 600, 'watchdog_seconds': 1.0}
  stop = lambda: signal.raise_signal(signal.SIGHUP)
  first = run(tmp_path, at_step(300, stop), **given)
  hang = make_hang(3)
  with pytest.raises(errors.HungError, match='no progress of replay-0'):
    run(tmp_path, hang.make_env, **given)
  assert hang.closed == []
  assert saved(tmp_path / 'checkpoints')[-1] == first.frames
  assert run(tmp_path, **given).finished


def test_a_signal_in_a_replay_that_hangs_closes_nothing(tmp_path, make_hang):
  given = {'frames': 600, 'watchdog_seconds': 1000.0}
  stop = lambda: signal.raise_signal(signal.SIGHUP)
  run(tmp_path, at_step(300, stop), **given)
  hang = make_hang(3)
  hang.on_hang = stop
  with pytest.raises(errors.StoppedError):
    run(tmp_path, hang.make_env, **given)
  assert hang.closed == []


def test_a_hang_in_the_evaluation_at_the_end_leaves_all_frames(
  tmp_path, make_hang
):
  hang = make_hang(5)
  given = {'eval_frames': 10**6, 'watchdog_seconds': 1.0}
  with pytest.raises(errors.HungError, match='no progress of evaluation'):
    run(tmp_path, make_eval_env=hang.make_env, **given)
  assert hang.closed == []
  assert saved(tmp_path / 'checkpoints')[-1] == 100
  assert read_rows(tmp_path / 'train.csv')[-1]['frames'] == '100'
  assert read_rows(tmp_path / 'eval.csv') == []


def test_a_constructor_that_hangs_is_reported_with_its_stage(tmp_path):
  reported, released = [], threading.Event()

  def make_env():
    assert released.wait(WAIT_SECONDS)
    return vector(catch.Catch)

  def on_hung(reason):
    reported.append(reason)
    released.set()

  result = run(tmp_path, make_env, watchdog_seconds=1.0, on_hung=on_hung)
  assert result.finished
  assert 'making the environment of thread 0' in reported[0]


def test_a_first_reset_that_hangs_is_reported_with_its_thread(tmp_path):
  reported, released, made = [], threading.Event(), []

  class Hangs(catch.Catch):
    def __init__(self):
      super().__init__()
      self.number = len(made)
      made.append(self)

    def reset(self, **given):
      assert self.number != 1 or released.wait(WAIT_SECONDS)
      return super().reset(**given)

  def on_hung(reason):
    reported.append(reason)
    released.set()

  result = run(
    tmp_path,
    lambda: vector(Hangs),
    threads=3,
    watchdog_seconds=1.0,
    on_hung=on_hung,
  )
  assert result.finished
  (reason,) = reported
  assert 'resetting the environment of thread 1' in reason


def test_a_signal_in_an_evaluations_first_reset_closes_nothing(
  tmp_path, make_hang, monkeypatch
):
  monkeypatch.setattr(threads, 'CLOSE_SECONDS', 0.05)
  hang = make_hang(None)

  class Hangs(catch.Catch):
    def reset(self, **given):
      signal.raise_signal(signal.SIGHUP)
      assert hang.released.wait(WAIT_SECONDS)
      return super().reset(**given)

    def close(self):
      hang.closed.append(self)

  with pytest.raises(errors.StoppedError):
    run(
      tmp_path,
      hang.make_env,
      make_eval_env=lambda: vector(Hangs),
      eval_frames=50,
    )
  assert hang.closed == []


def test_a_hang_before_training_is_reported_once(monkeypatch):
  reported, ticks = [], []
  done = threading.Event()

  class Watchdog:
    seconds = 1.0

    def __init__(self, seconds):
      pass

    def tick(self, progress):
      ticks.append(1)
      if len(ticks) == 10:
        done.set()
      return [*progress]

  monkeypatch.setattr(setting_up.threads, 'Watchdog', Watchdog)
  with setting_up.watched(1.0, reported.append, period_seconds=0.001):
    assert done.wait(WAIT_SECONDS)
  assert len(reported) == 1


def test_a_script_exits_after_a_hang_although_python_would_wait(tmp_path):
  script = """
import sys, threading
from a3c_jax import command_line
from a3c_jax.core import errors
command_line._LEAVING_SECONDS = 1e6

def main():
  threading.Thread(target=threading.Event().wait).start()
  error = errors.HungError('no progress')
  error.add_note('and the disk is full')
  raise error

sys.argv = ['script.py']
command_line.run(main)
"""
  said = 'error: no progress; and the disk is full\n'
  assert run_code(script, tmp_path) == (1, '', said)
