"""What the main thread uses to run a session; the store owns parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from a3c_jax.core import errors, events, paths, threads, types
from a3c_jax.envs import reference_scores
from a3c_jax.parameters import store as store_lib
from a3c_jax.replay.memory import Memory
from a3c_jax.runs import (
  assembly,
  evaluation,
  logger,
  restoring,
  supervise,
  trace_file,
)
from a3c_jax.runs import checkpoints as checkpoints_lib
from a3c_jax.runs import log as log_lib
from a3c_jax.runs import policy as policy_lib
from a3c_jax.runtimes import runtime
from a3c_jax.settings import build
from a3c_jax.settings import record as record_lib
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Session:
  """One process's part of a run: what its services share.

  Attributes:
    config: settings of the run.
    path: the folder of its results.
    store: holds the parameters.
    arrangement: of the workers.
    log: writes rows and events.
    checkpoints: of this run.
    incidents: that belong to no contribution.
    memory: the replay memory, if the run has one.
    trace: writes what repeats the run, if it is recorded.
    began: `time.perf_counter()` when training began, less the seconds of
      earlier sessions.
    session_began: the same of this session alone.
    evaluated_frames: emulator frames at the newest evaluation.
    best: 'frames' and 'score' of the best evaluation.
  """

  config: Config
  path: pathlib.Path
  store: store_lib.ParameterStore
  arrangement: runtime.Arrangement
  log: log_lib.RunLog
  checkpoints: checkpoints_lib.Checkpoints
  incidents: events.EventQueue
  memory: Memory | None
  trace: trace_file.TraceWriter | None
  began: float
  session_began: float
  evaluated_frames: int = 0
  best: dict[str, Any] | None = None

  @property
  def frames_are_done(self) -> bool:
    """Whether training has done all its frames."""
    return self.store.read().frames >= self.config.frames

  def tick(self) -> supervise.Tick:
    """The progress of the run now."""
    now = time.perf_counter()
    return supervise.Tick(
      now - self.began, now - self.session_began, self.store.read()
    )

  def drain(self) -> None:
    """Writes all that workers have reported since the last call.

    Raises:
      RunError: if it cannot be written.
    """
    version = self.store.read()
    with _naming_the_folder(self.path):
      self._applied(self.store.drain())
      if self.trace:
        self.trace.digest_if_due(version)
      for incident in self.incidents.drain():
        self.log.incident(incident)

  def _applied(self, applied: Sequence[store_lib.Applied]) -> None:
    self.log.applied(applied)
    if self.trace:
      for each in applied:
        assert each.trace
        self.trace.contribution(each.worker, each.trace)

  def write_row(self, now: supervise.Tick) -> None:
    """Writes a row of train.csv.

    Raises:
      RunError: if it cannot be written.
    """
    with _naming_the_folder(self.path):
      if self.trace:
        self.trace.flush()
      self.log.write_row(
        frames=now.version.frames,
        seconds=now.seconds,
        updates=now.version.updates,
        learning_rate=build.learning_rate(self.config)(now.version.frames),
        gauges=self.arrangement.gauges(),
      )

  def record_evaluation(
    self, version: types.Version, summary: evaluation.Summary, seconds: float
  ) -> None:
    """Writes the result of an evaluation, and saves the best parameters.

    Args:
      version: the one that was evaluated.
      summary: of its episodes.
      seconds: of training, when the evaluation began.

    Raises:
      RunError: if they cannot be written.
    """
    config, score = self.config, summary.mean_return
    best = bool(np.isfinite(score)) and (
      self.best is None or score > self.best['score']
    )
    row = logger.EvalRow(
      frames=version.frames,
      seconds=seconds,
      protocol=config.eval_protocol,
      policy=registry.get(config.algo).describe_policy(
        exploration_epsilon=policy_lib.EXPLORATION_EPSILON
      ),
      human_normalized=reference_scores.normalized(
        config.env_name, config.eval_protocol, score
      ),
      best=best,
      **summary._asdict(),
    )
    with _naming_the_folder(self.path):
      self.log.evaluation(row)
    self.evaluated_frames = version.frames
    if best:
      self.best = {'frames': version.frames, 'score': score}
      with self._naming_the_checkpoint(version.frames):
        self.checkpoints.save_best(version, row._asdict())
    self.log.tell_loggers()

  def checkpoint(self, seconds: float, *, timeout: float | None = None) -> None:
    """Saves the state of the run, so that a later process can resume here.

    Saves nothing if the parameters are not finite.

    Args:
      seconds: of training so far.
      timeout: seconds to wait for the parameters. By default those of the
        watchdog.

    Raises:
      HungError: if a thread holds the parameters for longer.
      RunError: if the checkpoint cannot be written.
    """
    if timeout is None:
      timeout = self.config.watchdog_seconds
    try:
      state, applied = self.store.capture(
        timeout=min(timeout, threading.TIMEOUT_MAX)
      )
    except TimeoutError as error:
      hung = ['the thread that holds the parameters']
      raise errors.HungError(threads.log_hung(hung, timeout)) from error
    with _naming_the_folder(self.path):
      self._applied(applied)
      if self.trace:
        self.trace.digest(state.version)
    frames = state.version.frames
    if not all(
      np.isfinite(leaf).all()
      for leaf in jax.tree.leaves(types.trained(state.version.params))
    ):  # The last good checkpoint stays the newest.
      _logger.warning('no checkpoint: parameters are not finite')
      return
    with _naming_the_folder(self.path):
      log_position = self.log.position(frames)
    record = {
      # No later row may have fewer seconds than an earlier one.
      'seconds': max(seconds, self.log.seconds),
      'log': log_position,
      'evaluated': self.evaluated_frames,
      'best': self.best,
    }
    if self.trace:
      with _naming_the_folder(self.path):
        record['trace'] = self.trace.position()
    with self._naming_the_checkpoint(frames):
      path = self.checkpoints.save(
        checkpoints_lib.RunState(state, record),
        best=None if self.best is None else self.best['frames'],
      )
    if self.memory and state.memory:
      self.memory.saved([chunk.name for chunk in state.memory.chunks])
    if path is not None:
      self.log.checkpoint(path)
    self.log.tell_loggers()

  @contextlib.contextmanager
  def _naming_the_checkpoint(self, frames: int) -> Iterator[None]:
    """Turns an OSError into a RunError that names the checkpoint."""
    try:
      yield
    except OSError as error:
      problem = str(getattr(error, 'strerror', None) or error)
      how = 'cannot be written'
      if isinstance(error, checkpoints_lib.WithoutMemoryError):
        how = 'is written without its replay memory'
      raise errors.RunError(
        f'--workdir={paths.as_given(self.path)}: the checkpoint of frame '
        f'{frames} {how}, the ones before it are intact: '
        + errors.in_one_line(problem)[:200]
      ) from error


@contextlib.contextmanager
def opened(
  parts: assembly.Parts,
  path: pathlib.Path,
  restored: restoring.Restored | None,
  loggers: Sequence[logger.Logger],
) -> Iterator[Session]:
  """Opens the log of a session, and closes it at the end.

  Args:
    parts: of the run.
    path: the folder of its results.
    restored: the state it resumes from; None for a new run.
    loggers: receive what the log receives. They are not closed here.

  Raises:
    RunError: if the results cannot be written.
  """
  config = parts.config
  session_began = time.perf_counter()
  began = session_began - (restored.seconds if restored else 0.0)
  with _naming_the_folder(path):
    checkpoints = checkpoints_lib.Checkpoints(path, keep=config.keep)
    log = log_lib.RunLog(
      path,
      run={
        'algo': config.algo,
        'env': config.env_name,
        'seed': config.seed,
      },
      stat_names=parts.stat_names,
      replay_names=parts.replay_names,
      gauge_names=[*parts.arrangement.gauges()],
      total_frames=config.frames,
      action_repeat=config.action_repeat,
      began=began,
      position=restored.log_position if restored else None,
      loggers=loggers,
    )
  with _closing(log, path), _traced(config, path, restored) as trace:
    yield Session(
      config,
      path,
      store=parts.job.store,
      arrangement=parts.arrangement,
      log=log,
      checkpoints=checkpoints,
      incidents=parts.job.incidents,
      memory=parts.job.replay and parts.job.replay.memory,
      trace=trace,
      began=began,
      session_began=session_began,
      evaluated_frames=restored.evaluated_frames if restored else 0,
      best=restored.best if restored else None,
    )


@contextlib.contextmanager
def _traced(
  config: Config,
  path: pathlib.Path,
  restored: restoring.Restored | None,
) -> Iterator[trace_file.TraceWriter | None]:
  """Opens the trace of a session, if the run is recorded."""
  if not config.arrangement.recorded:
    yield None
    return
  if restored and restored.trace_position is None:
    _logger.warning('the run is not recorded: a part of it is not')
    yield None
    return
  try:
    trace = trace_file.TraceWriter(path, restored and restored.trace_position)
  except OSError as error:
    # Training is worth more than its record.
    _logger.warning(
      'the run is not recorded any more: %s: %s',
      trace_file.NAME,
      error.strerror or error,
    )
    yield None
    return
  with _closing(trace, path):
    session = trace_file.Session(
      trace_file.platform_of(config), settings=record_lib.fixed_settings(config)
    )
    if restored:
      session = session._replace(
        restarted=restored.restarted, empty_memory=restored.lost_memory
      )
    with _naming_the_folder(path):
      trace.session(session)
    yield trace


@contextlib.contextmanager
def _closing(
  log: log_lib.RunLog | trace_file.TraceWriter, path: pathlib.Path
) -> Iterator[None]:
  """Closes a log after a block.

  Closing writes what a file still buffers, so it fails again after a row has
  failed. That must not replace the first error.
  """
  failure = None
  try:
    yield
  except BaseException as error:
    failure = error
    raise
  finally:
    try:
      with _naming_the_folder(path):
        log.close()
    except errors.RunError as problem:
      if failure is None:
        raise
      if str(problem) != str(failure):
        failure.add_note(f'and at the end of the run: {problem}')


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
      rest = 'the folder was deleted'
    raise errors.RunError(
      f'--workdir={paths.as_given(path)}: {error.strerror or error}; {rest}'
    ) from error
