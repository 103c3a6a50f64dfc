"""The one object that threads share: parameters behind one lock."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax import base, optimizers


class Applied(NamedTuple):
  """What `SharedState.apply` tells about one update."""

  frames: int  # emulator frames of all threads after it
  updates: int  # updates of all threads after it
  lock_wait: float  # seconds


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
  ):
    """Starts at frame 0 with fresh optimizer statistics.

    Args:
      params: where learning starts; the target parameters start there too.
      optimizer: the update, and whether each thread has its own statistics.
      threads: how many threads will call `apply`.
      learning_rate: η as a function of global emulator frames.
      target_period_frames: emulator frames between two copies into the target
        parameters; None for a learner without target.
    """
    self._lock = threading.Lock()
    self._learning_rate = learning_rate
    self._target_period_frames = target_period_frames
    target_params = None if target_period_frames is None else params
    self._snapshot = base.Snapshot(params, target_params, frames=0, updates=0)
    count = threads if optimizer.per_thread else 1
    init = optimizer.transformation.init
    self._optimizer_states = [init(params) for _ in range(count)]

    def update(params, optimizer_state, grads, learning_rate):
      direction, optimizer_state = optimizer.transformation.update(
        grads, optimizer_state, params
      )
      params = jax.tree.map(
        lambda param, step: param - learning_rate * step, params, direction
      )
      return params, optimizer_state

    # Only the optimizer's state may be donated: it is read under the lock
    # alone, while other threads go on reading parameters.
    self._update = jax.jit(update, donate_argnums=1)

  def snapshot(self) -> base.Snapshot:
    """The newest version, without a lock or a copy."""
    return self._snapshot

  def apply(self, thread: int, grads: base.Params, frames: int) -> Applied:
    """Updates the parameters with one gradient and counts its frames.

    The learning rate is that of the frames before this segment. The target
    parameters become the updated ones when the count crosses a multiple of the
    period.

    Args:
      thread: index of the calling thread, in [0, threads).
      grads: like the parameters, summed over the segment.
      frames: emulator frames that the segment took.

    Returns:
      The counts after this update, and the seconds waited for the lock.
    """
    began = time.perf_counter()
    with self._lock:
      waited = time.perf_counter() - began
      old = self._snapshot
      slot = thread % len(self._optimizer_states)
      learning_rate = np.float32(self._learning_rate(old.frames))
      params, self._optimizer_states[slot] = self._update(
        old.params, self._optimizer_states[slot], grads, learning_rate
      )
      total = old.frames + frames
      period = self._target_period_frames
      crossed = period is not None and total // period > old.frames // period
      target_params = params if crossed else old.target_params
      self._snapshot = base.Snapshot(
        params, target_params, total, old.updates + 1
      )
    return Applied(total, old.updates + 1, waited)

  def warm_up(self) -> None:
    """Compiles the update, and changes nothing."""
    params = self._snapshot.params
    self._update(
      params,
      jax.tree.map(jnp.copy, self._optimizer_states[0]),
      jax.tree.map(jnp.zeros_like, params),
      np.float32(0),
    )
