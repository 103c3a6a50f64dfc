"""Files of arrays and a record: each one is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
from typing import Any, BinaryIO, NamedTuple, NoReturn

from flax import serialization
import jax
import numpy as np

from a3c_jax.core import errors, files
from a3c_jax.core import paths as paths_lib
from a3c_jax.runs import attached_files, verified_files
from a3c_jax.runs.verified_files import CorruptError

# The first line of a file has this, the SHA-256 of the header, and the header
# in JSON. The arrays follow in flax's form of MessagePack. The header has the
# SHA-256 of the arrays, and of each attached file if there are any.
_FORMAT = b'a3c_jax-checkpoint-2'
_OTHER_FORMAT = re.compile(rb'a3c_jax-checkpoint-[0-9]{1,9}')
_COUNT = re.compile('0|[1-9][0-9]{0,18}')


class _FormatError(ValueError):
  """Another version of a3c_jax wrote a checkpoint."""


class Saved(NamedTuple):
  """The content of one checkpoint."""

  arrays: dict[str, Any]  # nested dicts of arrays
  record: dict[str, Any]  # all else, but for attached files
  attached: dict[str, bytes]  # {name: content}; {} if they were not asked for


class Store:
  """Checkpoints in one folder, a file for each, named by frames.

  A checkpoint is written under another name first, and read back. Files that
  checkpoints share, its attached files, lie in the folder 'attached', as long
  as a checkpoint names them.
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
    self._attached = attached_files.AttachedFiles(self.folder / 'attached')
    self._keep = keep
    self._read_only = read_only
    if not read_only:
      try:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in os.listdir(self.folder):
          if name.endswith(files.UNFINISHED):
            attached_files.remove(self.folder / name)
        self._remove_unnamed()
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

  def path(self, frames: int) -> pathlib.Path:
    """Returns the path of a checkpoint."""
    return self.folder / str(frames)

  def _refuse(self, problem: str) -> NoReturn:
    raise errors.UsageError(
      f'--workdir={paths_lib.as_given(self.folder.parent)}: {problem}; '
      'allowed: the folder of a run, of this version'
    )

  def save(
    self,
    frames: int,
    arrays: Any,
    record: Mapping[str, Any],
    attached: Mapping[str, bytes | None] | None = None,
    *,
    forgets: bool = True,
  ) -> None:
    """Writes one checkpoint. Replaces one of the same count of frames.

    Args:
      frames: its name.
      arrays: nested dicts of arrays.
      record: all else, fit for JSON.
      attached: content of each attached file by its name, which stands for one
        content for ever; None if another checkpoint of this store has it.
      forgets: whether to remove the oldest beyond those to keep.

    Raises:
      OSError: if it cannot be written or not be read back, or an attached file
        is missing; the earlier ones are unchanged.
      ValueError: if an attached file has a name that is not allowed or stands
        for another content.
    """
    content = serialization.msgpack_serialize(jax.tree.map(np.asarray, arrays))
    header = {
      'record': record,
      'arrays_sha256': verified_files.sha256(content),
    }
    try:
      if attached:
        known, _ = self._named()
        header['attached'] = self._attached.write(attached, known)
      self._replace(self.path(frames), _header_line(header) + content)
    except OSError:
      with contextlib.suppress(OSError):
        self._remove_unnamed()
      raise
    files.sync_folder(self.folder)
    if self._keep and forgets:
      for old in self.frames()[: -self._keep]:
        attached_files.remove(self.path(old))
    self._remove_unnamed()

  def _replace(self, path: pathlib.Path, content: bytes) -> None:
    try:
      files.replace(path, content, read_back=True)
    except IsADirectoryError:  # In the place of a checkpoint.
      attached_files.remove(path)
      files.replace(path, content, read_back=True)

  def _named(self) -> tuple[dict[str, str], bool]:
    """SHA-256 of attached files, and whether every checkpoint names its own."""
    named: dict[str, str] = {}
    complete = True
    for frames in self.frames():
      try:
        named |= attached_files.digests_of(self._header(frames))
      except (OSError, CorruptError, _FormatError):
        complete = False
    return named, complete

  def _remove_unnamed(self) -> None:
    """Removes the attached files that no checkpoint names."""
    if not self._attached.exist():
      return
    named, complete = self._named()
    # No checkpoint that was deleted comes back without its attached files.
    files.sync_folder(self.folder)
    # One that does not name its own may have any.
    self._attached.remove_but(named if complete else None)

  def _header(self, frames: int) -> dict[str, Any]:
    with verified_files.open_file(self.path(frames)) as file:
      return _read_header(file)

  def record(self, frames: int) -> Mapping[str, Any] | None:
    """Reads the record alone; None if it cannot be read."""
    try:
      return self._header(frames).get('record')
    except (OSError, CorruptError, _FormatError):
      return None

  def delete(self, frames: int) -> None:
    """Removes one checkpoint."""
    attached_files.remove(self.path(frames))
    self._remove_unnamed()

  def read(self, frames: int, *, with_attached: bool = False) -> Saved:
    """Reads one checkpoint.

    Args:
      frames: its name.
      with_attached: whether to read its attached files, too.

    Raises:
      CorruptError: if it, or an attached file that is asked for, differs from
        what was written.
      FileNotFoundError: if there is no such file, or none any more.
      UsageError: if it cannot be read, or another version wrote it.
    """
    path = self.path(frames)
    try:
      header, content = _read(path)
      digests = attached_files.digests_of(header) if with_attached else {}
      attached = self._attached.read(digests)
    except FileNotFoundError:
      raise
    except _FormatError:  # It is intact, and stays there.
      self._refuse(
        f'another version of a3c_jax wrote {self.folder.name}/{frames}'
      )
    except (IsADirectoryError, CorruptError) as error:
      if not path.exists():  # Deleted while its attached files were read.
        raise FileNotFoundError(
          errno.ENOENT, os.strerror(errno.ENOENT)
        ) from error
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
      return Saved(arrays, record, attached)
    except Exception as error:  # Whatever a made-up file makes flax raise.
      raise CorruptError(
        f'checkpoint of frame {frames} is corrupt: {error!r}'
      ) from error

  def newest(
    self, *, with_attached: bool = False
  ) -> tuple[Saved | None, list[str]]:
    """Reads the newest checkpoint that is intact.

    If it is found, newer ones that are corrupt are moved to 'corrupt-FRAMES'
    beside the folder, without attached files, unless the store is read-only.

    Args:
      with_attached: whether to read its attached files, too.

    Returns:
      The checkpoint, None if there is none, and a line for each corrupt one.

    Raises:
      UsageError: as `read`, or if a corrupt one cannot be moved.
    """
    problems: dict[int, str] = {}
    while left := [each for each in self.frames() if each not in problems]:
      frames = left[-1]
      try:
        found = self.read(frames, with_attached=with_attached)
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
      shutil.move(self.path(frames), aside)
      self._remove_unnamed()
    except OSError as error:
      self._refuse(f'{self.folder.name}/{frames}: {error.strerror}')
    return paths_lib.as_given(aside)


