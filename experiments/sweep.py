r"""Searches hyperparameters at random: many runs of a script, some at once.

python experiments/sweep.py --folder=runs/search --runs=20 --parallel=2 \
  --log_uniform=learning_rate:1e-4:1e-2 -- \
  experiments/gym_env.py --env=CartPole-v1 --frames=100e3

Run 7 is `python SCRIPT ITS_FLAGS --NAME=VALUE ... --seed=1
--workdir=FOLDER/run-007` and prints into FOLDER/run-007.log; with seed 2 it is
run-007-seed2. Its values depend on --sweep_seed and the 7 alone, so --runs and
--seeds may be raised later. results.csv gets a row when a run ends; the last
row of a run counts.

The same command goes on: finished runs are left alone, stopped ones go on from
their checkpoints, failed ones are tried again, last. It waits for those that a
killed search left running. A run is finished if it exits with 0 after its last
frame and the evaluation of that (if it has any), or after the --seconds it is
limited to, which it has anew when it goes on.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from collections.abc import Mapping, Sequence
import contextlib
import csv
import dataclasses
import json
import math
import os
import pathlib
import re
import shlex
from typing import NamedTuple

from absl import flags
import numpy as np

from a3c_jax import command_line
from a3c_jax.core import errors, fields, files, paths, tables
from a3c_jax.reproduce import process_pool
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings import flags as flags_lib

_BEST = 10  # Rows of the table at the end.
_FIGURES = ('frames', 'mean_return', 'eval_mean_return', 'seconds')
_RESERVED = ('run', 'seed', *_FIGURES, 'status', 'exit_code', 'workdir')
# That of the runs: as it was before JAX is set up for this process.
_ENVIRONMENT = dict(os.environ)

_LOG_UNIFORM = flags.DEFINE_multi_string(
  'log_uniform',
  [],
  'NAME:LOW:HIGH: --NAME is drawn from LogUniform(LOW, HIGH), to 4 digits. '
  'Several are separated by commas, or have a flag each. Default: none (has to '
  'be given; the paper, figure 1, has learning_rate:1e-4:1e-2).',
)


@dataclasses.dataclass(frozen=True)
class Options:
  """How much to search, and where the results go."""

  folder: str = fields.path(
    'Folder for the results: new, empty, or of the same search, to go on.',
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
    'Seed of what is drawn.', least=0, default=1, source='ours'
  )


_options = flags_lib.define_options(Options)


class Run(NamedTuple):
  """What one process is to do."""

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


def draw(
  ranges: Mapping[str, tuple[float, float]], *, sweep_seed: int, number: int
) -> dict[str, float]:
  """The values of one setting, by name, to 4 digits."""
  rng = np.random.default_rng([sweep_seed, number])
  return {
    name: process_pool.log_uniform(rng, *limits)
    for name, limits in ranges.items()
  }


def _check_command(command, names) -> None:
  if not command or not pathlib.Path(command[0]).is_file():
    problem = f'{command[0]}: is no file' if command else 'no script'
    raise errors.UsageError(f'{problem}; allowed: FLAGS -- SCRIPT ITS_FLAGS')
  for argument in command[1:]:
    name = argument.lstrip('-').partition('=')[0]
    if argument.startswith('-') and name in ('seed', 'workdir', *names):
      raise errors.UsageError(
        f'{argument} after --: allowed: flags that the search does not set'
      )


def _claim(folder, plan, stack) -> None:
  """Locks the folder, and makes it this search's if it is nobody's."""

  def refuse(problem):
    raise errors.UsageError(
      f'--folder={paths.as_given(folder)}: {problem}; allowed: a new or empty '
      'folder, or that of the same search'
    )

  path = folder / 'sweep.json'
  try:
    if not path.exists() and any(folder.iterdir()):
      refuse('holds files, but no sweep.json')
    file = stack.enter_context(path.open('a+b', buffering=0))
    files.lock(file, folder=f'--folder={paths.as_given(folder)}')
    file.seek(0)
    began = json.loads(file.read() or 'null')
    if began == plan:
      return
    if began is not None:
      if [*began] != [*plan]:
        refuse('its sweep.json is not that of a search')
      # Before any run has begun, a mistake in the command may be mended.
      if any(entry.is_dir() for entry in folder.iterdir()):
        name = next(name for name in plan if began[name] != plan[name])
        refuse(f'its {name} is {began[name]}, not {plan[name]}')
      (folder / 'results.csv').unlink(missing_ok=True)
    file.truncate(0)
    try:
      files.write_all(file, (json.dumps(plan, indent=2) + '\n').encode())
    except OSError:
      file.truncate(0)  # Half of it would be nobody's.
      raise
  except BlockingIOError:
    refuse('another process is using it')
  except OSError as error:
    if error.errno in files.NO_SPACE:
      raise  # Told by the caller.
    refuse(error.strerror)
  except (json.JSONDecodeError, UnicodeError, TypeError, RecursionError):
    refuse('its sweep.json is not that of a search')


class Results:
  """results.csv, of which `rows` has the last row of each run by name."""

  def __init__(self, path: pathlib.Path, names: Sequence[str]):
    """Reads what is there; `names` are those of the values.

    Raises:
      UsageError: if somebody changed its columns.
    """
    self._path = path
    self._shown = ['run', *names, 'seed', *_FIGURES]
    self._columns = [*self._shown, 'status', 'exit_code']
    with path.open('a+b') as file:
      file.seek(0)
      content = file.read()
      whole = content[: content.rfind(b'\n') + 1]
      file.truncate(len(whole))  # A row may not have been written to its end.
    table = csv.DictReader(whole.decode(errors='replace').splitlines())
    if table.fieldnames not in (None, self._columns):
      raise errors.UsageError(
        f'--folder={paths.as_given(path.parent)}: its results.csv has other '
        f'columns; allowed: {",".join(self._columns)}'
      )
    self.rows = {row['run']: row for row in table if _is_whole(row)}

  def finished(self) -> dict[str, dict[str, str]]:
    """The rows of finished runs by name, the best first."""
    scores = {
      name: float(row['mean_return'] or 'nan')
      for name, row in self.rows.items()
      if row['status'] == 'finished'
    }
    worse = lambda name: (math.isnan(scores[name]), -scores[name])
    return {name: self.rows[name] for name in sorted(scores, key=worse)}

  def add(self, row: Mapping[str, object]) -> None:
    """Appends a row, in one write."""
    with self._path.open('a', newline='') as file:
      rows = csv.DictWriter(file, self._columns)
      if not file.tell():
        rows.writeheader()
      rows.writerow(tables.as_cells(row))
    self.rows[row['run']] = {name: str(value) for name, value in row.items()}

  def show(self) -> None:
    """Prints the best of the finished runs, and where all are."""
    table = [{name: name for name in self._shown}]
    for row in list(self.finished().values())[:_BEST]:
      returns = {name: row[name] for name in row if 'mean_return' in name}
      short = {name: f'{float(x):.2f}' for name, x in returns.items() if x}
      table.append(row | short)
    width = {name: max(len(row[name]) for row in table) for name in self._shown}
    for row in table if len(table) > 1 else ():
      print('  '.join(row[name].rjust(width[name]) for name in self._shown))
    print(f'results in {paths.as_given(self._path)}')


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


class Search:
  """Starts runs, waits for them, notes what they came to.

  Attributes:
    failed: exit codes of runs that failed, by name.
    refused: whether the script seems to refuse its flags, whatever is drawn.
  """

  def __init__(self, options, command, runs, results):
    """Plans all runs but those that `results` has as finished."""
    self._folder = pathlib.Path(options.folder)
    self._results = results
    finished = results.finished()
    todo = [run for run in runs if run.name not in finished]
    # Failed ones last, lest they fail again before any other is tried.
    todo.sort(key=lambda run: run.name in results.rows)
    self._runs = {run.name: run for run in todo}
    self._enough = min(len(todo), process_pool.REFUSED * options.seeds)
    self._batch = process_pool.Batch(
      self._folder,
      [_job(run, command) for run in todo],
      parallel=options.parallel,
      environment=_ENVIRONMENT,
      ended=self._note,
    )
    self.failed: dict[str, int] = {}
    self.refused = False

  def run(self) -> None:
    """Runs all, as `process_pool.Batch.run`."""
    self._batch.run()

  def _note(self, job, code) -> None:
    run = self._runs[job.name]
    workdir = self._folder / run.name
    row = {'run': run.name, **run.values, 'seed': run.seed}
    row |= _figures(workdir)
    row |= {'status': 'failed' if code else 'finished', 'exit_code': code}
    if not code and not workdir_lib.is_finished(workdir):
      text = 'ended before all its frames were done'
    else:
      self._results.add(row)
      text = f'finished, mean return {row["mean_return"] or "unknown"}'
    if code:
      text = f'failed, exit code {code}: see {paths.as_given(workdir)}.log'
      self.failed[run.name] = code
    print(f'{run.name} {text}', flush=True)
    refused = process_pool.are_refused(self.failed, self._results.finished())
    if refused and len(self.failed) >= self._enough:
      self.refused = True
      self._batch.end()


def _job(run, command) -> process_pool.Job:
  values = [f'--{name}={value!r}' for name, value in run.values.items()]
  values.append(f'--seed={run.seed}')
  return process_pool.Job(run.name, (*command, *values), ' '.join(values))


def main(command: Sequence[str]) -> None:
  options = _options()
  fields.check_settings(options)
  ranges = read_ranges(_LOG_UNIFORM.value)
  _check_command(command, ranges)
  folder = paths.make_folder(options.folder, flag='folder')
  paths.check_links(folder, flag='folder')
  limits = [f'{name}:{low}:{high}' for name, (low, high) in ranges.items()]
  plan = {
    'script': shlex.join(command),
    'log_uniform': ','.join(limits),
    'sweep_seed': options.sweep_seed,
  }
  runs = []
  for number in range(options.runs):
    values = draw(ranges, sweep_seed=options.sweep_seed, number=number)
    for seed in range(1, options.seeds + 1):
      name = f'run-{number:03}' + f'-seed{seed}' * (seed > 1)
      runs.append(Run(name, values, seed))
  with contextlib.ExitStack() as stack:
    try:
      _claim(folder, plan, stack)
      results = Results(folder / 'results.csv', [*ranges])
      search = Search(options, command, runs, results)
      search.run()
    except OSError as error:
      raise errors.RunError(
        f'--folder={paths.as_given(folder)}: {error.strerror}; the same '
        'command goes on'
      ) from error
    finished = results.finished()
    results.show()
    left = len([run for run in runs if run.name not in finished])
    if left and not search.refused:
      print(f'{left} of {len(runs)} runs are not finished')
      print('to go on: the same command')
    if search.failed and not finished:
      name = next(iter(search.failed))
      last = process_pool.last_line(folder, name)
      kind = errors.UsageError if search.refused else errors.RunError
      log = paths.as_given(folder / name) + '.log'
      raise kind(f'no run has finished; {log} ends with: {last}')


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
