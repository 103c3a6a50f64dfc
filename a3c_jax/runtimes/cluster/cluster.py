"""The runtime of several processes, on one machine or many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import logging
import threading
import time
from typing import Any

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import rollout
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import cpu, errors, fields, stopwatch, types
from a3c_jax.core import threads as threads_lib
from a3c_jax.runtimes import runtime
from a3c_jax.runtimes.cluster import (
  engine,
  node,
  processes,
  remote_store,
  server,
)
from a3c_jax.runtimes.runtime import Job, Worker

_POLL_SECONDS = 0.2
_STATUS_SECONDS = 1.0
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(runtime.BoundedLagSettings):
  """Settings of a cluster."""

  address: str = fields.setting(
    'Where the processes run. local: on this machine. HOST:PORT: on the '
    'machines of a cluster of Ray that runs there.',
    engine.ALLOWED,
    engine.is_address,
    default=engine.LOCAL,
    source='ours',
    may_change=True,
  )
  nodes: int = fields.count(
    'Processes that act and learn, each with --threads of its own. In a '
    'cluster of several machines, give each machine one.',
    most=1000,
    default=2,
    source='ours',
  )
  threads: int = fields.count(
    'Actor-learner threads of each node. Each has its own environments.',
    most=runtime.MOST_THREADS,
    default=max(1, cpu.cores() // 2),
    source='the cores of this machine, shared by two nodes',
  )
  max_restarts: int = fields.count(
    'How often each node is started again after its process or its machine '
    'has ended. If the parameter server has ended, the run resumes from its '
    'newest checkpoint, as often as this.',
    least=0,
    default=10,
    source='ours',
    may_change=True,
  )

  fetch_updates: int = fields.count(
    'A node takes the newest parameters with the answer to a push if they are '
    'so many updates ahead of those it has. More saves traffic and costs lag.',
    most=10**6,
    default=1,
    source='ours',
  )

  @property
  def num_workers(self) -> int:
    return self.nodes * self.threads

  @property
  def max_losses(self) -> int:
    return self.max_restarts

  def check_together(self) -> None:
    """Raises UsageError if nodes could not keep the bound of the lag."""
    super().check_together()
    if self.lag_bound and self.fetch_updates > 1:
      raise errors.UsageError(
        f'--fetch_updates={self.fetch_updates}: with --max_lag each answer '
        'must have the newest parameters; allowed: 1'
      )


@contextlib.contextmanager
def opened(
  settings: Settings, recipe: runtime.Recipe
) -> Iterator[runtime.Site]:
  """Connects to Ray within a block, and ends all processes of the run."""
  with engine.connected(
    settings.address, parts=settings.nodes, cpus=settings.threads
  ):
    place = _Place(settings, recipe)
    try:
      yield runtime.Site(place.arrange, place.make_store, elsewhere=True)
    finally:
      place.close()


class _Place:
  """The processes of one run."""

  def __init__(self, settings: Settings, recipe: runtime.Recipe):
    self._settings = settings
    self._recipe = recipe
    self._luggage = processes.Luggage.packed(recipe)
    self._server: Any = None
    self._accepts_factored = False
    self._cluster: Cluster | None = None

  def make_store(
    self,
    params: types.Params,
    rule: object,
    *,
    worker_states: Sequence[WorkerState],
    **given: Any,
  ) -> remote_store.RemoteStore:
    """Makes the store in a process of its own; a `MakeStore`."""
    import ray
    from ray.util import scheduling_strategies

    del rule  # It cannot be pickled: the server makes its own.
    here = scheduling_strategies.NodeAffinitySchedulingStrategy(
      ray.get_runtime_context().get_node_id(), soft=False
    )
    self._server = (
      ray.remote(server.Server)
      .options(
        num_cpus=0,
        # Pushes may wait for each other; questions may not wait for them.
        max_concurrency=self._recipe.num_workers + 4,
        scheduling_strategy=here,
      )
      .remote()
    )
    # Until the nodes have made the environments, all are like the first.
    states = [worker_states[0]] * self._recipe.num_workers
    self._accepts_factored = _answered(
      self._server.make.remote(
        self._luggage, params, worker_states=states, **given
      )
    )
    return remote_store.RemoteStore(
      self._server,
      params,
      accepts_factored=self._accepts_factored,
      asks=True,
    )

  def arrange(self, team: Sequence[Worker], job: Job) -> Cluster:
    each = self._settings.threads
    nodes = [
      _Node(
        number,
        range(number * each, (number + 1) * each),
        luggage=self._luggage,
        server=self._server,
        fetch_updates=self._settings.fetch_updates,
        accepts_factored=self._accepts_factored,
      )
      for number in range(self._settings.nodes)
    ]
    self._cluster = Cluster(
      team, job, nodes, max_restarts=self._settings.max_restarts
    )
    return self._cluster

  def close(self) -> None:
    """Closes the environments of all nodes, and ends their processes."""
    import ray

    if self._cluster:
      self._cluster.close()
    if self._server is not None:
      ray.kill(self._server)


class _Node:
  """A node as its driver sees it. Only the thread that drives it calls it."""

  def __init__(
    self,
    number: int,
    indexes: Sequence[int],
    *,
    luggage: processes.Luggage,
    server: Any,
    **given: Any,
  ):
    self.number = number
    self.indexes = indexes
    self.actor: Any = None
    self.status = node.Status({}, [], {}, 0, 0)
    self.alive = False
    self._luggage = luggage
    self._server = server
    self._given = given

  def start(self) -> Any:
    """Starts a process; returns the reference of its workers' states."""
    import ray

    self.actor = (
      ray.remote(node.Node)
      .options(
        num_cpus=len(self.indexes),
        max_concurrency=4,
        scheduling_strategy='SPREAD',
      )
      .remote()
    )
    return self.actor.make.remote(
      self._luggage,
      self._server,
      number=self.number,
      indexes=self.indexes,
      **self._given,
    )

  def saved(self) -> list[WorkerState]:
    """Returns the states of its workers after what the server has applied."""
    return _answered(self._server.worker_states.remote(self.indexes))

  def kill(self) -> None:
    import ray

    if self.actor is not None:
      ray.kill(self.actor)


