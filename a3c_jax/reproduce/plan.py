"""Which runs make a figure or table of the paper, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import functools
import itertools
import math
import pathlib
from typing import NamedTuple

import numpy as np

from a3c_jax.algorithms import registry
from a3c_jax.core import fields
from a3c_jax.reproduce import (
  drawing,
  figures,
  published,
  scores,
  search,
  tables,
)
from a3c_jax.settings.defaults import defaults

_EPOCHS = 49 * 4_000_000  # Frames of figures 3 and S9.
_EVALUATIONS = 25  # Of a run whose learning curve they are.
_DQN_SPEED = 400  # Of DQN with one thread: frames per CPU-second.
SMALL_SPEED = 3_000  # Frames per second of one core, on small games.


class Game(NamedTuple):
  """A game, and how to train on it."""

  name: str
  script: str  # in the folder experiments
  flags: tuple[str, ...]
  domain: str
  in_paper: bool = False  # so that frames and speed of a method are those on it


class Method(NamedTuple):
  """A curve of a figure, or a row of a table."""

  algo: str
  flags: tuple[str, ...]
  frames: int  # at scale 1, on a game of the paper
  speed: int  # frames per second of one core, on such a game
  # Runs that differ in their seeds and have the algorithm's own learning rate,
  # threads and optimizer, instead of a search; 0 for a search.
  seeds: int = 0


class Choices(NamedTuple):
  """What the runs of a method in a game combine, with a seed per rate."""

  rates: Sequence[float]
  optimizers: Sequence[str]
  threads: Sequence[int]


# Speeds are those of docs/speed.md: two threads on two cores.
_METHODS = {
  'a3c': Method('a3c', (), _EPOCHS, 3_600),
  'nstep_q': Method('nstep_q', (), _EPOCHS, 3_500),
  'one_step_q': Method('one_step_q', (), _EPOCHS, 2_900),
  'one_step_sarsa': Method('one_step_sarsa', (), _EPOCHS, 2_900),
}
_DQN = Method('dqn', (), _EPOCHS, _DQN_SPEED, seeds=5)
_NATURE = ('--network=nature',)
# The paper's days are these frames, as the authors wrote to reimplementers.
_TABLE1_METHODS = {
  'a3c_1_day': Method('a3c', _NATURE, 320_000_000, 1_600),
  'a3c_4_days': Method('a3c', _NATURE, 1_000_000_000, 1_600),
  'a3c_lstm_4_days': Method('a3c', (*_NATURE, '--lstm'), 1_000_000_000, 1_600),
  **{
    name: Method(name, (), 200_000_000, _DQN_SPEED, seeds=1)
    for name in ('dqn', 'double_dqn', 'dueling_dqn', 'prioritized_dqn')
  },
}
ATARI = published.atari57()
SMALL = {
  'catch': Game('catch', 'catch.py', (), 'catch'),
  'cartpole': Game('cartpole', 'gym_env.py', ('--env=CartPole-v1',), 'gym'),
}
_FIVE = published.paper_games()


class Figure(NamedTuple):
  """The runs that a figure is made of at scale 1, and how it is drawn."""

  games: tuple[str, ...]
  draw: Callable[..., drawing.Drawn]
  methods: dict[str, Method] = _METHODS
  threads: tuple[int, ...] = (16,)
  optimizers: tuple[str, ...] = ('shared_rmsprop',)
  rates: int = published.RATES
  best: int | None = None  # of 50 learning rates, which a curve averages
  small: bool = True  # whether it can be made of small games


FIGURES = {
  'fig1': Figure(
    _FIVE, figures.figure1, methods=_METHODS | {'dqn': _DQN}, best=5
  ),
  'fig2': Figure(_FIVE, figures.figure2),
  'fig3': Figure(
    _FIVE,
    functools.partial(figures.learning_by_threads, against='frames'),
    threads=published.THREADS,
    best=3,
  ),
  'fig4': Figure(
    _FIVE,
    functools.partial(figures.learning_by_threads, against='hours'),
    threads=published.THREADS,
    best=3,
  ),
  'figs5': Figure(
    ('beam_rider', 'breakout', 'seaquest', 'space_invaders'),
    figures.figure_s5,
    methods={name: _METHODS[name] for name in ('nstep_q', 'a3c')},
    optimizers=('momentum_sgd', 'rmsprop', 'shared_rmsprop'),
  ),
  'table1': Figure(
    ATARI, tables.table1, methods=_TABLE1_METHODS, rates=1, small=False
  ),
  'table2': Figure(
    (*_FIVE, 'enduro', 'seaquest'),
    tables.table2,
    threads=published.THREADS,
    best=3,
  ),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """How much of a figure, and where the results go."""

  scale: float = fields.setting(
    'Share of the frames of a run, and of the learning rates to try. The '
    'learning rate falls to 0 over all the frames of scale 1 all the same, so '
    "curves are the first parts of the paper's.",
    'above 0, up to 1',
    lambda value: 0 < value <= 1,
    default=1.0,
    source='paper',
  )
  workdir: str = fields.path(
    'Folder for the results, new or of earlier ones.',
    default='runs/paper',
    source='ours',
  )
  games: tuple[str, ...] = fields.setting(
    "Games: the paper's 57 in the names of ale-py, catch or cartpole.",
    'names, separated by commas',
    default=(),
    source="the figure's",
  )
  methods: tuple[str, ...] = fields.setting(
    'Algorithms, or rows of table1.',
    'names, separated by commas',
    default=(),
    source="the figure's",
  )
  threads: tuple[int, ...] = fields.setting(
    'Numbers of threads.',
    'whole numbers from 1 to 1000, separated by commas',
    lambda value: all(1 <= count <= 1000 for count in value),
    default=(),
    source="the figure's, 16 or 1,2,4,8,16",
  )
  learning_rates: tuple[float, ...] = fields.setting(
    'Learning rates, instead of the default and others drawn from '
    'LogUniform(1e-4, 1e-2).',
    'numbers > 0, 1e-37 to 1000, separated by commas',
    lambda value: all(1e-37 <= rate <= 1e3 for rate in value),
    default=(),
    source="drawn, 50 times the scale, but for table1 the authors' one",
  )
  seeds: int = fields.setting(
    'Runs of each learning rate, with as many seeds. The first is the place of '
    'the rate, and the others follow.',
    'a whole number, 1 to 100',
    lambda value: value is None or (type(value) is int and 1 <= value <= 100),
    default=None,
    source="the figure's, 1; but 5 of DQN in fig1",
  )
  reference_score: float = fields.setting(
    'Score to reach (table2).',
    'a finite number',
    lambda value: value is None or math.isfinite(value),
    default=None,
    source='three quarters of the way to the score that all threads reach',
  )
  parallel: int = fields.count(
    'Runs at once, each with its own threads. They slow each other down, so '
    'leave it at 1 for curves by hours.',
    default=1,
    source='ours',
  )
  dry_run: bool = fields.setting(
    'Print the plan and its cost, and run nothing.',
    default=False,
    source='ours',
  )


class Run(NamedTuple):
  """One run of a plan."""

  game: str
  method: str
  threads: int
  optimizer: str
  learning_rate: float
  seed: int
  frames: int
  command: tuple[str, ...]
  seconds: float  # of one core, as estimated

  @property
  def name(self) -> str:
    """The name of its folder. The same run has the same one in every figure."""
    other = '' if self.optimizer == 'shared_rmsprop' else f'-{self.optimizer}'
    return (
      f'{self.game}-{self.method}{other}-{self.threads}threads-'
      f'{self.learning_rate:g}-seed{self.seed}'
    )


def get_game(name: str) -> Game:
  """A small game, or one of the paper, by its name."""
  return SMALL.get(name) or Game(
    name, 'atari.py', (f'--game={name}',), 'atari', in_paper=True
  )


def learning_rates(domain: str, count: int) -> list[float]:
  """The domain's default, and then others that are drawn, to 4 digits."""
  default, _ = defaults(domain)['learning_rate']
  return [default] + [
    search.log_uniform(np.random.default_rng(number), *published.RATE_RANGE)
    for number in range(1, count)
  ]


