"""Threads that start, are watched and stop together."""

from __future__ import annotations

import asyncio
import atexit
import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import logging
import queue
import sys
import threading
import time
import traceback
from typing import Self

from a3c_jax.core import errors

_logger = logging.getLogger(__name__)

_MOST_SECONDS = 5.0  # Between two ticks; more is a pause of the process.
_idle_loops: list[asyncio.AbstractEventLoop] = []


class Stopped(Exception):
  """A thread was asked to stop. Its body may raise this anywhere.

  It is an error if nobody has asked.
  """


_POLL_SECONDS = 0.1
SIGNAL_SECONDS = 0.2  # From a signal until it stops all threads.
CLOSE_SECONDS = 5.0  # To close an environment that is no longer used.
_HURRY_SECONDS = 5.0
_WAKE = object()
_beats: collections.Counter[int] = collections.Counter()


def beat() -> None:
  """Counts one sign of life of the calling thread, for a `Watchdog`.

  Each single environment's step or reset is one, so that a vector of many slow
  environments does not seem to hang.
  """
  _beats[threading.get_ident()] += 1


def beats(thread: threading.Thread) -> int:
  """Returns a thread's signs of life, and those of earlier ones of its id."""
  return _beats[thread.ident or 0]


class Watchdog:
  """Finds threads that hang: that show no sign of life for some seconds.

  Attributes:
    seconds: after which a thread without a sign of life hangs.
  """

  def __init__(self, seconds: float):
    self.seconds = seconds
    self._last: Mapping[str, object] = {}
    self._idle: dict[str, float] = {}
    self._ticked = time.perf_counter()

  def tick(self, progress: Mapping[str, object]) -> list[str]:
    """Returns the names of the threads that hang.

    Args:
      progress: by the thread's name, a value that changes at every sign of
        life.
    """
    now = time.perf_counter()
    # A process that was paused as a whole does not hang.
    passed = min(now - self._ticked, _MOST_SECONDS)
    self._ticked = now
    self._idle = {
      name: self._idle[name] + passed
      if name in self._last and self._last[name] == value
      else 0.0
      for name, value in progress.items()
    }
    self._last = dict(progress)
    return [name for name, idle in self._idle.items() if idle >= self.seconds]

  def check(self, progress: Mapping[str, object]) -> None:
    """Logs the stacks of all threads if one hangs.

    Args:
      progress: as for `tick`.

    Raises:
      HungError: naming the threads that hang.
    """
    hung = self.tick(progress)
    if hung:
      raise errors.HungError(log_hung(hung, self.seconds))


@atexit.register
def _close_idle_loops():
  for loop in _idle_loops:
    loop.close()


@contextlib.contextmanager
def _event_loop():
  """Gives the thread an event loop, which environments may use.

  Python does so for the main thread only. The loop stays open, since an
  environment may hold it, and another thread may use that environment later.
  """
  loop = None
  while loop is None or loop.is_closed():
    try:
      loop = _idle_loops.pop()
    except IndexError:
      try:
        loop = asyncio.new_event_loop()
      except OSError:  # Each needs three of the open files allowed.
        yield
        return
  asyncio.set_event_loop(loop)
  try:
    yield
  finally:
    _idle_loops.append(loop)


