"""Prints the speed of Stable-Baselines3's A2C with the games of EnvPool.

  pip install stable_baselines3==2.9.2 envpool==1.2.5
  python experiments/peers/sb3_a2c.py

Pong with 256 games, an action repeat of 4, 84x84x4 images, and the defaults of
A2C: the network of DQN in Nature and segments of 5 steps. The speed is that of
30 seconds in emulator frames, after 10 seconds of training.
"""

import time

import envpool
import gymnasium
import numpy as np
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

GAMES = 256


class Games(VecEnv):
  """EnvPool's Atari games as a vector environment of Stable-Baselines3."""

  def __init__(self):
    self.pool = envpool.make(
      'Pong-v5', env_type='gymnasium', num_envs=GAMES, reward_clip=True
    )
    space = self.pool.observation_space
    actions = gymnasium.spaces.Discrete(int(self.pool.action_space.n))
    super().__init__(GAMES, space, actions)

  def reset(self):
    return self.pool.reset()[0]

  def step_async(self, actions):
    self.actions = actions

  def step_wait(self):
    obs, rewards, ended, truncated, _ = self.pool.step(self.actions)
    dones = ended | truncated
    if dones.any():  # EnvPool would reset these games in the next step.
      obs = obs.copy()
      obs[dones] = self.pool.reset(np.flatnonzero(dones))[0]
    return obs, rewards, dones, [{}] * GAMES

  def close(self):
    self.pool.close()

  def get_attr(self, attr_name, indices=None):
    return [getattr(self.pool, attr_name, None)] * self.num_envs

  def set_attr(self, attr_name, value, indices=None):
    raise NotImplementedError

  def env_method(self, method_name, *args, indices=None, **kwargs):
    raise NotImplementedError

  def env_is_wrapped(self, wrapper_class, indices=None):
    return [False] * self.num_envs


class Speed(BaseCallback):
  """Measures training."""

  def _on_training_start(self):
    self.began = time.perf_counter()
    self.since = None

  def _on_step(self):
    now = time.perf_counter()
    if self.since is None:
      if now - self.began >= 10.0:
        self.since = now, self.num_timesteps
      return True
    seconds = now - self.since[0]
    if seconds < 30.0:
      return True
    frames = 4 * (self.num_timesteps - self.since[1])
    print(f'{frames / seconds:,.0f} frames/s')
    return False


if __name__ == '__main__':
  A2C('CnnPolicy', Games(), device='cpu').learn(10**9, callback=Speed())
