"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable

import optax

from a3c_jax.optim.rule import UpdateRule, of_optax


def momentum_sgd(
  learning_rate: Callable[[int], float], *, momentum: float
) -> UpdateRule:
  """Returns stochastic gradient descent, with a momentum for each worker.

      m ← α m + (1 - α) Δθ,    θ ← θ - η m

  Source: Mnih et al. 2016, arXiv:1602.01783, section 7.

  Args:
    learning_rate: η as a function of global emulator frames.
    momentum: α per update, in [0, 1).
  """
  return of_optax(
    optax.ema(momentum, debias=False), learning_rate, per_worker=True
  )
