"""Which seeds the environments of a run and its evaluations are reset with."""

import functools

import gymnasium
from gymnasium import spaces
import numpy as np

from a3c_jax import training
from a3c_jax.core import types
from a3c_jax.envs import gym
from a3c_jax.runs import evaluation
from a3c_jax.runs import policy as policy_lib
from a3c_jax.settings import build, config


class Resets(gymnasium.Env):
  """Episodes of one step; tells of its seeds to a list that others share."""

  metadata = {'reseed_steps': 2}
  observation_space = spaces.Box(0.0, 9.0, (1,), np.float32)
  action_space = spaces.Discrete(3)

  def __init__(self, seeds):
    self._all = seeds

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    if seed is not None:
      self._all.append(seed)
    return np.zeros(1, np.float32), {}

  def step(self, action):
    return np.ones(1, np.float32), float(action), True, False, {}


def test_no_episode_of_an_evaluation_is_a_training_game(tmp_path):
  # Episode 0 of an evaluation had the seed of thread 0's first game.
  played = {'training': [], 'evaluation': [], 'later': []}

  def make(name, num_envs=1):
    return gym.make(lambda: Resets(played[name]), num_envs=num_envs)

  settings = config.make(
    'gym',
    environment=gym.Options(env='resets'),
    workdir=str(tmp_path),
    seed=3,
    threads=3,
    envs_per_thread=2,
    t_max=2,
    frames=400,
    eval_frames=100,
    eval_episodes=2,
    network='mlp',
  )
  result = training.run(
    settings,
    make('training', num_envs=2),
    functools.partial(build.make_learner, settings),
    make('evaluation'),
  )
  later = make('later')()
  policy = policy_lib.Policy(
    build.make_learner(settings, later),
    types.Version(result.params, None, frames=0, updates=0),
  )
  evaluation.play_all([later], policy, episodes=20, seed=settings.seed)
  assert len(played['training']) > 50
  assert len(played['evaluation']) >= 3
  for seeds in played.values():
    seeds.remove(0)  # Of the trial before, in an environment of its own.
  assert len(played['later']) == 20
  assert max(played['training']) < 2**30 + 2
  for name in ('evaluation', 'later'):
    assert min(played[name]) >= 2**30 + 1000
    assert max(played[name]) < 2**31 - 1000  # K games have seed + k.
