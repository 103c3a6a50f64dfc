"""A parameter store whose parameters are in another process."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import threading
import time
from typing import Any

import jax

from a3c_jax.core import errors, threads, types
from a3c_jax.parameters.store import (
  Applied,
  Contribution,
  Dropped,
  Receipt,
  StoreState,
)
from a3c_jax.runtimes.cluster import wire

_PATIENCE_SECONDS = 60.0  # Until a server that does not answer is lost.
_POLL_SECONDS = 0.5


class RemoteStore:
  """A `ParameterStore` in front of a `server.Server`.

  All threads of a process share one, and the newest version that any of them
  has got. So `read` is as quick as that of a store in this process, and each
  push brings back the version after it.

  A push is sent once: if no answer comes, its gradient may be lost, but none is
  applied twice. Questions are asked again.

  Attributes:
    accepts_factored: as the server says.
    sent: bytes of arrays sent to the server.
    received: bytes of arrays received from it.
  """

  def __init__(
    self,
    server: Any,
    params: types.Params,
    *,
    accepts_factored: bool,
    fetch_updates: int = 1,
    asks: bool = False,
  ):
    """Gets the first version.

    Args:
      server: the actor.
      params: parameters of that structure.
      accepts_factored: whether the server accepts factored gradients.
      fetch_updates: a push brings back the newest version if it is so many
        updates ahead of that of here.
      asks: whether `read` asks the server. For a process that never pushes.
    """
    self.accepts_factored = accepts_factored
    self.sent = self.received = 0
    self._server = server
    self._structure = jax.tree.structure(params)
    self._asks = asks
    self._fetch_updates = fetch_updates
    self._lock = threading.Lock()
    # By worker, how many actions of its log the server has.
    self._actions_sent: dict[int, int | None] = {}
    self._known = wire.Known(-1, 0)
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
    import ray
    from ray import exceptions

    message = wire.packed(contribution, self._actions_sent)
    answer = self._server.push.remote(message, self._known, self._fetch_updates)
    self.sent += wire.num_bytes(message)
    try:
      while True:
        try:
          pushed = ray.get(answer, timeout=_POLL_SECONDS)
          break
        except exceptions.GetTimeoutError:
          while_waiting()
    except exceptions.ActorUnavailableError:
      # Whether it has arrived is unknown, so the next log is sent as a whole.
      for each in contribution.played:
        self._actions_sent[each.worker] = None
      version = self._fetch()
      return Receipt(
        frames=version.frames,
        version=version.updates,
        lag=version.updates - contribution.read_version,
        lock_wait_seconds=0.0,
      )
    except exceptions.RayActorError as error:
      raise _lost() from error
    receipt, news = pushed
    if news is not None:
      self._take(news)
    else:
      with self._lock:  # Schedules and the end of a run depend on frames.
        frames = max(self._version.frames, receipt.frames)
        self._version = self._version._replace(frames=frames)
    return receipt

  def leave(self, worker: int) -> None:
    """States that nobody need wait for a worker, until it pushes again."""
    self._ask(lambda: self._server.leave.remote([worker]))

  def dropped(self) -> Dropped:
    """Returns what the server has dropped."""
    return self._ask(lambda: self._server.dropped.remote())

  def drain(self) -> list[Applied]:
    """Returns what was applied since the last drain, in this clock's time."""
    applied, now = self._ask(lambda: self._server.drain.remote())
    return _in_time_of_here(applied, now)

  def capture(self, *, timeout: float = -1) -> tuple[StoreState, list[Applied]]:
    """Returns the state of the server, and drains what was applied.

    Raises:
      TimeoutError: if a `push` keeps the server for so long.
      LostError: if the server has ended.
    """
    state, applied, now = self._ask(
      lambda: self._server.capture.remote(timeout)
    )
    return state, _in_time_of_here(applied, now)

  def restore(self, state: StoreState) -> None:
    """Has the server resume from a captured state.

    Other processes must forget what they have: see `forget`.
    """
    self._ask(lambda: self._server.restore.remote(wire.to_numpy(state)))
    self.forget()

  def forget(self) -> None:
    """Gets the newest version, even if it is older than that of here."""
    with self._lock:
      self._known = wire.Known(-1, 0)
      self._version = self._version._replace(frames=-1, updates=-1)
      self._actions_sent.clear()
    self._fetch()

  def warm_up(self, grads: types.Params) -> None:
    """Has the server compile the update for such gradients."""
    self._ask(lambda: self._server.warm_up.remote(wire.gradients(grads)))

  def _fetch(self) -> types.Version:
    self._take(self._ask(lambda: self._server.fetch.remote(self._known)))
    return self._version

  def _ask(self, question: Callable[[], Any]) -> Any:
    """Returns an answer; asks again while the server cannot be reached.

    Raises:
      LostError: if it has ended, or cannot be reached for too long.
    """
    import ray
    from ray import exceptions

    until = time.perf_counter() + _PATIENCE_SECONDS
    while True:
      try:
        return ray.get(question())
      except exceptions.ActorUnavailableError as error:
        if time.perf_counter() > until:
          raise _lost() from error
        threads.beat()
        time.sleep(_POLL_SECONDS)
      except exceptions.RayActorError as error:
        raise _lost() from error

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


def _in_time_of_here(applied: list[Applied], now: float) -> list[Applied]:
  """Returns records with times of this process's clock."""
  shift = time.perf_counter() - now
  return [each._replace(time=each.time + shift) for each in applied]


def _lost() -> errors.LostError:
  return errors.LostError('the parameter server has ended or cannot be reached')
