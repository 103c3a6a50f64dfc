"""Trains one of the four algorithms on a Gymnasium environment.

python experiments/gym_env.py --env=CartPole-v1 --algo=a3c
python experiments/gym_env.py --env=my_module:make_env
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from absl import flags

from a3c_jax import training
import a3c_jax.flags

_ENV = flags.DEFINE_string(
  'env',
  'CartPole-v1',
  'Registered Gymnasium id, or module:function returning an environment. '
  'Observations must be Box, actions Discrete, or with --algo=a3c a bounded '
  'Box.',
)
_config = a3c_jax.flags.define('gym')


def main() -> None:
  config = _config({'name': _ENV.value})
  training.train(config)


if __name__ == '__main__':
  a3c_jax.flags.run(main)
