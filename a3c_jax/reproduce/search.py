"""A search over hyperparameters: what is run and recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import csv
import dataclasses
import json
import logging
import math
import pathlib
import re
import shlex
import time
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.core import errors, fields, files, paths, tables
from a3c_jax.reproduce import console, drawing, intervals, process_pool
from a3c_jax.reproduce import study as study_lib
from a3c_jax.runs import workdir as workdir_lib

Ranges = Mapping[str, tuple[float, float]]  # (LOW, HIGH) by the name of a flag.

_BEST = 10  # Rows of the printed table.
_LOOK_SECONDS = 5.0  # Between two looks for runs to prune.
_FIGURES = ('frames', 'mean_return', 'eval_mean_return', 'seconds')
_RESERVED = ('run', 'seed', *_FIGURES, 'status', 'exit_code', 'workdir')
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
  """The extent of a search, and the folder of its results."""

  folder: str = fields.path(
    'Folder for the results: new, empty, or of the same search, to resume it.',
    default='',
    source='has to be given',
  )
  runs: int = fields.count(
    'Settings to draw.', most=10_000, default=50, source='paper, figure 1'
  )
  seeds: int = fields.count(
    'Runs per setting: seeds 1 to this.', most=100, default=1, source='ours'
  )
  parallel: int = fields.count(
    'Runs at once, each with its own threads.', default=1, source='ours'
  )
  sweep_seed: int = fields.count(
    'Seed of the draws.', least=0, default=1, source='ours'
  )
  sampler: str = fields.one_of(
    "Optuna's sampler. tpe draws near what has scored best so far.",
    study_lib.SAMPLERS,
    default='random',
    source='paper',
  )
  prune: bool = fields.setting(
    'Stop a run whose mean return is below the median of earlier runs after '
    'the same frames.',
    default=False,
    source='paper',
  )

  def __post_init__(self):
    """Raises UsageError if what is pruned has several seeds."""
    if self.prune and self.seeds > 1:
      raise errors.UsageError(
        f'--prune with --seeds={self.seeds}: allowed: --seeds=1'
      )


class Run(NamedTuple):
  """One run of a search."""

  name: str
  number: int  # of its setting
  seed: int


def read_ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
  """(LOW, HIGH) by NAME, from texts of one or several NAME:LOW:HIGH.

  Raises:
    UsageError: naming the first that is not allowed.
  """
  ranges = {}
  for text in ','.join(texts).split(','):
    allowed = None
    name, *limits = text.split(':')
    try:
      low, high = map(float, limits)
    except ValueError:
      low = high = math.nan
    if not (re.fullmatch(r'[A-Za-z]\w*', name) and 0 < low < high < math.inf):
      allowed = 'NAME:LOW:HIGH with 0 < LOW < HIGH'
    elif name in ranges or name in _RESERVED:
      allowed = f'each name once, and not {", ".join(_RESERVED)}'
    if allowed:
      raise errors.UsageError(f'--log_uniform={text}: allowed: {allowed}')
    ranges[name] = (low, high)
  return ranges


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
  """A number drawn from LogUniform(low, high), to 4 digits, within these."""
  exact = math.exp(rng.uniform(math.log(low), math.log(high)))
  return min(max(float(f'{exact:.4g}'), low), high)


def make_runs(options: Options) -> list[Run]:
  """All runs of a search, in their order."""
  return [
    Run(f'run-{number:03}' + f'-seed{seed}' * (seed > 1), number, seed)
    for number in range(options.runs)
    for seed in range(1, options.seeds + 1)
  ]


def check_command(command: Sequence[str], ranges: Ranges) -> None:
  """Checks the script of a search, and its flags.

  Raises:
    UsageError: if there is no such script, or the search sets one of its flags.
  """
  if not command or not pathlib.Path(command[0]).is_file():
    problem = f'{command[0]}: is no file' if command else 'no script'
    raise errors.UsageError(f'{problem}; allowed: FLAGS -- SCRIPT ITS_FLAGS')
  for argument in command[1:]:
    name = argument.lstrip('-').partition('=')[0]
    if argument.startswith('-') and name in ('seed', 'workdir', *ranges):
      raise errors.UsageError(
        f'{argument} after --: allowed: flags that the search does not set'
      )


def claim(
  folder: pathlib.Path,
  options: Options,
  ranges: Ranges,
  command: Sequence[str],
) -> contextlib.ExitStack:
  """Locks a folder for a search; a new one becomes this search's.

  Args:
    folder: existing.
    options: of the search.
    ranges: of the search.
    command: the script and its flags.

  Returns:
    A context manager that unlocks the folder.

  Raises:
    UsageError: if the folder is another search's, or not a search's.
    OSError: if the disk is full.
  """
  limits = [f'{name}:{low}:{high}' for name, (low, high) in ranges.items()]
  plan = {
    'script': shlex.join(command),
    'log_uniform': ','.join(limits),
    'sweep_seed': options.sweep_seed,
    'sampler': options.sampler,
  }

  def refuse(problem):
    raise errors.UsageError(
      f'--folder={paths.as_given(folder)}: {problem}; allowed: a new or empty '
      'folder, or that of the same search'
    )

  with contextlib.ExitStack() as stack:
    try:
      _write_plan(folder, plan, stack, refuse)
    except BlockingIOError:
      refuse('another process is using it')
    except OSError as error:
      if error.errno in files.NO_SPACE:
        raise  # The caller reports it.
      refuse(error.strerror)
    except (json.JSONDecodeError, UnicodeError, TypeError, RecursionError):
      refuse('its sweep.json is not that of a search')
    return stack.pop_all()


def _write_plan(folder, plan, stack, refuse) -> None:
  """Locks and writes sweep.json, unless it has the same plan already."""
  path = folder / 'sweep.json'
  if not path.exists() and any(folder.iterdir()):
    refuse('holds files, but no sweep.json')
  file = stack.enter_context(path.open('a+b', buffering=0))
  files.lock(file, folder=f'--folder={paths.as_given(folder)}')
  file.seek(0)
  before = json.loads(file.read() or 'null')
  if before == plan:
    return
  if before is not None:
    if [*before] != [*plan]:
      refuse('its sweep.json is not that of a search')
    # Before any run has started, a mistake in the command may be corrected.
    if any(entry.is_dir() for entry in folder.iterdir()):
      name = next(name for name in plan if before[name] != plan[name])
      refuse(f'its {name} is {before[name]}, not {plan[name]}')
    for name in ('results.csv', study_lib.NAME):
      (folder / name).unlink(missing_ok=True)
  file.truncate(0)
  try:
    files.write_all(file, (json.dumps(plan, indent=2) + '\n').encode())
  except OSError:
    file.truncate(0)  # Half of it would be nobody's.
    raise


class Results:
  """The file results.csv of a search.

  Attributes:
    rows: the last row of each run, by its name.
  """

  def __init__(self, path: pathlib.Path, names: Sequence[str]):
    """Reads the rows of an earlier process.

    Args:
      path: of the file, which is made if it is not there.
      names: of the values that are drawn.

    Raises:
      UsageError: if somebody changed its columns.
    """
    self._path = path
    self._names = [*names]
    self._shown = ['run', *names, 'seed', *_FIGURES]
    self._columns = [*self._shown, 'status', 'exit_code']
    with path.open('a+b') as file:
      file.seek(0)
      content = file.read()
      whole = content[: content.rfind(b'\n') + 1]
      file.truncate(len(whole))  # The last row may be incomplete.
    table = csv.DictReader(whole.decode(errors='replace').splitlines())
    if table.fieldnames not in (None, self._columns):
      raise errors.UsageError(
        f'--folder={paths.as_given(path.parent)}: its results.csv has other '
        f'columns; allowed: {",".join(self._columns)}'
      )
    self.rows: dict[str, dict[str, str]] = {
      row['run']: row for row in table if _is_whole(row)
    }

  def is_done(self, name: str) -> bool:
    """Whether a run is finished, or was pruned."""
    return self.rows.get(name, {}).get('status') in ('finished', 'pruned')

  def finished(self) -> dict[str, dict[str, str]]:
    """The rows of finished runs by name, the best first."""
    scores = {
      name: float(row['mean_return'] or 'nan')
      for name, row in self.rows.items()
      if row['status'] == 'finished'
    }
    worse = lambda name: (math.isnan(scores[name]), -scores[name])
    return {name: self.rows[name] for name in sorted(scores, key=worse)}

  def add(self, row: Mapping[str, Any]) -> None:
    """Appends a row, in one write."""
    with self._path.open('a', newline='') as file:
      rows = csv.DictWriter(file, self._columns)
      if not file.tell():
        rows.writeheader()
      rows.writerow(tables.as_cells(row))
    self.rows[row['run']] = {name: str(value) for name, value in row.items()}

  def describe(self, importances: Mapping[str, float]) -> str:
    """Tables of the best finished runs and settings, and the path of all.

    The second has the settings of which several seeds are finished.

    Args:
      importances: the share of the scores' variance that each value explains;
        empty if it is not known.
    """
    lines = []
    finished = list(self.finished().values())
    if finished:
      best = finished[:_BEST]
      cells = [[_short(row, name) for name in self._shown] for row in best]
      lines.append(console.table([self._shown, *cells]))
    settings = self._settings()
    if any(len(scores) > 1 for scores in settings.values()):
      titles = [*self._names, 'mean_return [95% interval]']
      cells = [
        [*values, intervals.describe(scores)]
        for values, scores in [*settings.items()][:_BEST]
      ]
      lines.append(console.table([titles, *cells]))
    if importances:
      parts = [f'{name} {share:.0%}' for name, share in importances.items()]
      lines.append(f'importance: {", ".join(parts)}')
    return '\n'.join([*lines, f'results in {paths.as_given(self._path)}'])

  def draw(self, importances: Mapping[str, float]) -> Any:
    """Returns a picture: a panel for each value, with all finished runs."""
    finished = [row for row in self.finished().values() if row['mean_return']]
    count = len(self._names)
    figure, (panels,) = drawing.subplots(
      1, count, size=(3.6 * count + 0.4, 3.2)
    )
    for axes, name in zip(panels, self._names, strict=True):
      axes.plot(
        [float(row[name]) for row in finished],
        [float(row['mean_return']) for row in finished],
        'o',
        markersize=4,
      )
      axes.set_xscale('log')
      axes.set_xlabel(name.replace('_', ' '))
      axes.set_ylabel('mean return')
      axes.grid(alpha=0.3)
      if name in importances:
        axes.set_title(f'importance {importances[name]:.0%}')
    return figure

  def _settings(self) -> dict[tuple[str, ...], list[float]]:
    """The mean returns of all seeds by their settings, the best mean first.

    NaN of a run that is not finished or has none. A setting with such a run
    comes after those without.
    """
    found: dict[tuple[str, ...], list[float]] = {}
    for row in self.rows.values():
      score = 'nan'
      if row['status'] == 'finished':
        score = row['mean_return'] or score
      values = tuple(row[name] for name in self._names)
      found.setdefault(values, []).append(float(score))

    def rank(values):
      known = [score for score in found[values] if not math.isnan(score)]
      return len(known) == len(found[values]), np.mean(known or -math.inf)

    return {each: found[each] for each in sorted(found, key=rank, reverse=True)}


def _short(row, name) -> str:
  """A cell of the printed table."""
  text = row[name]
  return f'{float(text):.2f}' if text and 'mean_return' in name else text


def _is_whole(row) -> bool:
  """Whether a row has all columns, and numbers where they have to be."""
  if None in row or None in row.values():
    return False
  return all(
    _as_number(row[name]) == row[name] for name in row if 'return' in name
  )


def _as_number(text) -> str:
  """The text if it is a number, '' otherwise."""
  try:
    float(text)
  except ValueError:
    return ''
  return text


def _figures(workdir) -> dict[str, str]:
  train = workdir_lib.last_row(workdir, 'train.csv')
  score = workdir_lib.last_row(workdir, 'eval.csv').get('mean_return', '')
  figures = {name: train.get(name, '') for name in _FIGURES}
  figures['eval_mean_return'] = score
  return {name: _as_number(text) for name, text in figures.items()}


def _curve(workdir) -> list[tuple[float, float]]:
  """The mean returns of a run by frames; nothing of damaged rows."""
  found = []
  with (
    contextlib.suppress(OSError, csv.Error),
    (workdir / 'train.csv').open(newline='', errors='replace') as file,
  ):
    for row in csv.DictReader(file):
      with contextlib.suppress(KeyError, TypeError, ValueError):
        point = float(row['frames']), float(row['mean_return'])
        if not any(map(math.isnan, point)):
          found.append(point)
  return found


class _Search:
  """The runs of a search, from a setting to a row."""

  def __init__(self, options, command, study, results):
    self._folder = pathlib.Path(options.folder)
    self._command = command
    self._study: study_lib.Study = study
    self._results: Results = results
    self._prunes = options.prune
    self._looked = time.monotonic()
    self._runs = {run.name: run for run in make_runs(options)}
    self._seeds = options.seeds
    for number in range(options.runs):  # What a killed search had not told.
      self._tell(number)

  def todo(self) -> list[process_pool.Job]:
    """Jobs of all that is not finished; their values are drawn later."""
    names = [name for name in self._runs if not self._results.is_done(name)]
    # Failed ones last, lest they fail again before any other is tried.
    names.sort(key=lambda name: name in self._results.rows)
    return [process_pool.Job(name, (), '') for name in names]

  def prepare(self, job: process_pool.Job) -> process_pool.Job:
    """Draws the values of a job that is about to start."""
    run = self._runs[job.name]
    drawn = self._study.values(run.number)
    values = [f'--{name}={value!r}' for name, value in drawn.items()]
    values.append(f'--seed={run.seed}')
    return process_pool.Job(
      run.name, (*self._command, *values), ' '.join(values)
    )

  def to_prune(self, running: Sequence[str]) -> list[str]:
    """The names of runs that are worse than others; looks now and then."""
    if not self._prunes or time.monotonic() - self._looked < _LOOK_SECONDS:
      return []
    self._looked = time.monotonic()
    for name in running:
      self._report(name)
    return [
      name for name in running if self._study.is_worse(self._runs[name].number)
    ]

  def _report(self, name: str) -> None:
    workdir = self._folder / name
    frames = workdir_lib.planned_frames(workdir)
    if frames:
      curve = [(x / frames, score) for x, score in _curve(workdir)]
      self._study.report(self._runs[name].number, curve)

  def record(self, name: str, code: int, *, pruned: bool) -> None:
    """Adds the row of a run that has ended, and tells the study its score."""
    run, workdir = self._runs[name], self._folder / name
    if self._prunes:
      self._report(name)
    row = {'run': name, **self._study.values(run.number), 'seed': run.seed}
    row |= _figures(workdir)
    status = 'failed' if code else 'pruned' if pruned else 'finished'
    row |= {'status': status, 'exit_code': code}
    if status == 'finished' and not workdir_lib.is_finished(workdir):
      text = 'ended before all its frames were done'
    else:
      self._results.add(row)
      text = f'{status}, mean return {row["mean_return"] or "unknown"}'
    if code:
      text = f'failed, exit code {code}: see {paths.as_given(workdir)}.log'
    _logger.info('%s %s', name, text)
    self._tell(run.number)

  def _tell(self, number: int) -> None:
    """Tells the mean of a setting once all its seeds are finished."""
    rows = [
      self._results.rows[run.name]
      for run in self._runs.values()
      if run.number == number and self._results.is_done(run.name)
    ]
    if len(rows) < self._seeds:
      return
    self._study.values(number)
    if any(row['status'] == 'pruned' for row in rows):
      self._study.prune(number)
      return
    scores = [float(row['mean_return'] or 'nan') for row in rows]
    if not any(map(math.isnan, scores)):
      self._study.tell(number, float(np.mean(scores)))


def search(
  options: Options,
  command: Sequence[str],
  study: study_lib.Study,
  results: Results,
  *,
  launcher: process_pool.Launcher,
) -> process_pool.ProcessPool:
  """Runs all that `results` does not have as finished, and adds their rows.

  Args:
    options: of the search.
    command: the script and its flags.
    study: draws settings, and is told their scores.
    results: gets a row when a run ends.
    launcher: starts their processes.

  Returns:
    The pool that ran them, which knows the exit codes of failed runs.

  Raises:
    OSError: if a file cannot be written or a run cannot start.
  """
  runs = _Search(options, command, study, results)
  todo = runs.todo()
  pool = process_pool.ProcessPool(
    pathlib.Path(options.folder),
    todo,
    parallel=options.parallel,
    launcher=launcher,
    prepare=runs.prepare,
    to_stop=runs.to_prune,
    on_exit=lambda job, code: runs.record(
      job.name, code, pruned=job.name in pool.stopped
    ),
    refusals=None
    if results.finished()
    else process_pool.REFUSALS * options.seeds,
  )
  pool.run()
  return pool
