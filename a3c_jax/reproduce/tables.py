"""The paper's tables, made from our runs beside the paper's numbers.

Every function takes `scores.Trial`s, and returns the rows of a CSV file, a
picture and lines to print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.envs import reference_scores
from a3c_jax.reproduce import curves, drawing, intervals, published, scores
from a3c_jax.reproduce.drawing import Drawn
from a3c_jax.reproduce.scores import Trial

_TABLE1 = {  # Rows of Table 1, by our names for them.
  'a3c_1_day': 'A3C_FF_1day',
  'a3c_4_days': 'A3C_FF_4days',
  'a3c_lstm_4_days': 'A3C_LSTM_4days',
  'dqn': 'DQN',
  'double_dqn': 'Double',
  'dueling_dqn': 'Dueling',
  'prioritized_dqn': 'Prioritized',
}
_WITHOUT_OURS = ('Gorila',)  # Rows of Table 1 of which there are no runs.
_OURS = (  # Columns of Table 1. One run has an error, several have an interval.
  'frames',
  'runs',
  'score',
  'standard_error',
  'low',
  'high',
  'human_normalized',
)
_NEVER = (math.nan, math.nan)
_NEEDED = ('frames', 'seconds')  # Columns of Table 2.
_GAINS = ('speedup_by_frames', 'speedup_by_seconds')
_RESAMPLES = 1_000  # Of the curves of Table 2.

Pair = tuple[float, float]  # By frames, and by seconds.


def table1(trials: Sequence[Trial], title: str) -> Drawn:
  """Tables 1 and S3: final evaluations, normalised, beside the paper's.

  Ours are after up to 30 no-ops, normalised by reference scores of the same
  kind. The paper's are from human starts, which were never published.
  Reproductions by others are as ours. Rows of the paper of which there are no
  runs follow, for the same games.

  Of several runs of a game and method the mean counts, with its 95% interval.
  Over several games the lines to print have the interquartile mean too.

  Args:
    trials: of each game and method.
    title: of the picture.
  """
  games, methods = scores.names(trials)
  picture, table = drawing.grid(1, len(methods), title)
  picture.set_size_inches(6 * len(methods), 2.5 + 0.28 * len(games))
  rows, summary = [], []
  for axes, method in zip(table[0], methods, strict=True):
    percents, runs = {}, []
    of_method = [trial for trial in trials if trial.method == method]
    for game, group in scores.groups(of_method, lambda t: t.game).items():
      evaluated = [trial for trial in group if trial.run.evaluations]
      if evaluated:
        row = _table1_row(evaluated)
        percents[game] = row['human_normalized']
        rows.append(row | {'human_normalized': round(percents[game], 1)})
        runs.append([_percent(trial) for trial in evaluated])
    _draw_table1(axes, method, percents)
    if percents:
      summary.append(_describe_table1(method, percents, runs))
  with_ours = dict.fromkeys(row['game'] for row in rows)
  for method in _WITHOUT_OURS if with_ours else ():
    rows += [_row_without_ours(game, method) for game in with_ours]
    summary.append(f'{method}: {_describe_paper(method, with_ours)}')
  drawing.add_legend(picture)
  return Drawn(rows, picture, summary)


def _table1_row(trials) -> dict[str, Any]:
  """The row of a game and method, whose percentage is not rounded yet.

  Args:
    trials: of that game and method, with evaluations.
  """
  game, method = trials[0].game, trials[0].method
  newest = {
    name: np.array([trial.run.evaluations[name][-1] for trial in trials])
    for name in ('frames', 'mean_return', 'standard_error')
  }
  score = float(np.mean(newest['mean_return']))
  low, high = intervals.of_mean(newest['mean_return'].tolist())
  alone = len(trials) == 1
  error = newest['standard_error'][0] if alone else math.nan
  cells = (
    round(np.mean(newest['frames'])),
    len(trials),
    round(score, 2),
    _or_empty(error, 2),
    _or_empty(low, 2),
    _or_empty(high, 2),
    reference_scores.normalized(game, 'noop30', score),
  )
  return {
    'game': game,
    'method': method,
    **dict(zip(_OURS, cells, strict=True)),
    **_published_cells(game, _TABLE1[method]),
  }


def _percent(trial) -> Any:
  """The newest score of a run in percent of human play."""
  newest = trial.run.evaluations['mean_return'][-1]
  return reference_scores.normalized(trial.game, 'noop30', float(newest))


def _row_without_ours(game, method) -> dict[str, Any]:
  return {
    'game': game,
    'method': method,
    **dict.fromkeys(_OURS, ''),
    **_published_cells(game, method),
  }


def _published_cells(game, method) -> dict[str, Any]:
  """The cells of others; empty where a row of the paper lacks the game."""
  others = published.reproductions(game, method)
  percent = published.paper_normalized(method).get(game, math.nan)
  return {
    'paper_score': published.paper_scores(method).get(game, ''),
    'paper_normalized': _or_empty(percent, 1),
    **{source: others.get(source, '') for source in published.SOURCES},
  }


def _draw_table1(axes, method, percents) -> None:
  paper = published.paper_normalized(_TABLE1[method])
  places = np.arange(len(percents))
  axes.barh(places - 0.2, [*percents.values()], 0.4, label='ours, no-ops')
  axes.barh(
    places + 0.2,
    [paper.get(game, math.nan) for game in percents],
    0.4,
    label='paper, human starts',
  )
  axes.set_yticks(places, [*percents])
  axes.invert_yaxis()
  axes.margins(y=0.01)
  axes.set_xscale('symlog', linthresh=10)
  axes.set_xlabel('percent of human play')
  axes.set_title(method)


def _describe_table1(method, percents, runs) -> str:
  ours = published.summarize(percents)
  middle, (low, high) = intervals.of_games(runs)
  interval = '' if math.isnan(low) else f' [{low:.1f}, {high:.1f}]'
  return (
    f'{method}: mean {ours.mean:.1f}%, median {ours.median:.1f}%, '
    f'interquartile mean {middle:.1f}%{interval} of '
    f'{ours.games} games, after no-ops; '
    + _describe_paper(_TABLE1[method], percents)
  )


def _describe_paper(method, games) -> str:
  percents = published.paper_normalized(method)
  same = {game: percents[game] for game in games if game in percents}
  on_these = 'none of these games'
  if same:
    theirs = published.summarize(same)
    which = 'the same games'
    if len(same) < len(games):
      which = f'{len(same)} of these games'
    on_these = f'on {which} {theirs.mean:.1f}%, {theirs.median:.1f}%'
  printed = published.table1(method)
  return (
    f'paper {on_these}, on all {printed.games} {printed.mean}%, '
    f'{printed.median}%, from human starts'
  )


class _Reached(NamedTuple):
  """What the runs of one number of threads need to reach a score.

  Rows are by frames and by seconds. Infinite where the score is not reached.
  """

  runs: int
  has_seeds: bool  # of each learning rate, so that there are intervals
  needed: np.ndarray  # [2]
  resampled: np.ndarray  # [2, N], of runs drawn with replacement


class _Speedups(NamedTuple):
  """How soon one method reaches a score in one game."""

  goal: float  # the score; NaN if there is none that all curves reach
  by_threads: dict[int, _Reached]
  smallest: int  # of all numbers of threads

  def needed(self, threads: int) -> Pair:
    """Frames and seconds; NaN if the score is not reached."""
    frames, seconds = self.by_threads[threads].needed
    return _finite(frames), _finite(seconds)

  def gain(self, threads: int) -> Pair:
    """How many times sooner than with the smallest number of threads."""
    if self.smallest not in self.by_threads:
      return _NEVER
    first, frames = self.needed(self.smallest), self.needed(threads)
    return first[0] / frames[0], first[1] / frames[1]

  def intervals(self, threads: int) -> dict[str, intervals.Interval]:
    """95% intervals of what several runs need, and of gains, by column."""
    these = self.by_threads[threads]
    if not these.has_seeds:
      return {}
    found: dict[str, np.ndarray] = {}
    found |= zip(_NEEDED, these.resampled, strict=True)
    first = self.by_threads.get(self.smallest)
    if first is not None and first.has_seeds and threads != self.smallest:
      with np.errstate(invalid='ignore'):
        ratios = first.resampled / these.resampled
      found |= zip(_GAINS, ratios, strict=True)
    # Neither number of threads reaches it.
    known = {name: each[~np.isnan(each)] for name, each in found.items()}
    return {
      name: intervals.of_resampled(each)
      for name, each in known.items()
      if each.size
    }


def table2(
  trials: Sequence[Trial],
  title: str,
  *,
  of_50: int,
  reference: float | None = None,
) -> Drawn:
  """Table 2: how much sooner a score is reached with more threads.

  Args:
    trials: of several numbers of threads. Speed-ups, the paper's too, are over
      the smallest of all, so a game without that number has none.
    title: of the picture.
    of_50: how many of 50 learning rates a curve averages.
    reference: the score to reach; None for `reference_score` of each game.
  """
  _, methods = scores.names(trials)
  picture, table = drawing.grid(1, len(methods), title)
  smallest = min(trial.threads for trial in trials)
  rows, summary = [], []
  gains: dict[str, dict[int, list[Pair]]] = {method: {} for method in methods}
  for (game, method), group in scores.by_game_and_method(trials).items():
    measured = _measure(group, smallest, of_50=of_50, reference=reference)
    if measured is None:
      continue
    if math.isnan(measured.goal):
      summary.append(
        f'{game} {method}: the scores do not rise to one that all reach'
      )
    for threads in measured.by_threads:
      gains[method].setdefault(threads, []).append(measured.gain(threads))
    summary += _describe_intervals(game, method, measured)
    paper = scores.speedups(method, over=smallest)
    rows += _table2_rows(game, method, measured, paper)
  ticks = sorted({trial.threads for trial in trials})
  for axes, method in zip(table[0], methods, strict=True):
    paper = scores.speedups(method, over=smallest)
    means = {
      threads: np.nanmean(pairs, axis=0)
      for threads, pairs in gains[method].items()
      if np.isfinite(pairs).any()
    }
    _draw_table2(axes, means, paper, ticks)
    axes.set_title(method)
    summary += [
      f'{method}, {threads} threads: {by_frames:.2f} times by frames, '
      f'{by_seconds:.2f} by seconds; paper {paper.get(threads, "none")}'
      for threads, (by_frames, by_seconds) in means.items()
    ]
  drawing.add_legend(picture)
  return Drawn(rows, picture, summary)


def _measure(trials, smallest, *, of_50, reference) -> _Speedups | None:
  """Speed-ups of one method in one game; None without any scores."""
  lines, has_seeds = {}, {}
  by_threads = scores.groups(trials, lambda trial: trial.threads)
  for threads, group in sorted(by_threads.items()):
    chosen = scores.best(group, of_50=of_50)
    both = [scores.learning_lines(chosen, axis) for axis in scores.AXES]
    if all(each is not None for each in both):
      lines[threads] = both
      has_seeds[threads] = scores.has_seeds(chosen)
  if not lines:
    return None
  goal = reference
  if goal is None:
    goal = scores.reference_score(
      [curves.mean(frames) for frames, _ in lines.values()]
    )
  reached = {
    threads: _reach(both, goal, has_seeds=has_seeds[threads], stream=threads)
    for threads, both in lines.items()
  }
  return _Speedups(goal, reached, smallest)


def _reach(
  both: Sequence[curves.Lines], goal: float, *, has_seeds: bool, stream: int
) -> _Reached:
  """Where the mean of runs, by frames and by hours, reaches a score."""
  count = len(both[0].y)
  draws = []
  if has_seeds:
    draws = intervals.resamples(count, of=_RESAMPLES, stream=stream)
  units = (1, scores.AXES['hours'][1])
  needed, resampled = [], []
  for unit, (x, y) in zip(units, both, strict=True):
    places = [
      unit * scores.reached(mean.x, mean.mean, goal)
      for rows in ([*range(count)], *draws)
      for mean in [curves.mean(curves.Lines(x, y[rows]))]
    ]
    first, *others = np.nan_to_num(places, nan=math.inf).tolist()
    needed.append(first)
    resampled.append(others)
  return _Reached(count, has_seeds, np.array(needed), np.array(resampled))


def _describe_intervals(game, method, measured: _Speedups) -> list[str]:
  lines = []
  for threads, reached in measured.by_threads.items():
    found = measured.intervals(threads)
    if found and not math.isnan(measured.goal):
      frames, _ = reached.needed
      low, high = found['frames']
      lines.append(
        f'{game} {method}, {threads} thread{"s" * (threads > 1)}: '
        f'{measured.goal:.2f} after {frames:,.0f} [{low:,.0f}, {high:,.0f}] '
        f'frames of {reached.runs} runs'
      )
  return lines


def _table2_rows(
  game: str, method: str, measured: _Speedups, paper: Mapping[int, float]
) -> list[dict[str, Any]]:
  return [
    {
      'game': game,
      'method': method,
      'threads': threads,
      'runs': reached.runs,
      'reference_score': _or_empty(measured.goal, 3),
      **_with_intervals(measured, threads),
      'paper': paper.get(threads, ''),
    }
    for threads, reached in measured.by_threads.items()
  ]


def _with_intervals(measured: _Speedups, threads: int) -> dict[str, Any]:
  """Cells of the measured columns, each with its interval."""
  cells: dict[str, Any] = {}
  found = measured.intervals(threads)
  values = (*measured.needed(threads), *measured.gain(threads))
  digits = (0, 1, 2, 2)
  for name, value, places in zip(_NEEDED + _GAINS, values, digits, strict=True):
    low, high = found.get(name, intervals.NONE)
    cells[name] = _or_empty(value, places)
    cells[f'{name}_low'] = _or_empty(low, places)
    cells[f'{name}_high'] = _or_empty(high, places)
  return cells


def _finite(number: float) -> float:
  return float(number) if math.isfinite(number) else math.nan


def _draw_table2(axes, means, paper, ticks) -> None:
  for column, name in enumerate(('by frames', 'by seconds')):
    gains = [mean[column] for mean in means.values()]
    axes.plot([*means], gains, 'o-', label=f'ours, {name}')
  axes.plot([*paper], [*paper.values()], 'k--', label='paper, by time')
  axes.set_xscale('log', base=2)
  axes.set_yscale('log', base=2)
  threads = sorted({*paper, *ticks})
  axes.set_xticks(threads, threads)
  axes.yaxis.set_major_formatter('{x:g}')
  axes.set_xlabel('threads')
  axes.set_ylabel('times sooner')


def _or_empty(number, digits) -> float | str:
  """A cell: a rounded number, `inf` for never, or nothing for NaN."""
  return '' if math.isnan(number) else round(number, digits)
