"""Files that several checkpoints share: each is written once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
import errno
import os
import pathlib
import re
import shutil
from typing import Any

from a3c_jax.core import files
from a3c_jax.runs import verified_files

# No path to another folder, and no name of a file that is being written.
_NAME = re.compile(r'(?!.*\.new$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}')


class AttachedFiles:
  """The attached files of the checkpoints of one folder.

  A name stands for one content for ever, so a file is never changed. The
  checkpoint names its files with their SHA-256, and is written after them.
  """

  def __init__(self, folder: pathlib.Path):
    """Makes no folder yet.

    Args:
      folder: of these files alone.
    """
    self._folder = folder

  def write(
    self, contents: Mapping[str, bytes | None], known: Mapping[str, str]
  ) -> dict[str, str]:
    """Writes the files that are new, and waits for the disk.

    Args:
      contents: of each name; None if the file is there already.
      known: SHA-256 of each name that a checkpoint has.

    Returns:
      The SHA-256 of each name.

    Raises:
      OSError: if one cannot be written or read back, or has no content and is
        not there or not known.
      ValueError: if a name is not allowed, or is known for another content.
    """
    digests = {
      name: _digest(name, content, known) for name, content in contents.items()
    }
    if not self._folder.is_dir():
      self._folder.mkdir()
      files.sync_folder(self._folder.parent)
    for name, content in contents.items():
      path = self._folder / name
      if content is not None:
        files.replace(path, content, read_back=True)
      elif not path.is_file():
        raise _missing(name)
    files.sync_folder(self._folder)
    return digests

  def read(self, digests: Mapping[str, str]) -> dict[str, bytes]:
    """Reads files, and compares them with their SHA-256.

    Raises:
      CorruptError: naming the first one that is missing or differs.
      OSError: if one cannot be read.
    """
    return {name: self._read(name, digests[name]) for name in digests}

  def _read(self, name: str, digest: str) -> bytes:
    try:
      with verified_files.open_file(self._folder / name) as file:
        content = file.read()
      verified_files.check(content, digest)
      return content
    except (
      FileNotFoundError,
      NotADirectoryError,
      IsADirectoryError,
      verified_files.CorruptError,
    ) as error:
      problem = getattr(error, 'strerror', None) or error
      raise verified_files.CorruptError(
        f'its attached file {name}: {problem}'
      ) from error
    except OSError as error:
      problem = f'{self._folder.name}/{name}: {error.strerror}'
      raise OSError(error.errno, problem) from error

  def exist(self) -> bool:
    """Whether there are any, or half written ones."""
    return bool(self._paths())

  def remove_but(self, kept: Collection[str] | None) -> None:
    """Removes all files but these; None for those half written alone.

    Raises:
      OSError: if one cannot be removed.
    """
    for path in self._paths():
      if path.name.endswith(files.UNFINISHED) or (
        kept is not None and path.name not in kept
      ):
        remove(path)

  def _paths(self) -> list[pathlib.Path]:
    try:
      return [self._folder / name for name in os.listdir(self._folder)]
    except (FileNotFoundError, NotADirectoryError):
      return []


def digests_of(header: Mapping[str, Any]) -> dict[str, str]:
  """Returns the SHA-256 of each file that the header of a checkpoint names.

  Raises:
    CorruptError: if the header was made up.
  """
  named = header.get('attached', {})
  if not isinstance(named, dict) or not all(map(_NAME.fullmatch, named)):
    raise verified_files.CorruptError('its attached files have no such names')
  return named


def remove(path: pathlib.Path) -> None:
  """Removes a file, or a folder with all that is in it."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink()


def _digest(name: str, content: bytes | None, known: Mapping[str, str]) -> str:
  if not _NAME.fullmatch(name):
    raise ValueError(f'{name!r} is no name of an attached file')
  if content is None:
    if name not in known:
      # Someone deleted the checkpoints that named it.
      raise _missing(name)
    return known[name]
  digest = verified_files.sha256(content)
  if known.get(name, digest) != digest:
    raise ValueError(f'{name} has another content in an earlier checkpoint')
  return digest


def _missing(name: str) -> FileNotFoundError:
  return FileNotFoundError(errno.ENOENT, f'its attached file {name} is missing')
