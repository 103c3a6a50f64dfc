"""Standard output and standard error that may fail at any time."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import sys
from typing import Any


class _Losable:
  """A text stream that drops what it cannot write, and never raises.

  Training must continue if a reader such as `head` ends, a terminal is closed
  or a disk is full. Characters that the stream's encoding lacks are written as
  escape sequences.
  """

  def __init__(self, stream: Any):
    self._stream = stream

  def write(self, text: str) -> int:
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed.
      try:
        self._stream.write(text)
      except UnicodeEncodeError:
        encoding = self._stream.encoding or 'ascii'
        escaped = text.encode(encoding, 'backslashreplace')
        self._stream.write(escaped.decode(encoding))
    return len(text)

  def writelines(self, lines) -> None:
    for line in lines:
      self.write(line)

  def flush(self) -> None:
    with contextlib.suppress(OSError, ValueError):
      self._stream.flush()

  def close(self) -> None:
    with contextlib.suppress(OSError, ValueError):
      self._stream.close()

  def isatty(self) -> bool:
    try:
      return self._stream.isatty()
    except ValueError:
      return False

  def __getattr__(self, name):
    return getattr(self._stream, name)


def set_up() -> None:
  """Makes `sys.stdout` and `sys.stderr` losable until the process exits.

  Only a program's entry point should call this. Python flushes both when it
  exits; if that failed, its exit code would be 120.
  """
  # The next file would get a closed descriptor, and then stray output.
  descriptor = os.open(os.devnull, os.O_RDWR)
  while descriptor <= 2:
    descriptor = os.dup(descriptor)
  os.close(descriptor)
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115
    setattr(sys, name, _losable(getattr(sys, name)))


@contextlib.contextmanager
def losable() -> Iterator[None]:
  """Makes `sys.stdout` and `sys.stderr` losable within a block."""
  before = sys.stdout, sys.stderr
  sys.stdout, sys.stderr = map(_losable, before)
  try:
    yield
  finally:
    sys.stdout, sys.stderr = before


def _losable(stream):
  if stream is None or isinstance(stream, _Losable):
    return stream
  return _Losable(stream)


def write_now(text: str) -> None:
  """Writes to standard output without its buffer, for signal handlers."""
  with contextlib.suppress(OSError, ValueError, AttributeError):
    os.write(sys.stdout.fileno(), text.encode())


def leave_terminal() -> None:
  """Shows the cursor again, before the process ends without cleanup."""
  if sys.stdout and sys.stdout.isatty():
    write_now('\x1b[?25h\n')
