"""Scores and curves that others published, as they ship with the package."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from typing import NamedTuple

import numpy as np

# Names in Figures 3 and 4 of Mnih et al. 2016, by ours.
_PANELS = {
  'beam_rider': 'Beamrider',
  'breakout': 'Breakout',
  'pong': 'Pong',
  'qbert': 'Q*bert',
  'space_invaders': 'Space Invaders',
}
_SERIES = {
  'a3c': 'A3C',
  'nstep_q': 'n-step Q',
  'one_step_q': '1-step Q',
  'one_step_sarsa': '1-step SARSA',
}
_THREADS = (1, 2, 4, 8, 16)
_FRAMES_PER_EPOCH = 4_000_000


class Reference(NamedTuple):
  """Scores that a game's scale is made of."""

  random: float
  human: float


class PaperCurve(NamedTuple):
  """A curve of Mnih et al. 2016, arXiv:1602.01783."""

  x: np.ndarray  # [N] float64, frames or hours
  score: np.ndarray  # [N] float64, mean of the best 3 of 50 learning rates
  label: str


def _rows(name: str) -> list[dict[str, str]]:
  file = importlib.resources.files('a3c_jax') / 'data' / name
  with file.open(newline='') as table:
    return list(csv.DictReader(table))


@functools.cache
def _references() -> dict[str, Reference]:
  return {
    row['game']: Reference(
      float(row['random_noop30']), float(row['human_noop30'])
    )
    for row in _rows('atari57_human_random.csv')
  }


def reference(game: str, protocol: str) -> Reference | None:
  """Scores of a random and of a human player, after up to 30 no-ops.

  Source: Wang et al. 2016, arXiv:1511.06581, Table 2: 57 games, episodes of at
  most 30 minutes.

  Args:
    game: of ale-py, snake_case.
    protocol: only 'noop30' has any: nobody published human scores with sticky
      actions.

  Returns:
    None where there are none.
  """
  return _references().get(game) if protocol == 'noop30' else None


def human_normalized(score: float, reference: Reference) -> float:
  """Percent: 0 is random play, 100 is human play."""
  return 100 * (score - reference.random) / (reference.human - reference.random)


@functools.cache
def _curves() -> dict[tuple[str, str, str], np.ndarray]:
  points: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
  for row in _rows('paper_curves.csv'):
    key = row['figure'], row['panel'], row['series']
    points.setdefault(key, []).append((float(row['x']), float(row['score'])))
  return {key: np.array(curve).T for key, curve in points.items()}


def paper_curve(
  game: str, algo: str, *, threads: int, against: str
) -> PaperCurve | None:
  """The curve of the paper for a game and an algorithm.

  Those of Figures 3, 4, S9 and S10: the small network without LSTM, 1 to 16
  threads. Recovered from the paths in the PDF.

  Args:
    game: of ale-py, snake_case.
    algo: one of the four.
    threads: the curve is that of the nearest number in the paper.
    against: 'frames' or 'hours', on the authors' machine.

  Returns:
    None where the paper has none.
  """
  if game not in _PANELS or algo not in _SERIES:
    return None
  sarsa = algo == 'one_step_sarsa'
  figure = {
    'frames': 'FigS9' if sarsa else 'Fig3',
    'hours': 'FigS10' if sarsa else 'Fig4',
  }[against]
  nearest = min(_THREADS, key=lambda number: abs(np.log(number / threads)))
  series = f'{_SERIES[algo]} {nearest} threads'
  x, score = _curves()[figure, _PANELS[game], series]
  scale = _FRAMES_PER_EPOCH if against == 'frames' else 1
  plural = 's' if nearest > 1 else ''
  return PaperCurve(
    x * scale,
    score,
    f'paper, {_SERIES[algo]}, {nearest} thread{plural} '
    f'(Fig. {figure.removeprefix("Fig")})',
  )


def paper_games() -> tuple[str, ...]:
  """The games that `paper_curve` knows."""
  return tuple(_PANELS)
