"""Signals that ask a process to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import threading
import time
from typing import Any

from a3c_jax.core import output

# Ctrl-C; `kill` or the end of a job; a closed terminal; SLURM's warning.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# A second one ends the process at once. The others may come several times for
# one cause: the kernel and a shell both send SIGHUP for a closed terminal.
_URGENT = (signal.SIGINT, signal.SIGTERM)
_SAME_SECONDS = 0.5  # `timeout` sends its signal twice, one after the other.


class Interrupted(BaseException):
  """A signal came within `Signals.raising`. `except Exception` misses it."""


class Signals:
  """Handles signals that ask to stop. A context manager for the main thread.

  In another thread it does nothing, since Python allows handlers only in the
  main thread. An ignored SIGHUP (`nohup`) stays ignored. Forked processes get
  the earlier handlers, so that `Process.terminate` ends them.

  Attributes:
    received: whether a signal has come.
    wake: the handler calls it at the first signal.
  """

  def __init__(
    self,
    again: Callable[[int], None] | None = None,
    *,
    notice: str = '\nstopping\n',
  ):
    """Sets what to do; installs no handler yet.

    Args:
      again: the handler calls it with the number of a second SIGINT or SIGTERM.
        By default the process exits at once with code 128 + number.
      notice: written to standard output at the first signal.
    """
    self.received = False
    self.wake: Callable[[], None] = lambda: None
    self._notice = notice
    self._again = again or _end_process
    self._urgent_at: float | None = None
    self._raises = False
    self._handlers: dict[int, Any] = {}

  def __enter__(self):
    if threading.current_thread() is not threading.main_thread():
      return self
    _active.append(self)
    for number in _NUMBERS:
      before = signal.getsignal(number)
      # None: a handler that is not Python's, which Python cannot restore.
      if before is None or (
        number == signal.SIGHUP and before == signal.SIG_IGN
      ):
        continue
      self._handlers[number] = before
      signal.signal(number, self._handle)
    return self

  def __exit__(self, *exception):
    self._restore()
    if self in _active:
      _active.remove(self)

  def renew(self) -> None:
    """Installs the handlers again, which a simulator may have replaced."""
    for number in self._handlers:
      signal.signal(number, self._handle)

  @contextlib.contextmanager
  def raising(self) -> Iterator[None]:
    """Makes a signal raise Interrupted in the main thread within the block."""
    self._raises = True
    try:
      if self.received:
        raise Interrupted
      yield
    finally:
      self._raises = False

  def _restore(self):
    for number, handler in self._handlers.items():
      signal.signal(number, handler)
    self._handlers = {}

  def _handle(self, number, frame):
    del frame
    now = time.monotonic()
    if number in _URGENT:
      if self._urgent_at is not None:
        if now - self._urgent_at >= _SAME_SECONDS:
          self._again(number)
        return
      self._urgent_at = now
    if self.received:
      return
    self.received = True
    # Not `print`: the handler may have interrupted one.
    output.write_now(self._notice)
    self.wake()
    if self._raises:
      raise Interrupted


_active: list[Signals] = []


def _end_process(number):
  output.leave_terminal()
  os._exit(128 + number)


_masks = threading.local()


def _before_fork():
  # Otherwise the child loses signals that come before it has its handlers.
  _masks.before = signal.pthread_sigmask(
    signal.SIG_BLOCK, _NUMBERS if _active else ()
  )


def _after_fork():
  signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _after_fork_in_child():
  for signals in reversed(_active):
    signals._restore()
  _active.clear()
  _after_fork()


os.register_at_fork(
  before=_before_fork,
  after_in_parent=_after_fork,
  after_in_child=_after_fork_in_child,
)


@contextlib.contextmanager
def keeping(number: int) -> Iterator[None]:
  """Restores the handler of a signal that a block may replace.

  For the main thread: Python sets handlers in no other.

  Args:
    number: of the signal.
  """
  handler = signal.getsignal(number)
  try:
    yield
  finally:
    signal.signal(number, handler)