def _share(number: int, scale: float) -> int:
  """Rounded up; but 50 x 0.14 is 7, although that product is a little more."""
  return max(1, math.ceil(round(number * scale, 6)))


def make_runs(
  figure: Figure,
  options: Options,
  extra: Sequence[str] = (),
  *,
  scripts: pathlib.Path,
) -> list[Run]:
  """All runs of a figure, in the order in which they start.

  Args:
    figure: one of `FIGURES`.
    options: valid for the figure, see `plan_checks`.
    extra: flags of all runs, after those of the plan.
    scripts: folder of the scripts that train.
  """
  games = [get_game(name) for name in options.games or figure.games]
  methods = options.methods or figure.methods
  choices = {
    (game, method): _choices(figure, options, figure.methods[method], game)
    for game, method in itertools.product(games, methods)
  }
  most = max(len(chosen.rates) for chosen in choices.values())
  # Seeds vary slowest, and then learning rates, so that a plan that is stopped
  # has something of everything.
  runs = []
  for offset, number, ((game, method), chosen) in itertools.product(
    range(options.seeds or 1), range(most), choices.items()
  ):
    for optimizer, threads, rate in itertools.product(
      chosen.optimizers, chosen.threads, chosen.rates[number : number + 1]
    ):
      names = {
        'threads': threads,
        'optimizer': optimizer,
        'learning_rate': rate,
        'seed': number + 1 + offset,
      }
      kind = figure.methods[method]
      frames, settings = _settings(kind, game, options.scale)
      command = (
        str(scripts / game.script),
        *game.flags,
        f'--algo={kind.algo}',
        *kind.flags,
        *(f'--{name}={value}' for name, value in (names | settings).items()),
        *extra,
      )
      runs.append(
        Run(
          game=game.name,
          method=method,
          frames=frames,
          command=command,
          seconds=frames / _speed(kind, game),
          **names,
        )
      )
  return runs


