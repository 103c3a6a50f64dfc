"""Locks and writes, also where a file system does not have all of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import pathlib

_logger = logging.getLogger(__name__)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Lustre without -o flock, Colab's Drive, and other file systems of FUSE.
_NOT_SUPPORTED = (
  errno.EINVAL,
  errno.ENOLCK,
  errno.ENOSYS,
  errno.ENOTSUP,
  errno.EOPNOTSUPP,
  errno.EPERM,
)


def lock(file, *, folder: str) -> None:
  """Locks an open file for this process alone, until it is closed.

  Where the file system has no locks, warns once and locks nothing.

  Args:
    file: open for writing.
    folder: what the lock is for, to name it in that line: '--workdir=runs/x'.

  Raises:
    BlockingIOError: if another process has locked it.
    OSError: if it cannot be locked for another reason.
  """
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno not in _NOT_SUPPORTED:
      raise
    _warn_once(
      f'{folder}: the file system has no locks ({error.strerror}); two '
      'processes that use it at once are not kept apart'
    )


@functools.cache
def _warn_once(line):
  _logger.warning(line)


def sync(descriptor: int) -> None:
  """`os.fsync`, where the file system has it.

  Raises:
    OSError: if what was written cannot reach the disk.
  """
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno not in _NOT_SUPPORTED:
      raise


def write_all(file, content: bytes) -> None:
  """Writes to an unbuffered binary file, and waits for the disk.

  No buffer that would be written, and fail, once more at closing time.

  Raises:
    OSError: if not all of it can be written.
  """
  rest = memoryview(content)
  while rest:
    rest = rest[file.write(rest) :]
  sync(file.fileno())


def replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file in the place of an older one, which is there until then.

  Raises:
    OSError: if it cannot be written; the older one is as it was.
  """
  new = path.with_name(f'{path.name}.new')
  try:
    with new.open('wb', buffering=0) as file:
      write_all(file, content)
    new.replace(path)
  finally:
    with contextlib.suppress(OSError):
      new.unlink()


def sync_folder(path: pathlib.Path) -> None:
  """Waits until the names in a folder are on the disk, if it can."""
  with contextlib.suppress(OSError):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
