"""Reads the CSV files of runs, and averages learning curves over seeds."""

from __future__ import annotations

from collections.abc import Sequence
import csv
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, paths
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings.common import Config
from a3c_jax.settings.record import fixed_settings

_TEXT = ('algo', 'env', 'protocol', 'policy', 'best')
_NEEDED = {
  'episodes.csv': ('frames', 'seconds', 'episode_return'),
  'train.csv': ('frames',),
  'eval.csv': ('frames', 'seconds', 'mean_return', 'standard_error'),
}


class Run(NamedTuple):
  """The settings and results of a run, which may still be training."""

  path: pathlib.Path
  config: Config
  episodes: dict[str, np.ndarray]  # columns of episodes.csv, numbers only
  train: dict[str, np.ndarray]  # of train.csv
  evaluations: dict[str, np.ndarray]  # of eval.csv


class Group(NamedTuple):
  """Runs that differ in nothing but their seeds."""

  label: str  # algorithm, and settings that tell it from other groups, in words
  runs: list[Run]


class Lines(NamedTuple):
  """The runs of a group, at N positions."""

  x: np.ndarray  # [N] float64
  y: np.ndarray  # [runs, N] float64; NaN before and after a run's values


class Curve(NamedTuple):
  """Mean and spread over the runs of a group, at N positions."""

  x: np.ndarray  # [N] float64
  mean: np.ndarray  # [N] float64
  lowest: np.ndarray  # [N] float64
  highest: np.ndarray  # [N] float64


def read(workdir: str | pathlib.Path) -> Run:
  """Reads a run, which may still be training.

  Raises:
    UsageError: if there is no run in the folder.
  """
  path = pathlib.Path(workdir)
  config = workdir_lib.read_config(path)
  return Run(
    path,
    config,
    *(_columns(path / name, needed) for name, needed in _NEEDED.items()),
  )


def frames(run: Run) -> float:
  """Returns the emulator frames at the newest row of a run's files."""
  tables = (run.train, run.episodes, run.evaluations)
  return max((table['frames'][-1] for table in tables if table), default=0.0)


def _columns(path, needed) -> dict[str, np.ndarray]:
  """Columns of numbers, without incomplete rows."""
  problem = 'is not that of a run'
  try:
    # Only rows with damaged characters are left out.
    with path.open(newline='', errors='replace') as file:
      table = csv.DictReader(file)
      names = [name for name in table.fieldnames or () if name not in _TEXT]
      if {*needed} <= {*names}:
        rows = [row for row in map(_numbers, table) if row]
        return {
          name: np.array([row[name] for row in rows]) for name in names if rows
        }
  except OSError as error:
    problem = error.strerror
  except csv.Error:
    pass
  raise errors.UsageError(
    f'--workdir={paths.as_given(path.parent)}: {path.name}: {problem}; '
    'allowed: the folder of a run'
  )


def _numbers(row) -> dict[str, float] | None:
  try:
    numbers = {
      name: float('nan' if value == '' else value)
      for name, value in row.items()
      if name not in _TEXT
    }
  except (TypeError, ValueError):
    return None
  positions = [numbers[x] for x in ('frames', 'seconds') if x in numbers]
  return numbers if all(0 <= x < math.inf for x in positions) else None


def group(runs: Sequence[Run]) -> list[Group]:
  """Groups runs that differ in nothing but their seeds."""
  groups: list[tuple[dict[str, Any], list[Run]]] = []
  for run in runs:
    settings = fixed_settings(run.config)
    del settings['seed']
    for known, members in groups:
      if known == settings:
        members.append(run)
        break
    else:
      groups.append((settings, [run]))
  kinds = [
    (members[0].config.env_name, settings) for settings, members in groups
  ]
  return [
    Group(_label(kind, kinds), members)
    for kind, (_, members) in zip(kinds, groups, strict=True)
  ]


def _label(kind, kinds) -> str:
  """The settings that distinguish a kind of run, in as few words as possible.

  Args:
    kind: the name of its environment, and its settings.
    kinds: all of them.
  """
  env_name, settings = kind
  title = registry.get(settings['algo']).title
  several = len({name for name, _ in kinds}) > 1
  parts = [f'{title} on {env_name}' if several else title]
  alike = [
    other
    for name, other in kinds
    if (name, other['algo']) == (env_name, settings['algo'])
  ]
  for name, value in settings.items():
    # What another runtime does not have is implied by the runtime.
    if any(other.get(name, value) != value for other in alike):
      parts.append(_in_words(name, value))
  return ', '.join(parts)


def _in_words(name: str, value: Any) -> str:
  """Returns a setting as 'lstm', 'no lstm' or 'learning rate 0.001'."""
  words = name.replace('_', ' ')
  if isinstance(value, bool):
    return words if value else f'no {words}'
  text = ' '.join(map(str, value)) if isinstance(value, list) else value
  return f'{words} {text}'


def binned(
  runs: Sequence[tuple[np.ndarray, np.ndarray]], points: int
) -> Curve | None:
  """Averages `lines` over runs.

  Returns:
    None if there are no values.
  """
  found = lines(runs, points)
  return None if found is None else mean(found)


def mean(found: Lines) -> Curve:
  """Averages runs, at the positions of which one has a value."""
  known = np.isfinite(found.y).any(axis=0)
  x, y = found.x[known], found.y[:, known]
  return Curve(
    x, np.nanmean(y, axis=0), np.nanmin(y, axis=0), np.nanmax(y, axis=0)
  )


def lines(
  runs: Sequence[tuple[np.ndarray, np.ndarray]], points: int
) -> Lines | None:
  """Averages the values of each run in bins of equal width.

  A bin without values of a run is interpolated from its neighbours. The run is
  left out of the bins before its first and after its last value.

  Args:
    runs: for each, positions [M] and values [M].
    points: the number of bins between 0 and the greatest position.

  Returns:
    The middle of each bin, and its values. None if there are no values.
  """
  runs = [
    (x[np.isfinite(y)], y[np.isfinite(y)])
    for x, y in runs
    if np.isfinite(y).any()
  ]
  if not runs:
    return None
  edges = np.linspace(0, max(x.max() for x, _ in runs), points + 1)
  centres = (edges[1:] + edges[:-1]) / 2
  table = []
  for x, y in runs:
    bins = np.clip(np.searchsorted(edges, x, side='left') - 1, 0, points - 1)
    counts = np.bincount(bins, minlength=points)
    sums = np.bincount(bins, weights=y, minlength=points)
    filled = counts > 0
    table.append(
      np.interp(
        centres,
        centres[filled],
        sums[filled] / counts[filled],
        left=np.nan,
        right=np.nan,
      )
    )
  return Lines(centres, np.array(table))
