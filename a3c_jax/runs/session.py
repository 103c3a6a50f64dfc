"""What the main thread owns while a run trains."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import logging
import pathlib
import threading
import time
from typing import Any

import jax
import numpy as np

from a3c_jax import base, checkpoints, checks
from a3c_jax.core import events
from a3c_jax.parameters import store as store_lib
from a3c_jax.runs import log as log_lib
from a3c_jax.runs import supervise
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)


class HungError(checks.RunError):
  """Threads made no progress, so the run ended."""


@dataclasses.dataclass
class Session:
  """One process's share of a run, as its services see it.

  Attributes:
    config: settings of the run.
    path: the folder of its results.
    store: who holds the parameters.
    log: what is written.
    checkpoints: of this run.
    incidents: of threads, that belong to no contribution.
    began: `time.perf_counter()` when training began, less the seconds of
      earlier sessions.
    session_began: the same of this session alone.
    evaluated: emulator frames at the newest evaluation.
    best: 'frames' and 'score' of the best evaluation.
  """

  config: Config
  path: pathlib.Path
  store: store_lib.ParameterStore
  log: log_lib.RunLog
  checkpoints: checkpoints.Checkpoints
  incidents: events.EventQueue
  began: float
  session_began: float
  evaluated: int = 0
  best: dict[str, Any] | None = None

  @property
  def frames_are_done(self) -> bool:
    """Whether training has seen all its frames."""
    return self.store.read().frames >= self.config.frames

  def tick(self) -> supervise.Tick:
    """One look at the run."""
    now = time.perf_counter()
    return supervise.Tick(
      now - self.began, now - self.session_began, self.store.read()
    )

  def drain(self) -> None:
    """Writes what workers have reported since the last call."""
    self.log.applied(self.store.drain())
    for incident in self.incidents.drain():
      self.log.incident(incident)

  def checkpoint(self, seconds: float, *, timeout: float | None = None) -> None:
    """Saves all that a later process needs to resume from this moment.

    Args:
      seconds: of training so far.
      timeout: seconds to wait for the parameters; None for those of the
        watchdog.

    Raises:
      HungError: if a thread holds the parameters for so long.
      RunError: if the checkpoint cannot be written.
    """
    if timeout is None:
      timeout = self.config.watchdog_seconds
    try:
      state, applied = self.store.capture(
        timeout=min(timeout, threading.TIMEOUT_MAX)
      )
    except TimeoutError as error:
      raise HungError(
        f'a thread holds the parameters for {timeout:g} s'
      ) from error
    self.log.applied(applied)
    frames = state.version.frames
    if not all(
      np.isfinite(leaf).all()
      for leaf in jax.tree.leaves(base.trained(state.version.params))
    ):  # The last good one is worth more.
      _logger.warning('no checkpoint: parameters are not finite')
      return
    record = {
      # No row to come may have fewer seconds than one that is kept.
      'seconds': max(seconds, self.log.seconds),
      'log': self.log.position(frames),
      'evaluated': self.evaluated,
      'best': self.best,
    }
    with self.naming_the_disk(frames):
      self.checkpoints.save(
        checkpoints.RunState(state, record),
        best=self.best and self.best['frames'],
      )

  @contextlib.contextmanager
  def naming_the_disk(self, frames: int) -> Iterator[None]:
    """Turns an OSError into a RunError that names the checkpoint."""
    try:
      yield
    except OSError as error:
      problem = str(getattr(error, 'strerror', None) or error)
      raise checks.RunError(
        f'--workdir={checks.as_given(self.path)}: the checkpoint of frame '
        f'{frames} cannot be written, the ones before it are intact: '
        + ' '.join(problem.split())[:200]
      ) from error


@contextlib.contextmanager
def naming_the_folder(path: pathlib.Path) -> Iterator[None]:
  """Turns an OSError of a file of results into a RunError in one line."""
  try:
    yield
  except OSError as error:
    if path.is_dir():
      rest = (
        'what was written before is intact, and the same command resumes from '
        'the last checkpoint'
      )
    else:
      rest = 'the folder is not there any more'
    raise checks.RunError(
      f'--workdir={checks.as_given(path)}: {error.strerror or error}; {rest}'
    ) from error
