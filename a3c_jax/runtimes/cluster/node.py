"""A node: the process of a cluster in which some workers play and learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import threading
import time
from typing import Any, NamedTuple

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import events
from a3c_jax.core import threads as threads_lib
from a3c_jax.replay.memory import Memory
from a3c_jax.runtimes import asynchronous, runtime
from a3c_jax.runtimes.cluster import (
  actors,
  memories,
  processes,
  remote_store,
  sharding,
  wire,
)

STOP_SECONDS = 5.0  # For the threads of a node to end.
_PERIOD_SECONDS = 0.5
_BUSY = 0.1  # Of a processor's time, which a process that computes needs.


class Status(NamedTuple):
  """How a node is doing."""

  beats: dict[str, int] = {}  # signs of life of each thread, by its name
  incidents: list[events.Incident] = []  # since the last status
  phases: dict[str, float] = {}  # seconds by phase, of all threads
  sent: int = 0  # bytes of arrays so far
  received: int = 0
  replay_size: int = 0  # transitions that its first worker may draw


class Node:
  """Threads that act and learn as in one process. Made as an actor of Ray."""

  def __init__(self):
    """Starts without workers: `make` makes them."""
    self._recipe: runtime.Recipe
    self._members: runtime.Members
    self._store: remote_store.RemoteStore
    self._arrangement: asynchronous.Asynchronous
    self._starting = threading.Lock()
    self._stopping = threading.Event()
    self._group: threads_lib.ThreadGroup | None = None
    self._calls = 0  # Of `work`.

  def make(
    self,
    luggage: processes.Luggage,
    servers: Sequence[actors.Actor],
    *,
    number: int,
    indexes: Sequence[int],
    of_store: Mapping[str, Any],
  ) -> list[WorkerState]:
    """Makes workers, and compiles what they need.

    Args:
      luggage: the recipe of the run.
      servers: that hold the parameters.
      number: of this node.
      indexes: of the workers, among those of the whole run.
      of_store: arguments of the `RemoteStore`.

    Returns:
      The initial states of the workers.

    Raises:
      HungError: if an environment hangs while it is made or reset.
      Exception: what an environment raised.
    """

    def make_store(params, rule, *, memory=None, **given):
      del rule, given  # They are the server's.
      own = memory if isinstance(memory, Memory) else None
      self._store = remote_store.RemoteStore(
        sharding.joined(servers, params), params, memory=own, **of_store
      )
      return self._store

    def place_memory(memory):
      if not memory.arguments['shared']:
        return memory
      return memories.ServersMemory(memory, lambda: servers[0])

    def arrange(team, job):
      return asynchronous.Asynchronous(team, job, runtime.BoundedLagSettings())

    who = f'node {number}'
    self._recipe = luggage.opened(who)
    with processes.naming(who):
      self._members = self._made(
        who, indexes, runtime.Site(arrange, make_store, place_memory)
      )
    self._arrangement = arrange(*self._members)
    self._arrangement.warm_up()
    return self._states()

  def _made(
    self, who: str, indexes: Sequence[int], site: runtime.Site
  ) -> runtime.Members:
    """Makes the members in a thread that is watched."""
    made: list[runtime.Members] = []
    group = threads_lib.ThreadGroup(
      {
        f'{who}, setting up,': lambda stop: made.append(
          self._recipe.members(indexes, site)
        )
      }
    )
    watchdog = threads_lib.Watchdog(self._recipe.watchdog_seconds)
    group.start()
    busy, before = 0, (time.perf_counter(), time.process_time())
    while group.wait(_PERIOD_SECONDS):
      # JAX shows no sign of life while it compiles; Ray needs a little always.
      now = time.perf_counter(), time.process_time()
      busy += now[1] - before[1] > _BUSY * (now[0] - before[0])
      before = now
      watchdog.check(
        {name: (beats, busy) for name, beats in group.alive().items()}
      )
    if group.error is not None:
      raise group.error
    return made[0]

  def resume(self, saved: Sequence[WorkerState]) -> list[WorkerState]:
    """Brings the workers to saved states; returns their states after that."""
    if self._store.memory is not None:  # It is empty.
      saved = [state._replace(minibatches_due=0) for state in saved]
    self._recipe.replay(self._members, saved)
    return self._states()

  def _states(self) -> list[WorkerState]:
    return wire.to_numpy([each.state for each in self._members.team])

  def work(self) -> None:
    """Acts and learns until all frames of the run are done, or `stop`.

    A later call, of a driver that has missed the answer, waits for the same. An
    earlier one returns then, so that there are always threads for other calls.

    Raises:
      HungError: if a thread hangs.
      Exception: what a thread raised first.
    """
    with self._starting:
      if self._group is None:
        self._store.forget()
        self._group = self._arrangement.threads()
        self._group.start()
      self._calls += 1
      call, group = self._calls, self._group
    watchdog = threads_lib.Watchdog(self._recipe.watchdog_seconds)
    try:
      while (
        group.wait(_PERIOD_SECONDS)
        and not self._stopping.is_set()
        and call == self._calls
      ):
        watchdog.check(group.alive())
    finally:
      if call == self._calls:
        group.stop(STOP_SECONDS)
    if group.error is not None:
      raise group.error

  def status(self) -> Status:
    """Returns how the node is doing."""
    memory, first = self._store.memory, self._members.team[0].index
    return Status(
      beats=self._group.alive() if self._group else {},
      incidents=self._members.job.incidents.drain(),
      phases=self._arrangement.phases(),
      sent=self._store.sent,
      received=self._store.received,
      replay_size=0 if memory is None else memory.size(first),
    )

  def stop(self) -> None:
    """Has `work` return; unfinished segments are discarded."""
    self._stopping.set()
    if self._group:
      self._group.wake()

  def close(self) -> None:
    """Closes the environments."""
    threads_lib.close(
      [worker.env.close for worker in self._members.team],
      seconds=STOP_SECONDS,
    )
