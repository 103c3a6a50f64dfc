"""A trace of some seconds of training, which shows where time goes."""

from __future__ import annotations

import contextlib
import logging

import jax

from a3c_jax.core import paths
from a3c_jax.runs import supervise
from a3c_jax.runs.supervise import Outcome, Tick

_logger = logging.getLogger(__name__)
_AFTER_SECONDS = 5.0
_SECONDS = 2.0


class Profile(supervise.Service):
  """Traces two seconds of training, after the first five.

  JAX makes one trace at a time.
  """

  def __init__(self, folder: str):
    """Makes the folder. Traces nothing if it is ''.

    Raises:
      UsageError: if it cannot be made or written to.
    """
    self._folder = folder
    self._shown = paths.as_given(folder)
    self._began: float | None = None
    self._done = not folder
    if folder:
      paths.make_folder(folder, flag='profile')

  def tick(self, now: Tick) -> None:
    seconds = now.session_seconds
    if self._done:
      return
    if self._began is None:
      if seconds >= _AFTER_SECONDS:
        self._begin(seconds)
    elif seconds >= self._began + _SECONDS:
      self._end()

  def finish(self, now: Tick, outcome: Outcome) -> None:
    del now, outcome
    if self._done:
      return
    if self._began is None:
      _logger.warning('training ended before --profile=%s began', self._shown)
    else:
      self._end()

  def _begin(self, seconds):
    self._began = seconds
    with self._warning():
      jax.profiler.start_trace(self._folder, create_perfetto_trace=True)

  def _end(self):
    self._done = True
    with self._warning():
      jax.profiler.stop_trace()
      _logger.info('a trace of training is below %s', self._shown)

  @contextlib.contextmanager
  def _warning(self):
    try:
      yield
    except Exception as error:  # Training is worth more than its trace.
      self._done = True
      _logger.warning('--profile=%s: no trace, %s', self._shown, error)
