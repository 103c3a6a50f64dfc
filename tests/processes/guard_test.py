"""What runs on the machine of a run, without Ray: the guard and its run."""

import fcntl
import json
import os
import pathlib
import signal
import sys

import processes
import programs
import pytest

from a3c_jax.reproduce import machine

SCRIPT = """
import json, os, pathlib, signal, sys

signal.alarm(60)  # Whatever goes wrong, nothing stays behind.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get('MINE')]))
pathlib.Path('pids').write_text(f'{os.getpid()} {os.getppid()}')
if '--wait' in sys.argv:
  print('got', signal.sigwait([signal.SIGTERM]))
sys.exit(3)
"""


@pytest.fixture
def log(tmp_path):
  (tmp_path / 'script.py').write_text(SCRIPT)
  return tmp_path / 'log'


@pytest.fixture
def far(monkeypatch):
  """A machine that has started its guard."""
  monkeypatch.setenv('PYTHONPATH', str(programs.ROOT))
  made = machine.Machine()
  scratch = pathlib.Path(made.open(dict(os.environ, MINE='mine')))
  yield made
  if not made._guard.stdin.closed:
    made.close()
  assert not scratch.exists()


def start(far, log, *flags):
  script = str(log.parent / 'script.py')
  far.start([script, *flags], 'w', str(log), str(log.parent))


def pids(log):
  """Those of the run and of its guard, once it runs."""
  path = log.parent / 'pids'
  processes.wait_until(lambda: path.exists() and path.read_text())
  return [int(text) for text in path.read_text().split()]


def wait_until_ended(pid):
  processes.wait_until(lambda: processes.parent_of(pid) is None)


def test_a_run_prints_into_its_log_and_ends_with_its_code(far, log):
  start(far, log, '--one=1')
  assert far.wait() == 3
  (line,) = log.read_text().splitlines()
  flags = ['--one=1', '--workdir=w']
  assert json.loads(line) == [flags, str(log.parent), 'mine']


def test_signals_are_passed_on(far, log):
  start(far, log, '--wait')
  pids(log)
  far.send_signal(signal.SIGTERM)
  assert far.wait() == 3
  assert log.read_text().endswith(f'got {signal.SIGTERM:d}\n')
  far.send_signal(signal.SIGTERM)  # Nobody is left who gets it.


def test_a_run_is_stopped_when_nobody_waits_for_it_any_more(far, log):
  start(far, log, '--wait')
  run, _ = pids(log)
  far.close()
  wait_until_ended(run)
  assert 'got' in log.read_text()


def test_a_killed_guard_takes_its_run_along(far, log):
  start(far, log, '--wait')
  run, guard = pids(log)
  os.kill(guard, signal.SIGKILL)
  assert far.wait() == -signal.SIGKILL
  wait_until_ended(run)
  assert 'got' not in log.read_text()
  far.send_signal(signal.SIGTERM)  # Nobody is left who gets it.


def test_the_guard_is_no_child_of_the_process_that_starts_it(far, log):
  start(far, log, '--wait')
  _, guard = pids(log)
  assert processes.parent_of(guard) != os.getpid()
  assert os.getpgid(guard) == guard


def test_a_run_waits_for_an_earlier_one_with_its_log(far, log):
  with log.open('ab') as earlier:
    fcntl.flock(earlier, fcntl.LOCK_EX)
    start(far, log)
    far.send_signal(signal.SIGTERM)
    assert far.wait() == -signal.SIGTERM
    assert log.read_text() == ''
  assert not (log.parent / 'pids').exists()


def test_a_run_has_the_lock_of_its_log(far, log):
  with log.open('ab') as earlier:
    fcntl.flock(earlier, fcntl.LOCK_EX)
    start(far, log, '--wait')
  pids(log)
  with log.open('ab') as later, pytest.raises(BlockingIOError):
    fcntl.flock(later, fcntl.LOCK_EX | fcntl.LOCK_NB)
  far.send_signal(signal.SIGTERM)
  assert far.wait() == 3


def test_a_working_directory_that_is_not_there(far, log):
  script = str(log.parent / 'script.py')
  far.start([script], 'w', str(log), '/nowhere')
  assert far.wait() == 3
  (line,) = log.read_text().splitlines()
  _, folder, _ = json.loads(line)
  assert folder == str(far._base)


def test_files_of_the_guards_folder(far):
  far.write('run/a/b', 0, b'one')
  far.write('run/a/b', 3, b', two')
  assert {name: size for name, (size, _) in far.listing('run').items()} == {
    'a/b': 8
  }
  assert far.read('run/a/b', 1, 3) == b'ne,'
  assert far.read('run/c', 0, 1) is None
  far.write('run/a/b', 0, b'')
  assert far.read('run/a/b', 0, 10) == b''


def test_a_machine_sees_a_folder_whose_marker_it_can_read(tmp_path):
  marker, log = tmp_path / 'marker', tmp_path / 'log'
  far = machine.Machine()
  sees = lambda content: far.sees(str(marker), content, str(log))
  log.touch()
  assert not sees(b'one')
  marker.write_bytes(b'one')
  assert sees(b'one')
  assert not sees(b'two')
  log.unlink()  # Root could write to any file.
  assert not sees(b'one')


def test_a_machine_names_what_it_lacks(log, monkeypatch):
  environment = dict(os.environ)
  script = str(log.parent / 'script.py')
  monkeypatch.setenv('PYTHONPATH', str(programs.ROOT))
  assert machine.look([script], environment) == ''
  assert machine.look([script, '/no/script.py'], environment).endswith(
    ' has no file /no/script.py'
  )
  package = log.parent / 'a3c_jax'
  package.mkdir()
  (package / '__init__.py').write_text('raise ImportError("of another kind")')
  monkeypatch.setenv('PYTHONPATH', str(log.parent))
  problem = machine.look([script], environment)
  assert problem.startswith(f'{sys.executable} on ')
  assert problem.endswith('ImportError: of another kind')


def test_a_run_has_the_variables_of_the_command_but_the_paths_of_its_machine(
  monkeypatch,
):
  monkeypatch.setenv('PATH', '/its')
  monkeypatch.setenv('RAY_SOMETHING', '1')
  monkeypatch.delenv('TMPDIR', raising=False)
  given = {'PATH': '/mine', 'TMPDIR': '/mine', 'XLA_FLAGS': '--mine'}
  found = machine.environment_of(given)
  assert (found['PATH'], found['XLA_FLAGS']) == ('/its', '--mine')
  assert not {'TMPDIR', 'RAY_SOMETHING'} & found.keys()
