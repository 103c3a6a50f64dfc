"""CSV files that are truncated to a checkpoint when a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import csv
import itertools
import logging
import os
import pathlib
from typing import Any

from a3c_jax.core import files, tables
from a3c_jax.runs import logger

_logger = logging.getLogger(__name__)


class CsvFiles(contextlib.ExitStack):
  """The open CSV files of one run. A context manager."""

  def __init__(self, workdir: pathlib.Path, positions: Mapping[str, int]):
    """Opens nothing yet.

    Args:
      workdir: existing folder.
      positions: from `positions` of the session before. Rows after the position
        of their file are removed. Empty for a new run.
    """
    super().__init__()
    self._workdir = workdir
    self._positions = positions
    self._files: dict[str, Any] = {}

  def open(self, name: str, columns: Sequence[str]) -> csv.DictWriter:
    """Opens a file for rows; a file that has rows keeps its columns.

    A warning names the columns that it lacks.

    Raises:
      OSError: if the file cannot be written.
    """
    path = self._workdir / name
    position = self._positions.get(name)
    end = 0 if position is None else _end_of_rows(path, position)
    # Line buffering, so that whole lines reach the disk.
    file = self.enter_context(path.open('a', newline='', buffering=1))
    file.truncate(end)
    file.seek(0, os.SEEK_END)  # Otherwise `tell` returns the former end.
    self._files[name] = file
    header = _header(path, end) or columns
    rows = csv.DictWriter(file, header, extrasaction='ignore')
    lacking = [column for column in columns if column not in header]
    if lacking:
      _logger.warning(
        '%s keeps its columns; not written: %s', name, ', '.join(lacking)
      )
    if not end:
      rows.writeheader()
    return rows

  def positions(self) -> dict[str, int]:
    """Writes each file to the disk, and returns where it ends."""
    for file in self._files.values():
      files.sync(file.fileno())
    return {name: file.tell() for name, file in self._files.items()}


class CsvLogger(logger.Logger):
  """Writes episodes.csv, train.csv and eval.csv."""

  def __init__(
    self,
    workdir: pathlib.Path,
    positions: Mapping[str, int],
    *,
    run: Mapping[str, Any],
    train_columns: Sequence[str],
  ):
    """Opens the files.

    Args:
      workdir: existing folder.
      positions: as for `CsvFiles`.
      run: constant columns of every row, first.
      train_columns: the others of train.csv.

    Raises:
      OSError: if a file cannot be written.
    """
    self._run = run
    self._files = CsvFiles(workdir, positions)
    self._episodes, self._rows, self._evaluations = (
      self._files.open(f'{name}.csv', [*run, *columns])
      for name, columns in (
        ('episodes', logger.EpisodeRow._fields),
        ('train', train_columns),
        ('eval', logger.EvalRow._fields),
      )
    )

  def positions(self) -> dict[str, int]:
    """Writes each file to the disk, and returns where it ends."""
    return self._files.positions()

  def on_episode(self, row: logger.EpisodeRow) -> None:
    self._write(self._episodes, row._asdict())

  def on_row(self, row: logger.TrainRow) -> None:
    self._rows.writerow({**self._run, **row.figures})

  def on_evaluation(self, row: logger.EvalRow) -> None:
    self._write(self._evaluations, tables.as_cells(row._asdict()))

  def _write(self, rows: csv.DictWriter, row: Mapping[str, Any]) -> None:
    seconds = {'seconds': f'{row["seconds"]:.3f}'}
    rows.writerow({**self._run, **row, **seconds})

  def close(self) -> None:
    self._files.close()


def _end_of_rows(path, position) -> int:
  """Where the last whole line before a position ends."""
  try:
    content = path.read_bytes()[:position]
  except FileNotFoundError:
    content = b''
  end = content.rfind(b'\n') + 1
  if end < position:
    _logger.warning('%s is shorter than at the checkpoint: rows are lost', path)
  return end


def _header(path, end) -> list[str] | None:
  """The names of the columns of a file that keeps rows."""
  if not end:
    return None
  with path.open(newline='') as file:
    return next(csv.reader(file), None)


def has_rows(workdir: pathlib.Path) -> bool:
  """Whether a run has written any results."""
  for name in ('episodes.csv', 'train.csv', 'eval.csv'):
    with contextlib.suppress(OSError), (workdir / name).open() as file:
      if len([*itertools.islice(file, 2)]) == 2:
        return True
  return False
