"""Trains A3C with an LSTM core in random 3D mazes, seen from within.

  python experiments/labyrinth.py --maze_size=9

Needs its engine: pip install -e '.[labyrinth]', with Python 3.11 or 3.12.
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import training
from a3c_jax.envs import labyrinth
import a3c_jax.flags

_options = a3c_jax.flags.define_options(labyrinth.Options, domain='labyrinth')
_config = a3c_jax.flags.define('labyrinth')


def main() -> None:
  options = _options()
  config = _config(
    labyrinth.describe(options), action_repeat=options.action_repeat
  )
  training.train(config)


if __name__ == '__main__':
  a3c_jax.flags.run(main)
