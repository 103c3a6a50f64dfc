"""Services of a run: what the main thread does while workers train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import logging

from a3c_jax.core import cpu, errors, signals, threads
from a3c_jax.runs import evaluator as evaluator_lib
from a3c_jax.runs import session as session_lib
from a3c_jax.runs import supervise
from a3c_jax.runs.supervise import Outcome, Stop, Tick

_logger = logging.getLogger(__name__)
_POLL_SECONDS = 1.0


class ProcessorTime(supervise.Service):
  """Measures the processor time of training.

  Attributes:
    seconds: of this process and those it started; 0 until the workers ended.
  """

  def __init__(self):
    self.seconds = 0.0
    self._began = cpu.seconds()

  def finish(self, now: Tick, outcome: Outcome) -> None:
    del now, outcome
    self.seconds = cpu.seconds() - self._began


class Rows(supervise.Service):
  """Writes all rows of episodes.csv and train.csv, and reports progress."""

  def __init__(self, session: session_lib.Session):
    """Starts the interval of the first row.

    Args:
      session: whose log is written.
    """
    self._session = session
    self._next_seconds = self._after(session.tick().seconds)

  def _after(self, seconds):
    return seconds + self._session.config.log_seconds

  def tick(self, now: Tick) -> None:
    session = self._session
    session.drain()
    session.log.report_progress(now.version.frames, now.seconds)
    if now.seconds >= self._next_seconds:
      session.write_row(now)
      self._next_seconds = self._after(now.seconds)
    session.log.tell_loggers()

  def finish(self, now: Tick, outcome: Outcome) -> None:
    del outcome
    session = self._session
    session.drain()
    session.log.report_progress(now.version.frames, now.seconds)
    session.write_row(now)
    session.log.tell_loggers()


class PeriodicCheckpoints(supervise.Service):
  """Saves a checkpoint every `checkpoint_frames`, and one at the end."""

  def __init__(self, session: session_lib.Session):
    self._session = session
    self._next_frames = self._after(session.store.read().frames)

  def _after(self, frames):
    return _next_multiple(frames, self._session.config.checkpoint_frames)

  def tick(self, now: Tick) -> None:
    if now.version.frames >= self._next_frames:
      self._session.checkpoint(now.seconds)
      self._next_frames = self._after(now.version.frames)

  def finish(self, now: Tick, outcome: Outcome) -> None:
    # A run must not resume from the parameters of bad gradients.
    if not isinstance(outcome.error, errors.BadGradientError):
      self._session.checkpoint(now.seconds, timeout=supervise.STOP_SECONDS)


class PeriodicEvaluations(supervise.Service):
  """Evaluates the parameters every `eval_frames`, and at the end.

  Attributes:
    hung: names of threads that did not end.
  """

  def __init__(
    self,
    session: session_lib.Session,
    evaluator: evaluator_lib.Evaluator | None,
    *,
    stop_request: signals.Signals,
  ):
    """Starts no evaluation yet.

    Args:
      session: whose parameters are evaluated.
      evaluator: evaluates in its own thread; None for no evaluations.
      stop_request: a signal that ends also the evaluation at the end.
    """
    self.hung: list[str] = []
    self._session = session
    self._evaluator = evaluator
    self._stop_request = stop_request
    self._began_seconds = 0.0

  @property
  def progress(self) -> dict[str, int]:
    """The name of the thread that evaluates, and its count of signs of life."""
    return self._evaluator.progress if self._evaluator else {}

  @property
  def are_due(self) -> bool:
    """Whether the newest parameters are not evaluated yet."""
    session = self._session
    return (
      self._evaluator is not None
      and session.evaluated_frames < session.store.read().frames
    )

  def tick(self, now: Tick) -> None:
    if self._evaluator is None:
      return
    self._record(self._evaluator.drain())
    due = _next_multiple(
      self._session.evaluated_frames, self._session.config.eval_frames
    )
    if not self._evaluator.busy and now.version.frames >= due:
      self._start(self._evaluator, now)
    if self._evaluator.error:
      raise self._evaluator.error

  def finish(self, now: Tick, outcome: Outcome) -> None:
    if self._evaluator is None:
      return
    try:
      if self._session.frames_are_done and not (outcome.error or outcome.hung):
        # The evaluation may fail or hang: training is saved before.
        self._session.checkpoint(now.seconds)
        self._evaluate_newest(self._evaluator, now)
    finally:
      self.hung = self._evaluator.stop(supervise.STOP_SECONDS)
    # If a thread failed too, this becomes a note of that error.
    if self._evaluator.error not in (None, outcome.error):
      raise self._evaluator.error
    if outcome.error is None:
      self._record(self._evaluator.drain())  # It may have ended just now.

  def _evaluate_newest(
    self, evaluator: evaluator_lib.Evaluator, now: Tick
  ) -> None:
    received = self._stop_request
    watchdog = threads.Watchdog(self._session.config.watchdog_seconds)
    received.wake = evaluator.wake
    if self.are_due and not received.received:
      _logger.info('evaluating the parameters at the end')
    while self.are_due and not (received.received or evaluator.error):
      if not evaluator.busy:
        self._start(evaluator, now)
      self._record(evaluator.drain(_POLL_SECONDS))
      watchdog.check(evaluator.progress)

  def _start(self, evaluator: evaluator_lib.Evaluator, now: Tick) -> None:
    self._began_seconds = now.seconds
    evaluator.start(now.version)

  def _record(self, evaluated: evaluator_lib.Evaluated | None) -> None:
    if evaluated is not None:
      self._session.record_evaluation(*evaluated, self._began_seconds)


class Deadline(supervise.Service):
  """Ends a run after some seconds of training in this process; 0 for never."""

  def __init__(self, seconds: float):
    self._seconds = seconds

  def tick(self, now: Tick) -> Stop | None:
    if self._seconds and now.session_seconds >= self._seconds:
      return Stop(f'--seconds={self._seconds:g} are over')
    return None


class StopRequests(supervise.Service):
  """Ends a run when a signal was received."""

  def __init__(self, received: signals.Signals):
    self._signals = received

  def tick(self, now: Tick) -> Stop | None:
    del now
    return Stop('a signal was received') if self._signals.received else None


class HangWatchdog(supervise.Service):
  """Ends a run when one of its threads makes no progress."""

  def __init__(self, seconds: float, progress: Callable[[], Mapping[str, int]]):
    """Starts to watch.

    Args:
      seconds: without a sign of life, after which a thread hangs.
      progress: returns the name of each thread and its count of signs of life.
    """
    self._watchdog = threads.Watchdog(seconds)
    self._progress = progress

  def tick(self, now: Tick) -> None:
    del now
    self._watchdog.check(self._progress())


def _next_multiple(count, step):
  return (count // step + 1) * step
