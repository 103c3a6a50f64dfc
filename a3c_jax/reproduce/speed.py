"""Repeats measurements of speed, compares two checkouts, and draws a trend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import tempfile
from typing import Any, BinaryIO, NamedTuple

from a3c_jax.core import cpu, errors, fields, packages, paths
from a3c_jax.reproduce import console, drawing, process_pool

SCRIPT = pathlib.Path('experiments', 'benchmark.py')
Figures = Mapping[str, Any]  # Of one measurement, by name.
_SHOWN = {
  'train_frames_per_second': ('frames/s', ',.0f'),
  'train_frames_per_cpu_second': ('frames per CPU-second', ',.0f'),
  'ratio': ('ratio', '.3f'),
  'setup_seconds': ('set-up, seconds', '.1f'),
}
_PACKAGES = ('jax', 'jaxlib', 'ale-py', 'numpy')
# What reading another JSON file raises.
_NOT_OF_JSON = (OSError, ValueError, KeyError, TypeError, AttributeError)
_NOT_OF_THE_RUN = {'json', 'repeats', 'against', 'seconds', 'workdir'}


@dataclasses.dataclass(frozen=True)
class Options:
  """How often to measure, against what, and where the figures go."""

  repeats: int = fields.count(
    'Measurements. If there are several, each has its own process, and the '
    'median, the smallest and the largest value are shown.',
    default=1,
    source='ours',
  )
  against: str = fields.path(
    'Folder of another checkout of this project. Both are measured in turn, '
    '--repeats times each.',
    optional=True,
    default='',
    source='ours',
  )
  json: str = fields.path(
    'File for the measurements.', optional=True, default='', source='ours'
  )
  plot: str = fields.path(
    'Measure nothing: draw the ratios in the --json files of this folder, and '
    'write ratio.png there.',
    optional=True,
    default='',
    source='ours',
  )


class Interval(NamedTuple):
  """The median of some values, and the interval that holds them all."""

  median: float
  smallest: float
  largest: float

  @classmethod
  def of(cls, values: Sequence[float]) -> Interval:
    return cls(statistics.median(values), min(values), max(values))

  def text(self, form: str) -> str:
    """Returns it in words; `form` is a format of numbers such as '.3f'."""
    median, smallest, largest = (f'{value:{form}}' for value in self)
    return f'{median} ({smallest} to {largest})'


class Checkout(NamedTuple):
  """A folder with a version of this project."""

  name: str  # of its jobs
  root: pathlib.Path

  @classmethod
  def other(cls, folder: str) -> Checkout:
    """Returns that of `--against`.

    Raises:
      UsageError: if the folder holds no `SCRIPT`.
    """
    if not pathlib.Path(folder, SCRIPT).is_file():
      raise errors.UsageError(
        f'--against={errors.as_text(paths.as_given(folder))}: has no {SCRIPT}; '
        'allowed: a folder with another checkout of this project'
      )
    return cls('against', pathlib.Path(folder))

  def version(self) -> dict[str, Any]:
    """Returns its commit, the date of that, and whether files have changed.

    Empty if git does not know the folder.
    """
    git = ['git', '--no-optional-locks', f'--git-dir={self.root / ".git"}']
    git.append(f'--work-tree={self.root}')

    def ask(*arguments):
      return subprocess.run(
        [*git, *arguments], capture_output=True, text=True, check=True
      ).stdout.split()

    try:
      commit, date = ask('log', '-1', '--format=%H %cI')
      changed = ask('status', '--porcelain', '--untracked-files=no')
    except (OSError, subprocess.CalledProcessError):
      return {}
    return {'commit': commit, 'commit_date': date, 'changed': bool(changed)}


class _Launcher:
  """Starts the script of each checkout with the code of that checkout."""

  def __init__(self, environment: Mapping[str, str]):
    self._environment = environment

  def start(
    self, command: Sequence[str], workdir: pathlib.Path, log: BinaryIO
  ) -> process_pool.Process:
    """Starts a process; see `process_pool.Launcher`."""
    root = str(pathlib.Path(command[0]).parents[1])
    known = self._environment.get('PYTHONPATH')
    path = os.pathsep.join([root, known] if known else [root])
    launcher = process_pool.LocalLauncher(
      {**self._environment, 'PYTHONPATH': path}
    )
    return launcher.start(command, workdir, log)


def measure(
  checkouts: Sequence[Checkout],
  arguments: Sequence[str],
  *,
  repeats: int,
  environment: Mapping[str, str],
  show: Callable[[str], None],
) -> dict[str, list[Figures]]:
  """Measures checkouts in turn, each time in a new process.

  Args:
    checkouts: with different names.
    arguments: flags of `SCRIPT` that every checkout knows.
    repeats: measurements of each checkout.
    environment: environment variables of the processes.
    show: called with a line for every measurement.

  Returns:
    The figures of each checkout, by its name, in the order of measurement.

  Raises:
    KeyboardInterrupt: if a signal came. The process has ended by then.
    UsageError: if a checkout refuses the flags.
    RunError: if a measurement fails. What it printed was shown.
  """
  found: dict[str, list[Figures]] = {each.name: [] for each in checkouts}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    owners = {
      _job(checkout, arguments, folder, number, of=repeats): checkout
      for number in range(1, repeats + 1)
      for checkout in checkouts
    }

    def on_exit(job, code):
      file = folder / f'{job.name}.json'
      if code or not file.exists():
        _raise_failed(job.name, owners[job], code, folder, show)
      figures = read_figures(json.loads(file.read_text()))
      found[owners[job].name].append(figures)
      show(f'{job.name}: {_in_short(figures)}')

    pool = process_pool.ProcessPool(
      folder,
      [*owners],
      parallel=1,
      launcher=_Launcher(environment),
      on_exit=on_exit,
      refusals=None,
    )
    pool.run()
  if sum(map(len, found.values())) < len(owners):
    raise KeyboardInterrupt
  return found


def _job(checkout, arguments, folder, number, *, of) -> process_pool.Job:
  name = f'{checkout.name}-{number}'
  script = str(checkout.root / SCRIPT)
  command = (script, *arguments, f'--json={folder / name}.json')
  return process_pool.Job(name, command, f'{number} of {of}')


def _raise_failed(name, checkout, code, folder, show) -> None:
  last = process_pool.last_line(folder, name)
  if code == 2:
    prefix = ''
    if checkout.name == 'against':
      prefix = f'--against={paths.as_given(checkout.root)}: '
    raise errors.UsageError(prefix + last.removeprefix('error: '))
  show((folder / f'{name}.log').read_text(errors='replace').rstrip())
  raise errors.RunError(f'{name} failed, exit code {code}')


def _in_short(figures: Figures) -> str:
  speed = figures['train_frames_per_second']
  return f'{speed:,.0f} frames/s, ratio {figures["ratio"]:.3f}'


def read_figures(content: Mapping[str, Any]) -> Figures:
  """Returns the figures in the `--json` file of one measurement."""
  if 'repeats' in content:
    return content['repeats'][0]
  # Earlier versions wrote them without what `record` adds.
  return {name: value for name, value in content.items() if name != 'config'}


def table(measured: Mapping[str, Sequence[Figures]]) -> str:
  """Returns medians and intervals, and the quotients of two checkouts.

  Args:
    measured: the figures of one checkout or of two, by name. Those of two are
      as many, in pairs.
  """
  names = [
    name
    for name in _SHOWN
    if all(name in each for every in measured.values() for each in every)
  ]
  header = ['', *measured]
  if len(measured) == 2:
    header.append(' / '.join(measured))
  rows = [header]
  for name in names:
    label, form = _SHOWN[name]
    values = [[each[name] for each in every] for every in measured.values()]
    row = [label, *(Interval.of(each).text(form) for each in values)]
    if len(values) == 2:
      quotients = [ours / other for ours, other in zip(*values, strict=True)]
      row.append(Interval.of(quotients).text('.3f'))
    rows.append(row)
  lines = console.table(rows)
  return (
    f'{lines}\nmedian (smallest to largest) of {len([*measured.values()][0])}'
  )


def record(
  arguments: Sequence[str],
  checkouts: Sequence[Checkout],
  measured: Mapping[str, Sequence[Figures]],
) -> dict[str, Any]:
  """Returns what a `--json` file holds.

  Args:
    arguments: of `SCRIPT`, as they were given.
    checkouts: this one, and that of `--against` if there is one.
    measured: their figures, by name.
  """
  ours, *others = (
    each.version() | {'repeats': measured[each.name]} for each in checkouts
  )
  now = datetime.datetime.now(datetime.UTC)
  return {
    'command': shlex.join(['python', SCRIPT.as_posix(), *arguments]),
    'date': now.isoformat(timespec='seconds'),
    'processor': cpu.name(),
    'cores': cpu.cores(),
    'versions': {'python': platform.python_version()}
    | packages.versions(_PACKAGES),
    **ours,
    **({'against': others[0]} if others else {}),
  }


def without(arguments: Sequence[str], names: set[str]) -> list[str]:
  """Returns arguments of a script without flags of some names.

  Args:
    arguments: as the user gave them.
    names: of flags that have values.
  """
  kept = []
  rest = iter(arguments)
  for argument in rest:
    name, equals, _ = argument.lstrip('-').partition('=')
    if not argument.startswith('-') or name not in names:
      kept.append(argument)
    elif not equals:
      next(rest, None)  # Its value is the next argument.
  return kept


class Point(NamedTuple):
  """The ratio of one checkout."""

  date: datetime.datetime  # of its commit, or of the measurement
  ratio: Interval


def read_trend(folder: str) -> dict[str, list[Point]]:
  """Returns the ratios in the `--json` files of a folder.

  Returns:
    Those with the same flags together, by these flags and sorted by date. That
    of `--against` is among them.

  Raises:
    UsageError: if the folder has no such file, or another JSON file.
  """
  shown = f'--plot={errors.as_text(paths.as_given(folder))}'
  lines: dict[str, list[Point]] = {}
  for path in sorted(pathlib.Path(folder).glob('*.json')):
    try:
      content = json.loads(path.read_text())
      _, _, *arguments = shlex.split(str(content['command']))
      label = ' '.join(sorted(without(arguments, _NOT_OF_THE_RUN)))
      points = [
        _point(each, content['date'])
        for each in (content, content.get('against'))
        if each
      ]
    except _NOT_OF_JSON as error:
      raise errors.UsageError(
        f'{shown}: {path.name}: {errors.in_one_line(error)}; allowed: a folder '
        'whose JSON files are those of --json'
      ) from error
    lines.setdefault(label, []).extend(points)
  if not lines:
    raise errors.UsageError(
      f'{shown}: holds no JSON file; allowed: a folder with those of --json'
    )
  return {label: sorted(points) for label, points in lines.items()}


def _point(checkout, date) -> Point:
  date = datetime.datetime.fromisoformat(checkout.get('commit_date', date))
  return Point(
    date.astimezone(datetime.UTC),  # Dates without a zone are local.
    Interval.of([float(figures['ratio']) for figures in checkout['repeats']]),
  )


def draw(lines: Mapping[str, Sequence[Point]]) -> Any:
  """Returns a matplotlib Figure: a line of ratios by date for all flags.

  Raises:
    UsageError: if a package that it takes is not installed.
  """
  picture, [[axes]] = drawing.subplots(1, 1, size=(8, 4.5))
  for label, points in lines.items():
    ratios = [each.ratio for each in points]
    axes.errorbar(
      [each.date for each in points],
      [each.median for each in ratios],
      [
        [each.median - each.smallest for each in ratios],
        [each.largest - each.median for each in ratios],
      ],
      marker='o',
      capsize=3,
      label=label or 'defaults',
    )
  axes.set_xlabel('date of the commit')
  axes.set_ylabel('ratio: median, smallest to largest')
  axes.set_ylim(0.0)
  axes.grid(alpha=0.3)
  axes.tick_params('x', labelrotation=20)
  drawing.add_legend(picture)
  return picture
