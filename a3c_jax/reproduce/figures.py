"""The paper's figures and tables, of our runs and beside the paper's own.

Every function that draws takes `Trial`s, and returns the rows of a table and a
picture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
import math
import textwrap
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.algorithms import registry
from a3c_jax.core import packages
from a3c_jax.envs import reference_scores
from a3c_jax.reproduce import curves, published

_POINTS = 50
_NEWEST = 100  # Training episodes that a policy's score is the mean of.
_REACHED = 0.75  # Of the way from the first score to one that all come to.
_PANEL = (3.6, 2.9)  # Inches.
_TABLE1 = {  # Rows of Table 1, by the names that ours have.
  'a3c_1_day': 'A3C_FF_1day',
  'a3c_4_days': 'A3C_FF_4days',
  'a3c_lstm_4_days': 'A3C_LSTM_4days',
}


class Trial(NamedTuple):
  """A run, and which one it is in a figure."""

  game: str
  method: str  # an algorithm, or a row of Table 1
  threads: int
  optimizer: str
  learning_rate: float
  run: curves.Run


class Drawn(NamedTuple):
  """What a figure comes to."""

  rows: list[dict[str, Any]]  # of a CSV file, all with the same columns
  picture: Any  # a matplotlib Figure
  summary: list[str]  # lines to print


def check_can_draw() -> None:
  """Raises UsageError if matplotlib is not installed."""
  packages.check_installed('pictures', 'matplotlib', extra='plot')


def subplots(rows: int, columns: int, *, size: tuple[float, float]):
  """An empty picture with a table of panels.

  It is no figure of pyplot's, which keeps all of its own until they are closed.

  Args:
    size: Width and height in inches.

  Returns:
    The matplotlib Figure, and an array [rows, columns] of its axes.

  Raises:
    UsageError: if matplotlib is not installed.
  """
  check_can_draw()
  from matplotlib.figure import Figure

  picture = Figure(figsize=size, layout='constrained')
  return picture, picture.subplots(rows, columns, squeeze=False)


def draw_line(axes, curve: curves.Curve | None, **style) -> None:
  """Draws a mean, and what lies between the lowest and the highest run."""
  if curve is None:
    return
  marker = 'o' if len(curve.x) == 1 else None  # One point has no line.
  (line,) = axes.plot(curve.x, curve.mean, marker=marker, **style)
  if (curve.lowest != curve.highest).any():
    axes.fill_between(
      curve.x, curve.lowest, curve.highest, color=line.get_color(), alpha=0.2
    )


def _explores(trial) -> bool:
  """Whether training episodes hold random actions, so evaluations count."""
  return not registry.get(trial.run.config.algo).is_policy


def score(trial: Trial) -> float:
  """What a run came to; NaN if it has nothing yet.

  Of a policy the mean of the newest 100 training episodes, whose actions are
  drawn as in evaluations. Of a value-based method, half of whose training
  actions may be random, the mean of the newest evaluation.
  """
  if _explores(trial):
    returns = trial.run.evaluations.get('mean_return', [])[-1:]
  else:
    returns = trial.run.episodes.get('episode_return', [])[-_NEWEST:]
  return float(np.mean(returns)) if len(returns) else math.nan


def best(trials: Iterable[Trial], *, of_50: int) -> list[Trial]:
  """Those with the highest scores, by the paper's share of all.

  Args:
    trials: all learning rates.
    of_50: how many of its 50 the paper averages.
  """
  trials = list(trials)
  count = share(len(trials), of_50=of_50)
  known = [trial for trial in trials if not math.isnan(score(trial))]
  return sorted(known, key=score, reverse=True)[:count]


def share(rates: int, *, of_50: int) -> int:
  """How many learning rates to average, as the paper does of its 50."""
  return max(1, round(of_50 * rates / published.RATES))


def learning_curve(
  trials: Sequence[Trial], against: str
) -> curves.Curve | None:
  """The mean of runs by 'frames' or 'hours'; None where there is nothing."""
  column, scale = {'frames': ('frames', 1), 'hours': ('seconds', 3600)}[against]
  lines = []
  for trial in trials:
    table, name = trial.run.episodes, 'episode_return'
    if _explores(trial):
      table, name = trial.run.evaluations, 'mean_return'
    if table:
      lines.append((table[column] / scale, table[name]))
  return curves.binned(lines, _POINTS)


def reached(x: np.ndarray, y: np.ndarray, score: float) -> float:
  """Where a curve first comes to a score; NaN if it never does.

  >>> reached(np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 4.0]), 5.0)
  1.5
  """
  above = np.flatnonzero(y >= score)
  if not above.size:
    return math.nan
  first = above[0]
  if first == 0:
    return float(x[0])
  share = (score - y[first - 1]) / (y[first] - y[first - 1])
  return float(x[first - 1] + share * (x[first] - x[first - 1]))


def reference_score(all_curves: Sequence[curves.Curve]) -> float:
  """A score that is well above the first ones and that all curves reach.

  The paper does not tell its own. This is three quarters of the way from the
  mean of the first scores to the lowest of the highest ones; NaN where that is
  no way up.
  """
  tops = [np.max(curve.mean) for curve in all_curves]
  start = float(np.mean([curve.mean[0] for curve in all_curves]))
  way = float(min(tops)) - start
  return start + _REACHED * way if way > 0 else math.nan


def _groups(trials, key: Callable[[Trial], Any]) -> dict[Any, list[Trial]]:
  groups: dict[Any, list[Trial]] = {}
  for trial in trials:
    groups.setdefault(key(trial), []).append(trial)
  return groups


def _by_game_and_method(trials) -> dict[tuple[str, str], list[Trial]]:
  return _groups(trials, lambda trial: (trial.game, trial.method))


def _names(trials) -> tuple[list[str], list[str]]:
  games = list(dict.fromkeys(trial.game for trial in trials))
  return games, list(dict.fromkeys(trial.method for trial in trials))


def _colors(names: Iterable[Hashable]) -> dict[Hashable, str]:
  return {name: f'C{n}' for n, name in enumerate(dict.fromkeys(names))}


def _grid(rows, columns, title):
  width, height = _PANEL
  size = (max(width * columns, 6.5), height * rows + 1.6)
  picture, table = subplots(rows, columns, size=size)
  picture.suptitle(textwrap.fill(title, 16 * max(columns, 5)), fontsize='small')
  for axes in table.flat:
    axes.grid(alpha=0.3)
    axes.locator_params('x', nbins=5)
  return picture, table


def _drawn(rows, picture, summary) -> Drawn:
  """With one legend for all panels, below them."""
  handles = {}
  for axes in picture.axes:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if handles:
    picture.legend(
      [*handles.values()],
      [*handles],
      loc='outside lower center',
      ncols=2 if len(handles) > 4 else 1,
      fontsize='x-small',
    )
  return Drawn(rows, picture, summary)


def _panels(trials, title):
  """A picture with a panel for each game and method.

  Returns:
    The picture, and of each panel its game, method, trials and axes.
  """
  games, methods = _names(trials)
  picture, table = _grid(len(methods), len(games), title)
  panels = []
  for (game, method), group in _by_game_and_method(trials).items():
    axes = table[methods.index(method), games.index(game)]
    axes.set_title(f'{game}, {method}')
    axes.set_ylabel('score')
    panels.append((game, method, group, axes))
  return picture, panels


class _Entry(NamedTuple):
  """A curve of ours in a panel, and the paper's of the same colour."""

  method: str
  threads: int  # of ours
  color: str
  label: str
  trials: list[Trial]
  paper: published.PaperCurve | None


