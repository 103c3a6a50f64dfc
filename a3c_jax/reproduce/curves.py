"""Reads the CSV files of runs, and averages learning curves over seeds.

Needs pandas, which is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
import io
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
  """Columns of numbers, without damaged rows."""
  import pandas as pd

  problem = 'is not that of a run'
  try:
    text = path.read_bytes().decode(errors='replace')
    # The last row may not be whole yet.
    rows = io.StringIO(text[: text.rfind('\n') + 1])
    table = pd.read_csv(
      rows, index_col=False, on_bad_lines='skip', low_memory=False
    )
  except OSError as error:
    problem = error.strerror
  except ValueError:  # those of pandas too
    pass
  else:
    if {*needed} <= {*table}:
      numbers = _numbers(table.drop(columns=[*_TEXT], errors='ignore'))
      return {
        str(name): column.to_numpy(float)
        for name, column in numbers.items()
        if len(numbers)
      }
  raise errors.UsageError(
    f'--workdir={paths.as_given(path.parent)}: {path.name}: {problem}; '
    'allowed: the folder of a run'
  )


def _numbers(table) -> Any:
  """The rows whose cells are numbers or empty, and whose place is known."""
  import pandas as pd

  numbers = table.apply(pd.to_numeric, errors='coerce')
  damaged = numbers.isna() & table.notna()
  places = numbers.reindex(columns=['frames', 'seconds'], fill_value=0)
  known = (places >= 0) & (places < math.inf)
  return numbers[known.all(axis=1) & ~damaged.any(axis=1)]


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
  import pandas as pd

  runs = [
    (x[np.isfinite(y)], y[np.isfinite(y)])
    for x, y in runs
    if np.isfinite(y).any()
  ]
  if not runs:
    return None
  edges = np.linspace(0, max(x.max() for x, _ in runs), points + 1)
  middles = []
  for x, y in runs:
    bins = np.clip(np.searchsorted(edges, x, side='left') - 1, 0, points - 1)
    by_bin: Any = pd.Series(y).groupby(bins)
    means = by_bin.mean().reindex(range(points))
    middles.append(means.interpolate(limit_area='inside').to_numpy())
  return Lines((edges[1:] + edges[:-1]) / 2, np.array(middles))
