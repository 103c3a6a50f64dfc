"""What stores share that update without one lock around all parameters."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
import contextlib
import threading
import time

import jax

from a3c_jax.core import types
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.parameters.store import Contribution, Receipt, StoreState


class _Gate:
  """Lets any number of threads through, or none."""

  def __init__(self):
    self._changed = threading.Condition()
    self._inside = 0
    self._closed = False
    self.passed = 0  # Threads that have left.

  @property
  def empty(self) -> bool:
    return not self._inside

  @contextlib.contextmanager
  def open(self) -> Iterator[None]:
    """Passes; waits while the gate is closed."""
    with self._changed:
      self._changed.wait_for(lambda: not self._closed)
      self._inside += 1
    try:
      yield
    finally:
      with self._changed:
        self._inside -= 1
        self.passed += 1
        self._changed.notify_all()

  @contextlib.contextmanager
  def closed(self, timeout: float) -> Iterator[None]:
    """Closes the gate for a block, after all inside have left.

    Raises:
      TimeoutError: if they have not left within so many seconds; -1 is no
        limit.
    """
    with self._changed:
      self._closed = True
      try:
        left = self._changed.wait_for(
          lambda: self.empty, None if timeout < 0 else timeout
        )
        if not left:
          raise TimeoutError(f'an update takes more than {timeout} s')
        yield
      finally:
        self._closed = False
        self._changed.notify_all()


class UnlockedStore(LockedStore, abc.ABC):
  """Base of stores whose updates may overlap.

  Frames, updates, workers and the replay memory are counted under a lock, after
  the parameters have changed. So versions mix updates, and lags are those of
  the counts. A captured state is whole: it waits for the end of all updates.
  """

  def __init__(self, params, rule, **given):
    """Starts at frame 0; `MakeStore` explains the arguments.

    Raises:
      ValueError: with a bound of the lag, which needs one lock.
    """
    if given.get('lag_bound'):
      raise ValueError('without one lock, the lag cannot be bounded')
    super().__init__(params, rule, **given)
    self.factored_rows = 0  # Gradients are changed leaf by leaf.
    self._gate = _Gate()
    self._set_buffers()

  def _set_buffers(self) -> None:
    """Takes over `_version.params` and `_optimizer_states`."""
    self._leaves, self._structure = jax.tree.flatten(
      types.trained(self._version.params)
    )

  def _joined(self, leaves: Sequence[jax.Array]) -> types.Params:
    """Returns parameters with these arrays."""
    trained = jax.tree.unflatten(self._structure, leaves)
    return types.with_trained(self._version.params, trained)

  @abc.abstractmethod
  def _snapshot(self) -> types.Params:
    """Returns the newest parameters, which do not change any more."""

  @abc.abstractmethod
  def _update(self, contribution: Contribution) -> float:
    """Changes parameters and optimizer state by a gradient; others may too.

    Returns:
      Seconds for which it waited.
    """

  def read(self) -> types.Version:
    """Returns the newest parameters; some may lack an update that runs now."""
    return self._version._replace(params=self._snapshot())

  def push(
    self,
    contribution: Contribution,
    *,
    while_waiting: Callable[[], object] = lambda: None,
  ) -> Receipt:
    """Applies one contribution, while others may be applied.

    Raises:
      IndexError: if there is no such worker; nothing is applied then.
      ValueError: if the replay memory refuses the transitions.
    """
    del while_waiting  # Nobody waits for slower workers.
    self._check_workers(contribution)
    began = time.perf_counter()
    with self._gate.open():
      with self._lock:
        waited = time.perf_counter() - began
        self._remember(contribution)
      if contribution.grads is not None:
        waited += self._update(contribution)
      began = time.perf_counter()
      with self._lock:
        waited += time.perf_counter() - began
        return self._commit(contribution, self._version.params, waited)

  def _target_of(self, version: types.Version) -> types.Params:
    del version  # Its parameters are those of the beginning.
    return self._snapshot()

  @contextlib.contextmanager
  def _whole(self, timeout: float) -> Iterator[None]:
    with self._gate.closed(timeout), super()._whole(timeout):
      yield

  def restore(self, state: StoreState) -> None:
    super().restore(state)
    self._set_buffers()