def _header_line(header: Mapping[str, Any]) -> bytes:
  text = json.dumps(header, sort_keys=True).encode()
  digest = verified_files.sha256(text).encode()
  return b' '.join([_FORMAT, digest, text]) + b'\n'


def _read(path: pathlib.Path) -> tuple[dict[str, Any], bytes]:
  """Reads header and arrays of a file.

  Raises:
    CorruptError: if they differ from what was written.
    FileNotFoundError: if there is no file, or none any more.
    OSError: if it cannot be read.
  """
  try:
    with verified_files.open_file(path) as file:
      header = _read_header(file)
      content = file.read()
  except OSError as error:
    if error.errno == errno.ESTALE:  # Another machine deleted it just now.
      raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    raise
  verified_files.check(content, header.get('arrays_sha256'))
  return header, content


def _read_header(file: BinaryIO) -> dict[str, Any]:
  name, _, rest = file.readline().partition(b' ')
  digest, _, header = rest.removesuffix(b'\n').partition(b' ')
  if name != _FORMAT and _OTHER_FORMAT.fullmatch(name):
    raise _FormatError(name)
  if name != _FORMAT or digest != verified_files.sha256(header).encode():
    raise CorruptError('it differs from what was written')
  try:
    return dict(json.loads(header))
  except (ValueError, TypeError, RecursionError) as error:
    raise CorruptError('its header is no mapping') from error
