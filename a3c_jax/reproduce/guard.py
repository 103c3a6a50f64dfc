"""Runs one command, and ends it when the process that asked for it ends.

  python -m a3c_jax.reproduce.guard

`machine.Machine` starts it on the machine of a run. Both write lines of JSON.
The guard reads {"command": [...], "folder": "/...", "log": "/..."} once, and
{"signal": 15} any number of times. It writes {"scratch": "/..."} at once, a
folder that it removes in the end, and {"code": 0} when the command has ended.

When its standard input ends, it sends SIGTERM to the command, so that a run
writes its checkpoint, and SIGKILL after `STOP_SECONDS`. If the guard is killed,
the kernel kills the command. Linux only.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any, BinaryIO

from a3c_jax.core import files

STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1  # From sys/prctl.h.


class Guard:
  """A command that starts once, and what was asked for until it has ended."""

  def __init__(self):
    """Starts nothing yet."""
    self._request: dict[str, Any] = {}
    self._log: BinaryIO | None = None
    self._process: subprocess.Popen | None = None
    self._code: int | None = None
    self._told = False

  def serve(self) -> None:
    """Does what the lines of standard input say, until these end."""
    for lines in _lines():
      for line in lines:
        self._obey(json.loads(line))
      self._advance()
    self._send(signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while self._request and self._code is None:
      if time.monotonic() > end:
        self._send(signal.SIGKILL)
      time.sleep(_POLL_SECONDS)
      self._advance()

  def _obey(self, request) -> None:
    if 'command' in request:
      self._request = request
      self._log = _appending(request['log'])
    else:
      self._send(request['signal'])

  def _send(self, number) -> None:
    if self._process:
      self._process.send_signal(number)
    elif self._request:  # It waits for the lock.
      self._code = -number

  def _advance(self) -> None:
    """Starts the command, or sees whether it has ended."""
    if self._process:
      self._code = self._process.poll()
    elif self._request and self._code is None:
      self._start()
    if self._code is not None and not self._told:
      self._told = True
      _write({'code': self._code})

  def _start(self) -> None:
    """Starts the command unless another process holds the lock of its log."""
    assert self._log is not None
    try:
      files.lock(self._log, folder=self._request['log'])
    except BlockingIOError:
      return
    prctl, guard = ctypes.CDLL(None).prctl, os.getpid()

    def end_with_guard():
      prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
      if os.getppid() != guard:
        os._exit(1)

    try:
      self._process = subprocess.Popen(
        self._request['command'],
        cwd=self._request['folder'],
        stdin=subprocess.DEVNULL,
        stdout=self._log,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=end_with_guard,
      )
    except OSError as error:
      self._log.write(os.fsencode(f'error: {error}\n'))
      self._code = 1


def _appending(path) -> BinaryIO:
  descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
  return os.fdopen(descriptor, 'ab', buffering=0)


def _lines() -> Iterator[list[bytes]]:
  """Yields the lines of standard input since the last time, until it ends."""
  rest = b''
  while True:
    lines = []
    if select.select([0], [], [], _POLL_SECONDS)[0]:
      content = os.read(0, 2**16)
      if not content:
        return
      *lines, rest = (rest + content).split(b'\n')
    yield lines


def _write(answer) -> None:
  with contextlib.suppress(BrokenPipeError):  # Nobody is left who reads it.
    os.write(1, json.dumps(answer).encode() + b'\n')


def main() -> None:
  """Serves as a process that is nobody's child.

  Ray kills the children of a process that ends, without a signal before.
  """
  if os.fork():
    os._exit(0)
  os.setsid()
  # Ray blocks SIGINT in all its processes.
  signal.pthread_sigmask(signal.SIG_SETMASK, [])
  scratch = tempfile.mkdtemp(prefix='a3c-run-')
  try:
    _write({'scratch': scratch})
    Guard().serve()
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == '__main__':
  main()