def _choices(
  figure: Figure, options: Options, method: Method, game: Game
) -> Choices:
  """What is run of a method in a game, of what the options do not give."""
  own = {
    name: value
    for name, (value, _) in defaults(game.domain, method.algo).items()
  }
  if method.seeds:
    count = 1 if options.seeds else _share(method.seeds, options.scale)
    found = Choices(
      rates=count * (own['learning_rate'],),
      optimizers=(own['optimizer'],),
      threads=(own['threads'],),
    )
  else:
    found = Choices(
      rates=learning_rates(game.domain, _share(figure.rates, options.scale)),
      optimizers=figure.optimizers,
      threads=figure.threads,
    )
  return found._replace(
    rates=options.learning_rates or found.rates,
    threads=options.threads or found.threads,
  )


def _speed(method: Method, game: Game) -> int:
  return method.speed if game.in_paper else SMALL_SPEED


def _settings(
  method: Method, game: Game, scale: float
) -> tuple[int, dict[str, int | str]]:
  """The frames of a run, and flags that depend on them."""
  full = method.frames
  if not game.in_paper:
    full, _ = defaults(game.domain)['frames']
  frames = _share(full, scale)
  is_policy = registry.get(method.algo).is_policy
  is_row = method in _TABLE1_METHODS.values()
  anneal, _ = defaults(game.domain, method.algo).get(
    'anneal_frames', (full, '')
  )
  settings: dict[str, int | str] = {
    'frames': frames,
    'anneal_frames': anneal,
    'eval_frames': math.ceil(frames / (1 if is_policy else _EVALUATIONS)),
    'eval_episodes': 30 if is_row else 10,
  }
  if game.in_paper:
    settings['eval_protocol'] = 'noop30'  # That of the reference scores.
  return frames, settings


def draw(
  figure: Figure,
  options: Options,
  trials: Sequence[scores.Trial],
  heading: str,
) -> drawing.Drawn:
  """Draws a figure of what its runs have written so far."""
  settings = {}
  if figure.best:
    settings['of_50'] = figure.best
  if options.reference_score is not None:
    settings['reference'] = options.reference_score
  return figure.draw(trials, heading, **settings)
