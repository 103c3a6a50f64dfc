"""n-step Q-learning with a dueling head: value and advantages apart.

python experiments/variations/dueling_q.py --threads=2

After Wang et al. 2016, arXiv:1511.06581, equation 9:
Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a').
"""

import flax.linen as nn
import jax.numpy as jnp

from a3c_jax import networks, training, value_based
from a3c_jax.envs import gym
import a3c_jax.flags

_config = a3c_jax.flags.define('gym', frames=150_000)


class DuelingQNetwork(nn.Module):
  torso: nn.Module
  num_actions: int

  @nn.compact
  def __call__(self, obs):
    features = self.torso(obs)
    value = networks.Linear(1)(features)
    advantage = networks.Linear(self.num_actions)(features)
    return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)


def make_learner(env):
  num_actions = int(env.single_action_space.n)
  return value_based.nstep_q(
    DuelingQNetwork(networks.MLPTorso(obs_dims=1), num_actions)
  )


def main() -> None:
  config = _config({'name': 'CartPole-v1'}, algo='nstep_q')
  make_env = gym.make('CartPole-v1', envs=config.envs_per_thread)
  print(training.describe(training.run(config, make_env, make_learner)))


if __name__ == '__main__':
  a3c_jax.flags.run(main)
