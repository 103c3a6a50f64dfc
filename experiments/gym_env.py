"""Trains one of the four algorithms on a Gymnasium environment.

python experiments/gym_env.py --env=CartPole-v1 --algo=a3c
python experiments/gym_env.py --env=my_module:make_env
"""

from absl import flags

from a3c_jax import agents, training
from a3c_jax.envs import gym
import a3c_jax.flags

_ENV = flags.DEFINE_string(
  'env',
  'CartPole-v1',
  'Registered Gymnasium id, or module:function returning an environment. '
  'Observations must be Box, actions Discrete.',
)
_config = a3c_jax.flags.define('gym')


def main() -> None:
  make_env = gym.make(_ENV.value)
  config = _config({'name': _ENV.value})
  result = training.run(
    config, make_env, lambda env: agents.make_learner(config, env)
  )
  print(training.describe(result))


if __name__ == '__main__':
  a3c_jax.flags.run(main)
