"""The replay memory: workers add transitions and draw minibatches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import threading
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.core import arrays
from a3c_jax.replay import chunks as chunks_lib
from a3c_jax.replay import ring as ring_lib
from a3c_jax.replay.chunks import Chunk
from a3c_jax.replay.minibatch import Minibatch
from a3c_jax.replay.ring import Transitions
from a3c_jax.replay.sum_tree import SumTree


class Priorities(NamedTuple):
  """Draws in proportion to p = (|δ| + ε)^α instead of uniformly.

  Source: Schaul et al. 2016, arXiv:1511.05952, equation 1, proportional.
  """

  alpha: float
  epsilon: float


class MemoryState(NamedTuple):
  """What a memory holds at one moment; copies."""

  arrays: dict[str, np.ndarray]  # all but the observations
  chunks: tuple[Chunk, ...]  # the observations


class _Group:
  """The streams that a worker draws from, and the lock around them."""

  def __init__(
    self, layout: ring_lib.Layout, first_worker: int, prioritized: bool
  ):
    self.lock = threading.Lock()
    self.first_worker = first_worker
    self.first_stream = first_worker * layout.num_envs
    self.ring = ring_lib.Ring(layout)
    self.chunks = chunks_lib.Chunks(self.ring, self.first_stream)
    self.tree = SumTree(self.ring.ready.size) if prioritized else None
    self.largest = 1.0  # priority so far
    self.changes = 0  # since it was made or restored

  def records(self) -> dict[str, np.ndarray]:
    """Returns all arrays but the observations, worker first: views."""
    records = self.ring.records()
    if self.tree:
      leaves = self.tree.leaves.reshape(self.ring.ready.shape)
      records |= {'priorities': leaves, 'largest': np.array([self.largest])}
    return records


class Memory:
  """Transitions of all workers' environments, the oldest overwritten first.

  A stream is one environment of one worker. Each has an equal part of the
  capacity. All workers draw from the streams of all, if the memory is shared;
  else each from its own.

  A transition may be drawn once its next observation is known, which is the
  first of the next segment, and T - 1 more transitions have followed it. Not
  drawn are windows with a transition whose next observation is not known,
  because the episode was truncated or the environment was replaced.

  All methods may be called from any thread, but `restore` only before the
  memory is in use. The same calls in the same order give the same bits.

  Attributes:
    arguments: that made it. They make an empty one of the same kind.
    stack: S, frames that an observation stacks.
    persistent: whether checkpoints shall hold it.
    num_bytes: what it takes when it is full, without the compressed chunks.
      The memory is taken only as transitions arrive.
  """

  def __init__(
    self,
    *,
    capacity: int,
    workers: int,
    num_envs: int,
    shared: bool,
    obs_shape: Sequence[int],
    obs_dtype: np.dtype,
    action_shape: Sequence[int],
    action_dtype: np.dtype,
    stack: int = 1,
    steps: int = 1,
    priorities: Priorities | None = None,
    persistent: bool = True,
    first_worker: int = 0,
  ):
    """Makes an empty memory.

    Args:
      capacity: transitions of all workers if shared, else of each.
      workers: how many add to it.
      num_envs: K, environments of each worker.
      shared: whether all draw from one memory.
      obs_shape: of one observation; [S, ...] if it stacks S > 1 frames.
      obs_dtype: of observations.
      action_shape: of one action, () for a number.
      action_dtype: of actions.
      stack: S, frames that an observation stacks, oldest first, 0 before the
        first frame of an episode: each is stored once. 1 stores observations
        whole.
      steps: T, transitions of a window that is drawn.
      priorities: how to draw in proportion to errors; None draws uniformly.
      persistent: whether checkpoints shall hold it.
      first_worker: index of the first worker; the others follow.

    Raises:
      ValueError: naming the argument: if the capacity is too small for one
        window of each environment, obs_shape has not S frames, α < 0 or ε ≤ 0.
    """
    if priorities and not (priorities.alpha >= 0 and priorities.epsilon > 0):
      raise ValueError(
        f'priorities are {priorities}, expected alpha >= 0 and epsilon > 0'
      )
    self.arguments: dict[str, Any] = {
      'capacity': capacity,
      'workers': workers,
      'num_envs': num_envs,
      'shared': shared,
      'obs_shape': obs_shape,
      'obs_dtype': obs_dtype,
      'action_shape': action_shape,
      'action_dtype': action_dtype,
      'stack': stack,
      'steps': steps,
      'priorities': priorities,
      'persistent': persistent,
      'first_worker': first_worker,
    }
    members = workers if shared else 1
    layout = ring_lib.Layout(
      workers=members,
      num_envs=num_envs,
      rows=capacity // (members * num_envs),
      obs_shape=tuple(obs_shape),
      obs_dtype=np.dtype(obs_dtype),
      action_shape=tuple(action_shape),
      action_dtype=np.dtype(action_dtype),
      stack=stack,
      steps=steps,
    )
    self.stack = stack
    self.persistent = persistent
    self._priorities = priorities
    self._members = members
    self._first_worker = first_worker
    self._groups = [
      _Group(layout, first_worker + offset, priorities is not None)
      for offset in range(0, workers, members)
    ]
    self.num_bytes = sum(
      x.ring.nbytes + (x.tree.nbytes if x.tree else 0) for x in self._groups
    )

  def extend(self, worker: int, transitions: Transitions) -> None:
    """Appends one segment of a worker to the streams of its environments.

    Raises:
      ValueError: naming what has another shape or type than this memory, or if
        observations are not stacks of the newest frames.
    """
    group = self._group(worker)
    with group.lock:
      group.changes += 1
      changes = group.ring.extend(worker - group.first_worker, transitions)
      if group.tree:
        values = np.zeros(len(changes.gone) + len(changes.fresh))
        values[len(changes.gone) :] = group.largest
        group.tree.set(np.concatenate(changes[::-1]), values)

  def size(self, worker: int) -> int:
    """Returns how many transitions a worker may draw now."""
    group = self._group(worker)
    with group.lock:
      return group.ring.size

  def changes(self, worker: int) -> int:
    """Returns how often what a worker may draw has changed.

    Counts from when the memory was made or restored.
    """
    return self._group(worker).changes

  @property
  def most(self) -> int:
    """How many transitions a worker may draw when it is full."""
    layout = self._groups[0].ring.layout
    streams = layout.workers * layout.num_envs
    return streams * (layout.rows - layout.steps - layout.stack + 1)

  def example(self, batch_size: int) -> Minibatch:
    """Returns a minibatch of zeros, of the shapes and types of samples."""
    layout = self._groups[0].ring.layout
    length = layout.stack + layout.steps
    each = (batch_size, layout.steps)
    frames = arrays.aligned_empty(
      (batch_size, length, *layout.frame_shape), layout.obs_dtype
    )
    frames[:] = 0
    return Minibatch(
      frames=frames,
      is_first=np.zeros((batch_size, length), bool),
      a=np.zeros((*each, *layout.action_shape), layout.action_dtype),
      r_t=np.zeros(each, np.float32),
      discount_t=np.zeros(each, np.float32),
      weight=np.zeros(batch_size, np.float32),
      where=np.zeros((batch_size, 2), np.int64),
      age=np.zeros(batch_size, np.int64),
      changes=np.zeros((), np.int64),
    )

  def sample(
    self,
    worker: int,
    batch_size: int,
    rng: np.random.Generator,
    beta: float = 0.0,
  ) -> Minibatch:
    """Draws windows of T transitions, with replacement.

    With priorities, one is drawn from each of `batch_size` equal ranges of the
    sum of all priorities: Schaul et al. 2016, appendix B.2.1.

    Args:
      worker: who draws.
      batch_size: B, how many.
      rng: the only source of chance.
      beta: β of the weights (N · P)^-β, section 3.4 there. Uniform draws have
        weight 1.

    Raises:
      ValueError: if no transition may be drawn yet.
    """
    group = self._group(worker)
    ring = group.ring
    with group.lock:
      if not ring.size:
        raise ValueError('the replay memory holds no transition to draw yet')
      if group.tree:
        rows = group.tree.draw(batch_size, rng)
        streams, starts = ring.found_at(rows)
        probability = group.tree.leaves[rows] / group.tree.total
        weight = (ring.size * probability) ** -beta
        weight = (weight / weight.max()).astype(np.float32)
      else:
        streams, starts = ring.draw(batch_size, rng)
        weight = np.ones(batch_size, np.float32)
      newest = ring.heads[streams // ring.layout.num_envs] - 1
      return Minibatch(
        **ring.gather(streams, starts)._asdict(),
        weight=weight,
        where=np.stack([streams + group.first_stream, starts], axis=1),
        age=newest - starts,
        changes=np.array(group.changes),
      )

  def reprioritize(
    self, worker: int, where: np.ndarray, errors: np.ndarray
  ) -> None:
    """Sets priorities by new errors; without priorities it does nothing.

    Args:
      worker: who drew them.
      where: [B, 2] int64, of a minibatch. Those overwritten are ignored; of
        one that is named several times the last error counts.
      errors: [B] float, δ; the sign does not matter.

    Raises:
      ValueError: if an error is not finite.
    """
    group = self._group(worker)
    if not (self._priorities and group.tree):
      return
    errors = np.abs(np.asarray(errors, np.float64))
    if not np.isfinite(errors).all():
      raise ValueError('errors are not finite')
    alpha, epsilon = self._priorities
    values = (errors + epsilon) ** alpha
    where = np.asarray(where)
    streams, starts = where[:, 0] - group.first_stream, where[:, 1]
    with group.lock:
      group.changes += 1
      group.largest = max(group.largest, float(values.max(initial=0)))
      kept = group.ring.is_ready(streams, starts)
      rows = group.ring.rows_of(streams[kept], starts[kept])
      group.tree.set(rows, values[kept])

  def seal(self) -> None:
    """Compresses the observations that are complete since the last call.

    Call it now and then, from a thread that has time. It keeps the workers
    waiting only while it copies one chunk.
    """
    for group in self._groups:
      with group.lock:
        keys = group.chunks.unsealed()
      for key in keys:
        with group.lock:
          frames = group.chunks.frames(key)
        chunk = chunks_lib.compress(key, frames)
        with group.lock:
          group.chunks.add(key, chunk)

  def saved(self, names: Sequence[str]) -> None:
    """Says that these chunks are on the disk: later captures give no data."""
    for group in self._groups:
      with group.lock:
        group.chunks.forget_data(set(names))

  def capture(self) -> MemoryState:
    """Returns all that later samples depend on, at one moment."""
    self.seal()
    return self.copied()()

  def copied(self) -> Callable[[], MemoryState]:
    """Copies what `capture` returns, and returns what compresses it then.

    It is quick after `seal`: then it copies only what is not complete.
    """
    done: dict[chunks_lib.Key, Chunk] = {}
    copied: dict[chunks_lib.Key, np.ndarray] = {}
    with self._all_locks():
      records = self._joined_records()
      for group in self._groups:
        for key in group.chunks.stored():
          if chunk := group.chunks.sealed(key):
            done[key] = chunk
          else:
            copied[key] = group.chunks.frames(key)

    def compressed():
      chunks = done | {
        key: chunks_lib.compress(key, frames) for key, frames in copied.items()
      }
      return MemoryState(
        records | self._description(), tuple(chunks[x] for x in sorted(chunks))
      )

    return compressed

  def why_not(self, state: MemoryState) -> str:
    """Returns why `restore` would refuse a state; '' if it would not."""
    for name, mine in self._description().items():
      theirs = state.arrays.get(name)
      if theirs is None or not np.array_equal(mine, theirs):
        return f'{name} {_as_text(theirs)}, not {_as_text(mine)}'
    return ''

  def restore(self, state: MemoryState) -> None:
    """Sets all that `capture` returned; no other thread uses this memory.

    Raises:
      ValueError: naming what differs between the memory captured and this one;
        or if observations are missing.
    """
    if problem := self.why_not(state):
      raise ValueError(f'the replay memory has {problem}')
    with self._all_locks():
      mine = self._joined_records()
      parts = {
        name: np.split(state.arrays[name], len(self._groups)) for name in mine
      }
      by_key = {chunks_lib.key_of(x): x for x in state.chunks}
      for number, group in enumerate(self._groups):
        for name, array in group.ring.records().items():
          array[:] = parts[name][number]
        group.ring.size = int(np.count_nonzero(group.ring.ready))
        if group.tree:
          group.tree.fill(parts['priorities'][number].reshape(-1))
          group.largest = float(parts['largest'][number][0])
        group.chunks.restore(by_key)
        group.changes = 0

  def _group(self, worker: int) -> _Group:
    return self._groups[(worker - self._first_worker) // self._members]

  @contextlib.contextmanager
  def _all_locks(self):
    with contextlib.ExitStack() as stack:
      for group in self._groups:
        stack.enter_context(group.lock)
      yield

  def _joined_records(self) -> dict[str, np.ndarray]:
    """Returns copies of the arrays of all groups, one after the other."""
    records = [x.records() for x in self._groups]
    return {
      name: np.concatenate([x[name] for x in records]) for name in records[0]
    }

  def _description(self) -> dict[str, np.ndarray]:
    """Returns what must be the same to restore, as arrays."""
    layout = self._groups[0].ring.layout
    priorities = self._priorities or ()
    return {
      'workers': np.array(len(self._groups) * layout.workers),
      'num_envs': np.array(layout.num_envs),
      'shared': np.array(layout.workers > 1 or len(self._groups) == 1),
      'transitions_per_environment': np.array(layout.rows),
      'stack': np.array(layout.stack),
      'steps': np.array(layout.steps),
      'obs_shape': np.array(layout.obs_shape, np.int64),
      'obs_dtype': _as_array(layout.obs_dtype.str),
      'action_shape': np.array(layout.action_shape, np.int64),
      'action_dtype': _as_array(layout.action_dtype.str),
      'alpha_and_epsilon': np.array(priorities, np.float64),
    }


def _as_array(text: str) -> np.ndarray:
  return np.frombuffer(text.encode(), np.uint8)


def _as_text(array: np.ndarray | None) -> str:
  if array is None:
    return 'none'
  if array.dtype == np.uint8:
    return array.tobytes().decode()
  return str(array.tolist())
