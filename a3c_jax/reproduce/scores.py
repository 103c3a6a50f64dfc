"""Scores, speed-ups and learning curves of trials: arithmetic alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import math
from typing import NamedTuple, TypeVar

import numpy as np

from a3c_jax.algorithms import registry
from a3c_jax.reproduce import curves, intervals, published

# What a curve is drawn against: a column of CSV files, and its unit.
AXES = {'frames': ('frames', 1), 'hours': ('seconds', 3600)}
_POINTS = 50
_LAST_EPISODES = 100  # The score of a policy is the mean of these.
_REFERENCE_SHARE = 0.75  # From the first score to one that all curves reach.

Key = TypeVar('Key')
Item = TypeVar('Item')


class Trial(NamedTuple):
  """A run, and its place in a figure."""

  game: str
  method: str  # an algorithm, or a row of Table 1
  threads: int
  optimizer: str
  learning_rate: float
  run: curves.Run


def _explores(run: curves.Run) -> bool:
  """Whether training episodes hold random actions, so evaluations count."""
  return not registry.get(run.config.algo).is_policy


def score(trial: Trial) -> float:
  """The final score of a trial, that of its run."""
  return score_of(trial.run)


def score_of(run: curves.Run) -> float:
  """The final score of a run; NaN if it has none yet.

  For a policy: the mean of the last 100 training episodes, whose actions are
  sampled as in evaluations. For a value-based method: the mean of the last
  evaluation, since half of its training actions may be random.
  """
  if _explores(run):
    returns = run.evaluations.get('mean_return', [])[-1:]
  else:
    returns = run.episodes.get('episode_return', [])[-_LAST_EPISODES:]
  return float(np.mean(returns)) if len(returns) else math.nan


def best(trials: Iterable[Trial], *, of_50: int) -> list[Trial]:
  """The trials of the best learning rates, as large a share as the paper's.

  A learning rate is as good as the mean score of its trials.

  Args:
    trials: all learning rates.
    of_50: how many of its 50 the paper averages.
  """
  trials = [*trials]
  count = share(len({trial.learning_rate for trial in trials}), of_50=of_50)
  means = {rate: np.mean(each) for rate, each in scores_by_rate(trials).items()}
  ranked = sorted(means, key=means.__getitem__, reverse=True)[:count]
  return [
    trial
    for rate in ranked
    for trial in trials
    if trial.learning_rate == rate and not math.isnan(score(trial))
  ]


def scores_by_rate(trials: Iterable[Trial]) -> dict[float, list[float]]:
  """The scores of trials that have one, by learning rate."""
  found: dict[float, list[float]] = {}
  for trial in trials:
    if not math.isnan(value := score(trial)):
      found.setdefault(trial.learning_rate, []).append(value)
  return found


def has_seeds(trials: Sequence[Trial]) -> bool:
  """Whether each learning rate has several trials, so the mean an interval."""
  return len(trials) >= 2 * len({trial.learning_rate for trial in trials})


def share(rates: int, *, of_50: int) -> int:
  """How many learning rates to average, as the paper does of its 50."""
  return max(1, round(of_50 * rates / published.RATES))


def learning_curve(
  trials: Sequence[Trial], against: str
) -> curves.Curve | None:
  """The mean of runs by 'frames' or 'hours'; None if they have no scores."""
  return curves.binned(_scores_of(trials, against), _POINTS)


def learning_lines(
  trials: Sequence[Trial], against: str
) -> curves.Lines | None:
  """The runs that `learning_curve` averages."""
  return curves.lines(_scores_of(trials, against), _POINTS)


def _scores_of(trials, against):
  column, unit = AXES[against]
  found = []
  for trial in trials:
    table, name = trial.run.episodes, 'episode_return'
    if _explores(trial.run):
      table, name = trial.run.evaluations, 'mean_return'
    if table:
      found.append((table[column] / unit, table[name]))
  return found


def reached(x: np.ndarray, y: np.ndarray, score: float) -> float:
  """Where a curve first reaches a score; NaN if it never does.

  >>> reached(np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 4.0]), 5.0)
  1.5
  """
  above = np.flatnonzero(y >= score)
  if not above.size:
    return math.nan
  first = above[0]
  if first == 0:
    return float(x[0])
  part = (score - y[first - 1]) / (y[first] - y[first - 1])
  return float(x[first - 1] + part * (x[first] - x[first - 1]))


def reference_score(all_curves: Sequence[curves.Curve]) -> float:
  """A score well above the first ones, which all curves reach.

  The paper does not give its own. This one is three quarters of the way from
  the mean of the first scores to the lowest of the highest scores. NaN if the
  latter is not above the former.
  """
  tops = [np.max(curve.mean) for curve in all_curves]
  start = float(np.mean([curve.mean[0] for curve in all_curves]))
  rise = float(min(tops)) - start
  return start + _REFERENCE_SHARE * rise if rise > 0 else math.nan


def speedups(method: str, *, over: int) -> dict[int, float]:
  """Speed-ups of Table 2 over a number of threads, by threads.

  Empty if the paper has none for the method or for that number.
  """
  printed = published.speedups(method)
  if over not in printed:
    return {}
  return {
    threads: round(speedup / printed[over], 2)
    for threads, speedup in printed.items()
    if threads >= over
  }


def groups(
  items: Iterable[Item], key: Callable[[Item], Key]
) -> dict[Key, list[Item]]:
  """Items by key, in the order in which the keys first occur."""
  found: dict[Key, list[Item]] = {}
  for item in items:
    found.setdefault(key(item), []).append(item)
  return found


def by_game_and_method(
  trials: Iterable[Trial],
) -> dict[tuple[str, str], list[Trial]]:
  """Trials by game and method."""
  return groups(trials, lambda trial: (trial.game, trial.method))


def names(trials: Sequence[Trial]) -> tuple[list[str], list[str]]:
  """The games and the methods of trials, each once."""
  games = list(dict.fromkeys(trial.game for trial in trials))
  return games, list(dict.fromkeys(trial.method for trial in trials))


def describe(chosen: Sequence[Trial]) -> str:
  """The mean score, frames and learning rates of trials, in words.

  With several seeds, the 95% interval of the mean too.
  """
  values = [*map(score, chosen)]
  mean = f'{np.mean(values):.2f}'
  if has_seeds(chosen):
    mean = intervals.describe(values)
  frames = np.mean([trial.run.train['frames'][-1] for trial in chosen])
  rates = ', '.join(
    dict.fromkeys(f'{trial.learning_rate:g}' for trial in chosen)
  )
  return (
    f'{mean} after {frames / 1e6:.3g} million frames (learning rates {rates})'
  )
