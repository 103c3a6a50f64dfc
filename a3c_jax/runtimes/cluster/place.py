"""The processes of one run, as its driver sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import logging
import threading
import time
from typing import Any

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import rollout
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, stopwatch, types
from a3c_jax.core import threads as threads_lib
from a3c_jax.replay.memory import Memory
from a3c_jax.runtimes import runtime
from a3c_jax.runtimes.cluster import (
  actors,
  memories,
  node,
  processes,
  remote_store,
  server,
  sharding,
  wire,
)
from a3c_jax.runtimes.runtime import Job, Worker

_STATUS_SECONDS = 1.0
_SILENT_SECONDS = 10.0  # Until a node that does not answer is reported.
_LEAST_SECONDS = 2.0  # Of which a rate is taken.
_logger = logging.getLogger(__name__)


class Place:
  """Starts the processes of one run, and ends them."""

  def __init__(
    self,
    recipe: runtime.Recipe,
    *,
    nodes: int,
    threads: int,
    max_restarts: int,
    fetch_updates: int,
    shards: int,
  ):
    """Starts none yet.

    Args:
      recipe: of the parts of the run.
      nodes: processes that act and learn.
      threads: of each.
      max_restarts: how often each of them is started again.
      fetch_updates: as for `RemoteStore`.
      shards: processes that hold the parameters.

    Raises:
      UsageError: if the recipe cannot be sent to other processes.
    """
    self._recipe = recipe
    self._luggage = processes.Luggage.packed(recipe)
    self._num_nodes = nodes
    self._threads = threads
    self._max_restarts = max_restarts
    self._fetch_updates = fetch_updates
    self._shards = shards
    self._servers: list[actors.Actor] = []
    self._store: remote_store.RemoteStore
    self._nodes: list[NodeClient] = []

  def make_store(
    self,
    params: types.Params,
    rule: object,
    *,
    worker_states: Sequence[WorkerState],
    memory: Any = None,
    **given: Any,
  ) -> remote_store.RemoteStore:
    """Makes the store in a process of its own; a `MakeStore`."""
    del rule  # It cannot be pickled: the server makes its own.
    workers = self._recipe.num_workers
    parts = [params]
    if self._shards > 1:
      partition = sharding.Partition(params, self._shards)
      parts = partition.split_variables(params)
    of_memory = None
    if isinstance(memory, memories.ServersMemory):
      of_memory = memory.arguments
    # Until the nodes have made the environments, all are like the first.
    states = [worker_states[0]] * workers
    for part in parts:
      first = not self._servers
      # Pushes may wait for each other. Questions may not wait for them.
      made = actors.Actor(
        server.Server, cpus=0, threads=workers + 4, here=first
      )
      self._servers.append(made)
      with _needed('the parameter server'):
        accepts_factored = made.tell(
          'make',
          self._luggage,
          wire.to_numpy(part),
          states,
          of_memory if first else None,
          given,
        )
    self._store = remote_store.RemoteStore(
      sharding.joined(self._servers, params),
      params,
      # The factors of a kernel cannot be cut.
      accepts_factored=accepts_factored and self._shards == 1,
      asks=True,
    )
    return self._store

  def place_memory(self, memory: Memory) -> Any:
    """Returns the replay memory of the nodes, or those of each, for here."""
    if memory.arguments['shared']:
      return memories.ServersMemory(memory, lambda: self._servers[0])
    return memories.NodesMemories(
      memory, lambda: [each.status.replay_size for each in self._nodes]
    )

  def arrange(self, team: Sequence[Worker], job: Job) -> Cluster:
    """Returns the arrangement of the nodes."""
    each = self._threads
    self._nodes = [
      NodeClient(
        number,
        range(number * each, (number + 1) * each),
        luggage=self._luggage,
        servers=self._servers,
        accepts_factored=job.store.factored_rows > 0,
        fetch_updates=self._fetch_updates,
      )
      for number in range(self._num_nodes)
    ]
    return Cluster(
      team,
      job,
      self._nodes,
      max_restarts=self._max_restarts,
      part_updates=lambda: self._store.part_updates,
    )

  def close(self) -> None:
    """Closes all environments, and ends all processes."""
    started = [each for each in self._nodes if each.started]
    closing = [each.actor.start('close') for each in started]
    for reference in closing:
      actors.is_ready(reference, node.STOP_SECONDS)
    for each in started:
      each.actor.kill()
    for each in self._servers:
      each.kill()


class NodeClient:
  """A node as its driver sees it.

  Attributes:
    number: among the nodes of the run.
    indexes: of its workers, among those of the run.
    actor: the newest process.
    started: whether there is one.
    alive: whether it works.
    status: the newest that is known.
  """

  def __init__(
    self,
    number: int,
    indexes: Sequence[int],
    *,
    luggage: processes.Luggage,
    servers: Sequence[actors.Actor],
    **of_store: Any,
  ):
    """Starts no process yet.

    Args:
      number: among the nodes of the run.
      indexes: of its workers, among those of the run.
      luggage: the recipe of the run.
      servers: that hold the parameters.
      **of_store: arguments of the node's `RemoteStore`.
    """
    self.number = number
    self.indexes = indexes
    self.actor: actors.Actor
    self.started = False
    self.alive = False
    self.status = node.Status()
    self._luggage = luggage
    self._servers = servers
    self._of_store = of_store
    self._starts = 0

  def start(self) -> Any:
    """Starts a process; returns the reference of its workers' states.

    Ends an earlier one, which may be out of reach and not know it.
    """
    if self.started:
      self.actor.kill()
    self._starts += 1
    self.actor = actors.Actor(node.Node, cpus=len(self.indexes), threads=4)
    self.started = True
    return self.actor.start(
      'make',
      self._luggage,
      self._servers,
      number=self.number,
      indexes=self.indexes,
      of_store=self._of_store | {'life': self._starts},
    )

  def take_over(self) -> list[WorkerState]:
    """Has the server accept pushes of the newest process alone.

    Returns:
      The states of its workers after the contributions that were applied.
    """
    return self._servers[0].ask('take_over', self.indexes, self._starts)


class Cluster(runtime.Arrangement):
  """Nodes whose threads act and learn with the parameters of one server.

  A node that ends is started again, from the states after those contributions
  of it that were applied.

  Source: Nair et al. 2015, arXiv:1507.04296 (Gorila), for the parameter server;
  Mnih et al. 2016, arXiv:1602.01783, section 4, for the workers.
  """

  def __init__(
    self,
    team: Sequence[Worker],
    job: Job,
    nodes: Sequence[NodeClient],
    *,
    max_restarts: int,
    part_updates: Callable[[], Sequence[int]],
  ):
    """Starts no thread yet.

    Args:
      team: one worker, with the spaces and shapes of all.
      job: of the run.
      nodes: of the run.
      max_restarts: how often each is started again.
      part_updates: returns the updates of each part of the parameters, if there
        are several.
    """
    super().__init__(team, job)
    self._part_updates = part_updates
    self._nodes = nodes
    self._max_restarts = max_restarts
    self._restarts = 0
    self._rates = _Rates()

  def warm_up(self) -> types.Segment:
    """Has all nodes make and compile their parts, at the same time."""
    store, spec = self._job.store, self._job.spec
    started = [each.start() for each in self._nodes]
    with _needed('a node'):
      states = actors.all_answered(started, _report_late)
    before, _ = store.capture()
    store.restore(before._replace(worker_states=_flat(states)))
    for each in self._nodes:
      each.take_over()
    actor = actor_lib.in_training(self._job.learner, store.read)
    carry = self._team[0].state.carry
    return rollout.example_segment(actor, carry, spec.steps)

  def resume(
    self,
    saved: Sequence[WorkerState],
    replay: Callable[[Sequence[Worker], Sequence[WorkerState]], None],
  ) -> list[WorkerState]:
    del replay  # Each node does so with its workers.
    resumed = [
      each.actor.start(
        'resume', [saved[index] for index in each.indexes if index < len(saved)]
      )
      for each in self._nodes
    ]
    with _needed('a node'):
      return _flat(actors.all_answered(resumed, _report_late))

  def threads(self) -> threads_lib.ThreadGroup:
    return threads_lib.ThreadGroup.numbered(
      lambda index, stop: self._drive(self._nodes[index], stop),
      len(self._nodes),
      name='node',
    )

  def _drive(self, of: NodeClient, stop: threading.Event) -> None:
    """Has a node work until all is done; starts it again if it ends.

    Raises:
      RunError: if it has ended once too often.
      LostError: if the parameter server has ended.
      Exception: what a thread of the node raised.
    """
    restarts, ended = 0, False
    while True:
      try:
        if ended:
          self._restart(of, stop)
        self._work(of, stop)
        return
      except (actors.EndedError, actors.UnansweredError) as error:
        of.alive = False
        if stop.is_set():
          return
        if restarts == self._max_restarts:
          raise errors.RunError(
            f'node {of.number} has ended {restarts + 1} times; allowed: '
            f'--max_restarts={restarts}'
          ) from error
        restarts += 1
        self._restarts += 1
        ended = True
        _logger.warning(
          'node %d has ended; it starts again, %d of at most %d times',
          of.number,
          restarts,
          self._max_restarts,
        )

  def _restart(self, of: NodeClient, stop: threading.Event) -> None:
    """Starts a node again, where its applied contributions left off."""
    for index in of.indexes:
      self._job.store.leave(index)
    go_on = functools.partial(_check, stop)
    actors.all_answered(
      [of.start()],
      lambda _: _logger.warning(
        'node %d waits for a machine with %d free CPUs, or is slow to start',
        of.number,
        len(of.indexes),
      ),
      while_waiting=go_on,
    )
    try:
      saved = of.take_over()
    except actors.EndedError as error:
      raise remote_store.lost() from error
    resumed = of.actor.start('resume', saved)
    actors.all_answered([resumed], while_waiting=go_on)

  def _work(self, of: NodeClient, stop: threading.Event) -> None:
    """Has a node work until all is done, and passes on its signs of life."""
    work, status = of.actor.start('work'), of.actor.start('status')
    of.alive, asked, due, heard = True, False, 0.0, time.perf_counter()
    while True:
      if actors.is_ready(work):
        try:
          actors.answered(work)
          break
        except actors.UnansweredError:
          work = of.actor.start('work')  # It still works: this one waits too.
      now = time.perf_counter()
      if now > heard + _SILENT_SECONDS and of.alive:
        of.alive = False
        _logger.warning(
          'node %d has not answered for %g s', of.number, _SILENT_SECONDS
        )
      if now >= due and actors.is_ready(status, timeout=0):
        with contextlib.suppress(actors.UnansweredError):
          self._note(of, actors.answered(status))
          if not of.alive:
            _logger.warning('node %d answers again', of.number)
          heard, of.alive = now, True
        status, due = of.actor.start('status'), now + _STATUS_SECONDS
      if stop.is_set() and not asked:
        asked = True
        of.actor.start('stop')
    self._note(of, of.actor.ask('status'))
    of.alive = False

  def _note(self, of: NodeClient, status: node.Status) -> None:
    if status.beats != of.status.beats:
      threads_lib.beat()
    of.status = status
    for incident in status.incidents:
      self._job.incidents.add(incident)

  def gauges(self) -> dict[str, float]:
    statuses = [each.status for each in self._nodes]
    nodes = {
      'nodes': sum(each.alive for each in self._nodes),
      'node_restarts': self._restarts,
    }
    rates = self._rates.of(
      sent=sum(status.sent for status in statuses),
      received=sum(status.received for status in statuses),
    )
    shards = {
      f'shard{number}_updates': updates
      for number, updates in enumerate(self._part_updates())
    }
    return super().gauges() | nodes | rates | shards

  def phases(self) -> dict[str, float]:
    phases: dict[str, float] = dict.fromkeys(stopwatch.PHASES, 0.0)
    for each in self._nodes:
      for name, seconds in each.status.phases.items():
        phases[name] += seconds
    return phases


class _Rates:
  """Megabytes per second, from counts of bytes."""

  def __init__(self):
    self._before: dict[str, int] = {}
    self._rates: dict[str, float] = {}
    self._at = time.perf_counter()

  def of(self, **counts: int) -> dict[str, float]:
    """Returns the rates since the last call that was not a moment ago."""
    now = time.perf_counter()
    seconds = now - self._at
    # Counts are those of the newest status, which may be a second old.
    if seconds >= _LEAST_SECONDS or not self._rates:
      self._rates = {
        f'{name}_megabytes_per_second': round(
          # A node that starts again counts from 0.
          max(0, count - self._before.get(name, 0)) / 1e6 / seconds,
          3,
        )
        for name, count in counts.items()
      }
      self._before, self._at = counts, now
    return self._rates


def _report_late(count: int) -> None:
  _logger.warning(
    '%d nodes are not ready yet: they wait for machines with enough free CPUs, '
    'or are slow to start',
    count,
  )


@contextlib.contextmanager
def _needed(what: str) -> Iterator[None]:
  """Raises RunError if a process ends within a block."""
  try:
    yield
  except actors.EndedError as error:
    problem = errors.in_one_line(error)[:200]
    raise errors.RunError(
      f'{what} has ended before training began: {problem}'
    ) from error


def _flat(of_nodes: Sequence[Sequence[WorkerState]]) -> list[WorkerState]:
  return [state for of_node in of_nodes for state in of_node]


def _check(stop: threading.Event) -> None:
  """Raises Stopped if a thread has to stop; else shows a sign of its life."""
  if stop.is_set():
    raise threads_lib.Stopped
  threads_lib.beat()