def _draw_panel(axes, game, against, entries) -> list[dict[str, Any]]:
  """Draws curves; returns their rows."""
  rows = []

  def add(entry, series, threads, runs, *columns):
    points = np.column_stack(columns).tolist()
    for x, *scores in points:
      mean, lowest, highest = (round(number, 3) for number in scores)
      rows.append(
        {
          'game': game,
          'method': entry.method,
          'threads': threads,
          'series': series,
          'runs': runs,
          'x': against,
          'at': float(f'{x:.6g}'),
          'score': mean,
          'lowest': lowest,
          'highest': highest,
        }
      )

  for entry in entries:
    curve = learning_curve(entry.trials, against)
    if curve is not None:
      draw_line(axes, curve, color=entry.color, label=entry.label)
      add(entry, 'ours', entry.threads, len(entry.trials), *curve)
  # No further than our runs went, where the paper's go on.
  right = axes.get_xlim()[1] if rows else None
  for entry in entries:
    if entry.paper is not None:
      x, scores, label, threads = entry.paper
      there = np.append(True, x[:-1] < (right or math.inf))
      style = {'color': entry.color, 'alpha': 0.7, 'label': label}
      axes.plot(x[there], scores[there], '--', **style)
      add(entry, label, threads, '', x, scores, scores, scores)
  axes.set_xlim(0.0, right)
  axes.set_xlabel({'hours': 'hours of training', 'frames': 'frames'}[against])
  axes.set_ylabel('score')
  return rows


