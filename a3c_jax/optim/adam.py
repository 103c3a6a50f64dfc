"""Adam and RAdam, with moments that are shared or one set per worker."""

from __future__ import annotations

from collections.abc import Callable

import optax

from a3c_jax.optim.rule import UpdateRule, of_optax


def adam(
  learning_rate: Callable[[int], float],
  *,
  epsilon: float,
  per_worker: bool = False,
) -> UpdateRule:
  """Returns Adam with moments m and v.

      m ← β₁ m + (1 - β₁) Δθ,    v ← β₂ v + (1 - β₂) Δθ²
      θ ← θ - η m / (1 - β₁^k) / (√(v / (1 - β₂^k)) + ε)

  k is the number of updates of these moments, this one included; β₁ is 0.9 and
  β₂ is 0.999.
  Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1.

  Args:
    learning_rate: η as a function of global emulator frames.
    epsilon: ε, gradient units.
    per_worker: whether each worker has moments of its own.
  """
  return _rule(optax.scale_by_adam, learning_rate, epsilon, per_worker)


def radam(
  learning_rate: Callable[[int], float],
  *,
  epsilon: float,
  per_worker: bool = False,
) -> UpdateRule:
  """Returns rectified Adam: while v is of few gradients, its steps are smaller.

      ρ_∞ = 2 / (1 - β₂) - 1,    ρ = ρ_∞ - 2 k β₂^k / (1 - β₂^k)
      r = √((ρ - 4) (ρ - 2) ρ_∞ / ((ρ_∞ - 4) (ρ_∞ - 2) ρ))

  Adam's step is multiplied by r where ρ >= 5. Before, the step is
  η m / (1 - β₁^k). m, v, k and β are those of `adam`.
  Source: Liu et al. 2020, arXiv:1908.03265, Algorithm 2, with 5 in the place
  of 4 as in optax.

  Args:
    learning_rate: η as a function of global emulator frames.
    epsilon: ε, gradient units.
    per_worker: whether each worker has moments of its own.
  """
  return _rule(optax.scale_by_radam, learning_rate, epsilon, per_worker)


def _rule(scale_by, learning_rate, epsilon, per_worker) -> UpdateRule:
  return of_optax(
    scale_by(b1=0.9, b2=0.999, eps=epsilon),
    learning_rate,
    per_worker=per_worker,
  )
