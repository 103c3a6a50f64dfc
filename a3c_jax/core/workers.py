"""Threads that are started together, watched, and told to stop."""

from __future__ import annotations

import asyncio
import atexit
import collections
from collections.abc import Callable, Mapping, Sequence
import contextlib
import logging
import queue
import sys
import threading
import time
import traceback

_logger = logging.getLogger(__name__)

_MOST_SECONDS = 5.0  # That count from one look at threads to the next.
_idle_loops: list[asyncio.AbstractEventLoop] = []


class Stopped(Exception):
  """A thread was told to return; for its body to raise, from anywhere."""


_POLL_SECONDS = 0.1
SIGNAL_SECONDS = 0.2  # From a signal to when all threads are told of it.
CLOSE_SECONDS = 5.0  # For an environment that nobody plays in any more.
_HURRY_SECONDS = 5.0
_WAKE = object()
_beats: collections.Counter[int] = collections.Counter()


def beat() -> None:
  """Notes a sign of life of the calling thread, for a `Watchdog`.

  A game's step or reset is one, so that an environment of many slow games does
  not look as if it hung.
  """
  _beats[threading.get_ident()] += 1


def beats(thread: threading.Thread) -> int:
  """Signs of life of a thread so far, and of earlier ones with its ident."""
  return _beats[thread.ident]


class Watchdog:
  """Notices threads that show no sign of life.

  Attributes:
    seconds: without one, after which a thread has hung.
  """

  def __init__(self, seconds: float):
    self.seconds = seconds
    self._last: Mapping[str, object] = {}
    self._idle: dict[str, float] = {}
    self._looked = time.perf_counter()

  def tick(self, progress: Mapping[str, object]) -> list[str]:
    """The names of those that have made none for too long.

    Args:
      progress: by name of the thread, a value that another one follows at every
        sign of life.
    """
    now = time.perf_counter()
    # A process that was paused as a whole has not hung.
    passed = min(now - self._looked, _MOST_SECONDS)
    self._looked = now
    self._idle = {
      name: self._idle[name] + passed
      if name in self._last and self._last[name] == value
      else 0.0
      for name, value in progress.items()
    }
    self._last = dict(progress)
    return [name for name, idle in self._idle.items() if idle >= self.seconds]


@atexit.register
def _close_idle_loops():
  for loop in _idle_loops:
    loop.close()


@contextlib.contextmanager
def _event_loop():
  """Gives the thread an event loop, as Python does for the main thread only.

  It is for environments. It stays open, since they may keep it, and be used by
  another thread later.
  """
  loop = None
  while loop is None or loop.is_closed():
    try:
      loop = _idle_loops.pop()
    except IndexError:
      try:
        loop = asyncio.new_event_loop()
      except OSError:  # Each takes three of the files that may be open.
        yield
        return
  asyncio.set_event_loop(loop)
  try:
    yield
  finally:
    _idle_loops.append(loop)