def _told(chosen) -> str:
  """What the chosen runs came to, in words."""
  scores = [*map(score, chosen)]
  frames = [trial.run.train['frames'][-1] for trial in chosen]
  rates = ', '.join(f'{trial.learning_rate:g}' for trial in chosen)
  return (
    f'{np.mean(scores):.2f} after {np.mean(frames) / 1e6:.3g} million frames '
    f'(learning rates {rates})'
  )


def figure1(trials: Sequence[Trial], title: str, *, of_50: int) -> Drawn:
  """Figure 1: scores by hours, and below by frames, of all methods."""
  games, methods = _names(trials)
  colors = _colors(methods)
  picture, table = _grid(2, len(games), title)
  rows, summary = [], []
  for column, game in enumerate(games):
    groups = _groups(
      [trial for trial in trials if trial.game == game], lambda t: t.method
    )
    chosen = {method: best(groups[method], of_50=of_50) for method in groups}
    summary += [
      f'{game} {method}: {_told(those)}'
      for method, those in chosen.items()
      if those
    ]
    printed = published.figure1(game)
    for row, against in enumerate(('hours', 'frames')):
      entries = []
      for method, those in chosen.items():
        threads = groups[method][0].threads
        paper = printed.get(method)
        if against == 'frames':
          paper = published.paper_curve(
            game, method, threads=threads, against=against
          )
        color = colors[method]
        entries.append(_Entry(method, threads, color, method, those, paper))
      if against == 'hours' and printed:
        entries.append(_Entry('dqn', 1, 'k', 'DQN', [], printed['dqn']))
      axes = table[row, column]
      rows += _draw_panel(axes, game, against, entries)
      axes.set_title(f'{game}, by {against}')
  return _drawn(rows, picture, summary)


def learning_by_threads(
  trials: Sequence[Trial], title: str, *, of_50: int, against: str
) -> Drawn:
  """Figures 3 and 4, S9 and S10: a curve for each number of threads."""
  picture, panels = _panels(trials, title)
  # Of one colour in all panels, whichever a panel has.
  colors = _colors(trial.threads for trial in trials)
  rows, summary = [], []
  for game, method, group, axes in panels:
    entries = []
    for threads, those in _groups(group, lambda t: t.threads).items():
      chosen = best(those, of_50=of_50)
      paper = published.paper_curve(
        game, method, threads=threads, against=against
      )
      label = f'{threads} thread' + 's' * (threads > 1)
      color = colors[threads]
      entries.append(_Entry(method, threads, color, label, chosen, paper))
      if chosen:
        summary.append(f'{game} {method}, {label}: {_told(chosen)}')
    rows += _draw_panel(axes, game, against, entries)
  return _drawn(rows, picture, summary)


def figure2(trials: Sequence[Trial], title: str) -> Drawn:
  """Figures 2 and S11: the score of every learning rate."""
  picture, panels = _panels(trials, title)
  rows, summary = [], []
  for game, method, group, axes in panels:
    ours = np.array([(t.learning_rate, score(t)) for t in group])
    series = {'ours': ours[np.isfinite(ours[:, 1])]}
    paper = published.learning_rates(game, method)
    if paper is not None:
      series['paper'] = paper
    for name, points in series.items():
      style, label = {
        'ours': ('o', 'ours'),
        'paper': ('x', 'paper, whole runs'),
      }[name]
      axes.plot(*points.T, style, label=label, markersize=4)
      rows += [
        {
          'game': game,
          'method': method,
          'series': name,
          'learning_rate': float(f'{rate:.4g}'),
          'score': round(value, 3),
        }
        for rate, value in points.tolist()
      ]
    axes.set_xscale('log')
    ends = zip(axes.get_xlim(), published.RATE_RANGE, strict=True)
    (left, low), (right, high) = ends
    axes.set_xlim(min(left, 0.9 * low), max(right, 1.1 * high))
    axes.tick_params('x', which='minor', labelbottom=False)
    axes.set_xlabel('learning rate')
    if len(series['ours']):
      rate, top = max(series['ours'].tolist(), key=lambda point: point[1])
      middle = np.median(series['ours'][:, 1])
      summary.append(
        f'{game} {method}: best {top:.2f} (learning rate {rate:g}), median '
        f'{middle:.2f} of {len(series["ours"])}'
      )
  return _drawn(rows, picture, summary)


