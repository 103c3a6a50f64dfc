r"""Repeats a figure or table of the paper: plans its runs, runs and draws them.

python experiments/paper.py fig1 --games=pong --scale=0.1 --dry_run
python experiments/paper.py table2 --games=catch --scale=0.2
python experiments/paper.py fig1 --games=pong --methods=a3c --scale=0.1 \
  --threads=2 --learning_rates=1.5e-3 -- --envs_per_thread=8

The figures are fig1 (learning speed), fig2 (learning rates, S11 too), fig3 and
fig4 (frames and hours, by threads; S9 and S10 too), figs5 (optimizers), table1
(57 games, S3 too) and table2 (speed-up by threads). Flags after -- are given to
all runs.

Each leaves FIGURE.csv and FIGURE.png in --workdir, in the place of earlier
ones, and its runs in --workdir/runs, which figures share. The same command goes
on: finished runs are left alone, stopped ones go on from their checkpoints.
Another --scale needs another folder.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from collections.abc import Callable, Sequence
import csv
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import time
from typing import NamedTuple

import numpy as np

from a3c_jax import command_line
from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields, paths, tables
from a3c_jax.reproduce import curves, figures, process_pool, published
from a3c_jax.runs import display
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings import flags as flags_lib
from a3c_jax.settings.defaults import defaults

_FOLDER = pathlib.Path(__file__).parent
_EPOCHS = 49 * 4_000_000  # Frames of figures 3 and S9.
_EVALUATIONS = 25  # Of a run whose curve they are.
_LOOK_SECONDS = 5.0
_SAY_SECONDS = 60.0
# That of the runs: as it was before JAX is set up for this process.
_ENVIRONMENT = dict(os.environ)


class Game(NamedTuple):
  """What there is to play."""

  script: str
  flags: tuple[str, ...]
  domain: str


class Method(NamedTuple):
  """What a curve or a row of a table is of."""

  algo: str
  flags: tuple[str, ...]
  frames: int  # At scale 1, on Atari.
  speed: int  # Frames per second of one core, on Atari.


# Speeds are those of BUILD.md, "Benchmark": two threads on two cores.
_SPEEDS = {
  'a3c': 3_600,
  'nstep_q': 3_500,
  'one_step_q': 2_900,
  'one_step_sarsa': 2_900,
}
_METHODS = {
  name: Method(name, (), _EPOCHS, speed) for name, speed in _SPEEDS.items()
}
_NATURE = ('--network=nature',)
# The paper's days are these frames, as the authors wrote to reimplementers.
_TABLE1_METHODS = {
  'a3c_1_day': Method('a3c', _NATURE, 320_000_000, 1_600),
  'a3c_4_days': Method('a3c', _NATURE, 1_000_000_000, 1_600),
  'a3c_lstm_4_days': Method('a3c', (*_NATURE, '--lstm'), 1_000_000_000, 1_600),
}
_ATARI = published.atari57()
_SMALL = {
  'catch': Game('catch.py', (), 'catch'),
  'cartpole': Game('gym_env.py', ('--env=CartPole-v1',), 'gym'),
}
_SMALL_SPEED = 3_000  # Frames per second of one core.
_FIVE = published.paper_games()


class Figure(NamedTuple):
  """What a figure is made of, at scale 1."""

  games: tuple[str, ...]
  draw: Callable[..., figures.Drawn]
  methods: dict[str, Method] = _METHODS
  threads: tuple[int, ...] = (16,)
  optimizers: tuple[str, ...] = ('shared_rmsprop',)
  rates: int = published.RATES
  best: int | None = None  # Of 50 learning rates, which a curve is the mean of.
  small: bool = True  # Whether it can be had of small games.


_FIGURES = {
  'fig1': Figure(_FIVE, figures.figure1, best=5),
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
    _ATARI, figures.table1, methods=_TABLE1_METHODS, rates=1, small=False
  ),
  'table2': Figure(
    (*_FIVE, 'enduro', 'seaquest'),
    figures.table2,
    threads=published.THREADS,
    best=3,
  ),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """How much of a figure, and where the results go."""

  scale: float = fields.setting(
    'Share of the frames of a run, and of the learning rates to try, which '
    'fall to 0 over all the frames of scale 1 all the same: so curves are '
    "beginnings of the paper's.",
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
    'LogUniform(1e-4, 1e-2). The seed of a run is the place of its rate.',
    'numbers > 0, 1e-37 to 1000, separated by commas',
    lambda value: all(1e-37 <= rate <= 1e3 for rate in value),
    default=(),
    source="drawn, 50 times the scale, but for table1 the authors' one",
  )
  reference_score: float = fields.setting(
    'Score to reach (table2).',
    'a finite number',
    lambda value: value is None or math.isfinite(value),
    default=None,
    source='three quarters of the way to what all numbers of threads reach',
  )
  parallel: int = fields.count(
    'Runs at once, each with its own threads; they slow each other down, so '
    'for curves by hours it should be 1.',
    default=1,
    source='ours',
  )
  dry_run: bool = fields.setting(
    'Print the plan and what it costs, and run nothing.',
    default=False,
    source='ours',
  )


_options = flags_lib.define_options(Options)


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
  seconds: float  # Of one core, as estimated.

  @property
  def name(self) -> str:
    """Of its folder: the same run has the same one in every figure."""
    other = '' if self.optimizer == 'shared_rmsprop' else f'-{self.optimizer}'
    return (
      f'{self.game}-{self.method}{other}-{self.threads}threads-'
      f'{self.learning_rate:g}-seed{self.seed}'
    )


def _game(name) -> Game:
  return _SMALL.get(name) or Game('atari.py', (f'--game={name}',), 'atari')


def learning_rates(domain: str, count: int) -> list[float]:
  """The first is the domain's default, the others are drawn, to 4 digits."""
  default, _ = defaults(domain)['learning_rate']
  return [default] + [
    process_pool.log_uniform(
      np.random.default_rng(number), *published.RATE_RANGE
    )
    for number in range(1, count)
  ]


