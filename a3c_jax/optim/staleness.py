"""Corrections of stale gradients, before the optimizer gets them."""

from __future__ import annotations

from typing import NamedTuple

import jax

from a3c_jax.core import types
from a3c_jax.optim import factored

RATES = ('none', 'inverse')


def inverse(lag: int) -> float:
  """Returns 1 / lag, the factor of the learning rate; 1 without a lag.

  Source: Zhang et al. 2016, arXiv:1511.05950.

  Args:
    lag: updates between the version of the gradient and the newest one, ≥ 0.
  """
  return 1.0 / max(1, lag)


def compensated(
  grads: types.Params,
  params: types.Params,
  read_params: types.Params,
  strength: float,
) -> types.Params:
  """Returns g + λ g ⊙ g ⊙ (θ - θ'), a gradient for the newest parameters.

  λ g ⊙ g takes the place of the diagonal of the Hessian in a Taylor series. As
  g sums over the steps of a segment, g ⊙ g grows with their square.

  Source: Zheng et al. 2017, arXiv:1609.08326.

  Args:
    grads: g, dense, like `trained(params)`.
    params: θ, the newest.
    read_params: θ', of which g is the gradient.
    strength: λ ≥ 0.
  """
  return jax.tree.map(
    lambda g, new, old: g + strength * g * g * (new - old),
    types.trained(grads),
    types.trained(params),
    types.trained(read_params),
  )


_compensated = jax.jit(compensated)


class Correction(NamedTuple):
  """What a store does with a gradient that is stale."""

  rate: str = 'none'  # one of `RATES`, of the learning rate
  compensation: float = 0.0  # λ of `compensated`; 0 for none

  def factor(self, lag: int) -> float:
    """Returns the factor of the learning rate."""
    return inverse(lag) if self.rate == 'inverse' else 1.0

  def corrected(
    self,
    grads: types.Params,
    params: types.Params,
    read_params: types.Params | None,
  ) -> types.Params:
    """Returns the compensated gradient; the same without compensation.

    Args:
      grads: dense or factored.
      params: the newest.
      read_params: of which `grads` are the gradient; None if they are the
        newest.
    """
    if not self.compensation or read_params is None or read_params is params:
      return grads
    return _compensated(
      factored.dense(grads), params, read_params, self.compensation
    )


UNCORRECTED = Correction()