def figure_s5(trials: Sequence[Trial], title: str) -> Drawn:
  """Figure S5: scores of all learning rates, the best first, by optimizer."""
  picture, panels = _panels(trials, title)
  colors = _colors(trial.optimizer for trial in trials)
  rows, summary = [], []
  for game, method, group, axes in panels:
    for optimizer, those in _groups(group, lambda t: t.optimizer).items():
      scores = sorted(
        (x for x in map(score, those) if not math.isnan(x)), reverse=True
      )
      # In the middle of the share of runs that each is.
      ranks = [
        0.5 + published.RATES * (n + 0.5) / len(scores)
        for n in range(len(scores))
      ]
      series = {'ours': (ranks, scores)}
      paper = published.optimizer_ranks(game, method, optimizer)
      if paper is not None:
        series['paper'] = (paper.x.tolist(), paper.score.tolist())
      for name, points in series.items():
        axes.plot(
          *points,
          {'ours': 'o-', 'paper': '--'}[name],
          color=colors[optimizer],
          markersize=3,
          label=f'{name}, {optimizer}' + ', whole runs' * (name == 'paper'),
        )
        rows += [
          {
            'game': game,
            'method': method,
            'optimizer': optimizer,
            'series': name,
            'rank_of_50': round(rank, 2),
            'score': round(value, 3),
          }
          for rank, value in zip(*points, strict=True)
        ]
      if scores:
        summary.append(
          f'{game} {method} {optimizer}: mean {np.mean(scores):.2f}, best '
          f'{scores[0]:.2f} of {len(scores)}'
        )
    axes.set_xlabel('rank among learning rates, of 50')
  return _drawn(rows, picture, summary)


def table2(
  trials: Sequence[Trial],
  title: str,
  *,
  of_50: int,
  reference: float | None = None,
) -> Drawn:
  """Table 2: how much sooner a score is reached with more threads.

  Args:
    trials: of several numbers of threads; speed-ups are over the smallest of
      all, the paper's too, so there are none of a game that lacks it.
    title: of the picture.
    of_50: of how many of 50 learning rates the curves are the mean.
    reference: the score to reach; None for `reference_score` of each game.
  """
  _, methods = _names(trials)
  picture, table = _grid(1, len(methods), title)
  smallest = min(trial.threads for trial in trials)
  rows, summary = [], []
  found: dict[tuple[str, int], list[tuple[float, float]]] = {}
  for (game, method), group in _by_game_and_method(trials).items():
    by_threads = {
      threads: [
        learning_curve(best(those, of_50=of_50), against)
        for against in ('frames', 'hours')
      ]
      for threads, those in sorted(_groups(group, lambda t: t.threads).items())
    }
    by_threads = {n: both for n, both in by_threads.items() if both[0]}
    if not by_threads:
      continue
    goal = reference
    if goal is None:
      goal = reference_score([frames for frames, _ in by_threads.values()])
    if math.isnan(goal):
      summary.append(f'{game} {method}: no way up to a score that all reach')
    paper = _speedups(method, smallest)
    all_needed = {
      threads: (
        reached(frames.x, frames.mean, goal),
        3600 * reached(hours.x, hours.mean, goal),
      )
      for threads, (frames, hours) in by_threads.items()
    }
    first = all_needed.get(smallest, (math.nan, math.nan))
    for threads, needed in all_needed.items():
      gains = tuple(one / n for one, n in zip(first, needed, strict=True))
      found.setdefault((method, threads), []).append(gains)
      rows.append(
        {
          'game': game,
          'method': method,
          'threads': threads,
          'reference_score': _or_empty(goal, 3),
          'frames': _or_empty(needed[0], 0),
          'seconds': _or_empty(needed[1], 1),
          'speedup_by_frames': _or_empty(gains[0], 2),
          'speedup_by_seconds': _or_empty(gains[1], 2),
          'paper': paper.get(threads, ''),
        }
      )
  for number, method in enumerate(methods):
    axes = table[0, number]
    means = {
      threads: np.nanmean(gains, axis=0)
      for (name, threads), gains in found.items()
      if name == method and np.isfinite(gains).any()
    }
    for column, name in enumerate(('by frames', 'by seconds')):
      gains = [mean[column] for mean in means.values()]
      axes.plot([*means], gains, 'o-', label=f'ours, {name}')
    paper = _speedups(method, smallest)
    axes.plot([*paper], [*paper.values()], 'k--', label='paper, by time')
    axes.set_xscale('log', base=2)
    axes.set_yscale('log', base=2)
    threads = sorted({*paper, *(trial.threads for trial in trials)})
    axes.set_xticks(threads, threads)
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set_title(method)
    axes.set_xlabel('threads')
    axes.set_ylabel('times sooner')
    summary += [
      f'{method}, {threads} threads: {by_frames:.2f} times by frames, '
      f'{by_seconds:.2f} by seconds; paper {paper.get(threads, "none")}'
      for threads, (by_frames, by_seconds) in means.items()
    ]
  return _drawn(rows, picture, summary)


