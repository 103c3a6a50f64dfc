"""Signals that ask a process to stop in good order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import threading
import time

from a3c_jax.core import output

# Ctrl-C; `kill` and the end of a job; a closed terminal; SLURM's warning.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# That end a process at once when they come again. The others may come several
# times for one cause: the kernel and a shell both tell of a closed terminal.
_URGENT = (signal.SIGINT, signal.SIGTERM)
_SAME_SECONDS = 0.5  # `timeout` sends its signal twice, one after the other.


class Interrupted(BaseException):
  """A signal came while `Signals.raising`; no Exception, so nobody eats it."""


class Signals:
  """Notes requests to stop. A context manager, of the main thread.

  In another thread it notes nothing, since only the main thread may. A SIGHUP
  that was ignored, as `nohup` has it, stays ignored. Processes that are forked
  meanwhile have the handlers that were there before: `Process.terminate`
  must end them.

  Attributes:
    received: whether a signal has come.
    wake: called, in the handler, when the first one comes.
  """

  def __init__(
    self,
    again: Callable[[int], None] | None = None,
    *,
    notice: str = '\nstopping\n',
  ):
    """Notes nothing yet.

    Args:
      again: called, in the handler, with the number of a second SIGINT or
        SIGTERM; unless given, the process ends at once, with exit code 128 and
        that number.
      notice: printed at the first signal.
    """
    self.received = False
    self.wake: Callable[[], None] = lambda: None
    self._notice = notice
    self._again = again or _end_process
    self._urgent_at: float | None = None
    self._raises = False
    self._handlers: dict[int, object] = {}

  def __enter__(self):
    if threading.current_thread() is not threading.main_thread():
      return self
    _active.append(self)
    for number in _NUMBERS:
      before = signal.getsignal(number)
      # None: a handler that is not Python's, which could not be put back.
      if before is None or (
        number == signal.SIGHUP and before == signal.SIG_IGN
      ):
        continue
      self._handlers[number] = before
      signal.signal(number, self._note)
    return self

  def __exit__(self, *exception):
    self._restore()
    if self in _active:
      _active.remove(self)

  def renew(self) -> None:
    """Takes signals back from who handles them since, as a simulator may."""
    for number in self._handlers:
      signal.signal(number, self._note)

  @contextlib.contextmanager
  def raising(self) -> Iterator[None]:
    """Raises Interrupted in the main thread within the block, at a signal."""
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

  def _note(self, number, frame):
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
    # Not by print, which the handler may have interrupted.
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
  # Or the child loses a signal that comes before it has its own handlers.
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
