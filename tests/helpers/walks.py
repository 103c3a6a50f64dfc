"""Runs of a walk in any spaces, which no config.json knows how to make."""

import functools

import catch_runs
import gymnasium
from gymnasium import spaces
import numpy as np

from a3c_jax.envs import gym
from a3c_jax.settings import build


class Walk(gymnasium.Env):
  """Takes whatever it is given, ten steps long."""

  def __init__(self, observation_space, action_space):
    self.observation_space = observation_space
    self.action_space = action_space

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._steps = 0
    return self.observation_space.low, {}

  def step(self, action):
    assert self.action_space.contains(action)
    self._steps += 1
    return self.observation_space.low, 0.0, self._steps == 10, False, {}


NUMBERS = spaces.Box(-1.0, 1.0, (2,), np.float32)


def make_walk(observation_space=NUMBERS, action_space=None):
  action_space = action_space or spaces.Discrete(3)
  return functools.partial(Walk, observation_space, action_space)


def walk(workdir, *spaces_of_walk, make_learner=None, make_env=None, **given):
  """A short run; `make_learner` takes an environment alone."""
  given = {
    'environment': gym.Options(env='NoSuchWalk-v0'),
    'frames': 40,
    'network': 'mlp',
  } | given
  return catch_runs.run(
    workdir,
    make_env or gym.make(make_walk(*spaces_of_walk)),
    lambda settings, env: (
      make_learner(env) if make_learner else build.make_learner(settings, env)
    ),
    domain='gym',
    **given,
  )


def train_catch(workdir, **given):
  """A run of Catch with an evaluation, and so with a best checkpoint."""
  given = {'frames': 400, 'eval_frames': 100} | given
  return catch_runs.run(workdir, **{'checkpoint_frames': 10**6} | given)
