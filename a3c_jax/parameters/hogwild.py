"""A parameter store without locks, as in the paper."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.core import types
from a3c_jax.parameters.store import Contribution
from a3c_jax.parameters.unlocked import UnlockedStore


class HogwildStore(UnlockedStore):
  """Adds each update to shared arrays, without a lock.

  A worker computes its update from a copy of the parameters and of the
  optimizer state. It adds the step to the parameters in place: if two workers
  add to the same number at the same moment, one of the two may be lost. It
  writes the optimizer state in place: of two that overlap, the last one stays.
  A version is a copy, made while others write: it may have parts of an update.

  Sources: Niu et al. 2011, arXiv:1106.5730; Mnih et al. 2016, arXiv:1602.01783,
  section 4.
  """

  def _set_buffers(self) -> None:
    super()._set_buffers()
    self._leaves = [np.array(leaf) for leaf in self._leaves]
    self._optimizer_states = jax.tree.map(np.array, self._optimizer_states)
    self._newest = -1, self._version.params

  def _snapshot(self) -> types.Params:
    passed, params = self._newest
    if self._gate.empty and self._gate.passed == passed:
      return params  # Nobody has written since.
    passed, quiet = self._gate.passed, self._gate.empty
    # Copies, which JAX may keep: it takes arrays for unchangeable.
    params = self._joined([jnp.array(leaf) for leaf in self._leaves])
    if quiet and self._gate.empty and self._gate.passed == passed:
      self._newest = passed, params
    return params

  def _update(self, contribution: Contribution) -> float:
    params = self._snapshot()
    slot = self._slot(contribution)
    shared = self._optimizer_states[slot]
    grads, scale = self._corrected(contribution, params)
    # Copies: the rule donates the state.
    state = jax.tree.map(jnp.array, shared)
    changed, new_state = self._rule.apply(
      params, state, grads, self._version.frames, scale
    )
    before, after = (
      jax.tree.leaves(types.trained(each)) for each in (params, changed)
    )
    for buffer, old, new in zip(self._leaves, before, after, strict=True):
      np.add(buffer, np.asarray(new) - np.asarray(old), out=buffer)
    # Differences of mean squares would add up to less than 0.
    for buffer, new in zip(
      jax.tree.leaves(shared), jax.tree.leaves(new_state), strict=True
    ):
      np.copyto(buffer, new)
    return 0.0
