"""The file evaluations.csv: one row of each evaluation after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
import errno
import io
import logging
import os
import pathlib
import stat
from typing import Any

from a3c_jax.core import errors, files, paths, tables
from a3c_jax.runs import evaluation

_COLUMNS = (
  'algo',
  'env',
  'seed',
  'frames',
  'protocol',
  'policy',
  'eval_seed',
  *evaluation.Summary._fields,
  'human_normalized',
)
# Files of earlier versions keep their columns.
_EARLIER = tuple(name for name in _COLUMNS if name != 'truncated_episodes')
_logger = logging.getLogger(__name__)


def rows_of(path: pathlib.Path, **values: str) -> list[dict[str, str]]:
  """The rows of a file that have some values in their columns; [] without it.

  A link is not followed: the folder may be somebody else's.

  Raises:
    UsageError: naming --workdir, if it cannot be read or has other columns.
  """
  try:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
      os.close(file)
      raise ValueError('is no file')
    with open(file, newline='', encoding='utf-8') as lines:
      reader = csv.DictReader(lines)
      if reader.fieldnames not in (None, [*_COLUMNS], [*_EARLIER]):
        raise ValueError('has other columns')
      rows = [row for row in reader if None not in {*row, *row.values()}]
  except FileNotFoundError:
    return []
  except (OSError, ValueError, csv.Error) as error:
    problem = errors.in_one_line(getattr(error, 'strerror', None) or error)
    raise errors.UsageError(
      f'--workdir={paths.as_given(path.parent)}: {path.name}: {problem}; '
      'allowed: what evaluate.py wrote, or no such file'
    ) from error
  return [
    row
    for row in rows
    if all(row[name] == value for name, value in values.items())
  ]


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
  """The content of a file of rows, of which there is at least one."""
  text = io.StringIO(newline='')
  tables.write(text, rows)
  return text.getvalue()


class EvaluationsFile:
  """A CSV file that gets one row per evaluation."""

  def __init__(self, path: pathlib.Path, *, follow: bool):
    """Checks that the file can take a row.

    Args:
      path: of the file.
      follow: whether it may be a link to another one.

    Raises:
      UsageError: naming --csv, if it cannot be written to, or has other
        columns.
    """
    self._path = path
    self._columns = _COLUMNS
    # No waiting at a pipe.
    self._flags = os.O_APPEND | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    problem = None
    try:
      with self._open(os.O_RDWR) as file:
        lines = csv.reader(io.TextIOWrapper(file, 'utf-8', newline=''))
        header = next(lines, None)
        if header == [*_EARLIER]:
          self._columns = _EARLIER
        elif header not in (None, [*_COLUMNS]):
          problem = 'has other columns'
    except FileNotFoundError:
      if not path.parent.is_dir():
        problem = f'{paths.as_given(path.parent)} is not a folder'
      elif path.is_symlink():
        problem = 'is a link to nothing'
      elif not os.access(path.parent, os.W_OK | os.X_OK):
        problem = 'no permission to write to it'
    except OSError as error:
      problem = self._problem(error)
    except (UnicodeDecodeError, csv.Error):
      problem = 'is no CSV file'
    if problem:
      raise errors.UsageError(
        f'--csv={paths.as_given(path)}: {problem}; allowed: a file to write, '
        'new or of this script'
      )

  def add(self, row: Mapping[str, Any]) -> None:
    """Adds a row, after the names of the columns if the file is empty.

    Raises:
      RunError: if it cannot be written; the file is as it was.
    """
    try:
      with self._open(os.O_RDWR | os.O_CREAT) as file:
        end = file.seek(0, os.SEEK_END)
        text = io.StringIO(newline='')
        rows = csv.DictWriter(text, self._columns, extrasaction='ignore')
        if not end:
          rows.writeheader()
        rows.writerow(tables.as_cells(row))
        content = text.getvalue().encode()
        if end:
          file.seek(end - 1)
          if file.read(1) != b'\n':  # The last row is incomplete.
            content = b'\r\n' + content
        try:
          files.write_all(file, content)
        except OSError:
          file.truncate(end)
          raise
    except OSError as error:
      raise errors.RunError(
        f'--csv={paths.as_given(self._path)}: {self._problem(error)}; the '
        'result is printed above, but has no row'
      ) from error
    _logger.info('row in %s', paths.as_given(self._path))

  def _open(self, flags) -> io.FileIO:
    """The file, without a buffer that would be written once more at the end."""
    file = os.open(self._path, flags | self._flags, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
      os.close(file)
      raise OSError(errno.EINVAL, 'is no file')
    return open(file, 'rb+', buffering=0)

  def _problem(self, error) -> str:
    is_link = error.errno == errno.ELOOP and self._flags & os.O_NOFOLLOW
    return 'is a link, which is not followed' if is_link else error.strerror
