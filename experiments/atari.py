"""Trains one of the four algorithms on an Atari game.

python experiments/atari.py --algo=nstep_q --game=breakout --threads=4
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import training
from a3c_jax.envs import atari
import a3c_jax.flags

_options = a3c_jax.flags.define_options(atari.Options, domain='atari')
_config = a3c_jax.flags.define('atari')


def main() -> None:
  options = _options()
  config = _config(atari.describe(options), action_repeat=options.action_repeat)
  training.train(config)


if __name__ == '__main__':
  a3c_jax.flags.run(main)
