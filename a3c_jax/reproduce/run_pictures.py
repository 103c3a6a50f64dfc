"""Pictures of runs: scores by frames and by hours, and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import textwrap
from typing import Any

import numpy as np

from a3c_jax.core import errors
from a3c_jax.reproduce import curves, drawing, published, scores
from a3c_jax.runs import logger

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


_Colored = Mapping[str, curves.Group]  # by colour


def _paper_curves(
  groups: _Colored, against: str
) -> dict[str, tuple[str, published.PaperCurve]]:
  """Curves of the paper, with the colour of the first line that has each."""
  found = {}
  for color, group in groups.items():
    config = group.runs[0].config
    curve = published.paper_curve(
      config.env_name,
      config.algo,
      threads=config.num_workers,
      against=against,
    )
    if curve is not None and not config.lstm:
      found.setdefault(curve.label, (color, curve))
  return found


def _draw_scores(axes, groups, against, *, points, papers) -> None:
  column, unit = scores.AXES[against]
  for color, group in groups.items():
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
    drawing.draw_line(axes, curve, color=color, label=label)
    for run in group.runs:
      if run.evaluations:
        axes.errorbar(
          run.evaluations[column] / unit,
          run.evaluations['mean_return'],
          run.evaluations['standard_error'],
          color=color,
          fmt='o',
          markersize=4,
          alpha=0.7,
        )
  right = axes.get_xlim()[1]
  for color, curve in papers.values():
    drawing.draw_paper(axes, curve, until=right, color=color, alpha=0.7)
  axes.set_xlim(0.0, right)
  drawing.label_x(axes, against)
  axes.set_ylabel('score of an episode')


def _diagnostics(runs: Sequence[curves.Run]) -> dict[str, str]:
  """Columns of train.csv that have a panel, with its label."""
  layers = [name for run in runs for name in run.train if 'dead_units' in name]
  return _DIAGNOSTICS | {
    name: f'dead units of layer {name.rpartition("_")[2]}, share'
    for name in layers
  }


def _draw_diagnostic(axes, groups, name, label, points) -> None:
  for color, group in groups.items():
    lines = [
      (run.train['frames'], run.train[name])
      for run in group.runs
      if name in run.train
    ]
    curve = curves.binned(lines, points)
    drawing.draw_line(axes, curve, color=color)
  drawing.label_x(axes, 'frames')
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
  for number, (color, group) in enumerate(groups.items()):
    shares = _lag_shares(group)
    if shares is not None:
      axes.bar(
        places + (number + 0.5) * width - 0.4,
        shares,
        width,
        color=color,
      )
  labels = [
    name.removeprefix('lag_').replace('_up', '+').replace('_', '-')
    for name in logger.LAG_COUNTS
  ]
  axes.set_xticks(places, labels)
  axes.set_xlabel('lag of a gradient, updates')
  axes.set_ylabel('share of all gradients')


def draw(
  groups: Sequence[curves.Group],
  *,
  points: int = 100,
  paper: bool = False,
  diagnostics: bool = True,
) -> Any:
  """The figure: scores by frames and by hours, then diagnostics by frames.

  Each game has scores of its own.

  Args:
    groups: a line each.
    points: of a line. Each is the mean over an equal part of the axis.
    paper: whether the paper's curves are drawn too.
    diagnostics: whether there are more panels than those of scores.

  Raises:
    UsageError: if there is nothing to draw.
  """
  runs = [run for group in groups for run in group.runs]
  if not any(run.episodes or run.evaluations for run in runs):
    raise errors.UsageError(
      '--workdir: no episode of these runs has ended yet; allowed: runs with '
      'episodes'
    )
  colored = {f'C{number}': group for number, group in enumerate(groups)}
  of_games = scores.groups(
    colored.items(), lambda item: item[1].runs[0].config.env_name
  )
  by_game = {game: dict(own) for game, own in of_games.items()}
  papers = {
    (game, against): _paper_curves(own, against) if paper else {}
    for game, own in by_game.items()
    for against in scores.AXES
  }
  if paper and not any(papers.values()):
    raise errors.UsageError(
      '--paper: the paper has no curve of these runs; allowed: '
      f'{", ".join(published.paper_games())}, without LSTM'
    )
  # A column may hold nothing but NaN: what a run never measures.
  labels = _diagnostics(runs)
  names = [
    name
    for name in labels
    if diagnostics
    and any(np.isfinite(run.train.get(name, ())).any() for run in runs)
  ]
  has_lags = diagnostics and any(
    _lag_shares(group) is not None for group in groups
  )
  rows = len(by_game) + (len(names) + has_lags + 1) // 2
  figure, table = drawing.subplots(rows, 2, size=(11, 3.4 * rows + 1))
  # The first panels; others follow.
  for axes, ((game, against), theirs) in zip(
    table.flat, papers.items(), strict=False
  ):
    _draw_scores(axes, by_game[game], against, points=points, papers=theirs)
    if len(by_game) > 1:
      axes.set_title(game)
  panels = list(table[len(by_game) :].flat)
  for axes, name in zip(panels, names, strict=False):
    _draw_diagnostic(axes, colored, name, labels[name], points)
  if has_lags:
    _draw_lags(panels[len(names)], colored)
  for axes in panels[len(names) + has_lags :]:
    axes.set_axis_off()
  for axes in table.flat:
    axes.grid(alpha=0.3)
    axes.ticklabel_format(axis='y', useOffset=False)
  drawing.add_legend(figure)
  games = ', '.join(sorted(by_game))
  figure.suptitle(
    f'{games}: lines are means over 1/{points} of the axis of all '
    'training episodes, and over seeds\n(band: lowest to highest seed); dots '
    'are evaluations with their standard error',
    fontsize='medium',
  )
  return figure
