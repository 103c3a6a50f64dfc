"""Locks and writes, also on file systems without locks or sync."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import pathlib

_logger = logging.getLogger(__name__)
UNFINISHED = '.new'  # Ends the name of a file that is being written.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# From Lustre without -o flock, Colab's Drive and other FUSE file systems.
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

  On a file system without locks, it warns once and locks nothing.

  Args:
    file: open for writing.
    folder: what the lock protects, for the warning: '--workdir=runs/x'.

  Raises:
    BlockingIOError: if another process holds the lock.
    OSError: if it cannot be locked for another reason.
  """
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno not in _NOT_SUPPORTED:
      raise
    _warn_once(
      f'{folder}: the file system has no locks ({error.strerror}); nothing '
      'prevents two processes from using it at once'
    )


def is_locked(path: pathlib.Path) -> bool:
  """Returns whether another process holds the lock of a file."""
  with path.open('rb') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    except OSError as error:
      if error.errno not in _NOT_SUPPORTED:
        raise
  return False


@functools.cache
def _warn_once(line):
  _logger.warning(line)


def sync(descriptor: int) -> None:
  """Calls `os.fsync`, if the file system has it.

  Raises:
    OSError: if the data cannot reach the disk.
  """
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno not in _NOT_SUPPORTED:
      raise


def write_all(file, content: bytes) -> None:
  """Writes to an unbuffered binary file, and waits for the disk.

  The file has no buffer, since closing it would write, and fail, again.

  Raises:
    OSError: if not all of it can be written.
  """
  rest = memoryview(content)
  while rest:
    rest = rest[file.write(rest) :]
  sync(file.fileno())


def replace(
  path: pathlib.Path, content: bytes, *, read_back: bool = False
) -> None:
  """Replaces a file, or makes a new one, atomically.

  Args:
    path: of the file.
    content: all of it.
    read_back: whether to read it, before it replaces the older file.

  Raises:
    OSError: if it cannot be written, or differs from `content` when it is read
      back; the older file is unchanged then.
  """
  new = path.with_name(f'{path.name}{UNFINISHED}')
  try:
    with new.open('wb', buffering=0) as file:
      write_all(file, content)
    if read_back and new.read_bytes() != content:
      raise OSError('it cannot be read back, it differs from what was written')
    new.replace(path)
  finally:
    with contextlib.suppress(OSError):
      new.unlink()


def sync_folder(path: pathlib.Path) -> None:
  """Waits until the names in a folder are on the disk, if possible."""
  with contextlib.suppress(OSError):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
