"""Waits for workers, and calls services about once a second meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from a3c_jax.core import threads as threads_lib
from a3c_jax.core import types

STOP_SECONDS = 5.0  # For all threads to end after they were asked to.


class Tick(NamedTuple):
  """The progress of a run at one moment."""

  seconds: float  # of training so far, earlier sessions included
  session_seconds: float  # of training so far, in this process
  version: types.Version


class Stop(NamedTuple):
  """Why a service asks for the end of a run."""

  reason: str


class Outcome(NamedTuple):
  """How the workers ended."""

  stop: Stop | None  # what a service asked for; None if all work was done
  error: BaseException | None  # of a worker or a service; None without failure
  hung: list[str]  # names of threads that did not end within STOP_SECONDS
  ended: Tick  # when the workers had ended


class Service:
  """One duty of the main thread while workers train. This one does nothing."""

  def tick(self, now: Tick) -> Stop | None:
    """Called about once a second; a Stop or an exception ends the run."""
    del now
    return None

  def finish(self, now: Tick, outcome: Outcome) -> None:
    """Called once, after the workers have ended."""
    del now, outcome


def supervise(
  threads: threads_lib.ThreadGroup,
  services: Sequence[Service],
  *,
  read_tick: Callable[[], Tick],
  period_seconds: float,
) -> Outcome:
  """Starts workers, and returns after they have ended.

  Never exits the process, prints, or handles a signal. An exception that is
  raised in this thread meanwhile ends the workers in good order, and is the
  outcome's error: also a KeyboardInterrupt. Another one while the workers end
  ends only the wait for them.

  Args:
    threads: the workers, not started yet.
    services: called in their order. Each `finish` is called, also if another
      one raises.
    read_tick: returns the progress of the run.
    period_seconds: between two ticks.

  Raises:
    BaseException: what a `finish` raised first, if the outcome has no error.
      What others raise becomes notes of the first error.
  """
  stop, error = None, None
  try:
    threads.start()
    while stop is None and threads.wait(period_seconds):
      now = read_tick()
      for service in services:
        stop = stop or service.tick(now)
  except BaseException as raised:
    error = raised
  try:
    hung = threads.stop(STOP_SECONDS)
  except BaseException as raised:  # Ctrl-C again: wait no longer, but finish.
    error = error or raised
    hung = threads.stop(0.0)
  # The error of a thread comes first: the others may be its consequences.
  error = threads.error or error
  outcome = Outcome(stop, error, hung, read_tick())
  _finish_all(services, outcome)
  return outcome


def _finish_all(services, outcome) -> None:
  """Finishes each service, also if another one raises."""
  error = outcome.error
  for service in services:
    try:
      service.finish(outcome.ended, outcome)
    except BaseException as problem:
      if error is None:
        error = problem
      elif str(problem) != str(error):  # Rows and checkpoints share a disk.
        text = str(problem) or repr(problem)
        error.add_note(f'and at the end of the run: {text}')
  if outcome.error is None and error is not None:
    raise error