def _share(number: int, scale: float) -> int:
  """Rounded up, but 50 x 0.14 is 7 although that product is a little more."""
  return max(1, math.ceil(round(number * scale, 6)))


def plan(figure: Figure, options: Options, extra: Sequence[str]) -> list[Run]:
  """All runs of a figure, in the order in which they are begun."""
  count = len(options.learning_rates) or _share(figure.rates, options.scale)
  games = options.games or figure.games
  rates = {
    game: options.learning_rates or learning_rates(_game(game).domain, count)
    for game in games
  }
  # All else before the next learning rate, so that a plan that is stopped has
  # something of everything.
  combinations = itertools.product(
    range(count),
    games,
    options.methods or figure.methods,
    figure.optimizers,
    options.threads or figure.threads,
  )
  return [
    _run(
      figure.methods[method],
      options.scale,
      extra,
      game=game,
      method=method,
      threads=threads,
      optimizer=optimizer,
      learning_rate=rates[game][number],
      seed=number + 1,
    )
    for number, game, method, optimizer, threads in combinations
  ]


def _run(kind, scale, extra, **names) -> Run:
  game = _game(names['game'])
  full, speed = kind.frames, kind.speed
  if game.domain != 'atari':
    full, _ = defaults(game.domain)['frames']
    speed = _SMALL_SPEED
  frames = _share(full, scale)
  table1 = names['method'] in _TABLE1_METHODS
  by_evaluations = not registry.get(kind.algo).is_policy
  settings = {
    'threads': names['threads'],
    'optimizer': names['optimizer'],
    'learning_rate': names['learning_rate'],
    'seed': names['seed'],
    'frames': frames,
    'anneal_frames': full,
    'eval_frames': math.ceil(frames / (_EVALUATIONS if by_evaluations else 1)),
    'eval_episodes': 30 if table1 else 10,
  }
  if game.domain == 'atari':
    settings['eval_protocol'] = 'noop30'  # That of the scales of scores.
  command = (
    str(_FOLDER / game.script),
    *game.flags,
    f'--algo={kind.algo}',
    *kind.flags,
    *(f'--{name}={value}' for name, value in settings.items()),
    *extra,
  )
  return Run(**names, frames=frames, command=command, seconds=frames / speed)


def _check(name, figure, options) -> None:
  fields.check_settings(options)
  games = (*_ATARI, *(_SMALL if figure.small else ()))

  def refuse(flag, value, allowed):
    raise errors.UsageError(f'--{flag}={value}: allowed for {name}: {allowed}')

  for flag, allowed in (('games', games), ('methods', figure.methods)):
    for value in getattr(options, flag):
      if value not in allowed:
        refuse(flag, value, ', '.join(allowed))
  for flag, several in (
    ('games', True),
    ('methods', True),
    ('threads', len(figure.threads) > 1),
    ('learning_rates', figure.rates > 1),
  ):
    values = getattr(options, flag)
    if len(values) > 1 and not several:
      refuse(flag, errors.as_text(values), 'one')
    if len({*values}) < len(values):
      refuse(flag, errors.as_text(values), 'each once')
  if options.reference_score is not None and name != 'table2':
    refuse('reference_score', f'{options.reference_score:g}', 'table2 has one')


def _check_extra(name, extra, runs) -> None:
  """Flags of all runs are not those that the plan sets, before them."""
  planned = {
    argument.lstrip('-').partition('=')[0]
    for run in runs
    for argument in run.command[1 : len(run.command) - len(extra)]
  }
  given = set()
  for argument in extra:
    flag = argument.lstrip('-').partition('=')[0].removeprefix('no')
    if not argument.startswith('--') or flag in {*planned, *given, 'workdir'}:
      raise errors.UsageError(
        f'{argument} after {name}: allowed: -- and then flags of the runs, '
        f'each once, but for {", ".join(sorted(planned))} and workdir, which '
        'the plan sets'
      )
    given.add(flag)


