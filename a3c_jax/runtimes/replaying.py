"""Learns from a replay memory: minibatches of one worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import normalization, rollout
from a3c_jax.core import stopwatch, types
from a3c_jax.parameters.store import Played, Replayed
from a3c_jax.replay import memory as memory_lib
from a3c_jax.replay import minibatch as minibatch_lib
from a3c_jax.runtimes import outliers
from a3c_jax.runtimes.runtime import Job, Worker

# `(params, target_params, minibatch) -> (gradients, scalars [S] with the norm
# as the last, errors [B])`.
Gradients = Callable[
  [types.Params, types.Params, memory_lib.Minibatch],
  tuple[types.Params, jax.Array, jax.Array],
]


class Learnt(NamedTuple):
  """The gradient of one minibatch."""

  grads: types.Params
  values: np.ndarray  # [S+1] float32, as `names` says
  played: Played  # no step, but the worker's state after the minibatch
  replayed: Replayed
  read_version: int  # `updates` of the version of the gradient
  outlier: bool  # whether the gradient is finite, but shall be discarded
  minibatch: memory_lib.Minibatch  # that it is of
  read_params: types.Params  # that it is of


def gradients_of(
  learner: types.Learner, *, stack: int
) -> Callable[..., tuple[types.Params, types.Stats, jax.Array]]:
  """Returns a learner's gradients of a minibatch, not clipped, to be jitted.

  Args:
    learner: with `replay_gradients`.
    stack: of the memory.
  """
  of_segment = learner.replay_gradients
  assert of_segment is not None

  def gradients(params, target_params, minibatch):
    segment = minibatch_lib.segment_of(minibatch, stack=stack)
    return of_segment(params, target_params, segment, minibatch.weight)

  return gradients


class Replayer:
  """Draws minibatches for one worker, in the thread that uses it.

  After each segment some minibatches are due. How many is part of the worker's
  state, and what they draw depends on its PRNG key. So a run that resumes
  between two of them repeats the same.

  Attributes:
    due: minibatches before the next segment.
  """

  def __init__(
    self,
    worker: Worker,
    job: Job,
    gradients: Gradients,
    *,
    read: actor_lib.Read | None = None,
    together: Sequence[Worker] = (),
  ):
    """Starts at the worker's state.

    Args:
      worker: whose part of the memory is learnt from.
      job: shared by all workers; has a `replay`.
      gradients: of a minibatch.
      read: gives the version that a minibatch is learnt at; by default the
        newest of the store.
      together: workers that learn when this one does: the memory of each must
        have the start before the first minibatch. No memory changes while one
        of them calls `remember`.
    """
    assert job.replay is not None
    self._replay = job.replay
    self._together = [each.index for each in together] or [worker.index]
    self._worker = worker
    self._read = read or job.store.read
    self._gradients = gradients
    self._state = worker.state

  @property
  def due(self) -> int:
    return self._state.minibatches_due

  def skip(self) -> None:
    """Leaves out the minibatches that are due."""
    self._state = self._state._replace(minibatches_due=0)

  def remember(
    self, segment: rollout.Rollout, played: Played, *, due: int | None = None
  ) -> Played:
    """Returns what a store must know of a segment that the memory takes.

    Args:
      segment: to be added to the memory.
      played: what the store must know of it without a memory.
      due: minibatches after it; by default as many as the memory allows now.
    """
    replay = self._replay
    if due is None:
      sizes = [replay.memory.size(each) for each in self._together]
      due = replay.minibatches if min(sizes) >= replay.start else 0
    self._state = played.worker_state._replace(
      minibatches_due=due, replay_errors=self._state.replay_errors
    )
    return played._replace(
      worker_state=self._state, transitions=segment.transitions
    )

  def learn(self, clock: stopwatch.Stopwatch) -> Learnt:
    """Draws the next minibatch that is due, and computes its gradient."""
    replay, state, worker = self._replay, self._state, self._worker.index
    version = self._read()
    minibatch = replay.memory.sample(
      worker,
      replay.batch_size,
      _generator(state.carry.key, state.minibatches_due),
      beta=replay.beta(version.frames),
    )
    normalize = normalization.normalizer(version.statistics)
    clock.lap('sampling')
    grads, values, errors = self._gradients(
      version.params, version.target_params, _input_of(minibatch, normalize)
    )
    values, errors = map(np.asarray, (values, errors))  # Waits for both.
    clock.lap('gradients')
    self._state = state._replace(minibatches_due=state.minibatches_due - 1)
    outlier = False
    if replay.outlier_deviations:
      # Errors in absolute value: the loss that Gorila takes is not squared.
      error, before = float(errors.mean()), state.replay_errors
      # One that is not finite is dropped and counted as such.
      outlier = bool(np.isfinite(values[-1])) and outliers.is_outlier(
        error, before, replay.outlier_deviations
      )
      self._state = self._state._replace(
        replay_errors=outliers.updated(before, error)
      )
    return Learnt(
      grads=grads,
      values=np.concatenate([[np.float32(minibatch.age.mean())], values]),
      played=Played(worker, self._state, np.empty(0, np.int64)),
      replayed=Replayed(worker, minibatch.where, errors),
      read_version=version.updates,
      outlier=outlier,
      minibatch=minibatch,
      read_params=version.params,
    )


def names(
  replay_gradients: Callable[..., tuple], *arguments: object
) -> list[str]:
  """Returns the names of `Learnt.values`, for arguments of the gradients."""
  _, stats, _ = jax.eval_shape(replay_gradients, *arguments)
  return [
    'replay_age',
    *(f'replay_{name}' for name in sorted(stats)),
    'replay_grad_norm',
  ]


def example(job: Job) -> memory_lib.Minibatch:
  """Returns a minibatch of zeros, as those that give gradients."""
  assert job.replay is not None
  zeros = job.replay.memory.example(job.replay.batch_size)
  statistics = job.store.read().statistics
  return _input_of(zeros, normalization.normalizer(statistics))


def _input_of(minibatch, normalize) -> memory_lib.Minibatch:
  """Returns the arrays that gradients need: JAX has no int64."""
  return minibatch._replace(
    frames=normalize(minibatch.frames), where=(), age=(), changes=()
  )


def _generator(key: jax.Array, number: int) -> np.random.Generator:
  return np.random.default_rng([*np.asarray(key).ravel().tolist(), number])
