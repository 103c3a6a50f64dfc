"""An update rule: from a gradient to new parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax

from a3c_jax.core import types
from a3c_jax.optim import factored

OptimizerState = Any  # A pytree of arrays.


class Apply(Protocol):
  """How a rule applies one gradient."""

  def __call__(
    self,
    params: types.Params,
    optimizer_state: OptimizerState,
    grads: types.Params,
    frames: int,
    /,
    rate_scale: float = 1.0,
  ) -> tuple[types.Params, OptimizerState]:
    """Returns new parameters and a new optimizer state.

    Args:
      params: never donated: other threads still read them.
      optimizer_state: may be donated.
      grads: like `trained(params)`.
      frames: global emulator frames before the segment, a Python int.
      rate_scale: factor of the learning rate.
    """
    ...


class UpdateRule(NamedTuple):
  """How a gradient becomes new parameters, with its learning rate.

  Attributes:
    init: `(params) -> optimizer_state` gives that before the first gradient.
    apply: `(params, optimizer_state, grads, frames, rate_scale=1.0) -> (params,
      optimizer_state)` applies one gradient.
    per_worker: whether each worker has an optimizer state of its own.
    accepts_factored: whether gradients may be `factored.Factored`.
  """

  init: Callable[[types.Params], OptimizerState]
  apply: Apply
  per_worker: bool = False
  accepts_factored: bool = False


def of_optax(
  transformation: optax.GradientTransformation,
  learning_rate: Callable[[int], float],
  *,
  per_worker: bool = False,
  takes_factors: bool = False,
) -> UpdateRule:
  """Returns the rule θ ← θ - η · transformation(Δθ), one XLA program.

  Args:
    transformation: of dense gradients; it does not multiply by -η.
    learning_rate: η as a function of global emulator frames.
    per_worker: whether each worker has an optimizer state of its own.
    takes_factors: whether the transformation itself calls
      `factored.multiplied_out`.

  Returns:
    A rule that accepts dense and factored gradients.
  """

  def update(params, optimizer_state, grads, learning_rate):
    trained, grads = types.trained(params), types.trained(grads)
    if not takes_factors:
      grads = factored.multiplied_out(grads)
    direction, optimizer_state = transformation.update(
      grads, optimizer_state, trained
    )
    trained = jax.tree.map(
      lambda param, step: param - learning_rate * step, trained, direction
    )
    return types.with_trained(params, trained), optimizer_state

  # Only the optimizer state may be donated: one push at a time owns it, while
  # other threads continue to read parameters.
  program = jax.jit(update, donate_argnums=1)

  def apply(params, optimizer_state, grads, frames, rate_scale=1.0):
    # Computed from Python numbers. As an argument it causes no recompilation.
    rate = np.float32(learning_rate(frames) * rate_scale)
    return program(params, optimizer_state, factored.opened(grads), rate)

  return UpdateRule(
    init=lambda params: transformation.init(types.trained(params)),
    apply=apply,
    per_worker=per_worker,
    accepts_factored=True,
  )
