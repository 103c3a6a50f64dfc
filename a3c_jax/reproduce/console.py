"""Text that scripts print."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
  """Rows of a table as lines, with its columns aligned on the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.rjust(width) for cell, width in zip(row, widths, strict=True)
    )
    for row in rows
  )


def unfinished(left: int, runs: int) -> str:
  """Lines that say how many runs are left, and how to resume them."""
  return f'{left} of {runs} runs are not finished\nto resume: the same command'
