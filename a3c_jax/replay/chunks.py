"""Compressed observations, for checkpoints.

The observations of a stream are cut into chunks of equal length. A chunk that
is full never changes, so it is compressed once, and all later checkpoints
share its bytes.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple
import zlib

import numpy as np

from a3c_jax.replay import ring as ring_lib


class Chunk(NamedTuple):
  """Observations of one stream, one after the other. Never edited."""

  name: str  # 'STREAM-INDEX-' and the first 16 digits of the hash
  sha256: str  # of the data, in hexadecimal digits
  data: bytes | None  # compressed; None once it is saved elsewhere


# A stream, counted over all workers, and the chunk's number in it.
Key = tuple[int, int]


class Chunks:
  """The chunks of one ring. The caller holds the ring's lock.

  Attributes:
    length: transitions of a full chunk.
  """

  def __init__(self, ring: ring_lib.Ring, first_stream: int):
    """Makes chunks of a ring whose first stream is the given one of all."""
    self.length = max(1, min(4096, ring.layout.rows // 8))
    self._ring = ring
    self._first_stream = first_stream
    self._sealed: dict[Key, Chunk] = {}

  def stored(self) -> list[Key]:
    """Returns those that hold a stored transition, the oldest first."""
    num_envs = self._ring.layout.num_envs
    return [
      (self._first_stream + worker * num_envs + env, index)
      for worker, head in enumerate(self._ring.heads.tolist())
      for env in range(num_envs)
      for index in range(
        self._ring.low(worker) // self.length, -(-head // self.length)
      )
    ]

  def sealed(self, key: Key) -> Chunk | None:
    """Returns a chunk if it has been added."""
    return self._sealed.get(key)

  def unsealed(self) -> list[Key]:
    """Returns those that are full and not added; forgets overwritten ones."""
    keys = self.stored()
    self._sealed = {x: self._sealed[x] for x in keys if x in self._sealed}
    return [x for x in keys if x not in self._sealed and self._is_full(x)]

  def add(self, key: Key, chunk: Chunk) -> Chunk:
    """Keeps a chunk if it is full; returns the one that was kept first."""
    return self._sealed.setdefault(key, chunk) if self._is_full(key) else chunk

  def frames(self, key: Key) -> np.ndarray:
    """Returns a copy of a chunk's frames; 0 where they are overwritten."""
    first = key[1] * self.length
    end = min(first + self.length, self._head(key))
    return self._ring.frames_of(key[0] - self._first_stream, first, end)

  def restore(self, chunks: dict[Key, Chunk]) -> None:
    """Sets the ring's frames, given its chunks; the heads must be set.

    Raises:
      ValueError: if a chunk is missing, has no data, or is of another size.
    """
    self._sealed = {}
    for key in self.stored():
      chunk = chunks.get(key)
      if chunk is None or chunk.data is None:
        raise ValueError(f'the observations of chunk {key} are missing')
      like = self._ring.frames
      first = key[1] * self.length
      count = min(self.length, self._head(key) - first)
      shape = (count, *self._ring.layout.frame_shape)
      frames = np.frombuffer(zlib.decompress(chunk.data), like.dtype)
      if frames.size != np.prod(shape, dtype=int):
        raise ValueError(f'chunk {chunk.name} does not hold {count} frames')
      stream = key[0] - self._first_stream
      self._ring.set_frames(stream, first, frames.reshape(shape))
      self.add(key, chunk)

  def forget_data(self, names: set[str]) -> None:
    """Keeps no bytes of those that are saved elsewhere."""
    self._sealed = {
      key: x._replace(data=None) if x.name in names else x
      for key, x in self._sealed.items()
    }

  def _head(self, key: Key) -> int:
    stream = key[0] - self._first_stream
    return int(self._ring.heads[stream // self._ring.layout.num_envs])

  def _is_full(self, key: Key) -> bool:
    return (key[1] + 1) * self.length <= self._head(key)


def compress(key: Key, frames: np.ndarray) -> Chunk:
  """Returns a chunk of these frames."""
  # Level 1: higher ones take several times as long to save a few percent.
  data = zlib.compress(np.ascontiguousarray(frames).data, 1)
  sha256 = hashlib.sha256(data).hexdigest()
  return Chunk(f'{key[0]}-{key[1]}-{sha256[:16]}', sha256, data)


def key_of(chunk: Chunk) -> Key:
  """Returns the stream and the number that a chunk's name gives."""
  stream, index, _ = chunk.name.split('-')
  return int(stream), int(index)
