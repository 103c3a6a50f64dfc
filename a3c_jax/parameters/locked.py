"""Parameters of one process behind one lock."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.acting import normalization
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import types
from a3c_jax.optim.rule import UpdateRule
from a3c_jax.parameters.store import (
  Applied,
  Contribution,
  Receipt,
  StoreState,
)


class LockedStore:
  """A `ParameterStore` whose contributions are applied one after another.

  A pytree is never edited in place, so `read` takes no lock: it hands out a
  whole version, never half of one. `push` guards read-modify-write; gradients
  may be stale, no update is lost. (The paper updates without a lock.)

  Attributes:
    accepts_factored: whether the update rule does.
  """

  def __init__(
    self,
    params: types.Params,
    rule: UpdateRule,
    *,
    worker_states: Sequence[WorkerState],
    target_period_frames: int | None,
    statistics: types.RunningStatistics | None = None,
  ):
    """Starts at frame 0 with a fresh optimizer state.

    Args:
      params: where learning starts; the target parameters start there too.
      rule: what a gradient does to the parameters.
      worker_states: where each worker starts; there are as many workers.
      target_period_frames: emulator frames between two copies into the target
        parameters; None for a learner without target.
      statistics: of no observations yet, where they are normalised.
    """
    self.accepts_factored = rule.accepts_factored
    self._rule = rule
    self._lock = threading.Lock()
    self._target_period_frames = target_period_frames
    target_params = None if target_period_frames is None else params
    self._version = types.Version(
      params, target_params, frames=0, updates=0, statistics=statistics
    )
    self._worker_states = list(worker_states)
    count = len(self._worker_states) if rule.per_worker else 1
    self._optimizer_states = [rule.init(params) for _ in range(count)]
    self._applied: collections.deque[Applied] = collections.deque()

  def read(self) -> types.Version:
    """Returns the newest version, without a lock or a copy."""
    return self._version

  def push(self, contribution: Contribution) -> Receipt:
    """Applies one contribution under the lock.

    The update rule gets the frames before this segment. The target parameters
    become the updated ones when the count crosses a multiple of the period.

    Raises:
      IndexError: if there is no such worker; nothing is applied then.
    """
    worker, grads, frames, read_version, worker_state, events, seen = (
      contribution
    )
    if not 0 <= worker < len(self._worker_states):
      raise IndexError(
        f'worker {worker}: there are {len(self._worker_states)} workers'
      )
    slot = worker if self._rule.per_worker else 0
    began = time.perf_counter()
    with self._lock:
      waited = time.perf_counter() - began
      old = self._version
      params, updates = old.params, old.updates
      if grads is not None:
        params, self._optimizer_states[slot] = self._rule.apply(
          params, self._optimizer_states[slot], grads, old.frames
        )
        updates += 1
      total = old.frames + frames
      period = self._target_period_frames
      crossed = period is not None and total // period > old.frames // period
      target_params = params if crossed else old.target_params
      statistics = old.statistics
      if statistics is not None and seen is not None:
        statistics = normalization.merged(statistics, seen)
      self._version = types.Version(
        params, target_params, total, updates, statistics
      )
      self._worker_states[worker] = worker_state
      receipt = Receipt(total, updates, old.updates - read_version, waited)
      self._applied.append(
        Applied(receipt, worker, time.perf_counter(), events)
      )
    return receipt

  def drain(self) -> list[Applied]:
    """Returns what was applied since the last drain, in order; no lock."""
    applied = []
    # Not until it is empty: workers may append faster than this takes.
    for _ in range(len(self._applied)):
      try:
        applied.append(self._applied.popleft())
      except IndexError:  # Another thread drains too.
        break
    return applied

  def capture(self, *, timeout: float = -1) -> tuple[StoreState, list[Applied]]:
    """Returns the state between two pushes, and drains what was applied.

    Args:
      timeout: seconds to wait for the lock; -1 is no limit.

    Raises:
      TimeoutError: if another thread holds the lock for so long.
    """
    if not self._lock.acquire(timeout=timeout):
      raise TimeoutError(f'the lock of the parameters is held for {timeout} s')
    try:
      # Copies: the next update takes the optimizer's arrays away.
      optimizer_states = jax.tree.map(np.array, self._optimizer_states)
      state = StoreState(
        self._version, optimizer_states, list(self._worker_states)
      )
      return state, self.drain()
    finally:
      self._lock.release()

  def restore(self, state: StoreState) -> None:
    """Resumes from a captured state; no worker may run meanwhile.

    If there are more workers than in the state, the new ones keep the worker
    states and optimizer states that they began with.
    """
    version = state.version
    # Copies: the optimizer's arrays are given away at each update.
    params, target_params, optimizer_states = jax.tree.map(
      jnp.array,
      (version.params, version.target_params, state.optimizer_states),
    )
    self._version = version._replace(params=params, target_params=target_params)
    for own, restored in (
      (self._optimizer_states, optimizer_states),
      (self._worker_states, state.worker_states),
    ):
      restored = restored[: len(own)]
      own[: len(restored)] = restored
    self._applied.clear()

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    version = self._version
    optimizer_state = jax.tree.map(jnp.copy, self._optimizer_states[0])
    self._rule.apply(version.params, optimizer_state, grads, version.frames)