def _check_begun(runs, folder, workdir) -> None:
  """Runs of another scale or with other flags are no part of this."""
  for run in runs:
    if not os.path.isdir(folder / run.name):
      continue
    # Not the script, which may lie in another copy of the project.
    was = process_pool.last_command(folder, run.name)[1:]
    is_ = [*run.command[1:]]
    if sorted(was) != sorted(is_):
      other = [f'with {flag}' for flag in was if flag not in is_]
      other += [f'without {flag}' for flag in is_ if flag not in was]
      how = other[0] if was else 'by nothing that it tells of'
      raise errors.UsageError(
        f'--workdir={paths.as_given(workdir)}: its run {run.name} was begun '
        f'{how}; '
        'allowed: the same scale and flags, or another folder'
      )


def _frames(folder) -> int:
  row = workdir_lib.last_row(folder, 'train.csv')
  try:
    return int(float(row.get('frames', 0)))
  except (ValueError, OverflowError):  # The file is damaged.
    return 0


class Progress:
  """Tells how far a plan is, and how long it will still take."""

  def __init__(self, runs: Sequence[Run], folder: pathlib.Path):
    self._runs = {run.name: run for run in runs}
    self._folder = folder
    self._frames = {name: 0 for name in self._runs}
    self.finished: set[str] = set()
    for name in self._runs:
      self.look_at(name)
    self._total = sum(run.frames for run in runs)
    self._began = time.monotonic()
    self._before = self.frames
    self._looked = self._said = self._began
    self._line = display.LiveLine()

  @property
  def frames(self) -> int:
    """Of all runs so far."""
    return sum(
      min(frames, self._runs[name].frames)
      for name, frames in self._frames.items()
    )

  def look_at(self, name: str) -> None:
    """Notes what a run came to, at its end."""
    folder = self._folder / name
    self._frames[name] = _frames(folder)
    if workdir_lib.is_finished(folder):
      self.finished.add(name)

  def look(self) -> None:
    """Looks at the runs every few seconds, and tells where they are."""
    now = time.monotonic()
    if now - self._looked < _LOOK_SECONDS:
      return
    self._looked = now
    for name in self._runs:
      if name not in self.finished and os.path.isdir(self._folder / name):
        self._frames[name] = _frames(self._folder / name)
    self._line.update(
      self._text(now, left=False), done=self.frames, total=self._total
    )
    if now - self._said >= _SAY_SECONDS:
      self._said = now
      if not self._line.shown:
        print(self._text(now, left=True), flush=True)

  def _text(self, now, *, left) -> str:
    frames = self.frames
    speed = (frames - self._before) / (now - self._began)
    text = (
      f'{len(self.finished)} of {len(self._runs)} runs finished, '
      f'{frames / self._total:.1%} of the frames, {speed:,.0f}/s'
    )
    if left and speed:
      minutes = math.ceil((self._total - frames) / speed / 60)
      text += f', {minutes // 60}:{minutes % 60:02} hours left'
    return text

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._line.close()


def _title(name, figure, options, extra, runs) -> str:
  """At which scale it is, in the words of a heading."""
  frames = sorted({run.frames / 1e6 for run in runs})
  text = (
    f'{name} at scale {options.scale:g}: '
    f'{" or ".join(f"{count:g}" for count in frames)} million frames per run, '
  )
  rates = options.learning_rates
  if rates:
    text += f'learning rate {", ".join(f"{rate:g}" for rate in rates)}'
  else:
    rates = {run.seed for run in runs}
    text += f'{len(rates)} of {figure.rates} learning rates'
  if figure.best:
    share = figures.share(len(rates), of_50=figure.best)
    text += (
      f', curves of the best {share} (paper: best {figure.best} of '
      f'{published.RATES})'
    )
  if len(figure.threads) == 1:
    threads = runs[0].threads
    text += f', {threads} thread' + 's' * (threads > 1)
  if options.parallel > 1:
    text += f', {options.parallel} runs at once'
  return ', '.join((text, *extra))


