"""Objects in processes of their own, which Ray starts and calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
import logging
import threading
import time
from typing import Any

from a3c_jax.core import threads

_PATIENCE_SECONDS = 60.0  # Until a process that does not answer has ended.
_POLL_SECONDS = 0.2
LATE_SECONDS = 30.0  # Until a process that does not answer is reported.
HUNG_SECONDS = 600.0  # Until it counts as ended: a large memory takes minutes.
_logger = logging.getLogger(__name__)


class EndedError(RuntimeError):
  """A process has ended, or could not be reached for too long."""


class UnansweredError(RuntimeError):
  """Whether a call has arrived is unknown."""


class PendingError(RuntimeError):
  """There is no answer yet."""


class Actor:
  """An object in a process of its own. It can be sent to other processes.

  It calls methods of the object by name. What these raise is raised here, with
  the traceback of the other process as its cause.
  """

  def __init__(
    self, kind: type, *, cpus: int, threads: int, here: bool = False
  ):
    """Starts the process, and makes the object without arguments.

    Args:
      kind: class of the object.
      cpus: that the machine must have left.
      threads: how many calls run at once.
      here: on this machine; otherwise on one with few such processes.
    """
    import ray
    from ray.util import scheduling_strategies

    strategy: Any = 'SPREAD'
    if here:
      strategy = scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
      )
    self._kind = kind.__name__.lower()
    self._handle: Any = (
      ray.remote(kind)
      .options(
        num_cpus=cpus, max_concurrency=threads, scheduling_strategy=strategy
      )
      .remote()
    )

  def start(self, method: str, *arguments: Any, **given: Any) -> Any:
    """Calls a method, and returns a reference of its answer."""
    return getattr(self._handle, method).remote(*arguments, **given)

  def ask(self, method: str, *arguments: Any) -> Any:
    """Calls a method that may be called twice, and returns its answer.

    Calls again while the process cannot be reached. Reports a process that runs
    but does not answer.

    Raises:
      EndedError: if the process has ended, cannot be reached for a minute, or
        does not answer for ten.
      Exception: what the call raised.
    """
    began = time.perf_counter()
    until, hung = began + _PATIENCE_SECONDS, began + HUNG_SECONDS
    late = began + LATE_SECONDS
    reference = self.start(method, *arguments)
    while True:
      try:
        return answered(reference, timeout=_POLL_SECONDS)
      except PendingError as error:
        if time.perf_counter() > hung:
          raise EndedError(f'no answer to {method}') from error
        if time.perf_counter() > late:
          late = float('inf')
          _logger.warning(
            'the %s has not answered for %g s', self._kind, LATE_SECONDS
          )
      except UnansweredError as error:
        if time.perf_counter() > until:
          raise EndedError(f'no answer to {method}') from error
        threads.beat()
        time.sleep(_POLL_SECONDS)
        reference = self.start(method, *arguments)

  def tell(
    self,
    method: str,
    *arguments: Any,
    while_waiting: Callable[[], object] = lambda: None,
  ) -> Any:
    """Calls a method once, and returns its answer.

    Args:
      method: name of the method.
      *arguments: of the call.
      while_waiting: called now and then. What it raises ends the wait, but not
        the call.

    Raises:
      EndedError: if the process has ended.
      UnansweredError: if the call may have arrived or not.
      Exception: what the call or `while_waiting` raised.
    """
    reference = self.start(method, *arguments)
    while True:
      try:
        return answered(reference, timeout=_POLL_SECONDS)
      except PendingError:
        while_waiting()

  def kill(self) -> None:
    """Ends the process."""
    import ray

    ray.kill(self._handle)


def answered(reference: Any, timeout: float | None = None) -> Any:
  """Returns the answer of a reference.

  Args:
    reference: from `Actor.start`.
    timeout: seconds to wait; None for no limit.

  Raises:
    PendingError: if there is no answer in time.
    EndedError: if the process has ended.
    UnansweredError: if the call may have arrived or not.
    Exception: what the call raised.
  """
  import ray
  from ray import exceptions

  try:
    if threading.current_thread() is threading.main_thread():
      # A signal's exception may not pass through Ray's own code.
      return reference.future().result(timeout)
    return ray.get(reference, timeout=timeout)
  except exceptions.RayTaskError as error:  # It may be a TimeoutError too.
    if isinstance(error.cause, Exception):
      raise error.cause from error
    raise
  except TimeoutError as error:  # GetTimeoutError of Ray is one.
    raise PendingError(*error.args) from error
  except exceptions.ActorUnavailableError as error:
    raise UnansweredError(str(error)) from error
  except exceptions.RayActorError as error:
    raise EndedError(str(error)) from error


def is_ready(reference: Any, timeout: float = _POLL_SECONDS) -> bool:
  """Returns whether there is an answer, or an error, in some seconds."""
  import ray

  if threading.current_thread() is threading.main_thread():
    done, _ = futures.wait([reference.future()], timeout)
    return bool(done)
  ready, _ = ray.wait([reference], timeout=timeout, fetch_local=False)
  return bool(ready)


def all_answered(
  references: Sequence[Any],
  on_late: Callable[[int], object] = lambda count: None,
  *,
  while_waiting: Callable[[], object] = threads.beat,
) -> list[Any]:
  """Returns the answers of references; raises the first error at once.

  Args:
    references: from `Actor.start`.
    on_late: called once with the number of answers that lack after a while.
    while_waiting: called again and again. If it raises, this raises.

  Raises:
    EndedError: if a process has ended.
    Exception: what a call raised.
  """
  left = list(references)
  late = time.perf_counter() + LATE_SECONDS
  while left:
    ready = [each for each in left if is_ready(each)]
    for each in ready:
      answered(each)
    left = [each for each in left if each not in ready]
    while_waiting()
    if left and time.perf_counter() > late:
      late = float('inf')
      on_late(len(left))
  return [answered(each) for each in references]
