"""Files of arrays and a record: each one is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
from typing import Any, BinaryIO, NamedTuple, NoReturn

from flax import serialization
import jax
import numpy as np

from a3c_jax.core import errors, files
from a3c_jax.core import paths as paths_lib

# The first line of a file has this, the SHA-256 of the header, and the header
# in JSON. The arrays follow in flax's form of MessagePack. The header has the
# SHA-256 of the arrays.
_FORMAT = b'a3c_jax-checkpoint-2'
_OTHER_FORMAT = re.compile(rb'a3c_jax-checkpoint-[0-9]{1,9}')
_UNFINISHED = '.new'  # Ends the name of a file that is being written.
_COUNT = re.compile('0|[1-9][0-9]{0,18}')


class CorruptError(ValueError):
  """A checkpoint differs from what was written."""


class _FormatError(ValueError):
  """Another version of a3c_jax wrote a checkpoint."""


class Saved(NamedTuple):
  """The content of one checkpoint."""

  arrays: dict[str, Any]  # nested dicts of arrays
  record: dict[str, Any]  # all else


class Store:
  """Checkpoints in one folder, a file for each, named by frames.

  A checkpoint is written under another name first, and read back.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    keep: int | None = None,
    read_only: bool = False,
  ):
    """Opens the folder. Makes it unless `read_only`.

    Args:
      folder: of this store alone.
      keep: how many of the newest checkpoints stay; None for all.
      read_only: changes no file, so that another process can write.

    Raises:
      UsageError: if the folder cannot be used.
    """
    self.folder = folder.absolute()
    self._keep = keep
    self._read_only = read_only
    if not read_only:
      try:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in os.listdir(self.folder):
          if name.endswith(_UNFINISHED):
            self._remove(self.folder / name)
      except OSError as error:
        self._refuse(f'{self.folder.name}: {error.strerror}')

  def frames(self) -> list[int]:
    """Returns the names of all checkpoints, ascending.

    Raises:
      UsageError: if the folder cannot be read.
    """
    try:
      names = os.listdir(self.folder)
    except FileNotFoundError:
      return []
    except OSError as error:
      self._refuse(f'{self.folder.name}: {error.strerror}')
    paths = [self.folder / name for name in names if _COUNT.fullmatch(name)]
    return sorted(int(path.name) for path in paths if path.exists())

  def _path(self, frames: int) -> pathlib.Path:
    return self.folder / str(frames)

  def _remove(self, path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      path.unlink()

  def _refuse(self, problem: str) -> NoReturn:
    raise errors.UsageError(
      f'--workdir={paths_lib.as_given(self.folder.parent)}: {problem}; '
      'allowed: the folder of a run, of this version'
    )

  def save(self, frames: int, arrays: Any, record: Mapping[str, Any]) -> None:
    """Writes one checkpoint. Replaces one of the same count of frames.

    Args:
      frames: its name.
      arrays: nested dicts of arrays.
      record: all else, fit for JSON.

    Raises:
      OSError: if it cannot be written or not be read back; the earlier ones are
        unchanged.
    """
    content = serialization.msgpack_serialize(jax.tree.map(np.asarray, arrays))
    header = {'record': record, 'arrays_sha256': _sha256(content)}
    header = json.dumps(header, sort_keys=True).encode()
    line = b' '.join([_FORMAT, _sha256(header).encode(), header])
    new = self.folder / f'{frames}{_UNFINISHED}'
    try:
      with new.open('wb', buffering=0) as file:
        files.write_all(file, line + b'\n' + content)
      if _read(new)[1] != content:
        raise CorruptError('it differs from what was written')
      if self._path(frames).is_dir():
        self._remove(self._path(frames))
      new.replace(self._path(frames))
    except CorruptError as error:
      raise OSError(f'it cannot be read back, {error}') from error
    finally:
      with contextlib.suppress(OSError):
        new.unlink()
    files.sync_folder(self.folder)
    if self._keep:
      for old in self.frames()[: -self._keep]:
        self.delete(old)

  def record(self, frames: int) -> Mapping[str, Any] | None:
    """Reads the record alone; None if it cannot be read."""
    try:
      with _open(self._path(frames)) as file:
        return _read_header(file).get('record')
    except (OSError, CorruptError, _FormatError):
      return None

  def delete(self, frames: int) -> None:
    """Removes one checkpoint."""
    self._remove(self._path(frames))

  def read(self, frames: int) -> Saved:
    """Reads one checkpoint.

    Raises:
      CorruptError: if it differs from what was written.
      FileNotFoundError: if there is no such file, or none any more.
      UsageError: if it cannot be read, or another version wrote it.
    """
    path = self._path(frames)
    try:
      header, content = _read(path)
    except FileNotFoundError:
      raise
    except _FormatError:  # It is intact, and stays there.
      self._refuse(
        f'another version of a3c_jax wrote {self.folder.name}/{frames}'
      )
    except (IsADirectoryError, CorruptError) as error:
      if (path / '_CHECKPOINT_METADATA').exists():
        self._refuse(
          f'an older version of a3c_jax wrote {self.folder.name}/{frames}, '
          'with orbax'
        )
      problem = getattr(error, 'strerror', None) or error
      raise CorruptError(
        f'checkpoint of frame {frames} is corrupt: {problem}'
      ) from error
    except OSError as error:  # It may be intact, and stays there.
      self._refuse(f'{self.folder.name}/{frames}: {error.strerror}')
    try:
      arrays = serialization.msgpack_restore(content)
      arrays = jax.tree.map(np.array, arrays)  # To be written to.
      if not isinstance(arrays, dict):
        raise ValueError('it is no mapping')
      record = dict(header['record'])
      if record.get('frames', frames) != frames:
        raise ValueError('it is of another count of frames')
      return Saved(arrays, record)
    except Exception as error:  # Whatever a made-up file makes flax raise.
      raise CorruptError(
        f'checkpoint of frame {frames} is corrupt: {error!r}'
      ) from error

  def newest(self) -> tuple[Saved | None, list[str]]:
    """Reads the newest checkpoint that is intact.

    If it is found, newer ones that are corrupt are moved to 'corrupt-FRAMES'
    beside the folder, unless the store is read-only.

    Returns:
      The checkpoint, None if there is none, and a line for each corrupt one.

    Raises:
      UsageError: as `read`, or if a corrupt one cannot be moved.
    """
    problems: dict[int, str] = {}
    while left := [each for each in self.frames() if each not in problems]:
      frames = left[-1]
      try:
        found = self.read(frames)
      except FileNotFoundError:
        continue  # Deleted by its writer, which wrote a newer one before.
      except CorruptError as error:
        problems[frames] = str(error)
        continue
      if not self._read_only:
        for corrupt in problems:
          problems[corrupt] += f'; now {self._move_aside(corrupt)}'
      return found, [*problems.values()]
    return None, [*problems.values()]

  def _move_aside(self, frames: int) -> str:
    aside = self.folder.parent / f'corrupt-{frames}'
    while os.path.lexists(aside):
      aside = aside.with_name(f'{aside.name}-again')
    try:
      # Not `rename`: the folder may be a link to another file system.
      shutil.move(self._path(frames), aside)
    except OSError as error:
      self._refuse(f'{self.folder.name}/{frames}: {error.strerror}')
    return paths_lib.as_given(aside)


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _read(path: pathlib.Path) -> tuple[dict[str, Any], bytes]:
  """Reads header and arrays of a file.

  Raises:
    CorruptError: if they differ from what was written.
    FileNotFoundError: if there is no file, or none any more.
    OSError: if it cannot be read.
  """
  try:
    with _open(path) as file:
      header = _read_header(file)
      content = file.read()
  except OSError as error:
    if error.errno == errno.ESTALE:  # Another machine deleted it just now.
      raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    raise
  if _sha256(content) != header.get('arrays_sha256'):
    raise CorruptError('it differs from what was written')
  return header, content


def _open(path: pathlib.Path) -> BinaryIO:
  """Opens a regular file. A pipe would block, and a device may never end."""
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return open(descriptor, 'rb')
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
  raise CorruptError('it is no file')


def _read_header(file: BinaryIO) -> dict[str, Any]:
  name, _, rest = file.readline().partition(b' ')
  digest, _, header = rest.removesuffix(b'\n').partition(b' ')
  if name != _FORMAT and _OTHER_FORMAT.fullmatch(name):
    raise _FormatError(name)
  if name != _FORMAT or digest != _sha256(header).encode():
    raise CorruptError('it differs from what was written')
  try:
    return dict(json.loads(header))
  except (ValueError, TypeError, RecursionError) as error:
    raise CorruptError('its header is no mapping') from error
