"""Waits for workers, and calls services about once a second meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from a3c_jax.core import errors, types, workers

STOP_SECONDS = 5.0  # For all threads to end, once they are told to.


class HungError(errors.RunError):
  """Threads made no progress, so the run ended."""


class Tick(NamedTuple):
  """One look at a run."""

  seconds: float  # of training so far, earlier sessions included
  session_seconds: float  # of training so far, in this process
  version: types.Version


class Stop(NamedTuple):
  """Why a service asks for the end of a run."""

  reason: str
  error: BaseException | None = None  # if the run has failed
  hung: tuple[str, ...] = ()  # names of threads that made no progress


class Outcome(NamedTuple):
  """How the workers ended."""

  stop: Stop | None  # what a service asked for; None if all work was done
  error: BaseException | None  # of a worker or a service; None if all is well
  hung: list[str]  # names of threads that did not end within STOP_SECONDS
  ended: Tick  # when the workers had ended


class Service(Protocol):
  """What the main thread does for a run, beside waiting."""

  def tick(self, now: Tick) -> Stop | None:
    """Called about once a second; a Stop ends the run in good order."""

  def finish(self, now: Tick, outcome: Outcome) -> None:
    """Called once, when the workers have ended."""


def supervise(
  workers: workers.Workers,
  services: Sequence[Service],
  *,
  read_tick: Callable[[], Tick],
  period_seconds: float,
) -> Outcome:
  """Starts workers, and returns when they have ended.

  Never exits the process, prints, or handles a signal. A KeyboardInterrupt ends
  the workers in good order and is the outcome's error.

  Args:
    workers: not started yet.
    services: called in their order. `finish` is called for all of them,
      whichever raises.
    read_tick: looks at the run.
    period_seconds: between two ticks.

  Raises:
    Exception: what `finish` raised first, if the outcome has no error;
      otherwise it becomes a note of that error.
  """
  stop, error = None, None
  workers.start()
  try:
    while stop is None and workers.wait(period_seconds):
      now = read_tick()
      for service in services:
        stop = stop or service.tick(now)
  except (Exception, KeyboardInterrupt) as raised:
    error = raised
  hung = workers.stop(STOP_SECONDS)
  # What a thread raised first tells more than what came of it.
  error = workers.error or (stop and stop.error) or error
  outcome = Outcome(stop, error, hung, read_tick())
  _finish_all(services, outcome)
  return outcome


def _finish_all(services, outcome) -> None:
  """Finishes all services, also if one of them raises."""
  problems = []
  for service in services:
    try:
      service.finish(outcome.ended, outcome)
    except Exception as problem:
      problems.append(problem)
  if outcome.error is not None:
    for problem in problems:
      outcome.error.add_note(f'and at the end of the run: {problem}')
  elif problems:
    raise problems[0]
