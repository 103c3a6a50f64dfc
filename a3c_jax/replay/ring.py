"""Rings of the newest transitions of each environment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from a3c_jax.core import arrays

_MOST_TRIES = 20


class Transitions(NamedTuple):
  """What one segment adds: T steps of K environments; time first."""

  obs: np.ndarray  # [T+1, K, ...] as the environment gave it, not normalized
  a: np.ndarray  # [T, K, ...] int32 or float32
  r_t: np.ndarray  # [T, K] float32
  discount_t: np.ndarray  # [T, K] float32, 0 where no future counts
  is_first: np.ndarray  # [T+1, K] bool, obs[t] is the first of its episode
  truncated: np.ndarray  # [T, K] bool, the next observation is not known


class Layout(NamedTuple):
  """What a ring holds. A stream is one environment of one worker."""

  workers: int
  num_envs: int  # of each worker
  rows: int  # transitions of each stream
  obs_shape: tuple[int, ...]  # with the axis of the stack, if there is one
  obs_dtype: np.dtype
  action_shape: tuple[int, ...]
  action_dtype: np.dtype
  stack: int  # S, frames of an observation; 1 if it has no such axis
  steps: int  # T, transitions of a window

  @property
  def frame_shape(self) -> tuple[int, ...]:
    """Of what is stored of one observation."""
    return self.obs_shape[1:] if self.stack > 1 else self.obs_shape


class Changes(NamedTuple):
  """What an addition changed; a row is a stream's number · rows + position."""

  fresh: np.ndarray  # [n] int64, rows of windows that may be drawn from now on
  gone: (
    np.ndarray
  )  # [m] int64, rows of windows that may not, or could not before


class Windows(NamedTuple):
  """The part of a minibatch that is stored. See `Minibatch`."""

  frames: np.ndarray  # [B, S+T, ...]
  is_first: np.ndarray  # [B, S+T] bool
  a: np.ndarray  # [B, T, ...]
  r_t: np.ndarray  # [B, T] float32
  discount_t: np.ndarray  # [B, T] float32


