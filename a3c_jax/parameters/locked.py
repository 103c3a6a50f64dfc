"""A parameter store in one process, behind one lock."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.acting import normalization
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import types
from a3c_jax.optim import factored, staleness
from a3c_jax.optim.rule import UpdateRule
from a3c_jax.parameters.lag import Lags
from a3c_jax.parameters.store import (
  Applied,
  Contribution,
  Dropped,
  LagBound,
  Receipt,
  StoreState,
)
from a3c_jax.replay import memory as memory_lib

_POLL_SECONDS = 0.2  # Between two calls of `while_waiting`.


class LockedStore:
  """A `ParameterStore` that applies contributions one after another.

  A pytree is never edited in place, so `read` needs no lock: it returns a whole
  version. `push` locks read-modify-write: gradients may be stale, but no update
  is lost. (The paper updates without a lock.)

  Attributes:
    factored_rows: `factored.FEW_ROWS`, if the update rule accepts factors.
  """

  def __init__(
    self,
    params: types.Params,
    rule: UpdateRule,
    *,
    worker_states: Sequence[WorkerState],
    target_period: types.TargetPeriod | None,
    statistics: types.RunningStatistics | None = None,
    memory: memory_lib.Memory | None = None,
    lag_bound: LagBound | None = None,
    correction: staleness.Correction = staleness.UNCORRECTED,
  ):
    """Starts at frame 0; `MakeStore` explains the arguments."""
    self.factored_rows = factored.FEW_ROWS if rule.accepts_factored else 0
    self._rule = rule
    self._memory = memory
    self._lock = threading.Lock()
    self._pushed = threading.Condition(self._lock)  # Or a worker has left.
    self._lags = lag_bound and Lags(lag_bound, len(worker_states))
    self._dropped = Dropped()
    self._correction = correction
    self._target_period = target_period
    target_params = None if target_period is None else params
    self._version = types.Version(
      params, target_params, frames=0, updates=0, statistics=statistics
    )
    self._worker_states = list(worker_states)
    count = len(self._worker_states) if rule.per_worker else 1
    self._optimizer_states = [self._initial_state(params) for _ in range(count)]
    self._applied: collections.deque[Applied] = collections.deque()

  def _initial_state(self, params: types.Params) -> Any:
    # Else XLA compiles each shape apart.
    return jax.jit(self._rule.init)(params)

  def read(self) -> types.Version:
    """Returns the newest version, without a lock or a copy."""
    return self._version

  def push(
    self,
    contribution: Contribution,
    *,
    while_waiting: Callable[[], object] = lambda: None,
  ) -> Receipt:
    """Applies one contribution under the lock.

    The update rule gets the frame count before this segment. When the count of
    frames or updates crosses a multiple of the target's period, the target
    parameters become the updated parameters.

    Raises:
      IndexError: if there is no such worker; nothing is applied then.
      ValueError: if the replay memory refuses the transitions.
      Exception: what `while_waiting` raised; nothing is applied then.
    """
    self._check_workers(contribution)
    began = time.perf_counter()
    with self._lock:
      # Without a gradient there is no update, which nobody need delay.
      if self._lags and contribution.grads is not None:
        contribution = self._in_time(contribution, self._lags, while_waiting)
      waited = time.perf_counter() - began
      self._remember(contribution)
      old, slot = self._version, self._slot(contribution)
      params = old.params
      if contribution.grads is not None:
        grads, scale = self._corrected(contribution, params)
        params, self._optimizer_states[slot] = self._rule.apply(
          params, self._optimizer_states[slot], grads, old.frames, scale
        )
      return self._commit(contribution, params, waited)

  def _check_workers(self, contribution: Contribution) -> None:
    """Raises IndexError if a contribution names a worker that is not there."""
    workers = len(self._worker_states)
    for worker in (
      *(each.worker for each in contribution.played),
      contribution.optimizer,
    ):
      if not 0 <= worker < workers:
        raise IndexError(f'worker {worker}: there are {workers} workers')

  def _slot(self, contribution: Contribution) -> int:
    """Returns which optimizer state a contribution changes."""
    return contribution.optimizer if self._rule.per_worker else 0

  def _corrected(
    self, contribution: Contribution, params: types.Params
  ) -> tuple[types.Params, float]:
    """Returns the gradient, and the factor of the learning rate."""
    lag = self._version.updates - contribution.read_version
    grads = self._correction.corrected(
      contribution.grads, params, contribution.read_params
    )
    return grads, contribution.rate_scale * self._correction.factor(lag)

  def _commit(
    self, contribution: Contribution, params: types.Params, waited: float
  ) -> Receipt:
    """Makes the next version, and notes what led to it; the lock is held.

    Args:
      contribution: whose gradient is in the parameters.
      params: of the next version.
      waited: seconds for the lock.
    """
    old = self._version
    statistics = old.statistics
    for each in contribution.played:
      if statistics is not None and each.statistics is not None:
        statistics = normalization.merged(statistics, each.statistics)
    version = old._replace(
      params=params,
      frames=old.frames + contribution.frames,
      updates=old.updates + (contribution.grads is not None),
      statistics=statistics,
      pushes=old.pushes + 1,
    )
    if self._target_period and self._target_period.ends(old, version):
      version = version._replace(target_params=self._target_of(version))
    self._version = version
    receipt = Receipt(
      frames=version.frames,
      version=version.updates,
      lag=old.updates - contribution.read_version,
      lock_wait_seconds=waited,
    )
    self._note(contribution, receipt, old.updates)
    return receipt

  def _target_of(self, version: types.Version) -> types.Params:
    """Returns the newest parameters, as target parameters of a version."""
    return version.params

  def _note(
    self, contribution: Contribution, receipt: Receipt, updates: int
  ) -> None:
    """Keeps what a contribution says of its workers; the lock is held.

    Args:
      contribution: that was applied; without a gradient that was dropped.
      receipt: of it.
      updates: before it.
    """
    now, of_gradient = time.perf_counter(), contribution.events
    for each in contribution.played:
      self._worker_states[each.worker] = each.worker_state
      # Nothing learns from a gradient that is dropped.
      learnt = contribution.grads is not None
      lags = updates - each.acted_versions[: None if learnt else 0]
      self._applied.append(
        Applied(
          receipt,
          each.worker,
          lags,
          now,
          (*of_gradient, *each.events),
          contribution.trace,
        )
      )
      of_gradient = ()
    late, outliers = self._dropped
    self._dropped = Dropped(late, outliers + contribution.outliers)
    if self._lags:
      for each in contribution.played:
        self._lags.pushed(each.worker, receipt.version)
      self._pushed.notify_all()

  def _in_time(
    self,
    contribution: Contribution,
    lags: Lags,
    while_waiting: Callable[[], object],
  ) -> Contribution:
    """Waits for slower workers; drops and counts a gradient that is too old.

    The lock is held, but not while it waits.
    """
    workers = [each.worker for each in contribution.played]
    while lags.must_wait(workers, self._version.updates):
      while_waiting()
      self._pushed.wait(_POLL_SECONDS)
    if not lags.is_late(contribution.read_version, self._version.updates):
      return contribution
    self._dropped = self._dropped._replace(late=self._dropped.late + 1)
    return contribution._replace(grads=None, events=(), replayed=())

  def leave(self, worker: int) -> None:
    """States that nobody need wait for a worker, until it pushes again."""
    with self._lock:
      if self._lags:
        self._lags.left(worker)
        self._pushed.notify_all()

  def dropped(self) -> Dropped:
    """Returns what was dropped since the store was made, without a lock."""
    return self._dropped

  def _remember(self, contribution: Contribution) -> None:
    """Changes the memory as a contribution says; the lock is held."""
    if self._memory is None:
      return
    for each in contribution.replayed:
      self._memory.reprioritize(each.worker, each.where, each.errors)
    for each in contribution.played:
      if each.transitions is not None:
        self._memory.extend(each.worker, each.transitions)

  def drain(self) -> list[Applied]:
    """Returns what was applied since the last drain, in order; no lock."""
    applied = []
    # Not until it is empty: workers may append faster than this removes.
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
    memory = self._memory
    if memory is None or not memory.persistent:
      memory = None
    else:
      memory.seal()  # Workers need not wait for what is compressed before.
    with self._whole(timeout):
      # Copies: the next update donates the optimizer's arrays.
      optimizer_states = jax.tree.map(np.array, self._optimizer_states)
      state = StoreState(
        self.read(), optimizer_states, list(self._worker_states)
      )
      compressed = None if memory is None else memory.copied()
      applied = self.drain()
    if compressed:
      state = state._replace(memory=compressed())
    return state, applied

  @contextlib.contextmanager
  def _whole(self, timeout: float) -> Iterator[None]:
    """Runs a block between two updates.

    Raises:
      TimeoutError: if another thread holds the lock for so long.
    """
    if not self._lock.acquire(timeout=timeout):
      raise TimeoutError(f'the lock of the parameters is held for {timeout} s')
    try:
      yield
    finally:
      self._lock.release()

  def restore(self, state: StoreState) -> None:
    """Resumes from a captured state; no worker may run meanwhile.

    Workers that are not in the state keep their initial worker states and
    optimizer states.
    """
    version = state.version
    # Copies: each update donates the optimizer's arrays.
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
    if self._memory is not None and state.memory is not None:
      self._memory.restore(state.memory)
    if self._lags:
      self._lags.restart(version.updates)
    self._applied.clear()

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    with self._lock:  # Others may push, and an update donates these arrays.
      version = self._version
      optimizer_state = jax.tree.map(jnp.copy, self._optimizer_states[0])
    self._rule.apply(version.params, optimizer_state, grads, version.frames)
