"""Rows of CSV files that a spreadsheet does not evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
from typing import Any, TextIO

_FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠')


def as_cells(row: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a row of a CSV file without formulas.

  Text that a spreadsheet would evaluate gets an apostrophe before it. Numbers
  are unchanged, also those in text.
  """
  return {name: _cell(value) for name, value in row.items()}


def _cell(value):
  if not isinstance(value, str) or not value.startswith(_FORMULA):
    return value
  try:
    float(value)
  except ValueError:
    return "'" + value
  return value


def write(file: TextIO, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes rows of the same columns, and their header, as CSV.

  Args:
    file: opened with `newline=''`.
    rows: at least one.
  """
  table = csv.DictWriter(file, [*rows[0]])
  table.writeheader()
  table.writerows(map(as_cells, rows))
