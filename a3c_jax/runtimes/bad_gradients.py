"""Drops gradients that are not finite."""

from __future__ import annotations

import jax
import numpy as np

from a3c_jax.core import errors, events, types
from a3c_jax.optim import factored


class BadGradients:
  """Drops gradients that are not finite, until there are too many in a row.

  Those of segments and of minibatches count apart.
  """

  def __init__(self, most: int, source: str):
    """Starts with none.

    Args:
      most: how many in a row may be dropped.
      source: where they come from, in words.
    """
    self._most = most
    self._source = source
    self._in_a_row = {False: 0, True: 0}  # Of segments, of minibatches.

  def checked(
    self, grads: types.Params, values: np.ndarray, *, of_replay: bool = False
  ) -> tuple[types.Params | None, events.Event]:
    """Returns the gradients, or None instead, and the event to report.

    Args:
      grads: dense or factored.
      values: [S] float32, the scalars of the update; the last is their norm.
      of_replay: whether they are of a minibatch from a replay memory.

    Raises:
      BadGradientError: if there are too many in a row.
    """
    if np.isfinite(values[-1]):
      self._in_a_row[of_replay] = 0
      return grads, events.LearningStatistics(values, of_replay)
    self._in_a_row[of_replay] += 1
    first = _first_not_finite(grads)
    in_a_row = self._in_a_row[of_replay]
    if in_a_row > self._most:
      raise errors.BadGradientError(
        f'{in_a_row} gradients in a row are not finite; in the last, '
        f'{first} is the first'
      )
    return None, events.Incident(
      'bad_gradients',
      f'gradient of {self._source} dropped: {first} is not finite',
    )


def _first_not_finite(grads: types.Params) -> str:
  for path, leaf in jax.tree_util.tree_leaves_with_path(factored.dense(grads)):
    if not np.isfinite(leaf).all():
      return jax.tree_util.keystr(path, simple=True, separator='/')
  return 'the global norm'
