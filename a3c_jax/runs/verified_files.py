"""Reading files that name the SHA-256 of what they should contain."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import stat
from typing import BinaryIO


class CorruptError(ValueError):
  """A file differs from what was written."""


def sha256(content: bytes) -> str:
  """Returns the SHA-256 in hexadecimal digits."""
  return hashlib.sha256(content).hexdigest()


def check(content: bytes, digest: object) -> None:
  """Raises CorruptError if content does not have this SHA-256."""
  if sha256(content) != digest:
    raise CorruptError('it differs from what was written')


def open_file(path: pathlib.Path) -> BinaryIO:
  """Opens a regular file. A pipe would block, and a device may never end.

  Raises:
    CorruptError: if it is a pipe or a device.
    IsADirectoryError: if it is a folder.
    OSError: if it cannot be opened.
  """
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return open(descriptor, 'rb')
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
  raise CorruptError('it is no file')
