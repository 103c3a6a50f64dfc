"""The parameter server: a store in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
import time
from typing import Any

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import types
from a3c_jax.parameters.store import (
  Applied,
  Contribution,
  Dropped,
  ParameterStore,
  StoreState,
)
from a3c_jax.runtimes.cluster import processes, wire


class Server:
  """A parameter store that other processes call. Made as an actor of Ray."""

  def __init__(self):
    """Starts without a store: `make` makes it."""
    self._store: ParameterStore
    # By worker. Logs arrive in parts, so the whole ones are kept here.
    self._states: dict[int, WorkerState] = {}
    self._target: types.Params = None
    self._target_number = 0

  def make(
    self, luggage: processes.Luggage, params: types.Params, **given: Any
  ) -> bool:
    """Makes the store at frame 0, as `MakeStore` says.

    Returns:
      Whether it accepts factored gradients.
    """
    recipe = luggage.opened('the parameter server')
    self._store = recipe.make_store(params, recipe.update_rule(), **given)
    return self._store.accepts_factored

  def push(
    self, contribution: Contribution, known: wire.Known, fetch_updates: int
  ) -> wire.Pushed:
    """Applies a contribution, as `ParameterStore.push`.

    Args:
      contribution: from `wire.packed`.
      known: the version that the caller has.
      fetch_updates: the answer has the newest version if that is so many
        updates ahead of the known one.
    """
    receipt = self._store.push(wire.unpacked(contribution, self._states))
    news = None
    if self._store.read().updates >= known.updates + fetch_updates:
      news = self.fetch(known)
    return wire.Pushed(receipt, news)

  def fetch(self, known: wire.Known) -> wire.News:
    """Returns the newest version, without what the caller has."""
    version = self._store.read()
    if version.target_params is not self._target:
      self._target = version.target_params
      self._target_number += 1
    number = self._target_number
    params = target_params = None
    if known.updates != version.updates:
      params = wire.leaves_of(version.params)
    if known.target != number:
      target_params = wire.leaves_of(version.target_params)
    return wire.News(
      frames=version.frames,
      updates=version.updates,
      target=number,
      params=params,
      target_params=target_params,
      statistics=version.statistics,
    )

  def leave(self, workers: Sequence[int]) -> None:
    """States that nobody need wait for some workers, until they push again."""
    for worker in workers:
      self._store.leave(worker)

  def dropped(self) -> Dropped:
    """Returns what was dropped since the store was made."""
    return self._store.dropped()

  def drain(self) -> tuple[list[Applied], float]:
    """Returns what was applied, and this process's time."""
    return self._store.drain(), time.perf_counter()

  def capture(self, timeout: float) -> tuple[StoreState, list[Applied], float]:
    """Returns the state, what was applied, and this process's time."""
    state, applied = self._store.capture(timeout=timeout)
    return wire.to_numpy(state), applied, time.perf_counter()

  def restore(self, state: StoreState) -> None:
    """Resumes from a captured state."""
    self._store.restore(state)
    self._states = dict(enumerate(state.worker_states))

  def worker_states(self, indexes: Sequence[int]) -> list[WorkerState]:
    """Returns the states after the newest contributions of some workers."""
    return [self._states[index] for index in indexes]

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    self._store.warm_up(wire.whole(grads))