class Ring:
  """The newest transitions of each stream of some workers. No lock.

  Transition i of a stream lies at position i % rows. Of an observation that
  stacks S frames only the newest frame is stored: the others are those of the
  observations before it, or 0 before the episode's first.

  A window may be drawn, it is ready, if it begins at a transition i such that

  - observation i + T is stored: the stream has added more than i + T;
  - none of the transitions i … i+T-1 is truncated;
  - all frames of observation i are stored or older than its episode.

  Attributes:
    layout: what it holds.
    heads: [workers] int64, transitions that each stream of a worker added.
    continues: [workers, num_envs] bool, the last transition did not end its
      episode.
    ready: [workers, num_envs, rows] bool, a window may begin there.
    size: windows that may be drawn.
  """

  def __init__(self, layout: Layout):
    """Makes an empty ring, which takes memory only as it fills.

    Raises:
      ValueError: if a stream has not the rows for one window.
    """
    if layout.rows < layout.stack + layout.steps:
      raise ValueError(
        f'capacity {layout.rows} of each environment is too small: one sample'
        f' needs {layout.stack} + {layout.steps}'
      )
    if layout.stack > 1 and layout.obs_shape[:1] != (layout.stack,):
      raise ValueError(
        f'obs_shape is {list(layout.obs_shape)}, expected'
        f' [{layout.stack}, ...] as the stack is {layout.stack}'
      )
    self.layout = layout
    streams = (layout.workers, layout.num_envs)
    each = (*streams, layout.rows)
    self.frames = np.zeros((*each, *layout.frame_shape), layout.obs_dtype)
    self.a = np.zeros((*each, *layout.action_shape), layout.action_dtype)
    self.r_t = np.zeros(each, np.float32)
    self.discount_t = np.zeros(each, np.float32)
    self.is_first = np.zeros(each, bool)
    self.truncated = np.zeros(each, bool)
    self.ready = np.zeros(each, bool)
    self.heads = np.zeros(layout.workers, np.int64)
    self.continues = np.zeros(streams, bool)
    self.size = 0

  @property
  def nbytes(self) -> int:
    """Bytes of all arrays when they are full."""
    return self.frames.nbytes + sum(x.nbytes for x in self.records().values())

  def records(self) -> dict[str, np.ndarray]:
    """Returns all arrays but the frames: views, worker first."""
    names = ('a', 'r_t', 'discount_t', 'is_first', 'truncated', 'ready')
    return {x: getattr(self, x) for x in (*names, 'heads', 'continues')}

  def low(self, worker: int) -> int:
    """Returns the oldest transition stored of each of a worker's streams."""
    return max(0, int(self.heads[worker]) - self.layout.rows)

  def extend(self, worker: int, transitions: Transitions) -> Changes:
    """Appends transitions to the streams of one worker.

    Raises:
      ValueError: naming what has another shape or type than the layout, or if
        observations are not stacks of the newest frames.
    """
    self._check(worker, transitions)
    layout, head = self.layout, int(self.heads[worker])
    length = len(transitions.r_t)
    # An environment was replaced: what followed its last step is not known.
    broken = self.continues[worker] == transitions.is_first[0]
    if head:
      self.truncated[worker, :, (head - 1) % layout.rows] |= broken

    old_low, at = self.low(worker), np.arange(head, head + length) % layout.rows
    obs = transitions.obs[:-1]
    newest = obs[:, :, -1] if layout.stack > 1 else obs
    self.frames[worker][:, at] = newest.swapaxes(0, 1)
    self.a[worker][:, at] = transitions.a.swapaxes(0, 1)
    self.r_t[worker][:, at] = transitions.r_t.T
    self.discount_t[worker][:, at] = transitions.discount_t.T
    self.is_first[worker][:, at] = transitions.is_first[:-1].T
    self.truncated[worker][:, at] = transitions.truncated.T
    self.heads[worker] = head + length
    self.continues[worker] = ~transitions.is_first[-1]
    return self._update_ready(worker, head, old_low)

  def _update_ready(self, worker: int, head: int, old_low: int) -> Changes:
    """Finds which windows may be drawn, given head and low before."""
    layout, low = self.layout, self.low(worker)
    rows, ready = layout.rows, self.ready[worker]
    last = int(self.heads[worker]) - layout.steps  # exclusive
    new = np.arange(max(low, head - layout.steps), last)
    # Of these, frames may just have been overwritten.
    edge = np.arange(low, min(low + layout.stack - 1, head - layout.steps))
    if low == old_low:
      edge = edge[:0]
    written = np.arange(head, int(self.heads[worker])) % rows

    self.size -= int(np.count_nonzero(ready[:, written]))
    ready[:, written] = False
    checked = np.concatenate([edge, new])
    at = checked % rows
    self.size -= int(np.count_nonzero(ready[:, at]))
    ready[:, at] = self._may_begin(worker, checked)
    self.size += int(np.count_nonzero(ready[:, at]))

    first_row = (worker * layout.num_envs + np.arange(layout.num_envs)) * rows
    touched = np.concatenate([written, at])
    all_rows = first_row[:, None] + touched
    fresh = first_row[:, None] + new % rows
    return Changes(
      fresh=fresh[ready[:, new % rows]], gone=all_rows[~ready[:, touched]]
    )

  def _may_begin(self, worker: int, starts: np.ndarray) -> np.ndarray:
    """Returns [K, n] bool: all of the windows' frames and results are known."""
    layout = self.layout
    window = (starts[:, None] + np.arange(layout.steps)) % layout.rows
    whole = ~self.truncated[worker][:, window].any(-1)
    if layout.stack == 1:
      return whole
    seen = starts[:, None] + np.arange(1 - layout.stack, 1)
    stored = seen >= self.low(worker)
    first = self.is_first[worker][:, seen % layout.rows] & stored
    return whole & (stored[:, 0] | first.any(-1))

  def draw(
    self, count: int, rng: np.random.Generator
  ) -> tuple[np.ndarray, np.ndarray]:
    """Draws windows, each ready one as likely as any other.

    Returns:
      [count] int64 streams and [count] int64 transitions where they begin. At
      least one window must be ready.
    """
    layout = self.layout
    low = np.maximum(self.heads - layout.rows, 0)
    lengths = np.maximum(self.heads - layout.steps - low, 0)
    ends = np.cumsum(lengths * layout.num_envs)

    def candidates(n):
      number = rng.integers(ends[-1], size=n)
      worker = np.searchsorted(ends, number, side='right')
      env, offset = np.divmod(ends[worker] - 1 - number, lengths[worker])
      return worker * layout.num_envs + env, low[worker] + offset

    streams, starts = candidates(count)
    ready = self.ready.reshape(-1)
    again = ~ready[self.rows_of(streams, starts)]
    # Few are not ready: those at truncations and at the oldest frames.
    for _ in range(_MOST_TRIES):
      if not again.any():
        return streams, starts
      streams[again], starts[again] = candidates(np.count_nonzero(again))
      again = ~ready[self.rows_of(streams, starts)]
    rows = np.flatnonzero(ready)  # Slower, but sure to end.
    chosen = rows[rng.integers(len(rows), size=np.count_nonzero(again))]
    streams[again], starts[again] = self.found_at(chosen)
    return streams, starts

  def rows_of(self, streams: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns [n] int64, the rows where transitions of streams lie."""
    return streams * self.layout.rows + indices % self.layout.rows

  def found_at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns streams [n] and transitions [n] that lie in rows."""
    streams, position = np.divmod(rows, self.layout.rows)
    newest = self.heads[streams // self.layout.num_envs] - 1
    return streams, newest - (newest - position) % self.layout.rows

  def is_ready(self, streams: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns [n] bool: the window is stored still and may be drawn."""
    head = self.heads[streams // self.layout.num_envs]
    stored = (starts >= head - self.layout.rows) & (starts < head)
    return stored & self.ready.reshape(-1)[self.rows_of(streams, starts)]

  def gather(self, streams: np.ndarray, starts: np.ndarray) -> Windows:
    """Returns copies of windows that are ready."""
    layout = self.layout
    first_row = (streams * layout.rows)[:, None]
    at = starts[:, None] + np.arange(1 - layout.stack, layout.steps + 1)
    # Where a frame is stored no more, another lies. It is older than the
    # episode, or the window were not ready: `segment_of` zeroes it.
    at = at % layout.rows + first_row
    inner = at[:, layout.stack - 1 : -1]

    def flat(x):
      return x.reshape(-1, *x.shape[3:])

    frames = flat(self.frames)
    shape = (*at.shape, *layout.frame_shape)
    out = arrays.aligned_empty(shape, frames.dtype)
    # Any mode but 'raise' writes to `out` without a copy between.
    np.take(frames, at, axis=0, out=out, mode='clip')
    return Windows(
      frames=out,
      is_first=flat(self.is_first)[at],
      a=flat(self.a)[inner],
      r_t=flat(self.r_t)[inner],
      discount_t=flat(self.discount_t)[inner],
    )

  def frames_of(self, stream: int, first: int, end: int) -> np.ndarray:
    """Returns a copy of a stream's frames first … end-1, 0 if overwritten."""
    worker, env = divmod(stream, self.layout.num_envs)
    out = np.zeros((end - first, *self.layout.frame_shape), self.frames.dtype)
    start = max(first, self.low(worker))
    at = np.arange(start, end) % self.layout.rows
    out[start - first :] = self.frames[worker, env, at]
    return out

  def set_frames(self, stream: int, first: int, frames: np.ndarray) -> None:
    """Stores the frames [n, ...] of transitions first … first+n-1."""
    worker, env = divmod(stream, self.layout.num_envs)
    start = max(first, self.low(worker))
    at = np.arange(start, first + len(frames)) % self.layout.rows
    self.frames[worker, env, at] = frames[start - first :]

  def _check(self, worker: int, transitions: Transitions) -> None:
    """Raises ValueError naming what of a segment does not fit."""
    layout = self.layout
    length, num_envs = np.shape(transitions.r_t)
    if num_envs != layout.num_envs or not 0 < length <= layout.rows:
      raise ValueError(
        f'r_t has shape {[length, num_envs]}, expected [T, {layout.num_envs}]'
        f' with T of 1 to {layout.rows}, the capacity of each environment'
      )
    kinds = dict(
      obs=(length + 1, layout.obs_shape, layout.obs_dtype),
      a=(length, layout.action_shape, layout.action_dtype),
      r_t=(length, (), np.dtype(np.float32)),
      discount_t=(length, (), np.dtype(np.float32)),
      is_first=(length + 1, (), np.dtype(bool)),
      truncated=(length, (), np.dtype(bool)),
    )
    for name, (times, shape, dtype) in kinds.items():
      array, expected = getattr(transitions, name), (times, num_envs, *shape)
      if array.shape != expected or array.dtype != dtype:
        raise ValueError(
          f'{name} is {array.dtype} {list(array.shape)}, expected'
          f' {dtype} {list(expected)}'
        )
    if layout.stack > 1:
      self._check_stacks(worker, transitions.obs, transitions.is_first)

  def _check_stacks(
    self, worker: int, obs: np.ndarray, is_first: np.ndarray
  ) -> None:
    """Raises ValueError if an observation is not the one before, shifted."""
    before, older = obs[:-1, :, 1:], obs[1:, :, :-1]
    first = is_first[1:]
    if first.any():
      fits = np.array_equal(older[~first], before[~first])
      fits &= not older[first].any()
    else:
      fits = np.array_equal(older, before)
    if not (fits and self._continues_with(worker, obs[0], is_first[0])):
      raise ValueError(
        f'obs are not stacks of the {self.layout.stack} newest frames, oldest'
        ' first, with 0 before the first frame of an episode'
      )

  def _continues_with(
    self, worker: int, obs: np.ndarray, is_first: np.ndarray
  ) -> bool:
    """Whether obs [K, S, ...] follow the stored frames of a worker."""
    layout, head = self.layout, int(self.heads[worker])
    if obs[is_first, :-1].any():
      return False
    at = np.arange(head + 1 - layout.stack, head)
    stored = at >= self.low(worker)
    for env in np.flatnonzero(~is_first):
      frames = self.frames[worker, env, at % layout.rows]
      first = self.is_first[worker, env, at % layout.rows] & stored
      older = np.cumsum(first[::-1])[::-1] - first > 0
      frames[older] = 0
      # Before a stream's beginning lies what nobody knows.
      known = stored | older
      if not np.array_equal(obs[env, :-1][known], frames[known]):
        return False
    return True
