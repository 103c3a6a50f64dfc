"""A random search over hyperparameters: what is drawn, run and recorded."""

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
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.core import errors, fields, files, paths, tables
from a3c_jax.reproduce import console, intervals, process_pool
from a3c_jax.runs import workdir as workdir_lib

Ranges = Mapping[str, tuple[float, float]]  # (LOW, HIGH) by the name of a flag.

_BEST = 10  # Rows of the printed table.
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


class Run(NamedTuple):
  """One run of a search."""

  name: str
  values: dict[str, float]  # by the name of the flag
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


def draw(ranges: Ranges, *, sweep_seed: int, number: int) -> dict[str, float]:
  """The values of one setting, by name, to 4 digits."""
  rng = np.random.default_rng([sweep_seed, number])
  return {name: log_uniform(rng, *limits) for name, limits in ranges.items()}


def draw_runs(options: Options, ranges: Ranges) -> list[Run]:
  """All runs of a search, in their order."""
  runs = []
  for number in range(options.runs):
    values = draw(ranges, sweep_seed=options.sweep_seed, number=number)
    for seed in range(1, options.seeds + 1):
      name = f'run-{number:03}' + f'-seed{seed}' * (seed > 1)
      runs.append(Run(name, values, seed))
  return runs


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
    (folder / 'results.csv').unlink(missing_ok=True)
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

  def describe(self) -> str:
    """Tables of the best finished runs and settings, and the path of all.

    The second has the settings of which several seeds are finished.
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
    return '\n'.join([*lines, f'results in {paths.as_given(self._path)}'])

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


def search(
  options: Options,
  command: Sequence[str],
  runs: Sequence[Run],
  results: Results,
  *,
  launcher: process_pool.Launcher,
) -> process_pool.ProcessPool:
  """Runs all that `results` does not have as finished, and adds their rows.

  Args:
    options: of the search.
    command: the script and its flags.
    runs: from `draw_runs`.
    results: gets a row when a run ends.
    launcher: starts their processes.

  Returns:
    The pool that ran them, which knows the exit codes of failed runs.

  Raises:
    OSError: if a file cannot be written or a run cannot start.
  """
  folder = pathlib.Path(options.folder)
  finished = results.finished()
  todo = [run for run in runs if run.name not in finished]
  # Failed ones last, lest they fail again before any other is tried.
  todo.sort(key=lambda run: run.name in results.rows)
  by_name = {run.name: run for run in todo}
  pool = process_pool.ProcessPool(
    folder,
    [_job(run, command) for run in todo],
    parallel=options.parallel,
    launcher=launcher,
    on_exit=lambda job, code: _record(by_name[job.name], code, folder, results),
    refusals=None if finished else process_pool.REFUSALS * options.seeds,
  )
  pool.run()
  return pool


def _job(run, command) -> process_pool.Job:
  values = [f'--{name}={value!r}' for name, value in run.values.items()]
  values.append(f'--seed={run.seed}')
  return process_pool.Job(run.name, (*command, *values), ' '.join(values))


def _record(run, code, folder, results) -> None:
  """Adds the row of a run that has ended."""
  workdir = folder / run.name
  row = {'run': run.name, **run.values, 'seed': run.seed}
  row |= _figures(workdir)
  row |= {'status': 'failed' if code else 'finished', 'exit_code': code}
  if not code and not workdir_lib.is_finished(workdir):
    text = 'ended before all its frames were done'
  else:
    results.add(row)
    text = f'finished, mean return {row["mean_return"] or "unknown"}'
  if code:
    text = f'failed, exit code {code}: see {paths.as_given(workdir)}.log'
  _logger.info('%s %s', run.name, text)
