"""Finds minibatches whose errors are much larger than those before."""

from __future__ import annotations

import math

from a3c_jax.acting.worker_state import ReplayErrors

FIRST = 100  # Minibatches before any can be an outlier: ours.
_NEWEST = 0.01  # Weight of the newest one after the first 100: ours.


def is_outlier(error: float, before: ReplayErrors, deviations: float) -> bool:
  """Returns whether an error is above mean + k · standard deviation.

  It is if it is not finite. Otherwise it is not among the first 100.

  Args:
    error: mean |δ| of a minibatch.
    before: of the minibatches before it.
    deviations: k, above 0.
  """
  if not math.isfinite(error):
    return True
  if before.count < FIRST:
    return False
  return error > before.mean + deviations * math.sqrt(before.variance)


def updated(before: ReplayErrors, error: float) -> ReplayErrors:
  """Returns the mean and the variance with one more error.

      d = x - m,    m ← m + w d,    v ← (1 - w) (v + w d²)

  The n-th minibatch has the weight w = 1/n up to the 100th, so that m and v are
  those of all, and 0.01 afterwards.

  Outliers count as all others do, so that errors may grow for good: if they
  jump to another value, no more minibatches in a row are outliers than until
  1 - 0.99^n > 1 / (1 + k²). With k = 3 these are 11. Errors that are not finite
  do not count.

  Args:
    before: of the minibatches before.
    error: mean |δ| of the next one.
  """
  if not math.isfinite(error):
    return before
  count = before.count + 1
  weight = max(1 / count, _NEWEST)
  difference = error - before.mean
  return ReplayErrors(
    count=count,
    mean=before.mean + weight * difference,
    variance=(1 - weight) * (before.variance + weight * difference**2),
  )