def _speedups(method, first) -> dict[int, float]:
  """The paper's, over that number of threads; nothing where it has none."""
  printed = published.speedups(method)
  if first not in printed:
    return {}
  return {
    threads: round(speedup / printed[first], 2)
    for threads, speedup in printed.items()
    if threads >= first
  }


def _or_empty(number, digits) -> float | str:
  return '' if math.isnan(number) else round(number, digits)


def table1(trials: Sequence[Trial], title: str) -> Drawn:
  """Tables 1 and S3: final evaluations, normalised, beside the paper's.

  Ours are after up to 30 no-ops, normalised by references of the same kind; the
  paper's are from human starts, which were never published. Reproductions by
  others are as ours.
  """
  games, methods = _names(trials)
  picture, table = _grid(1, len(methods), title)
  picture.set_size_inches(6 * len(methods), 2.5 + 0.28 * len(games))
  rows, summary = [], []
  for axes, method in zip(table[0], methods, strict=True):
    paper = published.paper_normalized(_TABLE1[method])
    scores = published.paper_scores(_TABLE1[method])
    percents = {}
    for trial in trials:
      evaluations = trial.run.evaluations
      if trial.method != method or not evaluations:
        continue
      game = trial.game
      value = float(evaluations['mean_return'][-1])
      scale = reference_scores.reference(game, 'noop30')
      percents[game] = reference_scores.human_normalized(value, scale)
      others = published.reproductions(game)
      rows.append(
        {
          'game': game,
          'method': method,
          'frames': int(evaluations['frames'][-1]),
          'score': round(value, 2),
          'standard_error': round(float(evaluations['standard_error'][-1]), 2),
          'human_normalized': round(percents[game], 1),
          'paper_score': scores[game],
          'paper_normalized': round(paper[game], 1),
          **{source: others.get(source, '') for source in published.SOURCES},
        }
      )
    places = np.arange(len(percents))
    axes.barh(places - 0.2, [*percents.values()], 0.4, label='ours, no-ops')
    axes.barh(
      places + 0.2,
      [paper[game] for game in percents],
      0.4,
      label='paper, human starts',
    )
    axes.set_yticks(places, [*percents])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xscale('symlog', linthresh=10)
    axes.set_xlabel('percent of human play')
    axes.set_title(method)
    if percents:
      ours = published.summarize(percents)
      theirs = published.summarize({game: paper[game] for game in percents})
      printed = published.table1(_TABLE1[method])
      summary.append(
        f'{method}: mean {ours.mean:.1f}%, median {ours.median:.1f}% of '
        f'{ours.games} games, after no-ops; paper on the same games '
        f'{theirs.mean:.1f}%, {theirs.median:.1f}%, on all {printed.games} '
        f'{printed.mean}%, {printed.median}%, from human starts'
      )
  return _drawn(rows, picture, summary)
