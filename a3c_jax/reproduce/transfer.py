"""Copies the folder of a run to a machine, and back while it runs."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Protocol

from a3c_jax.core import files

_PIECE = 4 * 2**20  # Bytes of a file that are sent at once.
_ATTEMPTS = 3  # To read checkpoints while a run replaces them.
_CHECKPOINTS = 'checkpoints/'
_INCOMING = '.incoming'  # Ends the name of a folder that is being written.


class Files(Protocol):
  """Files of another machine; see `machine.Machine`."""

  def listing(self, below: str) -> dict[str, tuple[int, int]]:
    """Returns (bytes, time of change) by path."""
    ...

  def read(self, path: str, offset: int, size: int) -> bytes | None:
    """Returns a part of a file; None if it is gone."""
    ...

  def write(self, path: str, offset: int, content: bytes) -> None:
    """Writes a part of a file."""
    ...


class Copy:
  """The folder of a run here, of which a machine has a copy that changes."""

  def __init__(self, folder: pathlib.Path, machine: Files):
    """Copies nothing yet.

    Args:
      folder: need not exist.
      machine: it gets a folder of the same name.
    """
    self._folder = folder
    self._machine = machine
    self._have: dict[str, tuple[int, int]] = {}  # As the machine has them.
    self._incoming = folder.with_name(folder.name + _INCOMING)

  def send(self) -> None:
    """Sends all files that are here."""
    for path in sorted(self._folder.rglob('*')):
      if path.is_file() and not path.is_symlink():
        self._send(path)
    self._have = self._machine.listing(self._folder.name)

  def _send(self, path) -> None:
    name = path.relative_to(self._folder.parent).as_posix()
    with path.open('rb') as file:
      offset = 0
      while (piece := file.read(_PIECE)) or not offset:
        self._machine.write(name, offset, piece)
        offset += len(piece)
        if not piece:
          break

  def bring(self) -> bool:
    """Brings all files that have changed since the last time.

    A process that is killed in here leaves a folder that a run can resume
    from: each file is whole, and rows come before the checkpoint that counts
    them. A file that only exists here stays.

    Returns:
      False if nothing was brought since the run wrote checkpoints meanwhile.

    Raises:
      OSError: if a file cannot be written.
    """
    try:
      for _ in range(_ATTEMPTS):
        found = self._machine.listing(self._folder.name)
        changed = [
          name for name in found if found[name] != self._have.get(name)
        ]
        # A checkpoint is read before the rows, which may be newer, never older.
        got = [
          name
          for name in sorted(changed, key=_rank)
          if self._fetch(name, found[name][0])
        ]
        after = self._machine.listing(self._folder.name)
        if _checkpoints(after) == _checkpoints(found):
          self._install(found, got)
          return True
      return False
    finally:
      shutil.rmtree(self._incoming, ignore_errors=True)

  def _fetch(self, name, size) -> bool:
    """Reads a file into the other folder; returns whether it is still there."""
    path = self._incoming / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb', buffering=0) as file:
      offset = 0
      while offset < size:
        piece = self._machine.read(
          f'{self._folder.name}/{name}', offset, min(_PIECE, size - offset)
        )
        if piece is None:
          return False
        if not piece:  # It has become shorter.
          break
        offset += file.write(piece)
      files.sync(file.fileno())
    return True

  def _install(self, found, got) -> None:
    for name in sorted(got, key=_rank, reverse=True):
      path = self._folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      os.replace(self._incoming / name, path)
    for name in self._have.keys() - found.keys():
      (self._folder / name).unlink(missing_ok=True)
    self._have = {
      name: state
      for name, state in found.items()
      if name in got or name in self._have
    }


def _rank(name: str) -> int:
  """The place of a file in the order of reading."""
  if not name.startswith(_CHECKPOINTS):
    return 2
  # Several checkpoints share the files in a folder below.
  return 1 if '/' in name.removeprefix(_CHECKPOINTS) else 0


def _checkpoints(listing):
  return {name: state for name, state in listing.items() if _rank(name) < 2}
