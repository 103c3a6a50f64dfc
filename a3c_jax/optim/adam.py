"""Adam, with statistics that all workers share."""

from __future__ import annotations

from collections.abc import Callable

import optax

from a3c_jax.optim.rule import UpdateRule, of_optax


def adam(
  learning_rate: Callable[[int], float], *, epsilon: float
) -> UpdateRule:
  """Returns Adam with moments m and v that all workers share.

      m ← β₁ m + (1 - β₁) Δθ,    v ← β₂ v + (1 - β₂) Δθ²
      θ ← θ - η m / (1 - β₁^k) / (√(v / (1 - β₂^k)) + ε)

  k is the number of updates, this one included; β₁ is 0.9 and β₂ is 0.999.
  Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1.

  Args:
    learning_rate: η as a function of global emulator frames.
    epsilon: ε, gradient units.
  """
  return of_optax(
    optax.scale_by_adam(b1=0.9, b2=0.999, eps=epsilon), learning_rate
  )
