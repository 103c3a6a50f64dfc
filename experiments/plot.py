"""Draws learning curves and diagnostics of one or several runs.

python experiments/plot.py --workdir=runs/one runs/another --out=curves.png
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np

from a3c_jax import command_line
from a3c_jax.core import errors, fields, paths
from a3c_jax.reproduce import (
  console,
  curves,
  drawing,
  intervals,
  run_pictures,
  scores,
)
from a3c_jax.settings import flags as flags_lib

_SUFFIXES = ('.pdf', '.png', '.svg')


@dataclasses.dataclass(frozen=True)
class Options:
  """Which runs to draw, and where to."""

  workdir: tuple[str, ...] = fields.paths(
    'Folders of runs; more may follow as arguments. Runs that differ in '
    'nothing but the seed are averaged.',
    default=(),
    source='have to be given',
  )
  out: str = fields.setting(
    'Picture to write.',
    f'a path ending in {", ".join(_SUFFIXES)}',
    lambda value: pathlib.Path(value).suffix in _SUFFIXES,
    default='curves.png',
    source='ours',
    path=True,
  )
  seeds: int = fields.count(
    'Runs that each line has to average, each with another seed. 0 for '
    'whatever is given.',
    least=0,
    most=100,
    default=0,
    source='ours',
  )
  points: int = fields.count(
    'Points of a curve: each is the mean over an equal part of the axis.',
    most=100_000,
    default=100,
    source='ours',
  )
  paper: bool = fields.setting(
    "Also draw the paper's curve of the same game and algorithm.",
    default=False,
    source='ours',
  )
  diagnostics: bool = fields.setting(
    'Also draw what train.csv has beside scores.', default=True, source='ours'
  )


# Unchecked: arguments may name the folders instead of --workdir.
_options = flags_lib.define_options(Options, check=False)


def _check_seeds(groups: Sequence[curves.Group], count: int) -> None:
  """Raises UsageError unless each group has so many runs and seeds."""
  for group in groups:
    found = sorted(run.config.seed for run in group.runs)
    if len(found) != count or len({*found}) != count:
      raise errors.UsageError(
        f'--seeds={count}: {group.label} has runs with seeds '
        f'{", ".join(map(str, found))}; allowed: {count} different ones'
      )


def describe(groups: Sequence[curves.Group]) -> str:
  """A table of scores: means over runs, with their 95% intervals."""
  rows: list[Sequence[str]] = [('line', 'frames', 'score [95% interval]')]
  for group in groups:
    frames = np.mean([curves.frames(run) for run in group.runs])
    score = intervals.describe([*map(scores.score_of, group.runs)])
    rows.append((group.label, f'{frames:,.0f}', score))
  return console.table(rows)


def main(folders: Sequence[str]) -> None:
  options = _options()
  workdirs = (*options.workdir, *map(paths.absolute, folders))
  options = dataclasses.replace(options, workdir=workdirs)
  fields.check_settings(options)
  paths.check_file(options.out, flag='out')
  drawing.check_can_draw()
  each_once = {pathlib.Path(name).resolve(): name for name in workdirs}
  runs = [curves.read(folder) for folder in each_once.values()]
  groups = curves.group(runs)
  if options.seeds:
    _check_seeds(groups, options.seeds)
  figure = run_pictures.draw(
    groups,
    points=options.points,
    paper=options.paper,
    diagnostics=options.diagnostics,
  )
  with errors.naming(f'--out={paths.as_given(options.out)}'):
    figure.savefig(options.out, dpi=120)
  print(describe(groups))
  print(f'picture in {paths.as_given(options.out)}')


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
