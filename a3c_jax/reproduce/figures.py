"""The paper's figures, drawn from our runs beside the paper's own curves.

Every function takes `scores.Trial`s, and returns the rows of a CSV file, a
picture and lines to print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from a3c_jax.reproduce import drawing, intervals, published, scores
from a3c_jax.reproduce.drawing import Drawn, Entry, Panel
from a3c_jax.reproduce.scores import Trial


def _finished(picture, rows, summary) -> Drawn:
  drawing.add_legend(picture)
  return Drawn(rows, picture, summary)


def figure1(trials: Sequence[Trial], title: str, *, of_50: int) -> Drawn:
  """Figure 1: scores by hours, and below by frames, of all methods.

  Args:
    trials: all learning rates.
    title: of the picture.
    of_50: how many of 50 learning rates a curve averages.
  """
  games, methods = scores.names(trials)
  colors = drawing.colors(methods)
  picture, table = drawing.grid(2, len(games), title)
  rows, summary = [], []
  for column, game in enumerate(games):
    groups = scores.groups(
      [trial for trial in trials if trial.game == game], lambda t: t.method
    )
    best = {
      method: scores.best(group, of_50=of_50)
      for method, group in groups.items()
    }
    summary += [
      f'{game} {method}: {scores.describe(chosen)}'
      for method, chosen in best.items()
      if chosen
    ]
    printed = published.figure1(game)
    for row, against in enumerate(('hours', 'frames')):
      entries = []
      for method, chosen in best.items():
        threads = groups[method][0].threads
        paper = printed.get(method)
        if against == 'frames':
          paper = published.paper_curve(
            game, method, threads=threads, against=against
          )
        entries.append(
          Entry(
            method=method,
            threads=threads,
            color=colors[method],
            label=method,
            trials=chosen,
            paper=paper,
          )
        )
      if against == 'hours':
        entries += [
          _baseline(method, printed[method])
          for method in published.BASELINES
          if method in printed and method not in best
        ]
      axes = table[row, column]
      rows += drawing.draw_entries(axes, game, against, entries)
      axes.set_title(f'{game}, by {against}')
  return _finished(picture, rows, summary)


def _baseline(method, curve) -> Entry:
  """A curve of the paper alone."""
  return Entry(
    method=method,
    threads=curve.threads,
    color='k',
    label=method,
    trials=[],
    paper=curve,
  )


def learning_by_threads(
  trials: Sequence[Trial], title: str, *, of_50: int, against: str
) -> Drawn:
  """Figures 3 and 4, S9 and S10: a curve for each number of threads.

  Args:
    trials: all learning rates.
    title: of the picture.
    of_50: how many of 50 learning rates a curve averages.
    against: 'frames' or 'hours'.
  """
  picture, panels = drawing.panels(trials, title)
  colors = drawing.colors(trial.threads for trial in trials)
  rows, summary = [], []
  for panel in panels:
    game, method = panel.game, panel.method
    entries = []
    by_threads = scores.groups(panel.trials, lambda t: t.threads)
    for threads, group in by_threads.items():
      chosen = scores.best(group, of_50=of_50)
      label = f'{threads} thread' + 's' * (threads > 1)
      paper = published.paper_curve(
        game, method, threads=threads, against=against
      )
      entries.append(
        Entry(
          method=method,
          threads=threads,
          color=colors[threads],
          label=label,
          trials=chosen,
          paper=paper,
        )
      )
      if chosen:
        summary.append(f'{game} {method}, {label}: {scores.describe(chosen)}')
    rows += drawing.draw_entries(panel.axes, game, against, entries)
  return _finished(picture, rows, summary)


def figure2(trials: Sequence[Trial], title: str) -> Drawn:
  """Figures 2 and S11: the score of every learning rate."""
  picture, panels = drawing.panels(trials, title)
  rows, summary = [], []
  for panel in panels:
    game, method, axes = panel.game, panel.method, panel.axes
    ours = np.array([(t.learning_rate, scores.score(t)) for t in panel.trials])
    ours = ours[np.isfinite(ours[:, 1])]
    rows += _scatter(panel, 'ours', ours, marker='o', label='ours')
    paper = published.learning_rates(game, method)
    if paper is not None:
      label = 'paper, whole runs'
      rows += _scatter(panel, 'paper', paper, marker='x', label=label)
    axes.set_xscale('log')
    (left, right), (low, high) = axes.get_xlim(), published.RATE_RANGE
    axes.set_xlim(min(left, 0.9 * low), max(right, 1.1 * high))
    axes.tick_params('x', which='minor', labelbottom=False)
    axes.set_xlabel('learning rate')
    by_rate = scores.scores_by_rate(panel.trials)
    if by_rate:
      means = {rate: np.mean(found) for rate, found in by_rate.items()}
      rate = max(means, key=means.__getitem__)
      summary.append(
        f'{game} {method}: best {intervals.describe(by_rate[rate])} (learning '
        f'rate {rate:g}), median {np.median([*means.values()]):.2f} of '
        f'{len(means)}'
      )
  return _finished(picture, rows, summary)


def _scatter(
  panel: Panel, series: str, points: np.ndarray, *, marker: str, label: str
) -> list[dict[str, Any]]:
  """Draws learning rates and scores, [N, 2]; returns their rows."""
  panel.axes.plot(*points.T, marker, label=label, markersize=4)
  return [
    {
      'game': panel.game,
      'method': panel.method,
      'series': series,
      'learning_rate': float(f'{rate:.4g}'),
      'score': round(score, 3),
    }
    for rate, score in points.tolist()
  ]


def figure_s5(trials: Sequence[Trial], title: str) -> Drawn:
  """Figure S5: scores of all learning rates, the best first, by optimizer.

  Of a learning rate with several runs, the mean counts.
  """
  picture, panels = drawing.panels(trials, title)
  colors = drawing.colors(trial.optimizer for trial in trials)
  rows, summary = [], []
  for panel in panels:
    game, method = panel.game, panel.method
    by_optimizer = scores.groups(panel.trials, lambda t: t.optimizer)
    for optimizer, group in by_optimizer.items():
      by_rate = scores.scores_by_rate(group)
      found = sorted(by_rate.values(), key=np.mean, reverse=True)
      values = [float(np.mean(each)) for each in found]
      # Each rate stands for an equal share of the 50: this is its middle.
      ranks = [
        0.5 + published.RATES * (n + 0.5) / len(values)
        for n in range(len(values))
      ]
      color, label = colors[optimizer], f'ours, {optimizer}'
      panel.axes.plot(
        ranks, values, 'o-', color=color, markersize=3, label=label
      )
      rows += _rank_rows(panel, optimizer, 'ours', [ranks, values])
      paper = published.optimizer_ranks(game, method, optimizer)
      if paper is not None:
        label = f'paper, {optimizer}, whole runs'
        panel.axes.plot(paper.x, paper.score, '--', color=color, label=label)
        points = [paper.x.tolist(), paper.score.tolist()]
        rows += _rank_rows(panel, optimizer, 'paper', points)
      if values:
        rates = f'{len(values)} learning rate' + 's' * (len(values) != 1)
        summary.append(
          f'{game} {method} {optimizer}: mean {np.mean(values):.2f}, best '
          f'{intervals.describe(found[0])} of {rates}'
        )
    panel.axes.set_xlabel('rank among learning rates, of 50')
  return _finished(picture, rows, summary)


def _rank_rows(panel, optimizer, series, points) -> list[dict[str, Any]]:
  return [
    {
      'game': panel.game,
      'method': panel.method,
      'optimizer': optimizer,
      'series': series,
      'rank_of_50': round(rank, 2),
      'score': round(score, 3),
    }
    for rank, score in zip(*points, strict=True)
  ]
