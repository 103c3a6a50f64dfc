"""Races in TORCS, driven by simple rules."""

import collections

import numpy as np

from a3c_jax.envs.torcs import racing

ACCELERATE = racing.ACTIONS.index('accelerate, straight')
LEFT = racing.ACTIONS.index('accelerate, left')
RIGHT = racing.ACTIONS.index('accelerate, right')
COAST = racing.ACTIONS.index('coast, straight')
BRAKE = racing.ACTIONS.index('brake, straight')


def make(**given):
  return racing.Torcs(**{'action_repeat': 4} | given)


Step = collections.namedtuple('Step', 'obs reward terminated truncated info')


def drive(env, act, *, seed, steps=10_000):
  """The steps of an episode, or the first ones."""
  env.reset(seed=seed)
  done = []
  while len(done) < steps:
    done.append(Step(*env.step(act(env))))
    if done[-1].terminated or done[-1].truncated:
      break
  return done


def always(action):
  return lambda env: action


def at_random(seed=0):
  rng = np.random.default_rng(seed)
  return lambda env: int(rng.integers(7))


def same(mine, others):
  for one, other in zip(mine, others, strict=True):
    np.testing.assert_array_equal(one.obs, other.obs)
    assert one.reward == other.reward
    assert one.info.keys() == other.info.keys()
    for name, value in one.info.items():
      np.testing.assert_array_equal(value, other.info[name])
