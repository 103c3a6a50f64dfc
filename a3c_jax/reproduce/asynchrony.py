"""Studies of asynchrony: which runs they are made of, and their pictures.

A study changes one thing, such as the lag of gradients, for several algorithms
and seeds. It compares what runs learn in the same number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from a3c_jax import losses
from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields
from a3c_jax.reproduce import (
  console,
  curves,
  drawing,
  intervals,
  plan,
  scores,
)
from a3c_jax.settings.defaults import defaults

METHODS = ('a3c', 'nstep_q', 'one_step_q', 'one_step_sarsa')
CORRECTIONS = ('none', 'inverse', 'compensation')  # of the lag of gradients
_ALL_CORRECTIONS = tuple(dict.fromkeys(CORRECTIONS + losses.CORRECTIONS))
_EVALUATIONS = 10  # Of a run whose learning curve they are.
_SMALL_FRAMES = 40_000
_ATARI_FRAMES = 1_500_000
_ATARI_SPEED = 6_000  # Frames per second of one core with the quick preset.


@dataclasses.dataclass(frozen=True)
class Options:
  """How much of a study, and where the results go."""

  workdir: str = fields.path(
    'Folder for the results, new or of earlier ones.',
    default='runs/asynchrony',
    source='ours',
  )
  game: str = fields.setting(
    "Game: catch, cartpole, or one of the paper's 57 in the names of ale-py, "
    'with --preset=quick.',
    lambda: ', '.join((*plan.SMALL, *plan.ATARI)),
    lambda value: value in {*plan.SMALL, *plan.ATARI},
    default='catch',
    source='ours',
  )
  methods: tuple[str, ...] = fields.setting(
    'Algorithms.',
    f'{", ".join(METHODS)}, each once, separated by commas',
    lambda value: _are_some(value, METHODS),
    default=(),
    source='all four, or A3C (policy_lag)',
  )
  lags: tuple[int, ...] = fields.setting(
    'Updates by which the thread holds gradients back (lag), or the trainer '
    'segments (policy_lag).',
    'whole numbers from 0 to 10000, each once, separated by commas',
    lambda value: _are_apart(value) and all(0 <= x <= 10_000 for x in value),
    default=(0, 1, 2, 4, 8, 16, 32),
    source='ours',
  )
  corrections: tuple[str, ...] = fields.setting(
    'Corrections. inverse: --staleness_rate=inverse; compensation: '
    '--delay_compensation of --compensation (lag). epsilon, vtrace: '
    '--lag_correction (policy_lag).',
    f'{", ".join(_ALL_CORRECTIONS)}, each once, separated by commas',
    lambda value: _are_some(value, _ALL_CORRECTIONS),
    default=(),
    source="the study's",
  )
  compensation: float = fields.positive(
    'λ of --delay_compensation (lag).',
    default=0.04,
    source='Zheng et al. 2017',
  )
  threads: tuple[int, ...] = fields.setting(
    'Numbers of threads (threads), or the number of all runs (consistency).',
    'whole numbers from 1 to 1000, each once, separated by commas',
    lambda value: _are_apart(value) and all(1 <= x <= 1000 for x in value),
    default=(),
    source="the study's: 1,2,4,8,16 or 4",
  )
  learning_rates: tuple[float, ...] = fields.setting(
    'Learning rates. Of each point of the picture, the one with the highest '
    'mean score of a run counts.',
    'numbers > 0, 1e-37 to 1000, each once, separated by commas',
    lambda value: _are_apart(value) and all(1e-37 <= x <= 1e3 for x in value),
    default=(),
    source="the game's default",
  )
  seeds: int = fields.count(
    'Runs of each setting.', most=100, default=5, source='ours'
  )
  frames: int = fields.count(
    'Emulator frames of a run.',
    least=0,
    default=0,
    source='40,000, or 1,500,000 of an Atari game',
  )
  parallel: int = fields.count(
    'Runs at once, each with its own threads.', default=1, source='ours'
  )
  dry_run: bool = fields.changed(plan.Options, 'dry_run')


def _are_apart(values) -> bool:
  return len({*values}) == len(values)


def _are_some(values, allowed) -> bool:
  return _are_apart(values) and {*values} <= {*allowed}


class Arm(NamedTuple):
  """What one point of a picture changes."""

  setting: str  # on the x-axis
  series: str  # the line of the point
  flags: tuple[tuple[str, Any], ...]  # those that are not defaults


class Study(NamedTuple):
  """What is compared."""

  arms: Callable[[Options], list[Arm]]
  axis: str  # the label of the x-axis
  scale: dict[str, Any] | None  # of a numeric x-axis, as matplotlib's
  takes: frozenset[str]  # options that not all studies have
  lag: str = 'lag'  # the column of train.csv that it reports
  methods: tuple[str, ...] = METHODS
  corrections: tuple[str, ...] = ()


class Run(NamedTuple):
  """One run of a study. Studies share runs with the same flags."""

  game: str
  method: str
  flags: tuple[tuple[str, Any], ...]
  learning_rate: float
  seed: int
  frames: int
  command: tuple[str, ...]
  seconds: float  # of one core, as estimated

  @property
  def setting(self) -> str:
    """The flags, as in a command."""
    return ' '.join(f'--{name}={value}' for name, value in self.flags)

  @property
  def name(self) -> str:
    """The name of its folder."""
    changes = ''.join(f'-{name}-{value}' for name, value in self.flags)
    return (
      f'{self.game}-{self.method}{changes}-{self.learning_rate:g}-'
      f'seed{self.seed}'
    )


def _lag_arms(options: Options) -> list[Arm]:
  """One thread with lags that are exact, with each correction."""
  arms = []
  for lag, correction in itertools.product(options.lags, options.corrections):
    flags: list[tuple[str, Any]] = [('threads', 1)]
    if lag:
      flags.append(('inject_lag', lag))
    # Where a correction changes nothing, its runs are those without it.
    if correction == 'inverse' and lag > 1:
      flags.append(('staleness_rate', 'inverse'))
    if correction == 'compensation' and lag:
      flags.append(('delay_compensation', options.compensation))
    arms.append(Arm(str(lag), correction, tuple(flags)))
  return arms


def _consistency_arms(options: Options) -> list[Arm]:
  """Ways in which several threads share the parameters."""
  (threads,) = options.threads or (4,)
  start = ('threads', threads)
  ways: dict[str, tuple[tuple[str, Any], ...]] = {
    'locked': (),
    'per_leaf': (('consistency', 'per_leaf'),),
    'hogwild': (('consistency', 'hogwild'),),
    'synchronous': (('runtime', 'synchronous'),),
  }
  return [Arm(way, '', (start, *flags)) for way, flags in ways.items()]


def _thread_arms(options: Options) -> list[Arm]:
  """Numbers of threads, at the same number of frames of all together."""
  return [
    Arm(str(count), '', (('threads', count),))
    for count in options.threads or (1, 2, 4, 8, 16)
  ]


def _policy_lag_arms(options: Options) -> list[Arm]:
  """Queues with one trainer, to which segments come late."""
  start = ('runtime', 'queues'), ('agents', 4), ('envs_per_thread', 4)
  return [
    Arm(
      str(lag),
      correction,
      (*start, ('inject_lag', lag), ('lag_correction', correction)),
    )
    for lag, correction in itertools.product(options.lags, options.corrections)
  ]


_BY_LAG = {'value': 'symlog', 'linthresh': 1, 'base': 2}
STUDIES = {
  'lag': Study(
    _lag_arms,
    'lag, updates',
    _BY_LAG,
    frozenset({'lags', 'corrections', 'compensation'}),
    corrections=CORRECTIONS,
  ),
  'consistency': Study(_consistency_arms, '', None, frozenset({'threads'})),
  'threads': Study(
    _thread_arms,
    'threads',
    {'value': 'log', 'base': 2},
    frozenset({'threads'}),
  ),
  'policy_lag': Study(
    _policy_lag_arms,
    'injected lag, updates',
    _BY_LAG,
    frozenset({'lags', 'corrections'}),
    lag='policy_lag',
    methods=('a3c',),
    corrections=losses.CORRECTIONS,
  ),
}
_SPECIAL = frozenset().union(*(study.takes for study in STUDIES.values()))


def check(name: str, options: Options) -> Study:
  """Returns a study, if it can be made with these options.

  Raises:
    UsageError: naming the argument or flag, and the allowed values.
  """
  if name not in STUDIES:
    raise errors.UsageError(
      f'{name or "no study"}: allowed: {", ".join(STUDIES)}, first'
    )
  fields.check_settings(options)
  study = STUDIES[name]
  for field in dataclasses.fields(options):
    value = getattr(options, field.name)
    if field.name in _SPECIAL - study.takes and value != field.default:
      raise errors.UsageError(
        f'--{field.name}={errors.as_text(value)}: allowed for {name}: no '
        f'--{field.name}'
      )
  for flag in ('methods', 'corrections'):
    value, allowed = getattr(options, flag), getattr(study, flag)
    if not {*value} <= {*allowed}:
      raise errors.UsageError(
        f'--{flag}={errors.as_text(value)}: allowed for {name}: '
        f'{", ".join(allowed)}'
      )
  if name == 'consistency' and len(options.threads) > 1:
    raise errors.UsageError(
      f'--threads={errors.as_text(options.threads)}: allowed for {name}: one'
    )
  return study


def make_runs(
  study: Study,
  options: Options,
  extra: Sequence[str] = (),
  *,
  scripts: pathlib.Path,
) -> dict[tuple[str, Arm], list[Run]]:
  """Returns the runs of each algorithm and arm; arms share some of them.

  Args:
    study: one of `STUDIES`.
    options: valid for the study, see `check`.
    extra: flags of all runs, after those of the study.
    scripts: folder of the scripts that train.
  """
  game = plan.get_game(options.game)
  made = {}
  speed = _ATARI_SPEED if game.in_paper else plan.SMALL_SPEED
  options = dataclasses.replace(
    options,
    methods=options.methods or study.methods,
    corrections=options.corrections or study.corrections,
  )
  common = {name: _settings(game, name, options) for name in options.methods}
  for method, arm in itertools.product(options.methods, study.arms(options)):
    settings = common[method]
    frames = int(settings['frames'])
    rates = options.learning_rates or (settings['learning_rate'],)
    made[method, arm] = [
      Run(
        game=game.name,
        method=method,
        flags=arm.flags,
        learning_rate=rate,
        seed=seed,
        frames=frames,
        command=(
          str(scripts / game.script),
          *game.flags,
          f'--algo={method}',
          *(
            f'--{name}={value}'
            for name, value in (
              settings | dict(arm.flags) | {'learning_rate': rate, 'seed': seed}
            ).items()
          ),
          *extra,
        ),
        seconds=frames / speed,
      )
      for seed, rate in itertools.product(range(1, options.seeds + 1), rates)
    ]
  return made


def in_order(made: dict[tuple[str, Arm], list[Run]]) -> list[Run]:
  """Each run once. Seeds vary slowest, so that there is soon one of each."""
  runs = dict.fromkeys(itertools.chain.from_iterable(made.values()))
  return sorted(runs, key=lambda run: run.seed)


def _settings(game: plan.Game, method: str, options: Options) -> dict[str, Any]:
  """Flags of all runs of an algorithm."""
  preset = 'quick' if game.in_paper else 'paper'
  table = defaults(game.domain, method, preset=preset)
  frames = options.frames or (_ATARI_FRAMES if game.in_paper else _SMALL_FRAMES)
  settings: dict[str, Any] = {
    'preset': preset,
    'learning_rate': table['learning_rate'][0],
    'frames': frames,
    'eval_episodes': 10 if game.in_paper else 100,
    'log_seconds': 1,
  }
  if registry.get(method).is_policy:
    settings['eval_frames'] = frames  # Training episodes show the policy.
  else:
    settings['eval_frames'] = -(-frames // _EVALUATIONS)
  if game.in_paper:
    # The rate falls as in a whole run, of which this is the beginning.
    settings['anneal_frames'] = table['frames'][0]
  elif not registry.get(method).is_policy:
    settings['exploration_anneal_frames'] = max(1, frames // 4)
  return settings


class Result(NamedTuple):
  """What a run has learnt."""

  run: Run
  updates: int
  lag: float  # the mean over its updates, see `Study.lag`
  final_score: float  # see `scores.score_of`
  mean_score: float  # of its learning curve, over all frames


def read(run: Run, folder: pathlib.Path, lag: str) -> Result | None:
  """Reads the result of a run; None if it has none yet.

  Args:
    run: of a study.
    folder: with a folder of each run.
    lag: see `Study.lag`.

  Raises:
    UsageError: if its files are not those of a run.
  """
  if not (folder / run.name / 'train.csv').exists():
    return None
  found = curves.read(folder / run.name)
  trial = scores.Trial(
    run.game,
    run.method,
    found.config.num_workers,
    found.config.optimizer,
    run.learning_rate,
    found,
  )
  curve = scores.learning_curve([trial], 'frames')
  if curve is None or not found.train:
    return None
  updates = found.train['updates']
  return Result(
    run,
    int(updates[-1]),
    float(np.average(found.train[lag], weights=np.diff(updates, prepend=0))),
    scores.score_of(found),
    float(np.mean(curve.mean)),
  )


class Point(NamedTuple):
  """The runs of an algorithm and an arm with the best learning rate."""

  method: str
  arm: Arm
  rate: float
  results: list[Result]


def points(
  made: dict[tuple[str, Arm], list[Run]], results: dict[Run, Result]
) -> Iterator[Point]:
  """Yields what is drawn, where at least one run has a result."""
  for (method, arm), runs in made.items():
    by_rate: dict[float, list[Result]] = {}
    for run in runs:
      if run in results:
        by_rate.setdefault(run.learning_rate, []).append(results[run])
    if by_rate:
      means = {
        rate: np.mean([result.mean_score for result in each])
        for rate, each in by_rate.items()
      }
      best = max(means, key=means.__getitem__)
      yield Point(method, arm, best, by_rate[best])


_SCORES = {
  'final_score': 'score at the end',
  'mean_score': 'mean score of a run',
}


def draw(
  study: Study,
  made: dict[tuple[str, Arm], list[Run]],
  folder: pathlib.Path,
  title: str,
) -> drawing.Drawn:
  """Draws a study of what its runs have written so far.

  Bars are 95% intervals of the means.

  Args:
    study: one of `STUDIES`.
    made: its runs.
    folder: with a folder of each run.
    title: of the picture.

  Raises:
    UsageError: if the files of a run are not those of a run.
  """
  results = {}
  for run in in_order(made):
    if (result := read(run, folder, study.lag)) is not None:
      results[run] = result
  found = [*points(made, results)]
  methods = list(dict.fromkeys(method for method, _ in made))
  settings = list(dict.fromkeys(arm.setting for _, arm in made))
  picture, table = drawing.grid(len(_SCORES), len(methods), title)
  colors = drawing.colors(arm.series for _, arm in made)
  for (row, score), (column, method) in itertools.product(
    enumerate(_SCORES), enumerate(methods)
  ):
    axes = table[row, column]
    for series, color in colors.items():
      own = [p for p in found if (p.method, p.arm.series) == (method, series)]
      if own:
        _draw_line(
          axes, own, score, settings if study.scale is None else None, color
        )
    axes.set_title(registry.get(method).title)
    axes.set_ylabel(_SCORES[score])
    axes.set_xlabel(study.axis)
    if study.scale is None:
      axes.set_xticks(range(len(settings)), settings, rotation=30)
      axes.set_xlim(-0.5, len(settings) - 0.5)
    else:
      axes.set_xscale(**study.scale)
      values = [int(setting) for setting in settings]
      axes.set_xticks(values, settings)
      axes.tick_params('x', which='minor', bottom=False)
  drawing.add_legend(picture)
  return drawing.Drawn(_rows(made, results), picture, _summary(found))


def _draw_line(axes, own, score, settings, color) -> None:
  """Draws means and their intervals: by place in settings, or by value."""
  x = [
    settings.index(p.arm.setting) if settings else int(p.arm.setting)
    for p in own
  ]
  values = [[getattr(r, score) for r in p.results] for p in own]
  means = np.array([np.nanmean(each) for each in values])
  low, high = np.transpose([intervals.of_mean(each) for each in values])
  axes.errorbar(
    x,
    means,
    np.nan_to_num([means - low, high - means]),  # One run has no interval.
    fmt='o' if settings else 'o-',
    markersize=3,
    capsize=2,
    color=color,
    label=own[0].arm.series or None,
  )


def _rows(made, results) -> list[dict[str, Any]]:
  return [
    {
      'game': run.game,
      'method': method,
      'setting': arm.setting,
      'series': arm.series,
      'learning_rate': float(f'{run.learning_rate:.4g}'),
      'seed': run.seed,
      'frames': run.frames,
      'updates': results[run].updates,
      'lag': round(results[run].lag, 2),
      'final_score': round(results[run].final_score, 3),
      'mean_score': round(results[run].mean_score, 3),
    }
    for (method, arm), runs in made.items()
    for run in runs
    if run in results
  ]


def _summary(found: Sequence[Point]) -> list[str]:
  """A table of the points, with intervals."""
  rows: list[Sequence[str]] = [
    ('method', 'setting', 'series', 'rate', 'lag', *_SCORES.values())
  ]
  for point in found:
    lag = np.mean([result.lag for result in point.results])
    cells = [
      intervals.describe([getattr(r, score) for r in point.results])
      for score in _SCORES
    ]
    rows.append(
      (
        point.method,
        point.arm.setting,
        point.arm.series or '-',
        f'{point.rate:g}',
        f'{lag:.1f}',
        *cells,
      )
    )
  return console.table(rows).splitlines()


def title(
  name: str, options: Options, runs: Sequence[Run], extra: Sequence[str]
) -> str:
  """A heading: the game, and how much of the study."""
  parts = [
    f'{name} on {options.game}',
    f'{runs[0].frames / 1e6:g} million frames per run',
    f'{options.seeds} seed' + 's' * (options.seeds > 1),
  ]
  if options.learning_rates:
    rates = ', '.join(f'{rate:g}' for rate in options.learning_rates)
    parts.append(f'the best learning rate of {rates}')
  return ', '.join((*parts, *extra))
