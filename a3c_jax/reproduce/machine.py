"""What runs on another machine: it starts a run there and hands over files.

Ray gets this module by value. It imports nothing of this package, so that it
can tell that a machine does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
from typing import Any

_GUARD = 'a3c_jax.reproduce.guard'
# Variables that each machine has for itself; others are those of the command.
_OF_THE_MACHINE = (
  'HOME',
  'HOSTNAME',
  'LD_LIBRARY_PATH',
  'LOGNAME',
  'PATH',
  'PYTHONPATH',
  'SHELL',
  'TMPDIR',
  'USER',
)
Listing = dict[str, tuple[int, int]]  # Bytes and time of change, by path.


def look(scripts: Sequence[str], environment: Mapping[str, str]) -> str:
  """Returns what this machine lacks for a run, in words; '' if nothing.

  Args:
    scripts: their absolute paths.
    environment: of the command that spreads the runs.
  """
  missing = [script for script in scripts if not os.path.isfile(script)]
  host = socket.gethostname()
  if missing:
    return f'{host} has no file {missing[0]}'
  # -P: without the working directory, which a script does not have either.
  result = subprocess.run(
    [sys.executable, '-P', '-c', f'import {_GUARD}'],
    stdin=subprocess.DEVNULL,
    capture_output=True,
    env=environment_of(environment),
  )
  if result.returncode:
    lines = result.stderr.decode(errors='replace').split('\n')
    last = next(filter(str.strip, reversed(lines)), '')
    return f'{sys.executable} on {host} lacks this a3c_jax: {last}'
  return ''


def environment_of(environment: Mapping[str, str]) -> dict[str, str]:
  """Returns the environment variables of a run on this machine."""
  own = {
    name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ
  }
  others = {
    name: text
    for name, text in environment.items()
    if name not in _OF_THE_MACHINE
  }
  return others | own


class Machine:
  """One run on this machine. Made as an actor of Ray, with some threads."""

  def __init__(self):
    """Starts nothing yet."""
    self._guard: Any = None
    self._base = pathlib.Path()

  def host(self) -> str:
    """Returns the name of this machine."""
    return socket.gethostname()

  def look(self, scripts: Sequence[str], environment: Mapping[str, str]) -> str:
    """Returns what this machine lacks; see the function."""
    return look(scripts, environment)

  def sees(self, marker: str, content: bytes, log: str) -> bool:
    """Whether a file has some content here, and a run can write beside it.

    Args:
      marker: path of the file.
      content: which no other file has.
      log: path of the run's log in the same folder; it exists.
    """
    try:
      found = pathlib.Path(marker).read_bytes()
    except OSError:
      return False
    writes = (log, os.path.dirname(log))
    return found == content and all(os.access(path, os.W_OK) for path in writes)

  def open(self, environment: Mapping[str, str]) -> str:
    """Starts the guard; returns a new folder, which it removes in the end."""
    starter = subprocess.Popen(
      [sys.executable, '-P', '-m', _GUARD],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      bufsize=0,  # Closing would write, and fail, again.
      env=environment_of(environment),
    )
    self._guard = starter
    scratch = self._answer().get('scratch')
    starter.wait()  # The guard itself is a child of it that stays.
    if scratch is None:
      raise OSError(f'{_GUARD} does not start on {socket.gethostname()}')
    self._base = pathlib.Path(scratch)
    return scratch

  def _answer(self) -> dict[str, Any]:
    """Reads a line of the guard; empty if it has ended."""
    return json.loads(self._guard.stdout.readline() or '{}')

  def _ask(self, request) -> None:
    with contextlib.suppress(BrokenPipeError):  # `wait` finds out.
      self._guard.stdin.write(json.dumps(request).encode() + b'\n')

  def start(
    self, command: Sequence[str], workdir: str, log: str, folder: str
  ) -> None:
    """Starts a run once nobody else holds the lock of its log.

    Args:
      command: a script, whose path is absolute, and its flags.
      workdir: the folder of the run.
      log: path of the file that gets what the run prints.
      folder: the working directory, if it exists here.
    """
    run = [sys.executable, *command, f'--workdir={workdir}']
    if not os.path.isdir(folder):
      folder = str(self._base)
    self._ask({'command': run, 'log': log, 'folder': folder})

  def wait(self) -> int:
    """Returns the exit code when the run has ended."""
    return self._answer().get('code', -signal.SIGKILL)

  def send_signal(self, number: int) -> None:
    """Sends a signal to the run."""
    self._ask({'signal': number})

  def close(self) -> None:
    """Ends the guard, and waits until its folder has been removed."""
    self._guard.stdin.close()
    self._guard.stdout.read()
    self._guard.stdout.close()
    shutil.rmtree(self._base, ignore_errors=True)  # If it was killed.

  def listing(self, below: str) -> Listing:
    """Returns the files below a part of the guard's folder."""
    found: Listing = {}
    base = self._base / below
    for folder, _, names in os.walk(base):
      for name in names:
        path = pathlib.Path(folder, name)
        try:
          status = path.lstat()
        except FileNotFoundError:
          continue  # The run has removed it since.
        if stat.S_ISREG(status.st_mode):
          relative = path.relative_to(base).as_posix()
          found[relative] = (status.st_size, status.st_mtime_ns)
    return found

  def read(self, path: str, offset: int, size: int) -> bytes | None:
    """Returns a part of a file in the guard's folder; None if it is gone."""
    try:
      with open(self._base / path, 'rb') as file:
        file.seek(offset)
        return file.read(size)
    except FileNotFoundError:
      return None

  def write(self, path: str, offset: int, content: bytes) -> None:
    """Writes a part of a file in the guard's folder, the first one first."""
    whole = self._base / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    with open(whole, 'r+b' if offset else 'wb') as file:
      file.seek(offset)
      file.write(content)