class Cluster(runtime.Arrangement):
  """Nodes whose threads act and learn with the parameters of one server.

  A node that ends is started again, from the states after the contributions of
  it that were applied.

  Source: the parameter server of Dean et al. 2012, Large scale distributed
  deep networks, section 4.1, and of Nair et al. 2015, arXiv:1507.04296, with
  the workers of Mnih et al. 2016, arXiv:1602.01783.
  """

  def __init__(
    self,
    team: Sequence[Worker],
    job: Job,
    nodes: Sequence[_Node],
    *,
    max_restarts: int,
  ):
    super().__init__(team, job)
    self._nodes = nodes
    self._max_restarts = max_restarts
    self._restarts = 0
    self._rates = _Rates()

  def warm_up(self) -> types.Segment:
    """Has all nodes make and compile their parts, at the same time."""
    job = self._job
    states = _all_answered([each.start() for each in self._nodes])
    self._set_states(states)
    actor = actor_lib.in_training(job.learner, job.store.read)
    carry = self._team[0].state.carry
    return rollout.example_segment(actor, carry, job.spec.steps)

  def _set_states(self, of_nodes: Sequence[list[WorkerState]]) -> None:
    state, _ = self._job.store.capture()
    states = [state for of_node in of_nodes for state in of_node]
    self._job.store.restore(state._replace(worker_states=states))

  def resume(
    self,
    saved: Sequence[WorkerState],
    replay: Callable[[Sequence[Worker], Sequence[WorkerState]], None],
  ) -> list[WorkerState]:
    del replay  # Each node does so with its workers.
    states = _all_answered(
      [
        each.actor.resume.remote(
          [saved[i] for i in each.indexes if i < len(saved)]
        )
        for each in self._nodes
      ]
    )
    return [state for of_node in states for state in of_node]

  def threads(self) -> threads_lib.ThreadGroup:
    return threads_lib.ThreadGroup.numbered(
      lambda index, stop: self._drive(self._nodes[index], stop),
      len(self._nodes),
      name='node',
    )

  def _drive(self, of: _Node, stop: threading.Event) -> None:
    """Has a node work until all is done; starts it again if it ends."""
    from ray import exceptions

    restarts = 0
    while True:
      try:
        self._work(of, stop)
        return
      except exceptions.RayActorError as error:
        if stop.is_set():
          return
        of.alive = False
        if restarts == self._max_restarts:
          raise errors.LostError(
            f'node {of.number} has ended {restarts + 1} times, and '
            f'--max_restarts={restarts}'
          ) from error
        restarts += 1
        self._restarts += 1
        _logger.warning(
          'node %d has ended; it starts again, %d of at most %d times',
          of.number,
          restarts,
          self._max_restarts,
        )
        try:
          for index in of.indexes:
            self._job.store.leave(index)
          self._answer(of.start(), stop)
          saved = of.saved()
          self._answer(of.actor.resume.remote(saved), stop)
        except exceptions.RayActorError:
          continue  # It has ended again.

  def _work(self, of: _Node, stop: threading.Event) -> None:
    work = of.actor.work.remote()
    of.alive = True
    asked = False
    status, beats = of.actor.status.remote(), {}
    while not _ready(work):
      if _ready(status, timeout=0):
        of.status = _answered(status)
        for incident in of.status.incidents:
          self._job.incidents.add(incident)
        if of.status.beats != beats:
          beats = of.status.beats
          threads_lib.beat()
        stop.wait(_STATUS_SECONDS)
        status = of.actor.status.remote()
      if stop.is_set() and not asked:
        asked = True
        of.actor.stop.remote()
    _answered(work)
    of.alive = False

  def _answer(self, reference: Any, stop: threading.Event) -> Any:
    """Waits for an answer of a node that starts again."""
    while not _ready(reference):
      if stop.is_set():
        raise threads_lib.Stopped
      threads_lib.beat()
    return _answered(reference)

  def gauges(self) -> dict[str, float]:
    statuses = [each.status for each in self._nodes]
    nodes = {
      'nodes': sum(each.alive for each in self._nodes),
      'node_restarts': self._restarts,
    }
    return (
      super().gauges()
      | nodes
      | self._rates.of(
        sent=sum(status.sent for status in statuses),
        received=sum(status.received for status in statuses),
      )
    )

  def phases(self) -> dict[str, float]:
    phases: dict[str, float] = dict.fromkeys(stopwatch.PHASES, 0.0)
    for each in self._nodes:
      for name, seconds in each.status.phases.items():
        phases[name] += seconds
    return phases

  def close(self) -> None:
    """Closes the environments of all nodes, and ends their processes."""
    import ray

    closing = [each.actor.close.remote() for each in self._nodes if each.actor]
    if closing:
      ray.wait(closing, num_returns=len(closing), timeout=node.STOP_SECONDS)
    for each in self._nodes:
      each.kill()