def _show_plan(runs, progress) -> None:
  groups: dict[tuple, list[Run]] = {}
  for run in runs:
    key = (run.game, run.method, run.optimizer, run.threads)
    groups.setdefault(key, []).append(run)
  hours = lambda runs: sum(run.seconds for run in runs) / 3600
  table = [
    (
      'game',
      'method',
      'optimizer',
      'threads',
      'runs',
      'finished',
      'frames',
      'core-hours',
    )
  ]
  for key, group in groups.items():
    done = sum(run.name in progress.finished for run in group)
    table.append(
      (
        *map(str, key),
        str(len(group)),
        str(done),
        f'{sum(run.frames for run in group):,}',
        f'{hours(group):,.2f}',
      )
    )
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  for row in table:
    print(
      '  '.join(x.rjust(width) for x, width in zip(row, widths, strict=True))
    )
  todo = [run for run in runs if run.name not in progress.finished]
  print(
    f'{len(runs)} runs, {sum(run.frames for run in runs):,} frames, '
    f'{hours(runs):,.2f} core-hours, of which {hours(todo):,.2f} are to come'
  )


def _trials(runs, folder) -> list[figures.Trial]:
  """What there is of a plan, whether finished or not."""
  found = []
  for run in runs:
    if _frames(folder / run.name):
      found.append(
        figures.Trial(
          run.game,
          run.method,
          run.threads,
          run.optimizer,
          run.learning_rate,
          curves.read(folder / run.name),
        )
      )
  return found


def _write(drawn, path) -> None:
  # Under another name first, so that what is there is whole.
  new = path.with_suffix('.new')
  with new.open('w', newline='') as file:
    rows = csv.DictWriter(file, [*drawn.rows[0]])
    rows.writeheader()
    rows.writerows(map(tables.as_cells, drawn.rows))
  new.replace(path.with_suffix('.csv'))
  drawn.picture.savefig(new, dpi=110, format='png')
  new.replace(path.with_suffix('.png'))


def main(arguments: Sequence[str]) -> None:
  options = _options()
  name, *extra = arguments or ['']
  if name not in _FIGURES:
    raise errors.UsageError(
      f'{name or "no figure"}: allowed: {", ".join(_FIGURES)}, first'
    )
  figure = _FIGURES[name]
  _check(name, figure, options)
  runs = plan(figure, options, extra)
  _check_extra(name, extra, runs)
  title = _title(name, figure, options, extra, runs)
  workdir = pathlib.Path(options.workdir)
  folder = workdir / 'runs'
  _check_begun(runs, folder, workdir)
  progress = Progress(runs, folder)
  if options.dry_run:
    print(title)
    _show_plan(runs, progress)
    return
  figures.check_can_draw()  # Before hours of training.
  paths.make_folder(options.workdir, flag='workdir')
  paths.make_folder(str(folder), flag='workdir')
  paths.check_links(workdir, flag='workdir', below=['runs'])
  print(title)
  failed: dict[str, int] = {}

  def ended(job, code):
    progress.look_at(job.name)
    if code:
      failed[job.name] = code
      print(f'{job.name} failed, exit code {code}', flush=True)
    elif job.name in progress.finished:
      print(f'{job.name} finished', flush=True)
    refused = process_pool.are_refused(failed, progress.finished)
    if refused and len(failed) >= process_pool.REFUSED:
      runs_of_plan.end()

  jobs = [
    process_pool.Job(run.name, run.command, f'{run.frames:,} frames')
    for run in runs
    if run.name not in progress.finished
  ]
  runs_of_plan = process_pool.Batch(
    folder,
    jobs,
    parallel=options.parallel,
    environment=_ENVIRONMENT,
    ended=ended,
    look=progress.look,
    is_done=lambda job: workdir_lib.is_finished(folder / job.name),
  )
  try:
    with progress:
      runs_of_plan.run()
    trials = _trials(runs, folder)
    if len(progress.finished) < len(runs):
      title += f'; {len(progress.finished)} of {len(runs)} runs finished'
    if trials:
      _draw(name, figure, options, trials, title, workdir)
  except OSError as error:
    raise errors.RunError(
      f'--workdir={paths.as_given(workdir)}: {error.strerror or error}; the '
      'same command goes on'
    ) from error
  left = len(runs) - len(progress.finished)
  refused = process_pool.are_refused(failed, progress.finished)
  if left and not refused:
    print(f'{left} of {len(runs)} runs are not finished')
    print('to go on: the same command')
  if failed:
    first = next(iter(failed))
    last = process_pool.last_line(folder, first)
    kind = errors.UsageError if {*failed.values()} == {2} else errors.RunError
    raise kind(
      f'{first} failed, exit code {failed[first]}, as {len(failed)} of '
      f'{len(runs)}; its log ends with: {last}'
    )


def _draw(name, figure, options, trials, title, workdir) -> None:
  settings = {}
  if figure.best:
    settings['of_50'] = figure.best
  if options.reference_score is not None:
    settings['reference'] = options.reference_score
  drawn = figure.draw(trials, title, **settings)
  if not drawn.rows:
    print('nothing to draw yet: no episode has ended')
    return
  for line in drawn.summary:
    print(line)
  _write(drawn, workdir / name)
  print(f'{paths.as_given(workdir / name)}.csv and .png')


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
