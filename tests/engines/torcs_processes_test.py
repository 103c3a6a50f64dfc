"""The game of TORCS as a process: how it starts, ends and is compiled."""

import collections
import os
import pathlib
import resource
import signal
import subprocess
import tempfile

import drives
from drives import ACCELERATE, always, at_random, drive, same
import gymnasium
from marks import needs_torcs
from processes import ENDS, below, parent_of, wait_until
from programs import run_code
import pytest

from a3c_jax.core import errors
from a3c_jax.envs.torcs import build, installed, racing

pytestmark = needs_torcs


@pytest.fixture
def make(close_later):
  """Makes environments, and closes them at the end."""
  return lambda **given: close_later(drives.make(**given))


def resident(process):
  """Bytes of memory of a process."""
  pages = pathlib.Path(f'/proc/{process}/statm').read_text().split()[1]
  return int(pages) * resource.getpagesize()


def test_300_episodes_need_no_more_memory(make):
  env = make(track='a-speedway')
  used = collections.defaultdict(list)
  before = set(os.listdir('/proc/self/fd'))
  for seed in range(300):
    drive(env, always(ACCELERATE), seed=seed, steps=3)
    used[env.game.process].append(resident(env.game.process))
  # The second process is for those that the first one may not have.
  assert [len(each) for each in used.values()] == [200, 100]
  for each in used.values():
    assert max(each) - each[0] < 20e6
  assert len(set(os.listdir('/proc/self/fd')) - before) <= 2


def test_a_process_for_each_episode_where_resets_would_not_do(make):
  env = make(opponents=1)
  processes = []
  for _ in range(3):
    env.reset()
    processes.append(env.game.process)
  assert len(set(processes)) == 3
  assert not set(processes[:2]) & below()


@pytest.mark.parametrize('how', ['close', 'del'])
def test_no_process_and_no_file_is_left(monkeypatch, tmp_path, how):
  home, folder = tmp_path / 'home', tmp_path / 'with a space; a : and $'
  home.mkdir()
  folder.mkdir()
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.setenv('XDG_CACHE_HOME', str(home))
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  before, files = below(), set(os.listdir('/proc/self/fd'))
  env = racing.Torcs()
  env.reset(seed=1)
  (process,) = below() - before
  assert process == env.game.process
  assert os.getsid(process) != os.getsid(0)  # Ctrl-C is not for it.
  env.step(0)
  # What it read at its start is gone, and it writes nothing.
  assert list(folder.iterdir()) == list(home.iterdir()) == []
  if how == 'close':
    env.close()
    env.close()
  del env
  assert process not in below()
  assert set(os.listdir('/proc/self/fd')) == files
  assert list(folder.iterdir()) == list(home.iterdir()) == []


KILLED = """
import os, signal, threading
from a3c_jax.envs.torcs import game, racing
env = racing.Torcs()
thread = threading.Thread(target=lambda: env.reset(seed=1))
thread.start()
thread.join()  # The game does not end with the thread that started it.
env.step(0)
print(env.game.process, flush=True)
if {busy}:
  env.game.state.repeat = 10**9
  env.game._talk.send(b's')
{end}
"""


@pytest.mark.parametrize('busy', [False, True])
@pytest.mark.parametrize('end', ENDS)
def test_games_end_with_their_process(tmp_path, end, busy):
  code, out, _ = run_code(KILLED.format(end=end, busy=busy), tmp_path)
  assert code != 0
  process = int(out)
  wait_until(lambda: parent_of(process) is None)
  assert list(tmp_path.iterdir()) == []


KILLED_AT_THE_START = """
import os, signal
from a3c_jax.envs.torcs import game, racing
env = racing.Torcs()
def wait(self, what):
  print(self.process, flush=True)
  {end}
game.Game._wait = wait
env.reset(seed=1)
"""


@pytest.mark.parametrize('end', ENDS)
def test_no_folder_is_left_of_a_start_that_is_interrupted(tmp_path, end):
  code, out, _ = run_code(KILLED_AT_THE_START.format(end=end), tmp_path)
  assert code != 0
  process = int(out)
  wait_until(lambda: parent_of(process) is None)
  wait_until(lambda: not list(tmp_path.iterdir()))


def test_a_game_that_is_killed_is_reported_and_restarted(make):
  env = make()
  first = drive(env, at_random(), seed=1, steps=5)
  os.kill(env.game.process, signal.SIGKILL)
  with pytest.raises(
    errors.RunError, match=r'TORCS ended: exit code -9; it pr'
  ):
    env.step(0)
  with pytest.raises(gymnasium.error.ResetNeeded):
    env.step(0)
  same(first, drive(env, at_random(), seed=1, steps=5))


def test_a_game_that_hangs_is_reported_and_ended(make):
  env = make()
  env.reset(seed=1)
  process = env.game.process
  os.kill(process, signal.SIGSTOP)
  env.game._talk.settimeout(0.05)
  with pytest.raises(errors.RunError, match='TORCS ended: no answer for'):
    env.step(0)
  assert process not in below()
  env.reset(seed=1)
  env.step(0)


