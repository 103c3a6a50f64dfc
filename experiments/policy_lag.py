"""Scores of A3C on Catch by injected policy lag, with and without correction.

  python experiments/policy_lag.py --lags=0,1,10,100 --seeds=3 --csv=lag.csv \
    --picture=lag.png

Each run has the runtime `queues` and one trainer. `--inject_lag` holds every
segment back for that many updates. After Espeholt et al. 2018,
arXiv:1802.01561, Figure E.1, on a task that takes seconds.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
import csv
import dataclasses
import itertools
import pathlib
import tempfile
from typing import Any

import numpy as np

from a3c_jax import command_line, losses
from a3c_jax.core import errors, fields, paths, tables
from a3c_jax.reproduce import drawing
from a3c_jax.runs import training
from a3c_jax.settings import config
from a3c_jax.settings import flags as flags_lib


@dataclasses.dataclass(frozen=True)
class Options:
  lags: tuple[int, ...] = fields.setting(
    'Updates by which segments are held back.',
    'whole numbers from 0 to 10000, separated by commas',
    lambda value: value and all(0 <= lag <= 10_000 for lag in value),
    default=(0, 1, 3, 10, 30, 100),
    source='IMPALA, Figure E.1',
  )
  seeds: int = fields.count(
    'Runs of each lag and correction.', most=100, default=3, source='ours'
  )
  frames: int = fields.count(
    'Emulator frames of a run.', least=1000, default=100_000, source='ours'
  )
  csv: str = fields.path(
    'File for the table.', optional=True, default='', source='ours'
  )
  picture: str = fields.path(
    'File for the picture.', optional=True, default='', source='ours'
  )


_options = flags_lib.define_options(Options)


def score(options: Options, lag: int, correction: str, seed: int) -> dict:
  """Trains once; returns a row of the table."""
  with tempfile.TemporaryDirectory() as folder:
    result = training.run(
      config.make(
        'catch',
        algo='a3c',
        runtime='queues',
        agents=4,
        envs_per_thread=4,
        frames=options.frames,
        anneal_frames=10 * options.frames,
        inject_lag=lag,
        lag_correction=correction,
        seed=seed,
        eval_frames=0,
        workdir=folder,
      )
    )
    with open(pathlib.Path(folder, 'episodes.csv'), newline='') as file:
      returns = [float(row['episode_return']) for row in csv.DictReader(file)]
    with open(pathlib.Path(folder, 'train.csv'), newline='') as file:
      lags = [float(row['policy_lag']) for row in csv.DictReader(file)]
  return {
    'correction': correction,
    'inject_lag': lag,
    'seed': seed,
    'policy_lag': round(float(np.mean(lags)), 2),
    'updates': result.updates,
    'mean_return': round(float(np.mean(returns)), 4),
    'final_return': round(float(np.mean(returns[-1000:])), 4),
  }


def draw(rows: list[dict[str, Any]]) -> Any:
  """Returns a picture of the final returns by lag."""
  figure, ((axes,),) = drawing.subplots(1, 1, size=(5, 3.5))
  for correction in losses.CORRECTIONS:
    own = [row for row in rows if row['correction'] == correction]
    lags = sorted({row['inject_lag'] for row in own})
    by_lag = [
      [row['final_return'] for row in own if row['inject_lag'] == lag]
      for lag in lags
    ]
    (line,) = axes.plot(lags, [np.mean(x) for x in by_lag], label=correction)
    for lag, scores in zip(lags, by_lag, strict=True):
      axes.plot([lag] * len(scores), scores, '.', color=line.get_color())
  axes.set_xscale('symlog', linthresh=1)
  axes.set_xlabel('injected lag, updates')
  axes.set_ylabel('mean return of the last 1,000 episodes')
  axes.legend(title='--lag_correction')
  return figure


def main() -> None:
  options = _options()
  fields.check_settings(options)
  for name, path in (('csv', options.csv), ('picture', options.picture)):
    if path:
      paths.check_file(path, flag=name)
  if options.picture:
    drawing.check_can_draw()
  rows = []
  for lag, correction, seed in itertools.product(
    options.lags, losses.CORRECTIONS, range(1, options.seeds + 1)
  ):
    rows.append(score(options, lag, correction, seed))
    print(*(f'{name}={value}' for name, value in rows[-1].items()))
    if options.csv:  # After each run: the next one may be stopped.
      with (
        errors.naming(f'--csv={options.csv}'),
        open(options.csv, 'w', newline='') as file,
      ):
        tables.write(file, rows)
  if options.picture:
    with errors.naming(f'--picture={options.picture}'):
      draw(rows).savefig(options.picture)


if __name__ == '__main__':
  command_line.run(main)
