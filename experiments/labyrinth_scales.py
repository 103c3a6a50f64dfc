"""Scores the baselines of Labyrinth: a random and a scripted agent.

  python experiments/labyrinth_scales.py --maze_size=9 --episodes=100

The scripted agent knows the maze. Compare scores of learnt policies with these.
All baselines play the same mazes, which `--seed` determines.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import contextlib
import dataclasses

import numpy as np

from a3c_jax import command_line
from a3c_jax.core import errors
from a3c_jax.envs.labyrinth import baseline, foraging
from a3c_jax.runs import baselines
from a3c_jax.settings import flags as flags_lib

_MOST_TICS = 8  # Per step; the agent turns by 45 degrees in them.

_mazes = flags_lib.define_options(foraging.Options)
_options = flags_lib.define_options(baselines.Options)


def main() -> None:
  mazes, options = _mazes(), _options()
  if mazes.action_repeat > _MOST_TICS:
    raise errors.UsageError(
      f'--action_repeat={mazes.action_repeat}: the scripted agent would turn '
      f'too far in a step; allowed: 1 to {_MOST_TICS}'
    )
  record = dataclasses.asdict(mazes)
  settings = (f'{name}={value}' for name, value in record.items())
  print('name=labyrinth', *settings)
  rng = np.random.default_rng(options.seed)
  with contextlib.closing(foraging.Labyrinth(**record)) as env:
    agents = {
      'random': lambda env: int(rng.integers(env.action_space.n)),
      'path-finder': baseline.act,
    }
    baselines.report(env, agents, options, action_repeat=mazes.action_repeat)


if __name__ == '__main__':
  command_line.run(main)
