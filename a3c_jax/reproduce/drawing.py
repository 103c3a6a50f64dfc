"""Pictures of curves, in panels with one legend; needs the extra plot."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
import importlib.util
import math
import pathlib
import textwrap
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.core import packages, tables
from a3c_jax.reproduce import curves, published, scores

LABELS = {'frames': 'frames', 'hours': 'hours of training'}  # Of the x-axis.
_PANEL = (3.6, 2.9)  # Inches.
_PACKAGES = ('matplotlib', 'pandas')


class Drawn(NamedTuple):
  """A figure: its picture, and the numbers in it."""

  rows: list[dict[str, Any]]  # of a CSV file, all with the same columns
  picture: Any  # a matplotlib Figure
  summary: list[str]  # lines to print


class Entry(NamedTuple):
  """A curve of ours in a panel, and the paper's in the same colour."""

  method: str
  threads: int  # of ours
  color: str
  label: str
  trials: list[scores.Trial]
  paper: published.PaperCurve | None


class Panel(NamedTuple):
  """A part of a picture: one game and one method."""

  game: str
  method: str
  trials: list[scores.Trial]
  axes: Any  # matplotlib's


def can_draw() -> bool:
  """Whether the packages that it takes are installed."""
  return all(map(importlib.util.find_spec, _PACKAGES))


def check_can_draw() -> None:
  """Raises UsageError if one of them is not installed."""
  packages.check_installed('pictures', *_PACKAGES, extra='plot')


def subplots(
  rows: int, columns: int, *, size: tuple[float, float]
) -> tuple[Any, np.ndarray]:
  """An empty picture with a table of panels.

  It does not belong to pyplot, which keeps its figures until they are closed.

  Args:
    rows: of panels.
    columns: of panels.
    size: width and height in inches.

  Returns:
    The matplotlib Figure, and an array [rows, columns] of its axes.

  Raises:
    UsageError: if a package that it takes is not installed.
  """
  check_can_draw()
  from matplotlib.figure import Figure

  picture = Figure(figsize=size, layout='constrained')
  return picture, picture.subplots(rows, columns, squeeze=False)


def draw_line(axes: Any, curve: curves.Curve | None, **style: Any) -> None:
  """Draws the mean of a curve, and a band from its lowest to its highest run.

  Args:
    axes: matplotlib's.
    curve: None draws nothing.
    **style: of the line, as in matplotlib's `plot`.
  """
  if curve is None:
    return
  marker = 'o' if len(curve.x) == 1 else None  # One point has no line.
  (line,) = axes.plot(curve.x, curve.mean, marker=marker, **style)
  if (curve.lowest != curve.highest).any():
    axes.fill_between(
      curve.x, curve.lowest, curve.highest, color=line.get_color(), alpha=0.2
    )


def draw_paper(
  axes: Any, curve: published.PaperCurve, *, until: float, **style: Any
) -> None:
  """Draws a curve of the paper as far as ours: dashed, up to an x."""
  visible = np.append(True, curve.x[:-1] < until)
  style = {'linestyle': '--', 'label': curve.label} | style
  axes.plot(curve.x[visible], curve.score[visible], **style)


def grid(rows: int, columns: int, title: str) -> tuple[Any, np.ndarray]:
  """As `subplots`, with a title, and with grid lines in every panel."""
  width, height = _PANEL
  size = (max(width * columns, 6.5), height * rows + 1.6)
  picture, table = subplots(rows, columns, size=size)
  picture.suptitle(textwrap.fill(title, 16 * max(columns, 5)), fontsize='small')
  for axes in table.flat:
    axes.grid(alpha=0.3)
    axes.locator_params('x', nbins=5)
  return picture, table


def panels(
  trials: Sequence[scores.Trial], title: str
) -> tuple[Any, list[Panel]]:
  """A picture with a panel for each game and method, and these panels."""
  games, methods = scores.names(trials)
  picture, table = grid(len(methods), len(games), title)
  made = []
  for (game, method), group in scores.by_game_and_method(trials).items():
    axes = table[methods.index(method), games.index(game)]
    axes.set_title(f'{game}, {method}')
    axes.set_ylabel('score')
    made.append(Panel(game, method, group, axes))
  return picture, made


def colors(names: Iterable[Hashable]) -> dict[Hashable, str]:
  """A colour for each name, the same in all panels."""
  return {name: f'C{n}' for n, name in enumerate(dict.fromkeys(names))}


def add_legend(picture: Any) -> None:
  """Adds one legend for all panels, below them."""
  handles = {}
  for axes in picture.axes:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if handles:
    picture.legend(
      [*handles.values()],
      [*handles],
      loc='outside lower center',
      ncols=2 if len(handles) > 4 else 1,
      fontsize='x-small',
    )


def draw_entries(
  axes: Any, game: str, against: str, entries: Sequence[Entry]
) -> list[dict[str, Any]]:
  """Draws curves by 'frames' or 'hours'; returns the rows of their points."""
  rows = []
  for entry in entries:
    curve = scores.learning_curve(entry.trials, against)
    if curve is not None:
      draw_line(axes, curve, color=entry.color, label=entry.label)
      about = _about(game, entry, against)
      about |= {'series': 'ours', 'runs': len(entry.trials)}
      rows += _points(about, curve)
  right = axes.get_xlim()[1] if rows else None
  for entry in entries:
    paper = entry.paper
    if paper is not None:
      until = right or math.inf
      draw_paper(axes, paper, until=until, color=entry.color, alpha=0.7)
      about = _about(game, entry, against)
      about |= {'series': paper.label, 'threads': paper.threads}
      score = paper.score
      rows += _points(about, curves.Curve(paper.x, score, score, score))
  axes.set_xlim(0.0, right)
  label_x(axes, against)
  axes.set_ylabel('score')
  return rows


def label_x(axes: Any, against: str) -> None:
  """Labels the x-axis; frames are counted in thousands (k) and millions (M)."""
  from matplotlib import ticker

  axes.set_xlabel(LABELS[against])
  if against == 'frames':
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))


def _about(game, entry, against) -> dict[str, Any]:
  return {
    'game': game,
    'method': entry.method,
    'threads': entry.threads,
    'series': '',
    'runs': '',
    'x': against,
  }


def _points(about, curve) -> list[dict[str, Any]]:
  return [
    {
      **about,
      'at': float(f'{x:.6g}'),
      'score': round(mean, 3),
      'lowest': round(lowest, 3),
      'highest': round(highest, 3),
    }
    for x, mean, lowest, highest in np.column_stack(curve).tolist()
  ]


def save(drawn: Drawn, path: pathlib.Path) -> None:
  """Writes path.csv and path.png, each in the place of an earlier one.

  Raises:
    OSError: if one cannot be written.
  """
  new = path.with_suffix('.new')  # So that no file is ever half written.
  with new.open('w', newline='') as file:
    tables.write(file, drawn.rows)
  new.replace(path.with_suffix('.csv'))
  drawn.picture.savefig(new, dpi=110, format='png')
  new.replace(path.with_suffix('.png'))
