"""Sums what workers report, and gives rows to the loggers of a run."""

from __future__ import annotations

import bisect
import collections
from collections.abc import Mapping, Sequence
import contextlib
import logging
import pathlib
from types import MappingProxyType
from typing import Any

import numpy as np

from a3c_jax.core import events as events_lib
from a3c_jax.core import tables
from a3c_jax.parameters import store
from a3c_jax.runs import csv_files, event_file, logger

_logger = logging.getLogger(__name__)
# Updates between the version that a step was acted on and the update that
# learns from it: mean, 95th percentile and maximum over the steps.
_POLICY_LAG = ('policy_lag', 'policy_lag_p95', 'policy_lag_max')
# The largest lag of each column but the last: how many gradients had it.
_LAG_LIMITS = (0, 1, 2, 4, 8, 16, 32, 64)


class RunLog(contextlib.AbstractContextManager):
  """Sums what workers report, and writes it. For the main thread alone.

  Attributes:
    episodes: number of those that ended so far.
    seconds: the highest of any row, since training began.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    run: Mapping[str, Any],
    stat_names: Sequence[str],
    replay_names: Sequence[str] = (),
    gauge_names: Sequence[str] = (),
    total_frames: int,
    action_repeat: int,
    began: float = 0.0,
    position: Mapping[str, Any] | None = None,
    loggers: Sequence[logger.Logger] = (),
  ):
    """Opens the files.

    Args:
      workdir: existing folder.
      run: constant columns of every row, such as algo, env and seed.
      stat_names: names of the scalars that updates report, in their order.
      replay_names: those of updates from a replay memory.
      gauge_names: names of the runtime's figures, in their order.
      total_frames: emulator frames of the whole run.
      action_repeat: emulator frames per agent step.
      began: `time.perf_counter()` when training began.
      position: from `position`, of the checkpoint to resume from. Rows after it
        are removed. None starts new files.
      loggers: receive the same after the files. They are not closed here.

    Raises:
      OSError: if a file cannot be written.
      ValueError: if two columns of train.csv have the same name.
    """
    self._run = tables.as_cells(run)
    # Of updates from segments, and of those from a memory.
    self._stat_names = (list(stat_names), list(replay_names))
    self._gauge_names = list(gauge_names)
    _check_apart([*run, *self._train_columns(), 'lock_wait'])
    self._total_frames = total_frames
    self._action_repeat = action_repeat
    self._began = began
    resumed = position or {
      'positions': {},
      'events': {},
      'frames': 0,
      'sums': dict.fromkeys(
        [*stat_names, *replay_names, 'lag', 'lock_wait'], 0.0
      ),
      'updates': [0, 0],
      'policy_lags': [],
      'lags': [],
      'episodes': 0,
      'incidents': dict.fromkeys(events_lib.INCIDENTS, 0),
      'returns': [],
      'row_began': (0, 0.0),
    }
    self._exit = contextlib.ExitStack()
    self._csv = csv_files.CsvLogger(
      workdir,
      resumed['positions'],
      run=self._run,
      train_columns=self._train_columns(),
    )
    self._exit.callback(self._csv.close)
    self._events = event_file.EventLogger(workdir, resumed['events'])
    self._exit.callback(self._events.close)
    if position:
      self._events.restart(resumed['frames'] + 1)
    self._files = (self._csv, self._events, _Messages())
    self._loggers = tuple(loggers)
    self._untold: list[tuple[str, Any]] = []  # Of methods of loggers.
    self._sums = dict(resumed['sums'])
    self._updates = list(resumed['updates'])
    # How many steps had each lag.
    self._policy_lags = collections.Counter(dict(resumed['policy_lags']))
    # How many gradients had each lag; earlier versions did not count them.
    self._lags = collections.Counter(dict(resumed.get('lags', [])))
    self.episodes = resumed['episodes']
    self._incidents = dict(resumed['incidents'])
    self._returns = collections.deque(resumed['returns'], maxlen=100)
    self._row_began = tuple(resumed['row_began'])
    self.seconds = 0.0

  def position(self, frames: int) -> dict[str, Any]:
    """The ends of files and the sums so far, to resume there; fit for JSON.

    Args:
      frames: emulator frames so far.

    Raises:
      OSError: if a file cannot be written.
    """
    # They must be on the disk before the checkpoint is.
    return {
      'positions': self._csv.positions(),
      'events': self._events.sizes(),
      'frames': frames,
      'sums': dict(self._sums),
      'updates': list(self._updates),
      'policy_lags': sorted(self._policy_lags.items()),
      'lags': sorted(self._lags.items()),
      'episodes': self.episodes,
      'incidents': dict(self._incidents),
      'returns': list(self._returns),
      'row_began': list(self._row_began),
    }

  def _train_columns(self) -> list[str]:
    return [
      'frames',
      'seconds',
      'frames_per_second',
      'updates',
      'learning_rate',
      *self._stat_names[False],
      *self._stat_names[True],
      'lag',
      *logger.LAG_COUNTS,
      *_POLICY_LAG,
      'lock_wait_ms',
      'episodes',
      'mean_return',
      *events_lib.INCIDENTS,
      *self._gauge_names,
    ]

  @property
  def mean_return(self) -> float:
    """Mean raw return of the newest 100 episodes; NaN before the first."""
    return float(np.mean(self._returns)) if self._returns else float('nan')

  def applied(self, contributions: Sequence[store.Applied]) -> None:
    """Sums contributions, and writes the episodes that ended in them."""
    for applied in contributions:
      self._policy_lags.update(applied.policy_lags.tolist())
      for event in applied.events:
        if isinstance(event, events_lib.LearningStatistics):
          self._add_statistics(event, applied.receipt)
        elif isinstance(event, events_lib.EpisodeEnded):
          self._write_episode(event, applied)
        else:
          self.incident(event)

  def _add_statistics(self, event, receipt):
    values = np.asarray(event.values).tolist()
    names = self._stat_names[event.of_replay]
    for name, value in zip(names, values, strict=True):
      self._sums[name] += value
    self._sums['lag'] += receipt.lag
    self._lags[receipt.lag] += 1
    self._sums['lock_wait'] += receipt.lock_wait_seconds
    self._updates[event.of_replay] += 1

  def _write_episode(self, event, applied):
    row = logger.EpisodeRow(
      frames=applied.receipt.frames,
      seconds=applied.time - self._began,
      thread=applied.worker,
      episode_return=event.raw_return,
      clipped_return=event.clipped_return,
      episode_frames=event.steps * self._action_repeat,
    )
    self.episodes += 1
    self.seconds = max(self.seconds, row.seconds)
    self._returns.append(row.episode_return)
    self._write('on_episode', row)

  def incident(self, incident: events_lib.Incident) -> None:
    """Counts an incident, and warns of it."""
    self._incidents[incident.kind] += 1
    _logger.warning('%s', incident.text)

  def evaluation(self, row: logger.EvalRow) -> None:
    """Writes the result of an evaluation."""
    self.seconds = max(self.seconds, row.seconds)
    self._write('on_evaluation', row)

  def report_progress(self, frames: int, seconds: float) -> None:
    """Notes the progress for the loggers."""
    self._write('on_progress', self.progress(frames, seconds))

  def checkpoint(self, path: pathlib.Path) -> None:
    """Notes the path of a new checkpoint for the loggers."""
    self._write('on_checkpoint', path)

  def _write(self, method: str, report: Any) -> None:
    """Writes what is reported; loggers are told later."""
    for file in self._files:
      getattr(file, method)(report)
    if self._loggers:
      self._untold.append((method, report))

  def tell_loggers(self) -> None:
    """Gives the loggers all that was written since the last call.

    It is called when nothing of the run is half done: a logger may raise.

    Raises:
      BaseException: what a logger raised first, after all loggers were told.
    """
    untold, self._untold = self._untold, []
    failure = None
    for method, report in untold:
      for each in self._loggers:
        try:
          getattr(each, method)(report)
        except BaseException as error:
          failure = failure or error
    if failure is not None:
      raise failure

  def progress(self, frames: int, seconds: float) -> logger.Progress:
    """The progress of the run at a count of frames and seconds of training."""
    began_frames, began_seconds = self._row_began
    passed = max(seconds - began_seconds, 1e-9)
    return logger.Progress(
      frames=frames,
      total_frames=self._total_frames,
      frames_per_second=(frames - began_frames) / passed,
      mean_return=self.mean_return,
    )

  def write_row(
    self,
    *,
    frames: int,
    seconds: float,
    updates: int,
    learning_rate: float,
    gauges: Mapping[str, float] = MappingProxyType({}),
  ) -> None:
    """Writes a row of train.csv: means since the last row, and gauges now.

    Writes none without an update, unless a replay memory is filled before the
    first one. Writes none at the frame of the last row: a report may arrive
    after the row of its frame, and is in the next row then. What was not
    measured since the last row is NaN.
    """
    # A replay memory that is being filled gives no update.
    has_memory = bool(self._stat_names[True])
    nothing = not sum(self._updates) and not has_memory
    if nothing or frames == self._row_began[0]:
      return
    means = self._means()
    lag_counts = [0] * len(logger.LAG_COUNTS)
    for lag, count in self._lags.items():
      lag_counts[bisect.bisect_left(_LAG_LIMITS, lag)] += count
    progress = self.progress(frames, seconds)
    figures = {
      'frames': frames,
      'seconds': round(seconds, 3),
      'frames_per_second': round(progress.frames_per_second, 1),
      'updates': updates,
      'learning_rate': learning_rate,
      **{name: means[name] for names in self._stat_names for name in names},
      'lag': means['lag'],
      **dict(zip(logger.LAG_COUNTS, lag_counts, strict=True)),
      **_summary(self._policy_lags),
      'lock_wait_ms': 1e3 * means['lock_wait'],
      'episodes': self.episodes,
      'mean_return': progress.mean_return,
      **self._incidents,
      **gauges,
    }
    self.seconds = max(self.seconds, seconds)
    self._write('on_row', logger.TrainRow(frames, figures, dict(self._lags)))
    # A display leaves these out if its live line shows them.
    _logger.info('%s', progress, extra={'progress': progress})
    self._row_began = (frames, seconds)
    self._sums = dict.fromkeys(self._sums, 0.0)
    self._updates = [0, 0]
    self._policy_lags.clear()
    self._lags.clear()

  def _means(self) -> dict[str, float]:
    """Means over the updates that report each name."""
    counts = dict.fromkeys(self._sums, sum(self._updates))
    for names, count in zip(self._stat_names, self._updates, strict=True):
      counts |= dict.fromkeys(names, count)
    return {
      name: total / counts[name] if counts[name] else float('nan')
      for name, total in self._sums.items()
    }

  def close(self) -> None:
    """Closes the files.

    Raises:
      OSError: if a file cannot be written.
    """
    self._exit.close()

  def __exit__(self, *exception):
    self.close()


class _Messages(logger.Logger):
  """Logs evaluations in words."""

  def on_evaluation(self, row: logger.EvalRow) -> None:
    _logger.info('%s', _describe(row))


def _check_apart(columns) -> None:
  """Raises ValueError if two columns of train.csv would have one name."""
  twice = {name for name in columns if columns.count(name) > 1}
  if twice:
    raise ValueError(
      f'{", ".join(sorted(twice))}: more than one column of train.csv; allowed '
      'for scalars of a learner and figures of a runtime: other names'
    )


def _summary(lags: collections.Counter[int]) -> dict[str, float]:
  """Returns the columns `_POLICY_LAG`; NaN if no gradient is of a step."""
  if not lags:
    return dict.fromkeys(_POLICY_LAG, float('nan'))
  values, counts = map(np.array, zip(*sorted(lags.items()), strict=True))
  below = np.cumsum(counts)
  figures = (
    (values * counts).sum() / below[-1],
    values[np.searchsorted(below, 0.95 * below[-1])],
    values[-1],
  )
  return dict(zip(_POLICY_LAG, map(float, figures), strict=True))


def _describe(row: logger.EvalRow) -> str:
  error = scale = truncated = ''
  if not np.isnan(row.standard_error):
    error = f' ± {row.standard_error:.2f}'
  if row.truncated_episodes:
    truncated = f', {row.truncated_episodes} of them truncated'
  if row.human_normalized is not None:
    scale = f', {row.human_normalized:.1f}% of human'
  return (
    f'evaluation at frame {row.frames:,}: mean return {row.mean_return:.2f}'
    f'{error}, {row.episodes} episodes{truncated}, {row.protocol}{scale}'
  )
