"""A parameter store with a lock for each array of parameters."""

from __future__ import annotations

import threading
import time
from typing import Any

import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.parameters.store import Contribution
from a3c_jax.parameters.unlocked import UnlockedStore


class PerLeafStore(UnlockedStore):
  """Changes each array under its own lock: no update of an array is lost.

  Threads may change different arrays at once, and a version may have one array
  of an update without the others. The optimizer sees each array apart.
  """

  def _set_buffers(self) -> None:
    super()._set_buffers()
    self._locks = [threading.Lock() for _ in self._leaves]

  def _initial_state(self, params: types.Params) -> Any:
    init = jax.jit(self._rule.init)
    return [init(leaf) for leaf in jax.tree.leaves(types.trained(params))]

  def _snapshot(self) -> types.Params:
    return self._joined(list(self._leaves))

  def _update(self, contribution: Contribution) -> float:
    frames = self._version.frames
    grads, scale = self._corrected(contribution, self._snapshot())
    states = self._optimizer_states[self._slot(contribution)]
    waited = 0.0
    for index, grad in enumerate(jax.tree.leaves(types.trained(grads))):
      began = time.perf_counter()
      with self._locks[index]:
        waited += time.perf_counter() - began
        self._leaves[index], states[index] = self._rule.apply(
          self._leaves[index], states[index], grad, frames, scale
        )
    return waited

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    for index, grad in enumerate(jax.tree.leaves(types.trained(grads))):
      with self._locks[index]:
        leaf = self._leaves[index]
        state = jax.tree.map(jnp.copy, self._optimizer_states[0][index])
      self._rule.apply(leaf, state, grad, self._version.frames)
