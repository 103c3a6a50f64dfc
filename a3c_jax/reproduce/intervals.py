"""Intervals of means over runs, by bootstrap: arithmetic alone."""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

_RESAMPLES = 10_000
_TAILS = (0.025, 0.975)

Interval = tuple[float, float]  # Its lowest and its highest value.
NONE: Interval = (math.nan, math.nan)


def resamples(
  count: int, *, of: int = _RESAMPLES, stream: int = 0
) -> np.ndarray:
  """Returns [of, count] places of runs, drawn with replacement.

  The same numbers give the same draws.

  Args:
    count: of runs.
    of: rows.
    stream: of random numbers. What is compared has streams of its own, lest
      runs of one place be paired.
  """
  rng = np.random.default_rng([count, stream])
  return rng.integers(count, size=(of, count))


def of_mean(values: Sequence[float]) -> Interval:
  """Returns the 95% interval of the mean of runs, by percentile bootstrap.

  With three runs it reaches from the lowest to the highest. NaN of fewer than
  two. Source: Efron 1979, doi:10.1214/aos/1176344552; for learning curves
  Agarwal et al. 2021, arXiv:2108.13264.

  >>> of_mean([1.0, 2.0, 6.0])
  (1.0, 6.0)

  Args:
    values: one of each run, all finite.
  """
  if len(values) < 2:
    return NONE
  return of_resampled(np.mean(np.asarray(values)[resamples(len(values))], 1))


def of_games(
  runs: Sequence[Sequence[float]],
) -> tuple[float, Interval]:
  """Returns the interquartile mean over games, and its 95% interval.

  The mean of the middle half of all runs of all games. Runs are drawn again
  within each game. NaN for the interval if no game has two runs. Source:
  Agarwal et al. 2021, arXiv:2108.13264, section 4.3.

  >>> of_games([[0.0], [1.0], [3.0], [100.0]])
  (2.0, (nan, nan))

  Args:
    runs: for each game, the normalised score of each of its runs, all finite.
  """
  value = float(_middle(np.concatenate(runs)))
  if max(map(len, runs)) < 2:
    return value, NONE
  # Games have streams of their own, lest their runs be paired.
  drawn = [
    np.asarray(each)[resamples(len(each), stream=stream)]
    for stream, each in enumerate(runs)
  ]
  return value, of_resampled(_middle(np.concatenate(drawn, axis=1)))


def _middle(values: np.ndarray) -> np.ndarray:
  """Means of [..., N] without a quarter of the values at either end."""
  count = values.shape[-1]
  cut = count // 4
  return np.sort(values)[..., cut : count - cut].mean(axis=-1)


def of_resampled(values: np.ndarray) -> Interval:
  """Returns the 95% interval of a statistic from its resampled values.

  Args:
    values: [N], of which some may be infinite, but not NaN.
  """
  # Nearest: there is nothing between a number and infinity.
  low, high = np.quantile(values, _TAILS, method='nearest').tolist()
  return low, high


def describe(values: Sequence[float]) -> str:
  """Returns the mean of runs, and their number and interval if several.

  >>> describe([1.0, 2.0, 6.0])
  '3.00 [1.00, 6.00] of 3 runs'
  >>> describe([1.0, math.nan])
  '1.00 of 1 of 2 runs'

  Args:
    values: one of each run; NaN of a run that has none.
  """
  known = [value for value in values if not math.isnan(value)]
  if not known:
    return 'none yet'
  text = f'{np.mean(known):.2f}'
  if len(known) > 1:
    low, high = of_mean(known)
    text += f' [{low:.2f}, {high:.2f}]'
  if len(known) < len(values):
    text += f' of {len(known)}'
  return text if len(values) == 1 else f'{text} of {len(values)} runs'
