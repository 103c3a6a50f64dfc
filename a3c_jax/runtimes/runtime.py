"""Workers, which own their environments, and the job that they share."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.core import cpu, errors, events, fields, stopwatch, types
from a3c_jax.core import threads as threads_lib
from a3c_jax.envs import replayable, spaces
from a3c_jax.optim import staleness
from a3c_jax.optim.rule import UpdateRule
from a3c_jax.parameters import locked
from a3c_jax.parameters.store import (
  LagBound,
  MakeStore,
  ParameterStore,
  WorkerState,
)
from a3c_jax.replay import memory as memory_lib
from a3c_jax.runtimes import staleness as staleness_meter

MOST_THREADS = 1000
# The help of a setting that two runtimes have.
INJECT_LAG = (
  'What is held back, in memory, before the oldest is learnt, to study the '
  'effect of lag: gradients of each thread, or with --runtime=queues batches '
  'of segments of all agents. What is held back when a run ends is lost.'
)
_DEAD_IN = 64  # A unit that gives 0 in so many observations is dead.


@dataclasses.dataclass
class Worker:
  """One worker and what it owns. No other thread changes it while it works.

  Attributes:
    index: in [0, number of workers).
    env: K environments.
    exploration_epsilon: ε of each, [K], as a function of emulator frames.
    state: where its work starts; there is none before `start`.
    stopwatch: adds up the seconds of each phase of its work.
    seen: observations [T+1, K, ...] of its newest segment, if it is worker 0;
      None before the first. Other threads may read them.
  """

  index: int
  env: replayable.Recorded
  exploration_epsilon: Callable[[int], np.ndarray]
  state: WorkerState = dataclasses.field(init=False)
  stopwatch: stopwatch.Stopwatch = dataclasses.field(
    default_factory=stopwatch.Stopwatch
  )
  seen: Any = None

  def start(self, learner: types.Learner, *, seed: int, key: jax.Array) -> None:
    """Resets the environments, which start their first episodes."""
    carry = carry_lib.start(self.env, learner, seed=seed, key=key)
    self.state = WorkerState(carry, self.env.action_log())

  def replace_env(self, make_env: Callable[[], replayable.Recorded]) -> int:
    """Replaces environments that failed; returns the seed of the new ones.

    Raises:
      ValueError: if the new ones have another number or other spaces.
    """
    seed = replayable.next_seed(int(self.env.action_log().seeds[0]))
    before = self.env.num_envs, spaces.of(self.env)
    self.env.abandon()
    self.env = make_env()
    after = self.env.num_envs, spaces.of(self.env)
    if after != before:
      raise ValueError(
        f'environments that replace those of thread {self.index} differ: '
        f'{after} instead of {before}'
      )
    return seed


class Replay(NamedTuple):
  """How the workers of a run learn from a replay memory."""

  memory: memory_lib.Memory
  gradients: Callable[..., tuple[types.Params, types.Stats, jax.Array]]
  batch_size: int  # sequences of a minibatch
  minibatches: int  # after each segment
  start: int  # transitions that it must hold for a worker before the first
  beta: Callable[[int], float]  # β of importance weights, by emulator frames
  # A gradient is discarded if the error of its minibatch is so many standard
  # deviations above the mean; 0 for never.
  outlier_deviations: float = 0.0


class Job(NamedTuple):
  """What all workers of a run share."""

  learner: types.Learner
  gradients: Callable[..., tuple[types.Params, jax.Array]]  # clipped
  store: ParameterStore
  max_grad_norm: float | None  # of `gradients`
  seed: int
  spec: rollout.RolloutSpec
  frames: int  # emulator frames of all workers, after which they end
  action_repeat: int  # emulator frames per agent step
  make_env: Callable[[], replayable.Recorded]  # replaces one that fails
  incidents: events.EventQueue
  max_env_restarts: int  # of each worker
  max_bad_gradients: int  # in a row
  replay: Replay | None = None
  lag_bound: LagBound | None = None  # of the store
  traced: bool = False  # whether contributions have a trace
  inject_lag: int = 0  # gradients that each worker holds back
  # Whether contributions have the parameters that their gradients are of.
  needs_read_params: bool = False
  meter: staleness_meter.Meter | None = None  # if gradients are measured


class Arrangement(abc.ABC):
  """The workers of a run, arranged by a runtime."""

  def __init__(self, team: Sequence[Worker], job: Job):
    self._team = team
    self._job = job

  @abc.abstractmethod
  def warm_up(self) -> types.Segment:
    """Compiles what its threads call; plays and changes nothing.

    Returns:
      A segment of the shape of those that give gradients.
    """

  def resume(
    self,
    saved: Sequence[WorkerState],
    replay: Callable[[Sequence[Worker], Sequence[WorkerState]], None],
  ) -> list[WorkerState]:
    """Brings the workers to saved states, before `threads`.

    Args:
      saved: of the workers of the run, in their order. Workers beyond them
        keep their states.
      replay: does so with workers of this process.

    Returns:
      The states of all workers after that.
    """
    replay(self._team, saved)
    return [worker.state for worker in self._team]

  @abc.abstractmethod
  def threads(self) -> threads_lib.ThreadGroup:
    """Makes the threads that do the job, once, and starts none."""

  def gauges(self) -> dict[str, float]:
    """Returns figures of this moment for train.csv; always the same names."""
    job, figures = self._job, {}
    if job.replay:
      figures['replay_size'] = job.replay.memory.size(0)
      if job.replay.outlier_deviations:
        figures['outlier_gradients'] = job.store.dropped().outliers
    if job.meter:
      figures['staleness_cosine'] = job.meter.mean()
    if job.lag_bound:
      figures['late_gradients'] = job.store.dropped().late
    return figures | self._dead_units()

  @functools.cached_property
  def _num_layers(self) -> int:
    """How many layers tell their dead units; computes nothing of them."""
    measure = self._job.learner.dead_units
    if measure is None:
      return 0
    params, obs = self._job.store.read().params, self._team[0].state.carry.obs
    return len(jax.eval_shape(measure, params, obs))

  def _dead_units(self) -> dict[str, float]:
    """Returns the share of dead units of each layer; NaN before a segment."""
    measure, seen = self._job.learner.dead_units, self._team[0].seen
    shares = [math.nan] * self._num_layers
    if measure and seen is not None and shares:
      params, seen = self._job.store.read().params, np.asarray(seen)
      seen = seen.reshape(-1, *seen.shape[2:])
      chosen = np.linspace(0, len(seen) - 1, min(len(seen), _DEAD_IN))
      shares = np.asarray(measure(params, seen[chosen.astype(int)])).tolist()
    return {
      f'dead_units_{number}': share for number, share in enumerate(shares, 1)
    }

  def phases(self) -> dict[str, float]:
    """Returns the seconds of each of `stopwatch.PHASES`, of all threads."""
    return stopwatch.added(worker.stopwatch for worker in self._team)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Base of a runtime's own settings; has none itself.

  Each field is a `fields.setting` with a default and a source.
  """

  @property
  def num_workers(self) -> int:
    """How many workers own environments."""
    raise NotImplementedError

  @property
  def lag_bound(self) -> LagBound | None:
    """How old gradients may be; None for any age."""
    return None

  @property
  def make_store(self) -> MakeStore:
    """Makes the store of the parameters."""
    return locked.LockedStore

  @property
  def correction(self) -> staleness.Correction:
    """What the store does with stale gradients."""
    return staleness.UNCORRECTED

  @property
  def held_gradients(self) -> int:
    """How many gradients each worker holds back before it applies one."""
    return 0

  @property
  def measured_gradients(self) -> int:
    """How many gradients of a worker for one that is measured; 0: none is."""
    return 0

  @property
  def recorded(self) -> bool:
    """Whether contributions have a trace, with which the run is repeated."""
    return False

  @property
  def max_losses(self) -> int:
    """How often a run resumes after it has lost a process that it needs."""
    return 0

  def check_together(self) -> None:
    """Raises UsageError if values are allowed one by one, but not together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreadSettings(Settings):
  """Base of the settings of runtimes whose threads all act and learn."""

  threads: int = fields.count(
    'Actor-learner threads. Each has its own environments.',
    most=MOST_THREADS,
    default=min(2 * cpu.cores(), 16),
    source="twice the cores, at most the paper's 16",
  )

  @property
  def num_workers(self) -> int:
    return self.threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundedLagSettings(ThreadSettings):
  """Base of the settings of runtimes whose workers update one by one."""

  max_lag: int = fields.count(
    'Largest number of updates between the version that a gradient is of and '
    'the one that it changes; 0 for no bound.',
    least=0,
    default=0,
    source='paper: no bound',
  )
  when_late: str = fields.one_of(
    'With --max_lag. drop: a gradient with a larger lag is not learnt. wait: '
    'none gets a larger lag, since faster workers wait for slower ones.',
    ('drop', 'wait'),
    default='drop',
    source='Nair et al. 2015, Gorila',
  )

  @property
  def lag_bound(self) -> LagBound | None:
    if not self.max_lag:
      return None
    return LagBound(
      self.max_lag, 'wait' if self.when_late == 'wait' else 'drop'
    )

  def check_together(self) -> None:
    """Raises UsageError if workers would wait for each other for ever."""
    super().check_together()
    least = self.num_workers - 1
    if self.lag_bound and self.when_late == 'wait' and self.max_lag < least:
      raise errors.UsageError(
        f'--max_lag={self.max_lag}: with --when_late=wait each of '
        f'{self.num_workers} workers must be able to wait for the others; '
        f'allowed: at least {least}, or 0 for no bound'
      )


class Members(NamedTuple):
  """Some workers of a run, and what they share."""

  team: list[Worker]
  job: Job


class Recipe(Protocol):
  """How a process makes its parts of a run. It can be pickled."""

  @property
  def num_workers(self) -> int:
    """Workers of the whole run."""
    ...

  @property
  def make_store(self) -> MakeStore:
    """Makes the store of the run."""
    ...

  @property
  def watchdog_seconds(self) -> float:
    """Without a sign of life, after which a thread hangs."""
    ...

  def update_rule(self) -> UpdateRule:
    """Makes the optimizer of the run."""
    ...

  def members(self, indexes: Sequence[int], site: Site) -> Members:
    """Makes workers of some indexes, and starts their environments."""
    ...

  def replay(self, members: Members, saved: Sequence[WorkerState]) -> None:
    """Brings workers to saved states by the actions of their logs."""
    ...


class Site(NamedTuple):
  """Where the workers and the parameters of one run are.

  Attributes:
    arrange: `(team, job)` gives the arrangement.
    make_store: makes the store of the run.
    place_memory: from the replay memory as it would be in this process, gives
      the one that workers and services of this process use.
    elsewhere: whether the workers are in other processes. Then the team of this
      one is a single worker, which never works: it has the spaces and the
      shapes of all.
  """

  arrange: Callable[[Sequence[Worker], Job], Arrangement]
  make_store: MakeStore
  place_memory: Callable[[memory_lib.Memory], Any] = lambda memory: memory
  elsewhere: bool = False


class Runtime(NamedTuple):
  """A way to arrange workers. `registry.register` makes it known to scripts.

  Attributes:
    name: the value of `--runtime`.
    settings_type: the dataclass of its own settings. Each is a flag.
    arrange: `(team, job, settings)` gives the arrangement of workers in this
      process; None if they are elsewhere.
    description: one sentence for `--help`.
    updates_alone: whether each worker updates by itself, so that an optimizer
      may have a state for each.
    replays: whether its workers may learn from a replay memory.
    defaults: of common settings, where it has others, with their sources.
    without: by name, why it lacks a setting of another runtime, if that is not
      plain; for the message that refuses it.
    open_elsewhere: `(settings, recipe)` gives a context of a Site, for workers
      in other processes. None if all are in this one.
  """

  name: str
  settings_type: type[Settings]
  arrange: Callable[[Sequence[Worker], Job, Any], Arrangement] | None
  description: str
  updates_alone: bool = False
  replays: bool = False
  defaults: Mapping[str, tuple[Any, str]] = MappingProxyType({})
  without: Mapping[str, str] = MappingProxyType({})
  open_elsewhere: (
    Callable[[Any, Recipe], contextlib.AbstractContextManager[Site]] | None
  ) = None

  def opened(
    self, settings: Settings, recipe: Recipe
  ) -> contextlib.AbstractContextManager[Site]:
    """Returns a context in which workers and parameters have their place."""
    if self.open_elsewhere:
      return self.open_elsewhere(settings, recipe)
    arrange = self.arrange
    assert arrange is not None
    return contextlib.nullcontext(
      Site(lambda team, job: arrange(team, job, settings), recipe.make_store)
    )

  @property
  def settings(self) -> dict[str, dataclasses.Field]:
    """Returns the fields of its settings by name."""
    return {
      field.name: field for field in dataclasses.fields(self.settings_type)
    }
