"""The file trace.bin: what repeats an asynchronous run bit for bit.

After a first line come blocks, each compressed and with a checksum. They hold
entries: one for each contribution, in the order of the updates, one for each
session, and digests of the parameters now and then.
"""

from __future__ import annotations

import array
from collections.abc import Iterator, Mapping
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import struct
from types import MappingProxyType
from typing import Any, NamedTuple
import zlib

import jax
import numpy as np

from a3c_jax.core import cpu, files, types
from a3c_jax.parameters.store import Trace
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings.common import Config

NAME = 'trace.bin'
_FIRST_LINE = b'a3c_jax trace 1\n'
_BLOCK = struct.Struct(
  '<II'
)  # Bytes of the compressed block, and their CRC-32.
_BLOCK_BYTES = 2**16  # Of entries, after which a block is written.
_DIGEST_CONTRIBUTIONS = 1000  # Between two digests, or more.
_SESSION, _DIGEST, _CONTRIBUTION = range(3)
_OF_MINIBATCH, _HAS_NEW_SEED = 4, 8  # Flags in the first byte of an entry.
_SEGMENT_BITS, _GRADIENT_BITS = 8, 16  # Of the checksums that are kept.


class Session(NamedTuple):
  """The start of a session: of a run, or of one that resumes.

  Attributes:
    platform: versions and processor, with which alone it is repeated.
    restarted: workers whose environments did not repeat their unfinished
      episodes, and so started new ones.
    empty_memory: whether it resumes without the replay memory that it had.
    settings: those that a run keeps when it resumes, unless it overrides them.
  """

  platform: Mapping[str, str]
  restarted: tuple[int, ...] = ()
  empty_memory: bool = False
  settings: Mapping[str, Any] = MappingProxyType({})


class Digest(NamedTuple):
  """The parameters after some contributions of the whole run."""

  contributions: int
  sha256: bytes


class Entry(NamedTuple):
  """One contribution."""

  worker: int
  trace: Trace  # its `reads` are counted from the beginning of the run


def platform_of(config: Config) -> dict[str, str]:
  """Returns versions, device and processor: with others, bits may differ."""
  return {
    **workdir_lib.versions_of(config),
    'device': config.device,
    'processor': cpu.model(),
    'XLA_FLAGS': os.environ.get('XLA_FLAGS', 'none'),
    'NPROC': os.environ.get('NPROC', 'none'),
    'jax_default_prng_impl': str(jax.config.values['jax_default_prng_impl']),
  }


def digest(params: types.Params) -> bytes:
  """Returns the SHA-256 of all bits of all parameters."""
  sha256 = hashlib.sha256()
  for leaf in jax.tree.leaves(params):
    sha256.update(np.ascontiguousarray(leaf).data)
  return sha256.digest()


