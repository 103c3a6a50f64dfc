"""The one object that threads share: parameters behind one lock."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax import base, optimizers
from a3c_jax.acting import normalization


class Applied(NamedTuple):
  """What `SharedState.apply` tells about one update."""

  frames: int  # emulator frames of all threads after it
  updates: int  # updates of all threads after it
  lock_wait: float  # seconds


class Captured(NamedTuple):
  """All of a SharedState at one moment; nothing changes it any more."""

  snapshot: base.Snapshot
  optimizer_states: list[Any]  # one per thread, or one for all


class SharedState:
  """One parameter pytree that many threads read and update.

  A pytree is never edited in place, so `snapshot` takes no lock: it hands out a
  whole version, never half of one. `apply` guards read-modify-write; gradients
  may be stale, no update is lost. (The paper updates without a lock.)
  """

  def __init__(
    self,
    params: base.Params,
    optimizer: optimizers.Optimizer,
    *,
    threads: int,
    learning_rate: Callable[[int], float],
    target_period_frames: int | None,
    moments: base.Moments | None = None,
  ):
    """Starts at frame 0 with fresh optimizer statistics.

    Args:
      params: where learning starts; the target parameters start there too.
      optimizer: the update, and whether each thread has its own statistics.
      threads: how many threads will call `apply`.
      learning_rate: η as a function of global emulator frames.
      target_period_frames: emulator frames between two copies into the target
        parameters; None for a learner without target.
      moments: of observations, where they are normalised.
    """
    self._lock = threading.Lock()
    self._learning_rate = learning_rate
    self._target_period_frames = target_period_frames
    target_params = None if target_period_frames is None else params
    self._snapshot = base.Snapshot(
      params, target_params, frames=0, updates=0, moments=moments
    )
    count = threads if optimizer.per_thread else 1
    init = optimizer.transformation.init
    trained = base.trained(params)
    self._optimizer_states = [init(trained) for _ in range(count)]

    def update(params, optimizer_state, grads, learning_rate):
      trained = base.trained(params)
      direction, optimizer_state = optimizer.transformation.update(
        base.trained(grads), optimizer_state, trained
      )
      trained = jax.tree.map(
        lambda param, step: param - learning_rate * step, trained, direction
      )
      return base.with_trained(params, trained), optimizer_state

    # Only the optimizer's state may be donated: it is read under the lock
    # alone, while other threads go on reading parameters.
    self._update = jax.jit(update, donate_argnums=1)

  def snapshot(self) -> base.Snapshot:
    """The newest version, without a lock or a copy."""
    return self._snapshot

  def apply(
    self,
    thread: int,
    grads: base.Params | None,
    frames: int,
    then: Callable[[Applied], None] = lambda applied: None,
    *,
    statistics: base.Moments | None = None,
  ) -> Applied:
    """Updates the parameters with one gradient and counts its frames.

    The learning rate is that of the frames before this segment. The target
    parameters become the updated ones when the count crosses a multiple of the
    period.

    Args:
      thread: index of the calling thread, in [0, threads).
      grads: from `Learner.gradients`, clipped or not; None counts the frames
        alone.
      frames: emulator frames that the segment took.
      then: called under the lock, so that what it notes belongs to exactly this
        version.
      statistics: of observations that count in the moments from here on, as
        the environment gave them.

    Returns:
      The counts after this update, and the seconds waited for the lock.
    """
    began = time.perf_counter()
    with self._lock:
      waited = time.perf_counter() - began
      old = self._snapshot
      params, updates = old.params, old.updates
      if grads is not None:
        slot = thread % len(self._optimizer_states)
        learning_rate = np.float32(self._learning_rate(old.frames))
        params, self._optimizer_states[slot] = self._update(
          params, self._optimizer_states[slot], grads, learning_rate
        )
        updates += 1
      total = old.frames + frames
      period = self._target_period_frames
      crossed = period is not None and total // period > old.frames // period
      target_params = params if crossed else old.target_params
      moments = old.moments
      if moments is not None and statistics is not None:
        moments = normalization.merged(moments, statistics)
      self._snapshot = base.Snapshot(
        params, target_params, total, updates, moments
      )
      applied = Applied(total, updates, waited)
      then(applied)
    return applied

  def capture(
    self, also: Callable[[], Any] = lambda: None, *, seconds: float = -1
  ) -> tuple[Captured, Any]:
    """Everything as it is between two updates, and what `also` returns then.

    Args:
      also: called under the lock.
      seconds: how long to wait for the lock; -1 for as long as it takes.

    Raises:
      TimeoutError: if another thread holds the lock for so long.
    """
    if not self._lock.acquire(timeout=seconds):
      raise TimeoutError(f'the lock of the parameters is held for {seconds} s')
    try:
      # Copies: the next update takes the optimizer's arrays away.
      optimizer_states = jax.tree.map(np.array, self._optimizer_states)
      return Captured(self._snapshot, optimizer_states), also()
    finally:
      self._lock.release()

  def restore(self, captured: Captured) -> None:
    """Goes on from what `capture` gave, in a thread that is alone.

    With another number of threads, those that are new keep fresh statistics.
    """
    params, target_params, *_ = captured.snapshot
    # Copies: the optimizer's arrays are given away at each update.
    params, target_params, states = jax.tree.map(
      jnp.array, (params, target_params, captured.optimizer_states)
    )
    self._snapshot = captured.snapshot._replace(
      params=params, target_params=target_params
    )
    kept = states[: len(self._optimizer_states)]
    self._optimizer_states[: len(kept)] = kept

  def warm_up(self, grads: base.Params) -> None:
    """Compiles the update for such gradients, and changes nothing."""
    params = self._snapshot.params
    self._update(
      params,
      jax.tree.map(jnp.copy, self._optimizer_states[0]),
      grads,
      np.float32(0),
    )
