"""Settings, spaces and a network to make learners of."""

import flax.linen as nn
import gymnasium
from gymnasium import spaces
import numpy as np

from a3c_jax.settings import config

IMAGE = spaces.Box(0, 255, (40, 44, 3), np.uint8)
VECTOR = spaces.Box(-1.0, 1.0, (6,), np.float32)
JOINTS = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class Spaces(gymnasium.vector.VectorEnv):
  """Only its spaces count here."""

  def __init__(self, observation_space, actions=5):
    self.single_observation_space = observation_space
    self.single_action_space = (
      actions if isinstance(actions, spaces.Space) else spaces.Discrete(actions)
    )


class Own(nn.Module):
  """A network of the user's."""

  @nn.compact
  def __call__(self, obs):
    return nn.Dense(7)(obs)


def make_own():
  return Own()


def make_config(algo='a3c', domain='gym', **given):
  return config.make(domain, algo=algo, **given)
