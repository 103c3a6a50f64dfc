"""The engine of Labyrinth as a process: how it starts, ends and fails."""

import errno
import gc
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from marks import needs_labyrinth
from processes import ENDS, below, is_engine, shared_memory, wait_until
from programs import finish, run_code, start
import pytest

from a3c_jax.core import errors
from a3c_jax.envs.labyrinth import doom, foraging, supervisor, wads

pytestmark = needs_labyrinth


@pytest.fixture
def make(close_later):
  """Makes environments, and closes them at the end."""
  return lambda **given: close_later(foraging.Labyrinth(**given))


@pytest.mark.parametrize('how', ['close', 'del'])
def test_no_process_and_no_file_is_left(monkeypatch, tmp_path, how):
  folder, work = tmp_path / 'with a space', tmp_path / 'work'
  folder.mkdir()
  work.mkdir()
  monkeypatch.chdir(work)
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  before = below()
  env = foraging.Labyrinth()
  env.reset(seed=1)
  env.step(0)
  own = below() - before
  assert sum(map(is_engine, own)) == 1
  assert len(list(folder.iterdir())) == 1
  memory = shared_memory(own)
  assert len(memory) == 3
  # Ctrl-C on a terminal goes to its session.
  assert all(os.getsid(number) != os.getsid(0) for number in own)
  if how == 'close':
    env.close()
    env.close()
  del env
  gc.collect()
  wait_until(lambda: not own & below())
  assert list(folder.iterdir()) == list(work.iterdir()) == []
  assert not any(path.exists() for path in memory)


KILLED = """
import os, signal, threading
from processes import below, shared_memory
from a3c_jax.envs.labyrinth import foraging
envs = []
thread = threading.Thread(target=lambda: envs.append(foraging.Labyrinth()))
thread.start()
thread.join()  # The engine does not end with the thread that made it.
envs.append(foraging.Labyrinth())
for env in envs:
  env.reset(seed=1)
  env.step(0)
print(*shared_memory(below()), flush=True)
{end}
"""


@pytest.mark.parametrize('end', ENDS)
def test_engines_end_with_their_process(tmp_path, end):
  code, out, _ = run_code(KILLED.format(end=end), tmp_path)
  assert code != 0
  memory = [pathlib.Path(name) for name in out.split()]
  assert len(memory) == 6

  def supervisors():
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
      try:
        arguments = path.read_bytes().decode().split('\0')
      except (FileNotFoundError, ProcessLookupError):
        continue
      if any(str(tmp_path) in text for text in arguments):
        found.append(arguments)
    return found

  wait_until(lambda: not supervisors())
  wait_until(lambda: not list(tmp_path.iterdir()))
  assert not any(path.exists() for path in memory)


def test_a_supervisor_that_is_signalled_repeatedly_still_removes_its_files(
  tmp_path,
):
  folder = tmp_path / 'engine'
  folder.mkdir()
  for i in range(1000):
    (folder / str(i)).touch()
  program = ['/bin/sh', '-c', 'touch begun; exec sleep 60', '+viz_instance_id']
  process = subprocess.Popen(
    [sys.executable, '-IS', supervisor.__file__, str(os.getpid()), str(folder)]
    + [*program, 'NOBODYS']
  )
  wait_until((folder / 'begun').exists)
  own = below(process.pid)
  while process.poll() is None:
    process.send_signal(signal.SIGTERM)
  assert list(tmp_path.iterdir()) == []
  wait_until(lambda: not own & below())


@pytest.mark.parametrize('killed', ['engine', 'supervisor'])
def test_an_engine_that_is_killed_raises_in_one_step(make, killed):
  before = below()
  env = make()
  env.reset(seed=1)
  own = below() - before
  (engine,) = filter(is_engine, own)
  (its_supervisor,) = own - {engine}
  os.kill(engine if killed == 'engine' else its_supervisor, signal.SIGKILL)
  wait_until(lambda: not is_engine(engine))
  with pytest.raises(Exception, match='exited unexpectedly|crash'):
    for _ in range(3):
      env.step(0)


def test_the_output_of_an_engine_does_not_grow(monkeypatch, tmp_path, make):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  env = make()
  env.reset(seed=1)
  (output,) = tmp_path.glob('*/output.txt')
  size = output.stat().st_size
  for _ in range(20):
    env.reset()
  assert 0 < output.stat().st_size < 2 * size