def test_ctrl_c_in_a_step_does_not_mix_up_the_next_ones(make):
  env = make()
  first = drive(env, at_random(), seed=1, steps=5)

  class Interrupted:
    def send(self, byte):
      pass

    def recv(self, count):
      raise KeyboardInterrupt

  env.game._talk = Interrupted()
  with pytest.raises(KeyboardInterrupt):
    env.step(0)
  same(first, drive(env, at_random(), seed=1, steps=5))


FORKS = """
import os, sys
from a3c_jax.core import errors
from a3c_jax.envs.torcs import racing
env = racing.Torcs()
env.reset(seed=1)
child = os.fork()
if not child:
  try:
    env.step(0)
  except errors.RunError:
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
env.step(0)
env.reset()
env.close()
print('drove on')
"""


def test_a_fork_leaves_the_game_to_its_parent(tmp_path):
  assert run_code(FORKS, tmp_path)[:2] == (0, 'drove on\n')


@pytest.mark.parametrize(
  'script, message',
  [
    ('echo no such luck >&2; exit 3', 'exit code 3; it printed: no such luck$'),
    ('kill -9 $$', 'exit code -9; it printed: nothing$'),
  ],
)
def test_a_start_that_fails_is_reported(
  make, monkeypatch, tmp_path, script, message
):
  folder = tmp_path / 'temporary'
  folder.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  program = tmp_path / 'torcs-bin'
  program.write_text(f'#!/bin/sh\n{script}\n')
  program.chmod(0o700)
  env = make()
  monkeypatch.setattr(installed, 'programs', lambda: tmp_path)
  before, files = below(), set(os.listdir('/proc/self/fd'))
  for _ in range(2):
    with pytest.raises(
      errors.RunError, match=f'TORCS did not start: {message}'
    ):
      env.reset(seed=1)
  assert below() == before
  assert list(folder.iterdir()) == []
  assert set(os.listdir('/proc/self/fd')) == files


def test_cars_that_are_missing_are_reported(make):
  env = make()
  env.game.state.cars = 3
  with pytest.raises(errors.RunError, match='1 of 3 cars / .* is not what'):
    env.reset(seed=1)


def test_another_layout_of_memory_is_reported(make, monkeypatch):
  env = make()
  env.game.state.bytes -= 4
  with pytest.raises(errors.RunError, match='compile the plugin again'):
    env.reset(seed=1)


def test_a_temporary_folder_that_is_not_there(make, monkeypatch, tmp_path):
  missing = tmp_path / 'missing'
  monkeypatch.setattr(tempfile, 'tempdir', str(missing))
  with pytest.raises(
    errors.RunError, match=f'TMPDIR={missing}: No such file or directory'
  ):
    make().reset(seed=1)


def test_the_plugin_is_compiled_once(monkeypatch, tmp_path):
  path = tmp_path / 'compiled' / 'plugin.so'
  monkeypatch.setattr(installed, 'plugin', lambda: path)
  with pytest.raises(
    errors.UsageError, match=f'not compiled: {installed.BUILD}'
  ):
    racing.Torcs()
  assert build.compile_plugin() == path
  first = path.stat().st_mtime_ns
  assert list(path.parent.iterdir()) == [path]
  assert build.compile_plugin() == path
  assert path.stat().st_mtime_ns == first
  env = racing.Torcs()
  try:
    env.reset(seed=1)
  finally:
    env.close()


def test_a_plugin_that_is_removed_meanwhile(make, monkeypatch, tmp_path):
  path = tmp_path / 'plugin.so'
  path.write_bytes(installed.plugin().read_bytes())
  monkeypatch.setattr(installed, 'plugin', lambda: path)
  env = make(opponents=1)
  path.unlink()
  env.reset(seed=1)
  env.step(0)


def test_no_race_runs_without_the_plugin(make, monkeypatch, tmp_path):
  path = tmp_path / 'plugin.so'
  path.write_text('no library')
  monkeypatch.setattr(installed, 'plugin', lambda: path)
  before = below()
  with pytest.raises(errors.RunError, match='did not start: exit code'):
    make(opponents=2).reset(seed=1)
  assert below() == before


def test_errors_of_the_compiler_are_reported(monkeypatch, tmp_path):
  source = tmp_path / 'plugin.cpp'
  source.write_text('int broken(')
  monkeypatch.setattr(installed, 'plugin', lambda: tmp_path / 'new' / 'x.so')
  monkeypatch.setattr(installed, 'SOURCE', source)
  with pytest.raises(
    errors.RunError, match='does not compile.*g\\+\\+ printed: '
  ):
    build.compile_plugin()
  assert list((tmp_path / 'new').iterdir()) == []


def test_a_missing_compiler_is_reported(monkeypatch, tmp_path):
  monkeypatch.setattr(installed, 'plugin', lambda: tmp_path / 'new' / 'x.so')
  run = subprocess.run

  def without(command, **given):
    if command[0] == 'g++':
      raise FileNotFoundError('g++')
    return run(command, **given)

  monkeypatch.setattr(subprocess, 'run', without)
  with pytest.raises(
    errors.UsageError, match='g\\+\\+ is not installed; on De'
  ):
    build.compile_plugin()