class Workers:
  """Threads of which the first failure ends the work of all.

  Attributes:
    error: what the first failing thread raised, with a note naming the thread
      (a RuntimeError from it, if it is no Exception); None while all is well.
  """

  def __init__(
    self, body: Callable[[int, threading.Event], None], count: int, *, name: str
  ):
    """Makes the threads; `start` starts them.

    Args:
      body: what thread `i` does, given `i` and an event that is set when it
        should return early, or raise `Stopped`.
      count: number of threads.
      name: what one thread is called, followed by its number.
    """
    self.error: BaseException | None = None
    self._running = count
    self._stop = threading.Event()
    # Of threads that ended: what they raised, or None; _WAKE is no ending.
    self._endings: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run(thread):
      try:
        with _event_loop():
          body(thread, self._stop)
      except Stopped:
        self._endings.put(None)
      except Exception as error:
        error.add_note(f'raised in {name} thread {thread}')
        self._endings.put(error)
      except BaseException as error:
        # SystemExit in a thread must not end the process without a word.
        failure = RuntimeError(f'{name} thread {thread} raised {error!r}')
        failure.__cause__ = error
        self._endings.put(failure)
      else:
        self._endings.put(None)

    # Daemons: a hung thread must not keep the process from ending.
    self._threads = [
      threading.Thread(
        target=run, args=(thread,), name=f'{name}-{thread}', daemon=True
      )
      for thread in range(count)
    ]

  def start(self) -> None:
    """Starts all threads."""
    for thread in self._threads:
      thread.start()

  def wait(self, seconds: float) -> bool:
    """Waits until a thread ends or `wake` is called, at most so long.

    Returns:
      Whether work goes on: a thread still runs and none has failed.
    """
    with contextlib.suppress(queue.Empty):
      self._count(self._endings.get(timeout=seconds))
    return self._running > 0 and self.error is None

  def wake(self) -> None:
    """Ends a `wait` that is going on; a signal handler may call it."""
    self._endings.put(_WAKE)

  def stop(self, seconds: float) -> list[str]:
    """Tells all threads to return and waits for them, at most so long.

    Returns:
      The names of the threads that did not.
    """
    self._stop.set()
    deadline = time.perf_counter() + seconds
    for thread in self._threads:
      if thread.ident is not None:  # It was started.
        thread.join(max(0.0, deadline - time.perf_counter()))
    while not self._endings.empty():
      self._count(self._endings.get())
    return [*self.alive()]

  def alive(self) -> dict[str, int]:
    """The name of each thread that runs, and its signs of life so far."""
    return {
      thread.name: beats(thread)
      for thread in self._threads
      if thread.is_alive()
    }

  def _count(self, ending) -> None:
    if ending is _WAKE:
      return
    self._running -= 1
    self.error = self.error or ending


def log_hung(
  names: Sequence[str], seconds: float, level: int = logging.ERROR
) -> str:
  """Logs which threads show no sign of life, and where every thread is.

  Args:
    names: of the threads that hang.
    seconds: for how long they have.
    level: of the message.

  Returns:
    Which threads hang, in words.
  """
  known = {thread.ident: thread.name for thread in threading.enumerate()}
  stacks = [
    f'thread {known.get(ident, ident)}:\n'
    + ''.join(traceback.format_stack(frame))
    for ident, frame in sys._current_frames().items()
  ]
  reason = f'no progress of {", ".join(names)} for {seconds:g} s'
  _logger.log(
    level, '%s; the stacks of all threads:\n%s', reason, '\n'.join(stacks)
  )
  return reason


def call_all(
  calls: Sequence[Callable[[], object]],
  *,
  seconds: float,
  hurry: Callable[[], bool] = lambda: False,
  on_hung: Callable[[list[str], float], None] = lambda names, seconds: None,
) -> list[BaseException]:
  """Calls functions of which any may raise or hang, and returns all the same.

  They are called in a thread, which is left behind if one hangs.

  Args:
    calls: what to call, one after the other.
    seconds: without a sign of life, after which one hangs.
    hurry: asked again and again; if true, a few seconds have to do.
    on_hung: called with the thread that hangs, and for how long.

  Returns:
    What they raised.
  """
  failures = []

  def body(thread, stop):
    del thread, stop
    for call in calls:
      beat()
      try:
        call()
      except BaseException as error:  # SystemExit too.
        failures.append(error)

  calling = Workers(body, 1, name='environment-close')
  watchdog = Watchdog(seconds)
  calling.start()
  while calling.wait(_POLL_SECONDS):
    beat()  # The wait has a bound of its own.
    watchdog.seconds = min(seconds, _HURRY_SECONDS) if hurry() else seconds
    hung = watchdog.tick(calling.alive())
    if hung:
      on_hung(hung, watchdog.seconds)
      break
  return failures


def close(
  closes: Sequence[Callable[[], object]],
  *,
  seconds: float,
  hurry: Callable[[], bool] = lambda: False,
) -> None:
  """Closes environments as `call_all`.

  That one raises or hangs is a warning: a run does not fail at its end.
  """
  failures = call_all(
    closes,
    seconds=seconds,
    hurry=hurry,
    on_hung=lambda names, seconds: log_hung(names, seconds, logging.WARNING),
  )
  if failures:
    _logger.warning(
      'closing %d of %d environments raised %r',
      len(failures),
      len(closes),
      failures[0],
    )
