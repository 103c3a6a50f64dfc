"""How far the runs of a plan are."""

from __future__ import annotations

from collections.abc import Sequence
import logging
import math
import os
import pathlib
import time
from typing import Protocol

from a3c_jax.reproduce import console, curves, process_pool
from a3c_jax.reproduce.plan import Run
from a3c_jax.reproduce.scores import Trial
from a3c_jax.runs import display
from a3c_jax.runs import workdir as workdir_lib

_READ_SECONDS = 5.0
_LOG_SECONDS = 60.0
_logger = logging.getLogger(__name__)


class Planned(Protocol):
  """A run of a plan; hashable."""

  @property
  def name(self) -> str:
    """The name of its folder, which no other run has."""
    ...

  @property
  def frames(self) -> int:
    """Emulator frames that it trains for."""
    ...

  @property
  def command(self) -> tuple[str, ...]:
    """A script and its flags, but for the workdir."""
    ...

  @property
  def seconds(self) -> float:
    """Seconds of one core that it takes, as estimated."""
    ...


def _frames(folder) -> int:
  row = workdir_lib.last_row(folder, 'train.csv')
  try:
    return int(float(row.get('frames', 0)))
  except (ValueError, OverflowError):  # The file is damaged.
    return 0


class Progress:
  """Shows the progress of a plan, and estimates its end. A context manager.

  On a terminal it is a live line; otherwise it is logged every minute.

  Attributes:
    finished: names of the runs that are finished.
  """

  def __init__(self, runs: Sequence[Planned], folder: pathlib.Path):
    """Reads how far the runs are, and shows nothing yet.

    Args:
      runs: of the plan.
      folder: with a folder of each run that has started.
    """
    self._runs = {run.name: run for run in runs}
    self._folder = folder
    self._frames = {name: 0 for name in self._runs}
    self.finished: set[str] = set()
    for name in self._runs:
      self.on_exit(name)
    self._total = sum(run.frames for run in runs)
    self._began = time.monotonic()
    self._before = self.frames
    self._read = self._logged = self._began
    self._line = display.LiveLine()

  @property
  def frames(self) -> int:
    """Emulator frames of all runs so far."""
    return sum(
      min(frames, self._runs[name].frames)
      for name, frames in self._frames.items()
    )

  def on_exit(self, name: str) -> None:
    """Reads the results of a run that has ended."""
    folder = self._folder / name
    self._frames[name] = _frames(folder)
    if workdir_lib.is_finished(folder):
      self.finished.add(name)

  def tick(self) -> None:
    """Reads the runs every few seconds, and shows their progress."""
    now = time.monotonic()
    if now - self._read < _READ_SECONDS:
      return
    self._read = now
    for name in self._runs:
      if name not in self.finished and os.path.isdir(self._folder / name):
        self._frames[name] = _frames(self._folder / name)
    self._line.update(self._text(now), done=self.frames, total=self._total)
    if now - self._logged >= _LOG_SECONDS:
      self._logged = now
      if not self._line.shown:
        _logger.info('%s%s', self._text(now), self._left(now))

  def _speed(self, now) -> float:
    return (self.frames - self._before) / (now - self._began)

  def _text(self, now) -> str:
    return (
      f'{len(self.finished)} of {len(self._runs)} runs finished, '
      f'{self.frames / self._total:.1%} of the frames, '
      f'{self._speed(now):,.0f}/s'
    )

  def _left(self, now) -> str:
    speed = self._speed(now)
    if not speed:
      return ''
    minutes = math.ceil((self._total - self.frames) / speed / 60)
    return f', {minutes // 60}:{minutes % 60:02} hours left'

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._line.close()


def run(
  runs: Sequence[Planned],
  folder: pathlib.Path,
  progress: Progress,
  *,
  parallel: int,
  launcher: process_pool.Launcher,
) -> process_pool.ProcessPool:
  """Runs what is not finished yet, and shows the progress.

  Args:
    runs: of the plan.
    folder: existing; gets a folder of each run.
    progress: of these runs.
    parallel: how many run at once.
    launcher: starts their processes.

  Returns:
    The pool that ran them, which knows the exit codes of failed runs.

  Raises:
    OSError: if a file cannot be written or a run cannot start.
  """

  def on_exit(job, code):
    progress.on_exit(job.name)
    if code:
      _logger.info('%s failed, exit code %d', job.name, code)
    elif job.name in progress.finished:
      _logger.info('%s finished', job.name)

  pool = process_pool.ProcessPool(
    folder,
    [
      process_pool.Job(run.name, run.command, f'{run.frames:,} frames')
      for run in runs
      if run.name not in progress.finished
    ],
    parallel=parallel,
    launcher=launcher,
    on_exit=on_exit,
    tick=progress.tick,
    is_done=lambda job: workdir_lib.is_finished(folder / job.name),
    refusals=None if progress.finished else process_pool.REFUSALS,
  )
  with progress:
    pool.run()
  return pool


def describe_plan(
  runs: Sequence[Planned], finished: set[str], *, columns: Sequence[str]
) -> str:
  """A table of runs with their frames and estimated hours of one core.

  Args:
    runs: of the plan.
    finished: names of those that are finished.
    columns: attributes of the runs. Those with the same values share a row.
  """
  groups: dict[tuple[str, ...], list[Planned]] = {}
  for run in runs:
    key = tuple(str(getattr(run, column)) for column in columns)
    groups.setdefault(key, []).append(run)
  hours = lambda runs: f'{sum(run.seconds for run in runs) / 3600:,.2f}'
  frames = lambda runs: f'{sum(run.frames for run in runs):,}'
  rows: list[Sequence[str]] = [
    (*columns, 'runs', 'finished', 'frames', 'core-hours')
  ]
  for key, group in groups.items():
    done = sum(run.name in finished for run in group)
    rows.append((*key, str(len(group)), str(done), frames(group), hours(group)))
  left = [run for run in runs if run.name not in finished]
  return (
    f'{console.table(rows)}\n{len(runs)} runs, {frames(runs)} frames, '
    f'{hours(runs)} core-hours, of which {hours(left)} are left'
  )


def read_trials(runs: Sequence[Run], folder: pathlib.Path) -> list[Trial]:
  """All that the runs of a plan have written so far.

  Raises:
    UsageError: if the files of one are not those of a run.
  """
  return [
    Trial(
      game=run.game,
      method=run.method,
      threads=run.threads,
      optimizer=run.optimizer,
      learning_rate=run.learning_rate,
      run=curves.read(folder / run.name),
    )
    for run in runs
    if _frames(folder / run.name)
  ]