class ThreadGroup:
  """A group of threads that has failed as soon as one of them has.

  Attributes:
    error: the exception of the first thread that failed, with a note naming
      the thread (if it is no Exception, a RuntimeError from it); None if none
      failed.
  """

  def __init__(self, bodies: Mapping[str, Callable[[threading.Event], None]]):
    """Makes the threads; `start` starts them.

    Args:
      bodies: by the name of each thread, the function that it calls. When its
        argument is set, the function should return or raise `Stopped`.
    """
    self.error: BaseException | None = None
    self._running = len(bodies)
    self._stop = threading.Event()
    # For each thread that ended, its exception or None; _WAKE is from `wake`.
    self._endings: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run(name, body):
      try:
        with _event_loop():
          body(self._stop)
      except Stopped as error:
        failure = None
        if not self._stop.is_set():
          failure = RuntimeError(f'thread {name} stopped, but was not asked to')
          failure.__cause__ = error
        self._endings.put(failure)
      except Exception as error:
        error.add_note(f'raised in thread {name}')
        self._endings.put(error)
      except BaseException as error:
        # SystemExit in a thread would end it silently.
        failure = RuntimeError(f'thread {name} raised {error!r}')
        failure.__cause__ = error
        self._endings.put(failure)
      else:
        self._endings.put(None)

    # Daemons: a hung thread must not keep the process from ending.
    self._threads = [
      threading.Thread(target=run, args=each, name=each[0], daemon=True)
      for each in bodies.items()
    ]

  @classmethod
  def numbered(
    cls, body: Callable[[int, threading.Event], None], count: int, *, name: str
  ) -> Self:
    """Returns a group of threads that all have the same body.

    Args:
      body: `(i, stop)` runs in thread `i`, as a body of `ThreadGroup`.
      count: number of threads.
      name: of the threads; a thread's number follows it.
    """
    return cls(
      {
        f'{name}-{index}': functools.partial(body, index)
        for index in range(count)
      }
    )

  def start(self) -> None:
    """Starts all threads."""
    for thread in self._threads:
      thread.start()

  def wait(self, seconds: float) -> bool:
    """Waits until a thread ends or `wake` is called, at most some seconds.

    Returns:
      Whether a thread still runs and none has failed.
    """
    if self._running > 0:
      with contextlib.suppress(queue.Empty):
        self._count(self._endings.get(timeout=seconds))
    return self._running > 0 and self.error is None

  def join(self) -> None:
    """Waits until all threads have ended, or one has failed.

    Their signs of life are those of the calling thread too.

    Raises:
      Exception: `error`.
    """
    life = None
    while self.wait(_POLL_SECONDS):
      if (now := self.alive()) != life:
        beat()
        life = now
    if self.error is not None:
      raise self.error

  def wake(self) -> None:
    """Ends a running `wait`; a signal handler may call it."""
    self._endings.put(_WAKE)

  def stop(self, seconds: float) -> list[str]:
    """Asks all threads to return and waits for them, at most some seconds.

    Returns:
      The names of the threads that still run.
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
    """Returns the signs of life of each running thread, by its name."""
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


@contextlib.contextmanager
def beside(
  name: str,
  call: Callable[[], None],
  *,
  on_thread: Callable[[Callable[[], Mapping[str, int]]], None] = lambda _: None,
) -> Iterator[None]:
  """Calls a function in another thread during a block, and waits for its end.

  Args:
    name: of the thread.
    call: the function.
    on_thread: called before the thread starts with `ThreadGroup.alive` of it.

  Raises:
    Exception: what the function raised, if the block raised nothing.
  """
  group = ThreadGroup({name: lambda stop: call()})
  on_thread(group.alive)
  try:
    group.start()
    yield
    group.join()
  finally:
    # A block that fails waits too, but not for a function that hangs: Python
    # may crash if it ends while a thread computes.
    group.stop(CLOSE_SECONDS)


def log_hung(
  names: Sequence[str], seconds: float, level: int = logging.ERROR
) -> str:
  """Logs which threads hang, and the stacks of all threads.

  Args:
    names: of the threads that hang.
    seconds: since their last sign of life.
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
  on_hung: Callable[[list[str], float], object] = lambda names, seconds: None,
) -> list[BaseException]:
  """Calls functions that may raise or hang, and returns in any case.

  It calls them in a thread, and abandons the thread if one hangs.

  Args:
    calls: the functions, called one after the other.
    seconds: after which a function without a sign of life hangs.
    hurry: polled; if true, a few seconds are enough.
    on_hung: called with the names of threads that hang, and for how long.

  Returns:
    Their exceptions.
  """
  failures: list[BaseException] = []

  def body(stop):
    del stop
    for call in calls:
      beat()
      try:
        call()
      except BaseException as error:  # SystemExit too.
        failures.append(error)

  calling = ThreadGroup({'environment-close': body})
  watchdog = Watchdog(seconds)
  calling.start()
  while calling.wait(_POLL_SECONDS):
    beat()  # This thread does not hang: its wait is bounded.
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
  """Closes environments by `call_all`.

  If one raises or hangs, it logs a warning: that does not fail the run.
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
