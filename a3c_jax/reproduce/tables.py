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
from a3c_jax.reproduce import drawing, published, scores
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
_NEVER = (math.nan, math.nan)

Pair = tuple[float, float]  # By frames, and by seconds.


def table1(trials: Sequence[Trial], title: str) -> Drawn:
  """Tables 1 and S3: final evaluations, normalised, beside the paper's.

  Ours are after up to 30 no-ops, normalised by reference scores of the same
  kind. The paper's are from human starts, which were never published.
  Reproductions by others are as ours. Rows of the paper of which there are no
  runs follow, for the same games.

  Args:
    trials: one of each game and method.
    title: of the picture.
  """
  games, methods = scores.names(trials)
  picture, table = drawing.grid(1, len(methods), title)
  picture.set_size_inches(6 * len(methods), 2.5 + 0.28 * len(games))
  rows, summary = [], []
  for axes, method in zip(table[0], methods, strict=True):
    percents = {}
    for trial in trials:
      if trial.method == method and trial.run.evaluations:
        row = _table1_row(trial)
        percents[trial.game] = row['human_normalized']
        rows.append(row | {'human_normalized': round(percents[trial.game], 1)})
    _draw_table1(axes, method, percents)
    if percents:
      summary.append(_describe_table1(method, percents))
  evaluated = dict.fromkeys(row['game'] for row in rows)
  for method in _WITHOUT_OURS if evaluated else ():
    rows += [_row_without_ours(game, method) for game in evaluated]
    summary.append(f'{method}: {_describe_paper(method, evaluated)}')
  drawing.add_legend(picture)
  return Drawn(rows, picture, summary)


def _table1_row(trial) -> dict[str, Any]:
  """A row, whose percentage is not rounded yet."""
  game, evaluations = trial.game, trial.run.evaluations
  score = float(evaluations['mean_return'][-1])
  return {
    'game': game,
    'method': trial.method,
    'frames': int(evaluations['frames'][-1]),
    'score': round(score, 2),
    'standard_error': round(float(evaluations['standard_error'][-1]), 2),
    'human_normalized': reference_scores.normalized(game, 'noop30', score),
    **_published_cells(game, _TABLE1[trial.method]),
  }


def _row_without_ours(game, method) -> dict[str, Any]:
  ours = ('frames', 'score', 'standard_error', 'human_normalized')
  return {
    'game': game,
    'method': method,
    **dict.fromkeys(ours, ''),
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


def _describe_table1(method, percents) -> str:
  ours = published.summarize(percents)
  return (
    f'{method}: mean {ours.mean:.1f}%, median {ours.median:.1f}% of '
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


class _Speedups(NamedTuple):
  """How soon one method reaches a score in one game."""

  goal: float  # the score; NaN if there is none that all curves reach
  needed: dict[int, Pair]  # frames and seconds, by threads
  gains: dict[int, Pair]  # times sooner than the smallest number of threads


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
    for threads, pair in measured.gains.items():
      gains[method].setdefault(threads, []).append(pair)
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
  curves = {}
  by_threads = scores.groups(trials, lambda trial: trial.threads)
  for threads, group in sorted(by_threads.items()):
    chosen = scores.best(group, of_50=of_50)
    frames = scores.learning_curve(chosen, 'frames')
    hours = scores.learning_curve(chosen, 'hours')
    if frames is not None and hours is not None:
      curves[threads] = frames, hours
  if not curves:
    return None
  goal = reference
  if goal is None:
    goal = scores.reference_score([frames for frames, _ in curves.values()])
  needed = {
    threads: (
      scores.reached(frames.x, frames.mean, goal),
      3600 * scores.reached(hours.x, hours.mean, goal),
    )
    for threads, (frames, hours) in curves.items()
  }
  first = needed.get(smallest, _NEVER)
  gains = {
    threads: (first[0] / frames, first[1] / seconds)
    for threads, (frames, seconds) in needed.items()
  }
  return _Speedups(goal, needed, gains)


def _table2_rows(
  game: str, method: str, measured: _Speedups, paper: Mapping[int, float]
) -> list[dict[str, Any]]:
  return [
    {
      'game': game,
      'method': method,
      'threads': threads,
      'reference_score': _or_empty(measured.goal, 3),
      'frames': _or_empty(frames, 0),
      'seconds': _or_empty(seconds, 1),
      'speedup_by_frames': _or_empty(measured.gains[threads][0], 2),
      'speedup_by_seconds': _or_empty(measured.gains[threads][1], 2),
      'paper': paper.get(threads, ''),
    }
    for threads, (frames, seconds) in measured.needed.items()
  ]


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
  return '' if math.isnan(number) else round(number, digits)
