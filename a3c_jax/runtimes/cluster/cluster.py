"""The runtime of several processes, on one machine or many."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses

from a3c_jax.core import cpu, errors, fields
from a3c_jax.runtimes import runtime
from a3c_jax.runtimes.cluster import engine, place


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
  shards: int = fields.count(
    'Processes that hold the parameters, each an equal part of them. More of '
    'them share the traffic if they are on several machines.',
    most=1000,
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
    if self.lag_bound and self.when_late == 'wait' and self.shards > 1:
      raise errors.UsageError(
        f'--shards={self.shards}: with --when_late=wait one process must know '
        'all updates; allowed: 1, or --when_late=drop'
      )


@contextlib.contextmanager
def opened(
  settings: Settings, recipe: runtime.Recipe
) -> Iterator[runtime.Site]:
  """Connects to Ray within a block, and ends all processes of the run."""
  with engine.connected(
    settings.address, parts=settings.nodes, cpus=settings.threads
  ):
    found = place.Place(
      recipe,
      nodes=settings.nodes,
      threads=settings.threads,
      max_restarts=settings.max_restarts,
      fetch_updates=settings.fetch_updates,
      shards=settings.shards,
    )
    try:
      yield runtime.Site(
        found.arrange, found.make_store, found.place_memory, elsewhere=True
      )
    finally:
      found.close()


RUNTIME = runtime.Runtime(
  name='cluster',
  settings_type=Settings,
  arrange=None,
  description='threads of several processes or machines update as those of '
  'asynchronous, with a parameter server (Ray)',
  updates_alone=True,
  replays=True,
  defaults={'envs_per_thread': (8, 'ours: fewer messages for each frame')},
  open_elsewhere=opened,
  without={'record': 'whose workers are in other processes'},
)
