"""Trains one of the four algorithms on Catch, in about a minute.

python experiments/catch.py --algo=one_step_sarsa
"""

import functools

from a3c_jax import agents, training
import a3c_jax.flags

_config = a3c_jax.flags.define('catch')


def main() -> None:
  config = _config({'name': 'catch'})
  result = training.run(
    config,
    agents.make_env(config),
    functools.partial(agents.make_learner, config),
    agents.make_env(config, protocol=config.eval_protocol),
  )
  print(training.describe(result))


if __name__ == '__main__':
  a3c_jax.flags.run(main)
