"""Trains one of the four algorithms on Catch, in about a minute.

python experiments/catch.py --algo=one_step_sarsa
"""

from a3c_jax import agents, training
from a3c_jax.envs import catch, gym
import a3c_jax.flags

_config = a3c_jax.flags.define('catch')


def main() -> None:
  config = _config({'name': 'catch'})
  result = training.run(
    config,
    gym.make(catch.Catch),
    lambda env: agents.make_learner(config, env),
  )
  print(training.describe(result))


if __name__ == '__main__':
  a3c_jax.flags.run(main)
