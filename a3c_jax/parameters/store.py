"""The interface of a parameter store and its records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import types
from a3c_jax.core.events import Event
from a3c_jax.optim.rule import UpdateRule
from a3c_jax.optim.staleness import UNCORRECTED, Correction
from a3c_jax.replay import memory as memory_lib


class Played(NamedTuple):
  """What a store must know of one worker's segment."""

  worker: int  # index, from 0
  worker_state: WorkerState  # of the worker after this segment
  acted_versions: np.ndarray  # [T] int64, `updates` of the version of each step
  events: tuple[Event, ...] = ()
  statistics: types.RunningStatistics | None = None  # of raw observations
  transitions: memory_lib.Transitions | None = None  # for the replay memory


class Replayed(NamedTuple):
  """Errors of a minibatch, for the priorities of the replay memory."""

  worker: int  # that drew it
  where: np.ndarray  # [B, 2] int64, as in `memory.Minibatch`
  errors: np.ndarray  # [B] float32, |δ|


class Trace(NamedTuple):
  """What repeats a contribution of an asynchronous worker, and checks it."""

  reads: tuple[int, ...]  # `Version.pushes` of the versions it read, in order
  of_segment: int  # checksum of the actions, rewards and observations
  of_gradient: int  # checksum of its scalars
  new_seed: int | None = None  # of environments that replaced failing ones
  minibatches_due: int = 0  # after it
  memory_changes: int | None = None  # `Minibatch.changes`, if it is of one


class Contribution(NamedTuple):
  """One gradient, and the segments or minibatches that it is of.

  Plain data: it can be pickled, logged and replayed.
  """

  # Like `trained(params)`, or `factored.Factored` if the store accepts it; None
  # counts the frames alone.
  grads: types.Params | None
  frames: int  # emulator frames of all its segments
  read_version: int  # `updates` of the version of the gradient
  played: tuple[Played, ...]  # those of one worker are in their order
  events: tuple[Event, ...] = ()  # of the gradient
  optimizer: int = 0  # which optimizer state, if each worker has one
  rate_scale: float = 1.0  # factor of the learning rate
  replayed: tuple[Replayed, ...] = ()
  outliers: int = 0  # minibatches whose gradients a worker has discarded
  trace: Trace | None = None  # if the run is recorded
  read_params: types.Params | None = None  # for `staleness.Correction`


class LagBound(NamedTuple):
  """How old a gradient may be when it is applied.

  Sources: Nair et al. 2015, arXiv:1507.04296, for `drop`; `wait` is ours.
  """

  most: int  # largest `Receipt.lag` of a gradient that is learnt
  # drop: an older one is not learnt. wait: no update makes one too old, and a
  # `push` waits for slower workers instead.
  when_late: Literal['drop', 'wait'] = 'drop'


class Dropped(NamedTuple):
  """How many gradients were finite, but are not learnt."""

  late: int = 0  # their lag exceeded the bound
  outliers: int = 0  # `Contribution.outliers`


class Receipt(NamedTuple):
  """The result of one `push`."""

  frames: int  # emulator frames of all workers after it
  version: int  # updates of all workers after it
  lag: int  # updates between `read_version` and this contribution
  lock_wait_seconds: float  # with the wait for slower workers


class Applied(NamedTuple):
  """One segment of a contribution that a store applied, for the log.

  The events of the gradient belong to its first segment.
  """

  receipt: Receipt
  worker: int
  # [T], updates from acting until this one; [0] if the gradient was dropped.
  policy_lags: np.ndarray
  time: float  # `time.perf_counter()` when it was applied
  events: tuple[Event, ...]
  trace: Trace | None = None  # of the contribution


class StoreState(NamedTuple):
  """The whole state of a store at one moment. It never changes."""

  version: types.Version
  optimizer_states: list[Any]  # one per worker, or one for all
  worker_states: list[WorkerState]
  memory: memory_lib.MemoryState | None = None


class ParameterStore(Protocol):
  """Owns the parameters.

  Workers read versions and push gradients. Only the store replaces a version.

  Attributes:
    factored_rows: how many rows the factors of a kernel's gradient may have, if
      `Contribution.grads` is a `factored.Factored`; 0: it may not be one.
  """

  factored_rows: int

  def read(self) -> types.Version:
    """Returns the newest whole version. Never waits for a `push`."""
    ...

  def push(
    self,
    contribution: Contribution,
    *,
    while_waiting: Callable[[], object] = lambda: None,
  ) -> Receipt:
    """Applies one contribution, once.

    If its lag exceeds the bound, its gradient is dropped and counted, with its
    events and errors. Everything else counts.

    Args:
      contribution: what to apply. A worker reads the version of its next
        gradient after this returns; a gradient of an older one may be late.
      while_waiting: called several times a second while the store waits for
        slower workers. It returns at once. If it raises, nothing is applied.

    Raises:
      IndexError: if there is no such worker; nothing is applied then.
      Exception: what `while_waiting` raised.
    """
    ...

  def leave(self, worker: int) -> None:
    """States that nobody need wait for a worker, until it pushes again.

    A worker leaves when its work is done. Else others might wait for ever.
    """
    ...

  def dropped(self) -> Dropped:
    """Returns what was dropped since the store was made. Never waits."""
    ...

  def drain(self) -> list[Applied]:
    """Returns what was applied since the last drain, in order.

    Each is returned once, by `drain` or by `capture`. Never waits for a `push`.
    """
    ...

  def capture(self, *, timeout: float = -1) -> tuple[StoreState, list[Applied]]:
    """Returns the state at one moment, and drains what was applied until then.

    Later contributions are neither in the state nor among the drained.

    Args:
      timeout: seconds to wait for a running `push`; -1 is no limit.

    Raises:
      TimeoutError: if the `push` has not ended; nothing is drained then.
    """
    ...

  def restore(self, state: StoreState) -> None:
    """Resumes from a captured state; no worker may run meanwhile.

    Workers that are not in the state keep their initial states. What was
    applied before and not drained is dropped.
    """
    ...

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    ...


class MakeStore(Protocol):
  """Makes a store at frame 0 with a fresh optimizer state."""

  def __call__(
    self,
    params: types.Params,
    rule: UpdateRule,
    *,
    worker_states: Sequence[WorkerState],
    target_period: types.TargetPeriod | None,
    statistics: types.RunningStatistics | None = None,
    memory: memory_lib.Memory | None = None,
    lag_bound: LagBound | None = None,
    correction: Correction = UNCORRECTED,
  ) -> ParameterStore:
    """Returns the store.

    Args:
      params: initial parameters, and initial target parameters.
      rule: how a gradient changes the parameters.
      worker_states: the initial state of each worker.
      target_period: between two copies into the target parameters; None for a
        learner without target.
      statistics: initial ones, if observations are normalized.
      memory: the replay memory, if the run has one. Only the store changes it.
      lag_bound: how old gradients may be; None for any age.
      correction: of gradients that are not of the newest version.
    """
    ...