class TraceWriter(contextlib.AbstractContextManager):
  """Appends entries. For one thread alone."""

  def __init__(self, workdir: pathlib.Path, position: Mapping[str, int] | None):
    """Opens the file, which ends at a position from then on.

    Args:
      workdir: existing folder.
      position: from `position`, of the checkpoint to resume from; None starts
        a new file.

    Raises:
      OSError: if it cannot be written, or is shorter than the position.
    """
    path = workdir / NAME
    end = position['bytes'] if position else 0
    if position and path.stat().st_size < end:
      raise OSError(errno.EINVAL, 'is shorter than at the checkpoint')
    self._file = path.open('ab', buffering=0)
    self._file.truncate(end)
    if not end:
      self._file.write(_FIRST_LINE)
    # Contributions of earlier sessions, and of all.
    self._before = self._contributions = (
      position['contributions'] if position else 0
    )
    self._digested = 0  # Contributions of this session before the last one.
    self._block = bytearray()

  def session(self, session: Session) -> None:
    """Begins a session."""
    record = session._asdict() | {'settings': dict(session.settings)}
    text = json.dumps(record).encode()
    self._append(bytes([_SESSION]), _number(len(text)), text)

  def contribution(self, worker: int, trace: Trace) -> None:
    """Appends a contribution; those before it must be there already."""
    kind = _CONTRIBUTION
    numbers = [worker, len(trace.reads)]
    newest = self._contributions - self._before
    numbers += [newest - read for read in trace.reads]
    numbers.append(trace.minibatches_due)
    if trace.memory_changes is not None:
      kind |= _OF_MINIBATCH
      numbers.append(trace.memory_changes)
    if trace.new_seed is not None:
      kind |= _HAS_NEW_SEED
      numbers.append(trace.new_seed)
    kept = checksums(trace)
    self._append(
      bytes([kind]),
      bytes(numbers) if max(numbers) < 128 else b''.join(map(_number, numbers)),
      kept[0].to_bytes(_SEGMENT_BITS // 8, 'little'),
      kept[1].to_bytes(_GRADIENT_BITS // 8, 'little'),
    )
    self._contributions += 1

  def digest(self, version: types.Version) -> None:
    """Appends the digest of a version of this session."""
    count = self._before + version.pushes
    self._append(bytes([_DIGEST]), _number(count), digest(version.params))
    self._digested = version.pushes

  def digest_if_due(self, version: types.Version) -> None:
    """Appends the digest of a version, if the last one was long before."""
    if version.pushes >= self._digested + _DIGEST_CONTRIBUTIONS:
      self.digest(version)

  def _append(self, *parts: bytes) -> None:
    for part in parts:
      self._block += part
    if len(self._block) >= _BLOCK_BYTES:
      self._write_block()

  def _write_block(self) -> None:
    data = zlib.compress(self._block)
    rest = memoryview(_BLOCK.pack(len(data), zlib.crc32(data)) + data)
    end = self._file.seek(0, os.SEEK_END)
    try:
      while rest:
        rest = rest[self._file.write(rest) :]
    except OSError:
      self._file.truncate(end)  # Nothing after a part of a block can be read.
      raise
    self._block.clear()

  def flush(self) -> None:
    """Writes all entries to the file."""
    if self._block:
      self._write_block()

  def position(self) -> dict[str, int]:
    """Writes all to the disk, and returns where the file ends; fit for JSON."""
    self.flush()
    files.sync(self._file.fileno())
    return {
      'bytes': self._file.seek(0, os.SEEK_END),
      'contributions': self._contributions,
    }

  def close(self) -> None:
    """Closes the file.

    Raises:
      OSError: if it cannot be written.
    """
    with self._file:
      self.flush()

  def __exit__(self, *exception):
    self.close()


def checksums(trace: Trace) -> tuple[int, int]:
  """Returns the parts of a trace's checksums that the file keeps."""
  return (
    trace.of_segment % 2**_SEGMENT_BITS,
    trace.of_gradient % 2**_GRADIENT_BITS,
  )


class Recorded:
  """What a file holds, as far as it is intact.

  Attributes:
    sessions: by how many contributions went before.
    digests: SHA-256 of the parameters, by how many contributions went before.
    damage: why it ends where it does; '' if it is intact.
  """

  def __init__(self, workdir: pathlib.Path):
    """Reads the file of a run.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is of another version, or no such file.
      OSError: if it cannot be read.
    """
    content = (workdir / NAME).read_bytes()
    if not content.startswith(_FIRST_LINE):
      raise ValueError('is no trace of this version of a3c_jax')
    self.sessions: dict[int, list[Session]] = {}
    self.digests: dict[int, bytes] = {}
    self._entries, self.damage = _joined(content, len(_FIRST_LINE))
    self._starts = array.array('Q')
    at = 0
    while at < len(self._entries):
      try:
        at = self._index(at)
      except (IndexError, KeyError, TypeError, ValueError):
        self.damage = f'entry {len(self._starts)} is damaged'
        break

  def _index(self, at: int) -> int:
    """Notes the entry at a place; returns the place of the next one."""
    kind, read_number = self._entries[at] % 4, self._number
    if kind == _CONTRIBUTION:
      _, end = self._decoded(at, len(self._starts))
      self._starts.append(at)
      return end
    number, start = read_number(at + 1)
    if kind == _DIGEST:
      end = start + 32
      self.digests[number] = self._slice(start, end)
    else:
      end = start + number
      fields = json.loads(self._slice(start, end))
      fields['restarted'] = tuple(fields['restarted'])
      sessions = self.sessions.setdefault(len(self._starts), [])
      sessions.append(Session(**fields))
    return end

  def __len__(self) -> int:
    return len(self._starts)

  def __getitem__(self, index: int) -> Entry:
    return self._decoded(self._starts[index], index)[0]

  def __iter__(self) -> Iterator[Entry]:
    return (self[index] for index in range(len(self)))

  def _slice(self, start: int, end: int) -> bytes:
    if end > len(self._entries):
      raise IndexError(end)
    return self._entries[start:end]

  def _number(self, at: int) -> tuple[int, int]:
    """Returns the number at a place, and the place after it."""
    value, factor = 0, 1
    while True:
      digit = self._entries[at]
      at += 1
      value += digit % 128 * factor
      if digit < 128:
        return value, at
      factor *= 128

  def _decoded(self, at: int, index: int) -> tuple[Entry, int]:
    """Returns the contribution at a place, and the place after it."""
    kind = self._entries[at]
    worker, at = self._number(at + 1)
    count, at = self._number(at)
    reads = []
    for _ in range(count):
      lag, at = self._number(at)
      reads.append(index - lag)
    due, at = self._number(at)
    changes = new_seed = None
    if kind & _OF_MINIBATCH:
      changes, at = self._number(at)
    if kind & _HAS_NEW_SEED:
      new_seed, at = self._number(at)
    middle = at + _SEGMENT_BITS // 8
    end = middle + _GRADIENT_BITS // 8
    of_segment = int.from_bytes(self._slice(at, middle), 'little')
    of_gradient = int.from_bytes(self._slice(middle, end), 'little')
    trace = Trace(tuple(reads), of_segment, of_gradient, new_seed, due, changes)
    return Entry(worker, trace), end


def _joined(content: bytes, at: int) -> tuple[bytes, str]:
  """Returns the entries of all blocks until a damaged one, and its damage."""
  blocks = []
  while at < len(content):
    start = at + _BLOCK.size
    problem = f'block {len(blocks)} at byte {at} is damaged'
    if start > len(content):
      return b''.join(blocks), problem
    size, checksum = _BLOCK.unpack(content[at:start])
    data = content[start : start + size]
    if len(data) < size or zlib.crc32(data) != checksum:
      return b''.join(blocks), problem
    blocks.append(zlib.decompress(data))
    at = start + size
  return b''.join(blocks), ''


def _number(value: int) -> bytes:
  """Returns a number ≥ 0 in base 128, low digits first.

  All bytes but the last are 128 larger than their digits.
  """
  digits = bytearray()
  while value >= 128:
    digits.append(value % 128 + 128)
    value //= 128
  digits.append(value)
  return bytes(digits)
