"""A trace of some seconds of training, to see where time goes."""

from __future__ import annotations

import contextlib

import jax

from a3c_jax import checks

_AFTER_SECONDS = 5.0
_SECONDS = 2.0


class Profile(contextlib.AbstractContextManager):
  """Traces two seconds of training, after the first five.

  Looked at by the main thread now and then, and used as a context manager: what
  has begun is written at its end. JAX traces one thing at a time.
  """

  def __init__(self, folder: str):
    """Makes the folder; none for ''.

    Raises:
      UsageError: if it cannot be made or written to.
    """
    self._folder = folder
    self._shown = checks.as_given(folder)
    self._began: float | None = None
    self._done = not folder
    if folder:
      checks.make_folder(folder, flag='profile')

  def look(self, seconds: float) -> None:
    """Begins or ends the trace, if it is time to.

    Args:
      seconds: of training so far in this process.
    """
    if self._done:
      return
    if self._began is None:
      if seconds >= _AFTER_SECONDS:
        self._begin(seconds)
    elif seconds >= self._began + _SECONDS:
      self._end()

  def _begin(self, seconds):
    self._began = seconds
    with self._telling():
      jax.profiler.start_trace(self._folder, create_perfetto_trace=True)

  def _end(self):
    self._done = True
    with self._telling():
      jax.profiler.stop_trace()
      print(f'a trace of training is below {self._shown}', flush=True)

  @contextlib.contextmanager
  def _telling(self):
    try:
      yield
    except Exception as error:  # Training is worth more than its trace.
      self._done = True
      print(f'--profile={self._shown}: no trace, {error}', flush=True)

  def __exit__(self, *exception):
    if self._done:
      return
    if self._began is None:
      print(f'training ended before --profile={self._shown} began', flush=True)
    else:
      self._end()
