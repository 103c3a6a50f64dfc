"""Published results of the paper and of its reproductions."""

from __future__ import annotations

from collections.abc import Mapping
import functools
from typing import NamedTuple

import numpy as np

from a3c_jax.algorithms import registry
from a3c_jax.envs import reference_scores

# Names of games in the figures of Mnih et al. 2016, by ours.
_PANELS = {
  'beam_rider': 'Beamrider',
  'breakout': 'Breakout',
  'pong': 'Pong',
  'qbert': 'Q*bert',
  'space_invaders': 'Space Invaders',
}
_MORE_PANELS = _PANELS | {'seaquest': 'Seaquest'}  # Figure S5 has that too.
_OPTIMIZERS = {
  'momentum_sgd': 'momentum SGD',
  'rmsprop': 'RMSProp',
  'shared_rmsprop': 'Shared RMSProp',
}
# Rows of Table 1 with the games and the rule of their own papers.
_PLAIN = ('DQN', 'Gorila')
# Threads of the curves of Figure 1. DQN ran on a K40 GPU.
_FIGURE1_THREADS = {'DQN': 1}
# Drawn in Figure 1 for comparison, whatever else is drawn.
BASELINES = ('dqn',)
THREADS = (1, 2, 4, 8, 16)  # Of the paper's curves.
RATES = 50  # Learning rates of each of its experiments.
RATE_RANGE = (1e-4, 1e-2)  # They are drawn from LogUniform of these.
_FRAMES_PER_EPOCH = 4_000_000


class Source(NamedTuple):
  """Who published scores after up to 30 no-ops."""

  file: str
  columns: Mapping[str, str]  # by rows of Table 1


def _of_a3c(column: str) -> Source:
  methods = ('A3C_FF_1day', 'A3C_FF_4days', 'A3C_LSTM_4days')
  return Source('a3c_reproductions.csv', dict.fromkeys(methods, column))


SOURCES = {
  'NoisyNet paper': _of_a3c('noisynets_paper_a3c'),
  'ChainerRL': _of_a3c('chainerrl_a3c_ff_5seeds'),
  'PFRL': _of_a3c('pfrl_a3c_ff_3seeds'),
  'Wang et al. 2016': Source(
    'dqn_family_scores.csv',
    {
      'DQN': 'wang2016_dqn',
      'Double': 'wang2016_double',
      'Dueling': 'wang2016_dueling',
      'Prioritized': 'wang2016_prioritized_rank',
    },
  ),
  'own paper, 5 minutes': Source(
    'dqn_family_scores.csv',
    {'DQN': 'mnih2015_dqn_5min', 'Gorila': 'nair2015_gorila_5min'},
  ),
}


class PaperCurve(NamedTuple):
  """A curve of Mnih et al. 2016, arXiv:1602.01783."""

  x: np.ndarray  # [N] float64, frames, hours or ranks
  score: np.ndarray  # [N] float64
  label: str
  threads: int


class Summary(NamedTuple):
  """A row of Table 1, in percent: 0 is random play, 100 human play."""

  mean: float
  median: float
  games: int


@functools.cache
def _curves() -> dict[tuple[str, str, str], np.ndarray]:
  points: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
  for row in reference_scores.rows('paper_curves.csv'):
    key = row['figure'], row['panel'], row['series']
    points.setdefault(key, []).append((float(row['x']), float(row['score'])))
  return {key: np.array(curve).T for key, curve in points.items()}


def paper_curve(
  game: str, algo: str, *, threads: int, against: str
) -> PaperCurve | None:
  """The paper's learning curve of a game and an algorithm.

  From Figures 3, 4, S9 and S10: the small network without LSTM, 1 to 16
  threads, the mean of the best 3 of 50 learning rates. That of DQN, by hours,
  is from Figure 1. Recovered from the paths in the PDF.

  Args:
    game: of ale-py, snake_case.
    algo: its name in the registry.
    threads: selects the nearest number of threads in the paper.
    against: 'frames' or 'hours', on the authors' machine.

  Returns:
    None if the paper has none.
  """
  title = registry.get(algo).title
  nearest = min(THREADS, key=lambda number: abs(np.log(number / threads)))
  series = f'{title} {nearest} threads'
  # The supplement's figures have the panels that the others lack.
  for figure in {'frames': ('3', 'S9'), 'hours': ('4', 'S10')}[against]:
    curve = _curves().get((f'Fig{figure}', _PANELS.get(game, ''), series))
    if curve is not None:
      x, score = curve
      scale = _FRAMES_PER_EPOCH if against == 'frames' else 1
      plural = 's' if nearest > 1 else ''
      label = f'paper, {title}, {nearest} thread{plural} (Fig. {figure})'
      return PaperCurve(x * scale, score, label, nearest)
  # DQN is in Figure 1 alone.
  return figure1(game).get(algo) if against == 'hours' else None


def paper_games() -> tuple[str, ...]:
  """The games that `paper_curve` has."""
  return tuple(_PANELS)


