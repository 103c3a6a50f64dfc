"""Paths and folders, and messages about them in the user's words."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import stat
from typing import Any

from a3c_jax.core import errors

_GIVEN: dict[str, str] = {}  # What the user wrote, by the absolute path.


def absolute(path: str) -> str:
  """Returns the absolute form of a path; ~ is the home folder.

  It stays valid when an environment changes the working directory. `as_given`
  returns the user's text.

  Raises:
    UsageError: if it is relative and the working directory was removed.
  """
  if '\0' in path:  # These functions raise; a check refuses it later.
    return path
  try:
    whole = os.path.abspath(os.path.expanduser(path))
  except FileNotFoundError as error:
    raise errors.UsageError(
      f'{path}: the current folder was removed; allowed: a path '
      'that begins with /'
    ) from error
  if whole != path:
    _GIVEN[whole] = path
  return whole


def as_given(path: str | pathlib.Path) -> str:
  """Returns a path as the user wrote it, if `absolute` made it or a parent."""
  path = pathlib.Path(path)
  for folder in (path, *path.parents):
    given = _GIVEN.get(str(folder))
    if given is not None:
      rest = path.relative_to(folder)
      return os.path.join(given, rest) if rest.parts else given
  return str(path)


def absolute_paths(settings: Any) -> dict[str, Any]:
  """Returns the settings that are paths, by name; `absolute` unless empty."""

  def made(value):
    if isinstance(value, tuple):
      return tuple(map(made, value))
    return absolute(value) if isinstance(value, str) and value else value

  return {
    field.name: made(getattr(settings, field.name))
    for field in dataclasses.fields(settings)
    if field.metadata['path']
  }


def make_folder(path: str, *, flag: str) -> pathlib.Path:
  """Returns the folder at a path; makes it if it does not exist.

  Raises:
    UsageError: naming the flag, if the user cannot make it or write to it.
  """
  folder = pathlib.Path(path)
  problem = None
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    problem = error.strerror
  else:
    if not os.access(folder, os.W_OK | os.X_OK):
      problem = 'no permission to write to it'
  if problem:
    raise errors.UsageError(
      f'--{flag}={errors.as_text(as_given(path))}: {problem}; allowed: a '
      'folder that can be written to'
    )
  return folder


def check_links(
  folder: pathlib.Path, *, flag: str, below: Sequence[str] = ()
) -> None:
  """Checks that writes to the files of a folder stay in the folder.

  Args:
    folder: it must exist.
    flag: that names it.
    below: names of folders in it whose entries are checked too, if they exist.

  Raises:
    UsageError: naming the first entry that is a link out of the folder, or
      neither a file, a folder nor a link, such as a pipe.
  """
  inside = os.path.realpath(folder)
  parts = [folder, *(folder / name for name in below)]
  try:
    entries = [
      entry
      for part in parts
      if part.is_dir()
      for entry in sorted(part.iterdir())
    ]
    problems = [_leads_out(entry, inside) for entry in entries]
  except OSError as error:
    raise errors.UsageError(
      f'--{flag}={as_given(folder)}: {error.strerror}; allowed: a folder that '
      'can be read'
    ) from error
  for entry, problem in zip(entries, problems, strict=True):
    if problem:
      raise errors.UsageError(
        f'--{flag}={as_given(folder)}: {entry.relative_to(folder)} {problem}; '
        'allowed: a folder without such entries'
      )


def _leads_out(path, inside) -> str:
  mode = path.lstat().st_mode
  if stat.S_ISLNK(mode):
    target = os.path.realpath(path)
    if os.path.commonpath([inside, target]) != inside:
      return f'is a link that leads out of it, to {target}'
  elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    return 'is neither a file nor a folder'
  return ''


def check_file(path: str, *, flag: str) -> None:
  """Checks that a file can be written; does not change it.

  Raises:
    UsageError: naming the flag, if it cannot be written.
  """
  file = pathlib.Path(path)
  problem = None
  try:
    there = file.exists()
    if not file.parent.is_dir():
      problem = f'{pathlib.Path(as_given(file)).parent} is not a folder'
    elif file.is_dir():
      problem = 'is a folder'
    elif not os.access(file if there else file.parent, os.W_OK):
      problem = 'no permission to write to it'
  except (OSError, ValueError) as error:  # Too long, or with a null byte.
    problem = getattr(error, 'strerror', None) or str(error)
  if problem:
    raise errors.UsageError(
      f'--{flag}={errors.as_text(as_given(path))}: {problem}; allowed: a file '
      'to write'
    )