class _Rates:
  """Megabytes per second, from counts of bytes."""

  def __init__(self):
    self._before: dict[str, int] = {}
    self._at = time.perf_counter()

  def of(self, **counts: int) -> dict[str, float]:
    now = time.perf_counter()
    seconds, self._at = max(now - self._at, 1e-9), now
    rates = {
      f'{name}_megabytes_per_second': round(
        max(0, count - self._before.get(name, 0)) / 1e6 / seconds, 3
      )
      for name, count in counts.items()
    }
    self._before = counts
    return rates


def _ready(reference: Any, timeout: float = _POLL_SECONDS) -> bool:
  import ray

  ready, _ = ray.wait([reference], timeout=timeout, fetch_local=False)
  return bool(ready)


def _answered(reference: Any) -> Any:
  """Returns an answer; an error of the other side is raised as it was.

  Raises:
    RayActorError: if the process has ended.
    Exception: what it raised.
  """
  import ray
  from ray import exceptions

  try:
    return ray.get(reference)
  except exceptions.RayTaskError as error:
    cause = error.cause
    if isinstance(cause, Exception) and not isinstance(
      cause, exceptions.RayError
    ):
      raise cause from error
    raise


def _all_answered(references: Sequence[Any]) -> list[Any]:
  """Returns answers of processes that are being set up."""
  left = list(references)
  while left:
    ready = [each for each in left if _ready(each)]
    for each in ready:
      _answered(each)  # Its error at once, not after the slowest answer.
    left = [each for each in left if each not in ready]
    threads_lib.beat()
  return [_answered(each) for each in references]


RUNTIME = runtime.Runtime(
  name='cluster',
  settings_type=Settings,
  arrange=None,
  description='threads of several processes or machines update as those of '
  'asynchronous, with a parameter server (Ray)',
  updates_alone=True,
  open_elsewhere=opened,
)
