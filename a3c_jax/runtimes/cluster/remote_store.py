"""A parameter store whose parameters are in another process."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import threading
import time
from typing import Any

import jax

from a3c_jax.core import errors, types
from a3c_jax.optim import factored
from a3c_jax.parameters.store import (
  Applied,
  Contribution,
  Dropped,
  Receipt,
  StoreState,
)
from a3c_jax.replay.memory import Memory
from a3c_jax.runtimes.cluster import actors, wire
from a3c_jax.runtimes.cluster.sharding import ShardedServer


class RemoteStore:
  """A `ParameterStore` in front of a `server.Server`.

  All threads of a process share one, and the newest version that any of them
  has got. So `read` is as quick as that of a store in this process, and each
  push brings back the version after it.

  A push is sent once: if no answer comes, its gradient may be lost, but none is
  applied twice. Questions are asked again.

  Attributes:
    factored_rows: more than a store in this process has, because factors of so
      many rows are still much smaller than their product.
    sent: bytes of arrays sent to the server.
    received: bytes of arrays received from it.
    memory: the replay memory of this process, if it has one of its own.
  """

  def __init__(
    self,
    server: actors.Actor | ShardedServer,
    params: types.Params,
    *,
    accepts_factored: bool,
    fetch_updates: int = 1,
    life: int = 0,
    memory: Memory | None = None,
    asks: bool = False,
  ):
    """Gets the first version.

    Args:
      server: that of the run.
      params: parameters of that structure.
      accepts_factored: whether the server accepts factored gradients.
      fetch_updates: a push brings back the newest version if it is so many
        updates ahead of that of here.
      life: of this process: the server accepts only pushes of the newest.
      memory: the replay memory of this process, if it has one of its own.
      asks: whether `read` asks the server. For a process that never pushes.
    """
    self.factored_rows = factored.FEW_ROWS_TO_SEND if accepts_factored else 0
    self.sent = self.received = 0
    self._server = server
    self._structure = jax.tree.structure(params)
    self._asks = asks
    self._fetch_updates = fetch_updates
    self._life = life
    self.memory = memory
    self._lock = threading.Lock()
    # By worker, how many actions of its log the server has.
    self._actions_sent: dict[int, int | None] = {}
    self._known = wire.NOTHING
    self._version = types.Version(params, None, frames=-1, updates=-1)
    self._fetch()

  def read(self) -> types.Version:
    """Returns the newest version that this process has.

    If the server is lost, that is the last one. All else raises then.
    """
    if self._asks:
      with contextlib.suppress(errors.LostError):
        self._fetch()
    return self._version

  @property
  def part_updates(self) -> list[int]:
    """Updates of each part in the newest version, if there are several."""
    if isinstance(self._server, ShardedServer):
      return self._server.updates
    return []

  def push(
    self,
    contribution: Contribution,
    *,
    while_waiting: Callable[[], object] = lambda: None,
  ) -> Receipt:
    """Sends a contribution, and may get the newest version after it.

    Raises:
      LostError: if the server has ended.
      Exception: what `while_waiting` raised; the server may still apply it.
    """
    if self.memory is not None:
      contribution = _remembered(contribution, self.memory)
    message = wire.packed(contribution, self._actions_sent)
    self.sent += wire.num_bytes(message)
    try:
      pushed = self._server.tell(
        'push',
        message,
        self._known._replace(ahead=self._fetch_updates),
        self._life,
        while_waiting=while_waiting,
      )
    except actors.UnansweredError:
      # If it has not arrived, the next log must be sent as a whole.
      for each in contribution.played:
        self._actions_sent[each.worker] = None
      version = self._fetch()
      return Receipt(
        frames=version.frames,
        version=version.updates,
        lag=version.updates - contribution.read_version,
        lock_wait_seconds=0.0,
      )
    except actors.EndedError as error:
      raise lost() from error
    if pushed.news is not None:
      self._take(pushed.news)
    return pushed.receipt

  def leave(self, worker: int) -> None:
    """States that nobody need wait for a worker, until it pushes again."""
    self._ask('leave', [worker])

  def dropped(self) -> Dropped:
    """Returns what the server has dropped."""
    return self._ask('dropped')

  def drain(self) -> list[Applied]:
    """Returns what was applied since the last drain, in this clock's time."""
    applied, now = self._ask('drain')
    return _in_time_of_here(applied, now)

  def capture(self, *, timeout: float = -1) -> tuple[StoreState, list[Applied]]:
    """Returns the state of the server, and drains what was applied.

    Raises:
      TimeoutError: if a `push` keeps the server for so long.
      LostError: if the server has ended.
    """
    state, applied, now = self._ask('capture', timeout)
    return state, _in_time_of_here(applied, now)

  def restore(self, state: StoreState) -> None:
    """Has the server resume from a captured state.

    Other processes must forget what they have: see `forget`.
    """
    self._ask('restore', wire.to_numpy(state))
    self.forget()

  def forget(self) -> None:
    """Gets the newest version, even if it is older than that of here."""
    with self._lock:
      self._known = wire.NOTHING
      self._version = self._version._replace(frames=-1, updates=-1)
      self._actions_sent.clear()
    self._fetch()

  def warm_up(self, grads: types.Params) -> None:
    """Has the server compile the update for such gradients."""
    self._ask('warm_up', wire.gradients(grads))

  def _fetch(self) -> types.Version:
    self._take(self._ask('fetch', self._known))
    return self._version

  def _ask(self, method: str, *arguments: Any) -> Any:
    """Returns an answer of the server.

    Raises:
      LostError: if it has ended.
    """
    try:
      return self._server.ask(method, *arguments)
    except actors.EndedError as error:
      raise lost() from error

  def _take(self, news: wire.News) -> None:
    """Replaces the version of here, unless another thread has a newer one."""
    params, target_params = map(self._tree, (news.params, news.target_params))
    with self._lock:
      self.received += wire.num_bytes(news)
      old = self._version
      if (news.updates, news.frames) < (old.updates, old.frames):
        return
      self._version = types.Version(
        params=old.params if params is None else params,
        target_params=(
          old.target_params if target_params is None else target_params
        ),
        frames=news.frames,
        updates=news.updates,
        statistics=news.statistics,
      )
      self._known = wire.Known(news.updates, news.target)

  def _tree(self, leaves: list | None) -> types.Params:
    if leaves is None:
      return None
    return wire.params_of(leaves, self._structure)


def _remembered(contribution: Contribution, memory: Memory) -> Contribution:
  """Changes a memory as a contribution says; returns it without that."""
  for each in contribution.replayed:
    memory.reprioritize(each.worker, each.where, each.errors)
  for each in contribution.played:
    if each.transitions is not None:
      memory.extend(each.worker, each.transitions)
  return contribution._replace(
    replayed=(),
    played=tuple(
      each._replace(transitions=None) for each in contribution.played
    ),
  )


def _in_time_of_here(applied: list[Applied], now: float) -> list[Applied]:
  """Returns records with times of this process's clock."""
  shift = time.perf_counter() - now
  return [each._replace(time=each.time + shift) for each in applied]


def lost() -> errors.LostError:
  """Returns the error of a server that has ended."""
  return errors.LostError('the parameter server has ended or cannot be reached')
