"""Trains one of the four algorithms on Catch, in about a minute.

python experiments/catch.py --algo=one_step_sarsa
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import training
import a3c_jax.flags

_config = a3c_jax.flags.define('catch')


def main() -> None:
  config = _config({'name': 'catch'})
  training.train(config)


if __name__ == '__main__':
  a3c_jax.flags.run(main)