def test_a_folder_where_programs_cannot_run(monkeypatch, tmp_path):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.X_OK)
  message = f'TMPDIR={tmp_path}: programs cannot run there; allowed: another'
  with pytest.raises(errors.UsageError, match=message):
    foraging.Labyrinth()


def use_engine(monkeypatch, engine):
  """Has another program started in place of ViZDoom's."""
  bundled = doom.bundled
  monkeypatch.setattr(
    doom, 'bundled', lambda name: engine if name == 'vizdoom' else bundled(name)
  )


@pytest.mark.parametrize(
  ('script', 'message'),
  [
    ('echo no such luck >&2; exit 3', 'exit code 3; it printed: no such luck'),
    ('kill -9 $$', 'exit code -9; it printed: nothing'),
    (None, 'exit code 127; it printed: .*/engine: No such file or directory'),
  ],
)
def test_an_engine_that_does_not_start_is_reported_and_leaves_no_files(
  monkeypatch, tmp_path, script, message
):
  engine, folder = tmp_path / 'engine', tmp_path / 'temporary'
  folder.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  if script:
    engine.write_text(f'#!/bin/sh\n{script}\n')
    engine.chmod(0o700)
  use_engine(monkeypatch, engine)
  for _ in range(2):
    with pytest.raises(errors.RunError, match=f'did not start: {message}'):
      foraging.Labyrinth()
  assert list(folder.iterdir()) == []


SLOW = """
import pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # As in a terminal.
from a3c_jax.envs.labyrinth import doom, foraging
bundled = doom.bundled
engine = pathlib.Path('engine')
doom.bundled = lambda name: engine if name == 'vizdoom' else bundled(name)
foraging.Labyrinth()
"""


def test_ctrl_c_while_an_engine_starts(tmp_path):
  folder = tmp_path / 'temporary'
  folder.mkdir()
  engine = tmp_path / 'engine'
  engine.write_text(
    f'#!/bin/sh\ntouch {tmp_path}/begun\n'
    f'while [ ! -e {tmp_path}/go ]; do :; done\n'
    f'exec {doom.bundled("vizdoom")} "$@"\n'
  )
  engine.chmod(0o700)
  code = SLOW.replace("'engine'", repr(str(engine)))
  env = {'TMPDIR': str(folder)}
  process = start('-c', code, cwd=tmp_path, env=env)
  wait_until((tmp_path / 'begun').exists)
  for _ in range(3):  # Impatient.
    process.send_signal(signal.SIGINT)
  (tmp_path / 'go').touch()
  code, _, err = finish(process)
  assert code == -signal.SIGINT
  assert err.rstrip().endswith('KeyboardInterrupt')
  assert list(folder.iterdir()) == []


def test_an_engine_that_is_stuck_can_be_closed(make):
  before = below()
  env = make()
  env.reset(seed=1)
  own = below() - before
  for number in own:
    os.kill(number, signal.SIGSTOP)
  env.close()
  wait_until(lambda: not own & below())


FORKS = """
import os, sys
from a3c_jax.envs.labyrinth import foraging
env = foraging.Labyrinth()
env.reset(seed=1)
child = os.fork()
if not child:
  sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
env.step(0)
env.reset()
print('played on')
"""


def test_a_fork_leaves_the_engine_to_its_parent(tmp_path):
  assert run_code(FORKS, tmp_path)[:2] == (0, 'played on\n')


def test_a_full_temporary_folder(monkeypatch, tmp_path, make):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  env = make()

  def write_bytes(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, 'write_bytes', write_bytes)
    message = f'TMPDIR={tmp_path}: No space left on device'
    with pytest.raises(errors.RunError, match=message):
      env.reset(seed=1)
    with pytest.raises(errors.RunError, match=message):
      foraging.Labyrinth()


def test_errors_of_the_engine_are_reported():
  bad = wads.wad({'DECORATE': b'actor Apple : Pear {}'})
  with pytest.raises(errors.RunError, match="Parent type 'Pear' not found"):
    doom.Engine(bad)


@pytest.mark.parametrize('missing', ['vizdoom', 'labmaze'])
def test_a_missing_package_is_named(monkeypatch, missing):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: None if name == missing else find(name),
  )
  message = (
    f"Labyrinth: {missing} is not installed; pip install 'a3c_jax[labyrinth]'"
  )
  with pytest.raises(errors.UsageError, match=re.escape(message)):
    foraging.Labyrinth()
