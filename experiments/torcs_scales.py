"""Scores the baselines of TORCS: random, full throttle, a scripted driver.

  python experiments/torcs_scales.py --car=slow --episodes=100

The driver knows the track. Compare scores of learnt policies with these. All
baselines start from the same places, which `--seed` determines.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import contextlib
import dataclasses

import numpy as np

from a3c_jax import command_line
from a3c_jax.envs.torcs import baseline, racing
from a3c_jax.runs import baselines
from a3c_jax.settings import flags as flags_lib

_races = flags_lib.define_options(racing.Options)
_options = flags_lib.define_options(baselines.Options)


def main() -> None:
  races, options = _races(), _options()
  record = dataclasses.asdict(races)
  settings = (f'{name}={value}' for name, value in record.items())
  print('name=torcs', *settings)
  rng = np.random.default_rng(options.seed)
  full_throttle = racing.ACTIONS.index('accelerate, straight')
  with contextlib.closing(racing.Torcs(**record)) as env:
    agents = {
      'random': lambda env: int(rng.integers(env.action_space.n)),
      'full throttle': lambda env: full_throttle,
      'driver': baseline.act,
    }
    baselines.report(env, agents, options, action_repeat=races.action_repeat)


if __name__ == '__main__':
  command_line.run(main)
