"""Trains one of the four algorithms on a Gymnasium environment.

python experiments/gym_env.py --env=CartPole-v1 --algo=a3c
python experiments/gym_env.py --env=my_module:make_env
"""

from __future__ import annotations

import dataclasses

from a3c_jax import checks, training
import a3c_jax.flags


@dataclasses.dataclass(frozen=True)
class Options:
  """What to train on."""

  env: str = checks.setting(
    'Registered Gymnasium id, or module:function returning an environment. '
    'Observations must be Box, actions Discrete, or with --algo=a3c a bounded '
    'Box.',
    'a name',
    bool,
    default='CartPole-v1',
    source='ours',
  )


_options = a3c_jax.flags.define_options(Options, domain='gym')
_config = a3c_jax.flags.define('gym')


def main() -> None:
  options = _options()
  checks.check_settings(options)
  config = _config({'name': options.env})
  training.train(config)


if __name__ == '__main__':
  a3c_jax.flags.run(main)
