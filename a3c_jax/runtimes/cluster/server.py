"""The parameter server: a store in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import threading
import time
from typing import Any

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, types
from a3c_jax.optim import factored
from a3c_jax.parameters.store import (
  Applied,
  Contribution,
  Dropped,
  ParameterStore,
  StoreState,
)
from a3c_jax.replay import memory as memory_lib
from a3c_jax.runtimes.cluster import processes, wire


class Server:
  """A parameter store that other processes call. Made as an actor of Ray."""

  def __init__(self):
    """Starts without a store: `make` makes it."""
    self._store: ParameterStore
    # By worker. Logs arrive in parts, so the whole ones are kept here.
    self._states: dict[int, WorkerState] = {}
    self._memory: memory_lib.Memory | None = None
    self._lives: dict[int, int] = {}  # By worker.
    self._lock = threading.Lock()
    self._target: types.Params = None
    self._target_number = 0

  def make(
    self,
    luggage: processes.Luggage,
    params: types.Params,
    worker_states: Sequence[WorkerState],
    memory: Mapping[str, Any] | None,
    given: Mapping[str, Any],
  ) -> bool:
    """Makes the store at frame 0.

    Args:
      luggage: the recipe of the run.
      params: initial ones.
      worker_states: the initial state of each worker.
      memory: arguments of the replay memory of all nodes, if there is one.
      given: other arguments of `MakeStore`.

    Returns:
      Whether it accepts factored gradients.
    """
    recipe = luggage.opened('the parameter server')
    if memory is not None:
      self._memory = memory_lib.Memory(**memory)
    self._store = recipe.make_store(
      params,
      recipe.update_rule(),
      worker_states=worker_states,
      memory=self._memory,
      **given,
    )
    return self._store.factored_rows > 0

  def push(
    self, contribution: Contribution, known: wire.Known | None, life: int
  ) -> wire.Pushed:
    """Applies a contribution, as `ParameterStore.push`.

    Args:
      contribution: from `wire.packed`.
      known: the version that the caller has; None for an answer without news.
      life: of the process that pushes.

    Raises:
      RunError: if another process has taken over the workers of this one.
      Exception: as `ParameterStore.push`.
    """
    with self._lock:  # What is not refused belongs to what is taken over.
      for each in contribution.played:
        if self._lives.get(each.worker, life) != life:
          raise errors.RunError('another process has taken over this node')
      contribution = wire.unpacked(contribution, self._states)
    # Before the store is locked, so that several of them can do this at once.
    grads = factored.of_few_rows(contribution.grads)
    receipt = self._store.push(contribution._replace(grads=grads))
    return wire.Pushed(receipt, None if known is None else self.fetch(known))

  def fetch(self, known: wire.Known) -> wire.News:
    """Returns the newest version, without what the caller has."""
    version = self._store.read()
    target = self._number_of(version.target_params)
    updates, params, target_params = known.updates, None, None
    if version.updates >= known.updates + known.ahead:
      updates, params = version.updates, wire.leaves_of(version.params)
    if known.target != target:
      target_params = wire.leaves_of(version.target_params)
    return wire.News(
      frames=version.frames,
      updates=updates,
      target=target,
      params=params,
      target_params=target_params,
      statistics=version.statistics,
    )

  def _number_of(self, target_params: types.Params) -> int:
    """Returns the number of target parameters: they count from 1."""
    if target_params is None:
      return 0
    with self._lock:
      if target_params is not self._target:
        self._target = target_params
        self._target_number += 1
      return self._target_number

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

  def take_over(self, indexes: Sequence[int], life: int) -> list[WorkerState]:
    """Accepts pushes of a new process alone, which has some workers.

    An earlier process may still run, behind a network that was cut.

    Args:
      indexes: of the workers.
      life: of the process.

    Returns:
      The states of the workers after their newest contributions.
    """
    with self._lock:
      self._lives |= dict.fromkeys(indexes, life)
      return [self._states[index] for index in indexes]

  def of_memory(self, method: str, *arguments: Any) -> Any:
    """Calls a method of the replay memory."""
    return getattr(self._memory, method)(*arguments)

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    self._store.warm_up(factored.of_few_rows(wire.whole(grads)))
