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

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, events, paths, types
from a3c_jax.envs import reference_scores
from a3c_jax.parameters import store as store_lib
from a3c_jax.runs import assembly, evaluation, restoring, supervise
from a3c_jax.runs import checkpoints as checkpoints_lib
from a3c_jax.runs import log as log_lib
from a3c_jax.settings import build
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)


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
  checkpoints: checkpoints_lib.Checkpoints
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
    with _naming_the_folder(self.path):
      self.log.applied(self.store.drain())
      for incident in self.incidents.drain():
        self.log.incident(incident)

  def write_row(self, now: supervise.Tick) -> None:
    """Writes a row of train.csv.

    Raises:
      RunError: if it cannot be written.
    """
    with _naming_the_folder(self.path):
      self.log.write_row(
        frames=now.version.frames,
        seconds=now.seconds,
        updates=now.version.updates,
        learning_rate=build.learning_rate(self.config)(now.version.frames),
      )

  def record_evaluation(
    self, version: types.Version, summary: evaluation.Summary, seconds: float
  ) -> None:
    """Writes the result of an evaluation, and keeps the best parameters.

    Args:
      version: that was evaluated.
      summary: of its episodes.
      seconds: of training, when the evaluation began.

    Raises:
      RunError: if they cannot be written.
    """
    config, score = self.config, summary.mean_return
    best = bool(np.isfinite(score)) and (
      self.best is None or score > self.best['score']
    )
    row = log_lib.EvalRow(
      frames=version.frames,
      seconds=seconds,
      protocol=config.eval_protocol,
      policy=registry.get(config.algo).describe_policy(
        exploration_epsilon=evaluation.EXPLORATION_EPSILON
      ),
      human_normalized=reference_scores.normalized(
        config.env_name, config.eval_protocol, score
      ),
      best=best,
      **summary._asdict(),
    )
    with _naming_the_folder(self.path):
      self.log.evaluated(row)
    self.evaluated = version.frames
    if best:
      self.best = {'frames': version.frames, 'score': score}
      with self._naming_the_checkpoint(version.frames):
        self.checkpoints.save_best(version, row._asdict())

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
      raise supervise.HungError(
        f'a thread holds the parameters for {timeout:g} s'
      ) from error
    with _naming_the_folder(self.path):
      self.log.applied(applied)
    frames = state.version.frames
    if not all(
      np.isfinite(leaf).all()
      for leaf in jax.tree.leaves(types.trained(state.version.params))
    ):  # The last good one is worth more.
      _logger.warning('no checkpoint: parameters are not finite')
      return
    with _naming_the_folder(self.path):
      log_position = self.log.position(frames)
    record = {
      # No row to come may have fewer seconds than one that is kept.
      'seconds': max(seconds, self.log.seconds),
      'log': log_position,
      'evaluated': self.evaluated,
      'best': self.best,
    }
    with self._naming_the_checkpoint(frames):
      self.checkpoints.save(
        checkpoints_lib.RunState(state, record),
        best=self.best and self.best['frames'],
      )

  @contextlib.contextmanager
  def _naming_the_checkpoint(self, frames: int) -> Iterator[None]:
    """Turns an OSError into a RunError that names the checkpoint."""
    try:
      yield
    except OSError as error:
      problem = str(getattr(error, 'strerror', None) or error)
      raise errors.RunError(
        f'--workdir={paths.as_given(self.path)}: the checkpoint of frame '
        f'{frames} cannot be written, the ones before it are intact: '
        + ' '.join(problem.split())[:200]
      ) from error


@contextlib.contextmanager
def opened(
  parts: assembly.Parts,
  path: pathlib.Path,
  restored: restoring.Restored | None,
) -> Iterator[Session]:
  """A session whose log is open.

  Args:
    parts: of the run.
    path: the folder of its results.
    restored: where it resumes, if it does.

  Raises:
    RunError: if the results cannot be written.
  """
  config = parts.config
  session_began = time.perf_counter()
  began = session_began - (restored.seconds if restored else 0.0)
  with contextlib.ExitStack() as stack:
    with _naming_the_folder(path):
      checkpoints = checkpoints_lib.Checkpoints(path, keep=config.keep)
      log = stack.enter_context(
        log_lib.RunLog(
          path,
          run={
            'algo': config.algo,
            'env': config.env_name,
            'seed': config.seed,
          },
          statistics=parts.statistics,
          total_frames=config.frames,
          action_repeat=config.action_repeat,
          began=began,
          position=restored.log_position if restored else None,
        )
      )
    yield Session(
      config,
      path,
      store=parts.job.store,
      log=log,
      checkpoints=checkpoints,
      incidents=parts.job.incidents,
      began=began,
      session_began=session_began,
      evaluated=restored.evaluated if restored else 0,
      best=restored.best if restored else None,
    )


@contextlib.contextmanager
def _naming_the_folder(path: pathlib.Path) -> Iterator[None]:
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
    raise errors.RunError(
      f'--workdir={paths.as_given(path)}: {error.strerror or error}; {rest}'
    ) from error
