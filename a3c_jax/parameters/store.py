"""What a parameter store does: workers read versions and push contributions."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import types
from a3c_jax.core.events import Event


class Contribution(NamedTuple):
  """What one worker made of one segment.

  Plain data: it can be pickled, logged and replayed.
  """

  worker: int  # index, from 0
  grads: (
    types.Params | None
  )  # like `trained(params)`, or `factored.Factored` if
  # the store accepts it; None counts the frames alone
  frames: int  # emulator frames since the worker's last contribution
  read_version: int  # updates in the parameters that the gradient is of
  worker_state: WorkerState  # where the worker stands once this is applied
  events: tuple[Event, ...] = ()
  statistics: types.RunningStatistics | None = None  # of the observations seen


class Receipt(NamedTuple):
  """What `push` tells about one contribution."""

  frames: int  # emulator frames of all workers after it
  version: int  # updates of all workers after it
  staleness: int  # updates between `read_version` and this contribution
  lock_wait_seconds: float


class Applied(NamedTuple):
  """One contribution that a store has applied, for the log."""

  receipt: Receipt
  worker: int
  time: float  # `time.perf_counter()` when it was applied
  events: tuple[Event, ...]


class StoreState(NamedTuple):
  """All of a store at one moment. Nothing changes it afterwards."""

  version: types.Version
  optimizer_states: list[Any]  # one per worker, or one for all
  worker_states: list[WorkerState]


class ParameterStore(Protocol):
  """Holds the parameters that many workers read and update.

  Attributes:
    accepts_factored: whether `Contribution.grads` may be `factored.Factored`.
  """

  accepts_factored: bool

  def read(self) -> types.Version:
    """Returns the newest whole version. Never waits for a `push`."""

  def push(self, contribution: Contribution) -> Receipt:
    """Applies one contribution.

    Raises:
      IndexError: if there is no such worker; nothing is applied then.
    """

  def drain(self) -> list[Applied]:
    """Returns what was applied since the last drain, in order.

    Each is returned once, by `drain` or by `capture`. Never waits for a `push`.
    """

  def capture(self, *, timeout: float = -1) -> tuple[StoreState, list[Applied]]:
    """Returns the state at one moment, and drains what was applied until then.

    What is applied later is neither in the state nor among the drained.

    Args:
      timeout: seconds to wait for a `push` that does not end; -1 is no limit.

    Raises:
      TimeoutError: after that; nothing is drained then.
    """

  def restore(self, state: StoreState) -> None:
    """Resumes from a captured state; no worker may run meanwhile.

    Workers beyond those of the state keep what they began with. What was
    applied before and not drained is dropped.
    """

  def warm_up(self, grads: types.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
