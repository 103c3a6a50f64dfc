"""n-step Q-learning with a dueling head: separate value and advantages.

python experiments/variations/dueling_q.py --threads=2

After Wang et al. 2016, arXiv:1511.06581, equation 9:
Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a').
"""

import flax.linen as nn
import jax.numpy as jnp

from a3c_jax import command_line, networks
from a3c_jax.algorithms import value_based
from a3c_jax.settings import build
from a3c_jax.settings import flags as flags_lib

_config = flags_lib.define('gym', frames=150_000)


class DuelingQNetwork(nn.Module):
  torso: nn.Module
  num_actions: int

  @nn.compact
  def __call__(self, obs):
    features = self.torso(obs)
    value = networks.Linear(1)(features)
    advantage = networks.Linear(self.num_actions)(features)
    return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)


def main() -> None:
  config = _config(algo='nstep_q')

  def make_learner(env):
    torso = build.make_torso(config, env.single_observation_space)
    network = DuelingQNetwork(torso, int(env.single_action_space.n))
    return value_based.nstep_q(network)

  command_line.run_training(config, make_learner=make_learner)


if __name__ == '__main__':
  command_line.run(main)
