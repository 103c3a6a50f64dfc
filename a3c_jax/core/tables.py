"""Rows of CSV files, of which a spreadsheet computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠')


def as_cells(row: Mapping[str, Any]) -> dict[str, Any]:
  """A row of a CSV file that a spreadsheet computes nothing from.

  Text that a spreadsheet takes for a formula gets an apostrophe before it, by
  which it is text there. Numbers stay as they are, also those in text.
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
