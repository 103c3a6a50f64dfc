"""Threads that are started together, watched, and told to stop."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
import contextlib
import queue
import threading
import time

_idle_loops: list[asyncio.AbstractEventLoop] = []


class Stopped(Exception):
  """A thread was told to return; for its body to raise, from anywhere."""


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
      loop = asyncio.new_event_loop()
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
    self._endings: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

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
    """Waits until a thread ends, at most so long.

    Returns:
      Whether work goes on: a thread still runs and none has failed.
    """
    with contextlib.suppress(queue.Empty):
      self._count(self._endings.get(timeout=seconds))
    return self._running > 0 and self.error is None

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
    return list(self.alive().values())

  def alive(self) -> dict[int, str]:
    """Number and name of each thread that runs."""
    return {
      number: thread.name
      for number, thread in enumerate(self._threads)
      if thread.is_alive()
    }

  def _count(self, ending: BaseException | None) -> None:
    self._running -= 1
    self.error = self.error or ending