def figure1(game: str) -> dict[str, PaperCurve]:
  """The curves of Figure 1, by hours: 16 threads, and DQN on a K40 GPU.

  A curve is the mean of the best 5 of 50 learning rates; that of DQN is the
  mean of 5 seeds with the settings of Mnih et al. 2015.

  Args:
    game: of ale-py, snake_case.

  Returns:
    The curves by the names of algorithms in the registry. Empty if the figure
    lacks the game.
  """
  found = {}
  for name in registry.names():
    title = registry.get(name).title
    curve = _curves().get(('Fig1', _PANELS.get(game, ''), title))
    if curve is not None:
      hours, score = curve
      threads = _FIGURE1_THREADS.get(title, max(THREADS))
      label = f'paper, {title} (Fig. 1)'
      found[name] = PaperCurve(hours, score, label, threads)
  return found


def optimizer_ranks(game: str, algo: str, optimizer: str) -> PaperCurve | None:
  """Scores of the 50 learning rates in Figure S5, the best first.

  Args:
    game: of ale-py, snake_case.
    algo: its name in the registry.
    optimizer: as --optimizer names it.

  Returns:
    None if the paper has none. x are ranks from 1 to 50.
  """
  panel = f'{registry.get(algo).title}, {_MORE_PANELS.get(game)}'
  points = _curves().get(('FigS5', panel, _OPTIMIZERS[optimizer]))
  if points is None:
    return None
  ranks, score = points
  return PaperCurve(ranks, score, f'paper, {_OPTIMIZERS[optimizer]}', 16)


def learning_rates(game: str, algo: str) -> np.ndarray | None:
  """The scatter of Figures 2 and S11.

  Returns:
    [50, 2] float64, learning rates and scores; None if the paper has none.
  """
  title = registry.get(algo).title
  points = [
    (float(row['learning_rate']), float(row['score']))
    for row in reference_scores.rows('paper_learning_rates.csv')
    if (row['game'], row['algorithm']) == (_PANELS.get(game), title)
  ]
  return np.array(points) if points else None


def speedups(algo: str) -> dict[int, float]:
  """A row of Table 2: by threads, how many times sooner a score is reached.

  Empty if the table lacks the algorithm.
  """
  title = registry.get(algo).title
  return {
    threads: float(row[f'threads_{threads}'])
    for row in reference_scores.rows('paper_table2.csv')
    for threads in THREADS
    if row['method'] == title
  }


def atari57() -> tuple[str, ...]:
  """The games of Table S3, in the names of ale-py."""
  return tuple(row['game'] for row in reference_scores.rows('paper_scores.csv'))


def paper_scores(method: str) -> dict[str, float]:
  """Scores of Table S3, from human starts, by game; some methods lack some."""
  return {
    row['game']: float(row[method])
    for row in reference_scores.rows('paper_scores.csv')
    if row[method]
  }


def paper_normalized(method: str) -> dict[str, float]:
  """Table S3 in percent of the way from random to human play, by game.

  Scores and references are from human starts. In Video Pinball, random play is
  better than human play, and the percentage is of the human score alone. The
  rows of DQN and Gorila do not have this exception: only so do the means equal
  those of Table 1.
  """
  references = {
    row['game']: reference_scores.Reference(
      float(row['random_human_starts']), float(row['human_human_starts'])
    )
    for row in reference_scores.rows('paper_scores.csv')
  }
  percents = {}
  for game, score in paper_scores(method).items():
    scale = references[game]
    if scale.random > scale.human and method not in _PLAIN:
      scale = scale._replace(random=0.0)
    percents[game] = reference_scores.human_normalized(score, scale)
  return percents


def table1(method: str) -> Summary:
  """A row of Table 1, as printed in the paper."""
  (row,) = (
    row
    for row in reference_scores.rows('paper_table1.csv')
    if row['method'] == method
  )
  return Summary(
    float(row['mean_pct']), float(row['median_pct']), int(row['games'])
  )


def summarize(percents: Mapping[str, float]) -> Summary:
  """A row of Table 1, computed from percentages by game.

  Raises:
    ValueError: if there is no game.
  """
  if not percents:
    raise ValueError('no game to summarise')
  values = [*percents.values()]
  return Summary(float(np.mean(values)), float(np.median(values)), len(values))


def reproductions(game: str, method: str) -> dict[str, float]:
  """Scores after up to 30 no-ops of a row of Table 1, by source.

  A3C: Fortunato et al. 2018 (arXiv:1706.10295, the baseline of NoisyNets),
  ChainerRL 0.8.0 (5 seeds) and PFRL (3 seeds). Others: Wang et al. 2016
  (arXiv:1511.06581, Table 2), whose prioritized agent draws by rank; and Mnih
  et al. 2015 and Nair et al. 2015 (arXiv:1507.04296), with episodes of 5
  minutes, as transcribed in github.com/seungjaeryanlee/rldb.
  """
  return {
    name: float(row[source.columns[method]])
    for name, source in SOURCES.items()
    if method in source.columns
    for row in reference_scores.rows(source.file)
    if row['game'] == game and row[source.columns[method]]
  }
