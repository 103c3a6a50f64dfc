"""What a run shows and writes: progress line, CSV files, TensorBoard."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import contextlib
import csv
import itertools
import os
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np
import rich.console
import rich.progress
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from a3c_jax import files, tables
from a3c_jax.core import events

PHASES = (
  'playing',  # acting and emulator in one program
  'acting',
  'emulator',
  'gradients',
  'lock_wait',
  'update',
  'other',
)
_EVENTS_SUFFIX = '.a3c_jax'  # Other event files in the folder are not ours.
TROUBLES = ('env_restarts', 'bad_gradients')


class Phases:
  """Adds up the seconds that one thread spends in each of `PHASES`."""

  def __init__(self):
    self.seconds = dict.fromkeys(PHASES, 0.0)
    self._last = time.perf_counter()

  def lap(self, phase: str) -> None:
    """Counts the time since the last lap towards a phase."""
    now = time.perf_counter()
    self.seconds[phase] += now - self._last
    self._last = now

  def move(self, source: str, target: str, seconds: float) -> None:
    """Moves time from one phase to another."""
    self.seconds[source] -= seconds
    self.seconds[target] += seconds


class Update(NamedTuple):
  """What a thread reports after each update."""

  stats: Any  # [S] scalars of the segment, in the order of the log's names
  lag: int  # updates of other threads between snapshot and application
  lock_wait: float  # seconds


class EpisodeRow(NamedTuple):
  """One row of episodes.csv."""

  frames: int  # emulator frames of all threads when it ended
  seconds: float  # since training began
  thread: int
  episode_return: float  # raw score
  clipped_return: float
  episode_frames: int


class EvalRow(NamedTuple):
  """One row of eval.csv."""

  frames: int  # emulator frames at which these parameters were the run's
  seconds: float  # since training began, then
  protocol: str  # how the episodes were played
  policy: str  # how actions were chosen
  episodes: int
  mean_return: float  # raw score
  median_return: float
  standard_error: float  # of the mean; NaN for one episode
  lowest_return: float
  highest_return: float
  mean_steps: float  # agent decisions
  truncated_episodes: int  # at --max_eval_episode_frames
  human_normalized: float | None  # percent; None without a reference
  best: bool  # higher mean than all before


def _cut(path, position) -> int:
  """Where the last whole line before a position ends."""
  try:
    content = path.read_bytes()[:position]
  except FileNotFoundError:
    content = b''
  end = content.rfind(b'\n') + 1
  if end < position:
    print(f'{path} is shorter than it was: rows are lost', flush=True)
  return end


def _cut_events(workdir, sizes) -> None:
  """Brings event files to the sizes that they had, and deletes newer ones."""
  for path in workdir.glob(f'events.out.tfevents.*{_EVENTS_SUFFIX}'):
    if path.name not in sizes:
      path.unlink()
    elif path.stat().st_size > sizes[path.name]:
      os.truncate(path, sizes[path.name])


def _header(path, end) -> list[str] | None:
  """The names of the columns of a file that has rows to keep."""
  if not end:
    return None
  with path.open(newline='') as file:
    return next(csv.reader(file), None)


def has_rows(workdir: pathlib.Path) -> bool:
  """Whether a run has written any results."""
  for name in ('episodes.csv', 'train.csv', 'eval.csv'):
    with contextlib.suppress(OSError), (workdir / name).open() as file:
      if len([*itertools.islice(file, 2)]) == 2:
        return True
  return False


class Log:
  """Writes episodes, train and eval.csv, TensorBoard events, shows progress.

  Used by the main thread alone, which does all the writing itself: a full disk
  raises here and does not hang a queue. Use it as a context manager.

  Attributes:
    seconds: the most that a row has, since training began.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    run: Mapping[str, Any],
    stats: Sequence[str],
    total_frames: int,
    place: Mapping[str, Any] | None = None,
  ):
    """Opens the files.

    Args:
      workdir: existing folder.
      run: constant columns of every row, such as algo, env and seed.
      stats: names of the scalars that updates report, in their order.
      total_frames: emulator frames at which the progress bar is full.
      place: where to go on, from `place`; what the files hold beyond it is cut
        off, and what a file has lost is told. None begins anew.

    Raises:
      OSError: if a file cannot be written.
    """
    self._run = tables.as_cells(run)
    self._stats = list(stats)
    self._exit = contextlib.ExitStack()
    place = place or {
      'positions': {},
      'events': {},
      'frames': 0,
      'sums': dict.fromkeys([*self._stats, 'lag', 'lock_wait'], 0.0),
      'updates': 0,
      'episodes': 0,
      'troubles': dict.fromkeys(TROUBLES, 0),
      'returns': [],
      'row_began': (0, 0.0),
    }
    self._files = {}
    self._episode_rows = self._csv(
      workdir / 'episodes.csv', EpisodeRow._fields, place['positions']
    )
    self._train_rows = self._csv(
      workdir / 'train.csv', self._train_columns(), place['positions']
    )
    self._eval_rows = self._csv(
      workdir / 'eval.csv', EvalRow._fields, place['positions']
    )
    # Runs that were begun by an earlier version do not tell of event files.
    self._earlier_events = dict(place.get('events', {}))
    if 'events' in place:
      _cut_events(workdir, self._earlier_events)
    self._events = EventsWriter(
      str(workdir / 'events'),
      # Two sessions may begin within the second that the name tells.
      f'.{len(self._earlier_events)}{_EVENTS_SUFFIX}',
    )
    self._events_path = pathlib.Path(self._events._file_name).absolute()
    self._exit.callback(self._events.close)
    if place['positions']:
      # A TensorBoard that has read what is no longer there forgets it.
      self._write_event(
        place['frames'] + 1,
        session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
      )
    self._sums = dict(place['sums'])
    self._updates = place['updates']
    self._episodes = place['episodes']
    self._troubles = dict(place['troubles'])
    self._returns = collections.deque(place['returns'], maxlen=100)
    self._row_began = tuple(place['row_began'])
    self._progress = Progress(total_frames)
    self.seconds = 0.0

  def place(self, frames: int) -> dict[str, Any]:
    """Where the files and sums stand, to go on from there; fit for JSON.

    Args:
      frames: count of emulator frames that they stand at.
    """
    # A checkpoint must not know more than the disk.
    for file in self._files.values():
      files.sync(file.fileno())
    self._events.flush()
    with self._events_path.open('rb') as events:
      files.sync(events.fileno())
      size = events.seek(0, os.SEEK_END)
    return {
      'positions': {name: file.tell() for name, file in self._files.items()},
      'events': self._earlier_events | {self._events_path.name: size},
      'frames': frames,
      'sums': dict(self._sums),
      'updates': self._updates,
      'episodes': self._episodes,
      'troubles': dict(self._troubles),
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
      *self._stats,
      'lag',
      'lock_wait_ms',
      'episodes',
      'mean_return',
      *TROUBLES,
    ]

  def _csv(self, path, columns, positions):
    position = positions.get(path.name)
    end = 0 if position is None else _cut(path, position)
    # Line buffering, so that whole lines reach the disk.
    file = self._exit.enter_context(path.open('a', newline='', buffering=1))
    file.truncate(end)
    file.seek(0, os.SEEK_END)  # Or it would tell where the end was.
    self._files[path.name] = file
    # A file of an earlier version keeps the columns that it has.
    columns = _header(path, end) or [*self._run, *columns]
    rows = csv.DictWriter(file, columns, extrasaction='ignore')
    if not end:
      rows.writeheader()
    return rows

  def _write_event(self, frames, **content):
    self._events.write_event(
      event_pb2.Event(wall_time=time.time(), step=frames, **content)
    )

  def _scalar(self, name, value, frames):
    self._write_event(frames, summary=summary.scalar(name, float(value)))

  @property
  def mean_return(self) -> float:
    """Mean raw return of the newest 100 episodes; NaN before the first."""
    return float(np.mean(self._returns)) if self._returns else float('nan')

  @property
  def episodes(self) -> int:
    """Episodes that ended so far."""
    return self._episodes

  def take(
    self, reports: Sequence[Update | EpisodeRow | events.Incident]
  ) -> None:
    """Adds up what threads reported, and writes finished episodes."""
    for report in reports:
      if isinstance(report, Update):
        values = np.asarray(report.stats).tolist()
        for name, value in zip(self._stats, values, strict=True):
          self._sums[name] += value
        self._sums['lag'] += report.lag
        self._sums['lock_wait'] += report.lock_wait
        self._updates += 1
      elif isinstance(report, EpisodeRow):
        self._episodes += 1
        self.seconds = max(self.seconds, report.seconds)
        self._returns.append(report.episode_return)
        self._episode_rows.writerow(
          self._run | report._asdict() | {'seconds': f'{report.seconds:.3f}'}
        )
        self._scalar('episode/return', report.episode_return, report.frames)
        self._scalar('episode/frames', report.episode_frames, report.frames)
      else:
        self._troubles[report.kind] += 1
        self._progress.say(report.text)

  def evaluated(self, row: EvalRow) -> None:
    """Writes what an evaluation came to, and says so."""
    self.seconds = max(self.seconds, row.seconds)
    self._eval_rows.writerow(
      self._run
      | tables.as_cells(row._asdict())
      | {'seconds': f'{row.seconds:.3f}'}
    )
    for name in ('mean_return', 'median_return', 'human_normalized'):
      value = getattr(row, name)
      if value is not None and not np.isnan(value):
        self._scalar(f'eval/{name}', value, row.frames)
    self._events.flush()
    error = scale = truncated = ''
    if not np.isnan(row.standard_error):
      error = f' ± {row.standard_error:.2f}'
    if row.truncated_episodes:
      truncated = f', {row.truncated_episodes} of them truncated'
    if row.human_normalized is not None:
      scale = f', {row.human_normalized:.1f}% of human'
    self._progress.say(
      f'evaluation at frame {row.frames:,}: mean return {row.mean_return:.2f}'
      f'{error}, {row.episodes} episodes{truncated}, {row.protocol}{scale}'
    )

  def show(self, *, frames: int, seconds: float) -> None:
    """Moves the progress line on, where there is a terminal."""
    self._progress.show(frames, self._line(frames, seconds))

  def write_row(
    self, *, frames: int, seconds: float, updates: int, learning_rate: float
  ) -> None:
    """Writes one row of means since the last one; none without an update.

    Nor at the same frame: a thread may have applied an update when that row was
    written, and told of it afterwards. It goes into the next row then.
    """
    if not self._updates or frames == self._row_began[0]:
      return
    means = {name: total / self._updates for name, total in self._sums.items()}
    figures = {
      'frames': frames,
      'seconds': round(seconds, 3),
      'frames_per_second': round(self._speed(frames, seconds), 1),
      'updates': updates,
      'learning_rate': learning_rate,
      **{name: means[name] for name in self._stats},
      'lag': means['lag'],
      'lock_wait_ms': 1e3 * means['lock_wait'],
      'episodes': self._episodes,
      'mean_return': self.mean_return,
      **self._troubles,
    }
    self._train_rows.writerow(self._run | figures)
    self.seconds = max(self.seconds, seconds)
    for name, value in figures.items():
      if name != 'frames' and not np.isnan(value):
        self._scalar(f'train/{name}', value, frames)
    self._events.flush()
    self._progress.log(self._line(frames, seconds))
    self._row_began = (frames, seconds)
    self._sums = dict.fromkeys(self._sums, 0.0)
    self._updates = 0

  def _speed(self, frames: int, seconds: float) -> float:
    began_frames, began_seconds = self._row_began
    return (frames - began_frames) / max(seconds - began_seconds, 1e-9)

  def _line(self, frames: int, seconds: float) -> str:
    score = f'{self.mean_return:.2f}' if self._returns else 'none yet'
    return (
      f'return {score}  {frames:,} frames  '
      f'{self._speed(frames, seconds):,.0f}/s'
    )

  def __enter__(self):
    self._exit.enter_context(self._progress)
    return self

  def __exit__(self, *exception):
    return self._exit.__exit__(*exception)


class Progress:
  """A live line on a terminal, plain lines elsewhere."""

  def __init__(self, total_frames: int):
    console = rich.console.Console(highlight=False)
    self._live = None
    if console.is_terminal and not console.is_dumb_terminal:
      self._live = rich.progress.Progress(
        rich.progress.BarColumn(bar_width=20),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn('{task.description}'),
        rich.progress.TimeRemainingColumn(compact=True),
        console=console,
        auto_refresh=False,  # Its thread would compete with the actor-learners.
      )
      self._task = self._live.add_task('starting', total=total_frames)

  def __enter__(self):
    if self._live:
      self._live.start()
    return self

  def __exit__(self, *_):
    if self._live:
      self._live.stop()

  def show(self, frames: int, line: str) -> None:
    if self._live:
      self._live.update(self._task, completed=frames, description=line)
      self._live.refresh()

  def log(self, line: str) -> None:
    if not self._live:
      print(line, flush=True)

  def say(self, line: str) -> None:
    """Prints a line, above the live one where there is one."""
    if self._live:
      self._live.console.print(line, markup=False)
    else:
      print(line, flush=True)
