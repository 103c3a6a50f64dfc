"""Draws learning curves and diagnostics of one or several runs.

python experiments/plot.py --workdir=runs/one runs/another --out=curves.png
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from collections.abc import Sequence
import dataclasses
import pathlib
import textwrap
from typing import Any

import numpy as np

from a3c_jax import command_line
from a3c_jax.core import errors, fields, paths
from a3c_jax.reproduce import (
  console,
  curves,
  drawing,
  intervals,
  published,
  scores,
)
from a3c_jax.runs import logger
from a3c_jax.settings import flags as flags_lib

_SUFFIXES = ('.pdf', '.png', '.svg')
_DIAGNOSTICS = {
  'entropy': 'entropy of the policy, nats',
  'mean_v': 'mean V',
  'mean_q': 'mean Q of the actions taken',
  'grad_norm': 'norm of the gradient',
  'replay_mean_q': 'mean Q of replayed actions',
  'replay_error': 'error |δ| of replayed actions',
  'replay_grad_norm': 'norm of the gradient of minibatches',
  'replay_age': 'age of replayed transitions',
  'policy_lag': 'policy lag, updates',
  'staleness_cosine': 'cosine of stale and fresh gradients',
  'lock_wait_ms': 'wait for the lock, ms per gradient',
  'frames_per_second': 'frames per second',
}


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


# Unchecked: arguments may name the folders instead of --workdir.
_options = flags_lib.define_options(Options, check=False)


def _paper_curves(groups, against) -> list[published.PaperCurve]:
  found = {}
  for group in groups:
    config = group.runs[0].config
    curve = published.paper_curve(
      config.env_name,
      config.algo,
      threads=config.num_workers,
      against=against,
    )
    if curve is not None and not config.lstm:
      found[curve.label] = curve
  return list(found.values())


def _draw_scores(axes, groups, against, *, points, papers) -> None:
  column, unit = scores.AXES[against]
  for number, group in enumerate(groups):
    seeds = {run.config.seed for run in group.runs}
    many = ''
    if len(group.runs) > 1:
      what = 'seeds' if len(seeds) == len(group.runs) else 'runs'
      many = f', {len(group.runs)} {what}'
    curve = curves.binned(
      [
        (run.episodes[column] / unit, run.episodes['episode_return'])
        for run in group.runs
        if run.episodes
      ],
      points,
    )
    label = textwrap.fill(group.label + many, 60)
    drawing.draw_line(axes, curve, color=f'C{number}', label=label)
    for run in group.runs:
      if run.evaluations:
        axes.errorbar(
          run.evaluations[column] / unit,
          run.evaluations['mean_return'],
          run.evaluations['standard_error'],
          color=f'C{number}',
          fmt='o',
          markersize=4,
          alpha=0.7,
        )
  right = axes.get_xlim()[1]
  for curve in papers:
    drawing.draw_paper(axes, curve, until=right, color='k')
  axes.set_xlim(0.0, right)
  axes.set_xlabel(drawing.LABELS[against])
  axes.set_ylabel('score of an episode')
  axes.legend(fontsize='small')


def _diagnostics(runs: Sequence[curves.Run]) -> dict[str, str]:
  """Columns of train.csv that have a panel, with its label."""
  layers = [name for run in runs for name in run.train if 'dead_units' in name]
  return _DIAGNOSTICS | {
    name: f'dead units of layer {name.rpartition("_")[2]}, share'
    for name in layers
  }


def _draw_diagnostic(axes, groups, name, label, points) -> None:
  for number, group in enumerate(groups):
    lines = [
      (run.train['frames'], run.train[name])
      for run in group.runs
      if name in run.train
    ]
    curve = curves.binned(lines, points)
    drawing.draw_line(axes, curve, color=f'C{number}', label=group.label)
  axes.set_xlabel(drawing.LABELS['frames'])
  axes.set_ylabel(label)


def _lag_shares(group: curves.Group) -> np.ndarray | None:
  """Shares of a group's gradients by their lag; None if it counted none."""
  counts = [
    [np.nansum(run.train.get(name, 0)) for name in logger.LAG_COUNTS]
    for run in group.runs
  ]
  total = np.sum(counts, axis=0)
  return total / total.sum() if total.sum() else None


def _draw_lags(axes, groups) -> None:
  """Draws bars: how many of all gradients of a run had which lag."""
  places, width = np.arange(len(logger.LAG_COUNTS)), 0.8 / len(groups)
  for number, group in enumerate(groups):
    shares = _lag_shares(group)
    if shares is not None:
      axes.bar(
        places + (number + 0.5) * width - 0.4,
        shares,
        width,
        color=f'C{number}',
      )
  labels = [
    name.removeprefix('lag_').replace('_up', '+').replace('_', '-')
    for name in logger.LAG_COUNTS
  ]
  axes.set_xticks(places, labels)
  axes.set_xlabel('lag of a gradient, updates')
  axes.set_ylabel('share of all gradients')


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


def draw(groups: Sequence[curves.Group], options: Options) -> Any:
  """The figure: scores by frames and by hours, then diagnostics by frames.

  Raises:
    UsageError: if there is nothing to draw.
  """
  runs = [run for group in groups for run in group.runs]
  if not any(run.episodes or run.evaluations for run in runs):
    raise errors.UsageError(
      '--workdir: no episode of these runs has ended yet; allowed: runs with '
      'episodes'
    )
  papers = {
    against: _paper_curves(groups, against) if options.paper else []
    for against in scores.AXES
  }
  if options.paper and not any(papers.values()):
    raise errors.UsageError(
      '--paper: the paper has no curve of these runs; allowed: '
      f'{", ".join(published.paper_games())}, without LSTM'
    )
  # A column may hold nothing but NaN: what a run never measures.
  labels = _diagnostics(runs)
  names = [
    name
    for name in labels
    if any(np.isfinite(run.train.get(name, ())).any() for run in runs)
  ]
  has_lags = any(_lag_shares(group) is not None for group in groups)
  rows = 1 + (len(names) + has_lags + 1) // 2
  figure, table = drawing.subplots(rows, 2, size=(11, 3.4 * rows))
  for axes, against in zip(table[0], scores.AXES, strict=True):
    _draw_scores(
      axes, groups, against, points=options.points, papers=papers[against]
    )
  panels = list(table[1:].flat)
  for axes, name in zip(panels, names, strict=False):
    _draw_diagnostic(axes, groups, name, labels[name], options.points)
  if has_lags:
    _draw_lags(panels[len(names)], groups)
  for axes in panels[len(names) + has_lags :]:
    axes.set_axis_off()
  for axes in table.flat:
    axes.grid(alpha=0.3)
    axes.ticklabel_format(axis='y', useOffset=False)
  games = ', '.join(sorted({run.config.env_name for run in runs}))
  figure.suptitle(
    f'{games}: lines are means over 1/{options.points} of the axis of all '
    'training episodes, and over seeds\n(band: lowest to highest seed); dots '
    'are evaluations with their standard error',
    fontsize='medium',
  )
  return figure


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
  figure = draw(groups, options)
  with errors.naming(f'--out={paths.as_given(options.out)}'):
    figure.savefig(options.out, dpi=120)
  print(describe(groups))
  print(f'picture in {paths.as_given(options.out)}')


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
