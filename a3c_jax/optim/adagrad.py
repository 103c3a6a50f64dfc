"""AdaGrad, with sums of squares that all workers share."""

from __future__ import annotations

from collections.abc import Callable

import optax

from a3c_jax.optim.rule import UpdateRule, of_optax


def adagrad(
  learning_rate: Callable[[int], float], *, epsilon: float
) -> UpdateRule:
  """Returns AdaGrad with a sum of squares G that all workers share.

      G ← G + Δθ²,    θ ← θ - η Δθ / √(G + ε)

  G starts at 0.

  Source: Duchi et al. 2011 (Adaptive Subgradient Methods, JMLR 12), with
  diagonal matrices. There the constant is added to the root; here it is inside,
  as in optax.

  Args:
    learning_rate: η as a function of global emulator frames.
    epsilon: ε, squared gradient units.
  """
  # optax starts G at 0.1. That is ε here, which has the same effect.
  return of_optax(
    optax.scale_by_rss(initial_accumulator_value=0.0, eps=epsilon),
    learning_rate,
  )
