# %% [markdown]
# # An environment and a network of your own
#
# Any `gymnasium.Env` will do if its observations are a `Box` and its actions
# `Discrete` or a bounded `Box`. This one shows a number between 0 and 1; the
# agent must say whether it is above a half.

# %%
import flax.linen as nn
import gymnasium
import jax.numpy as jnp
import numpy as np

from a3c_jax import networks, policy_based, training
from a3c_jax.envs import gym
from a3c_jax.settings import config


class Above(gymnasium.Env):
  """Four numbers in a row; each right answer gives a reward of 1."""

  observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._left = 4
    return self._next(), {}

  def step(self, action):
    reward = float(action == (self._number[0] > 0.5))
    self._left -= 1
    return self._next(), reward, self._left == 0, False, {}

  def _next(self):
    self._number = self.np_random.random(1, np.float32)
    return self._number


# %% [markdown]
# A torso is a flax module from observations `[..., *shape]` to features
# `[..., F]`. A head on top of it gives the policy and the value.


# %%
class Wave(nn.Module):
  """Sines of a linear function, as features."""

  units: int = 32

  @nn.compact
  def __call__(self, obs):
    return jnp.sin(nn.Dense(self.units)(4 * obs))


def make_learner(env):
  network = networks.ActorCritic(Wave(), int(env.single_action_space.n))
  return policy_based.a3c(network, entropy_cost=0.01, value_cost=0.5)


settings = config.make(
  'gym',
  algo='a3c',
  threads=2,
  frames=20_000,
  learning_rate=0.01,
  eval_frames=0,
  workdir='runs/above',
)
result = training.run(settings, gym.make(Above), make_learner)
print(training.describe(result))
print('of at most 4:', result.mean_return)
