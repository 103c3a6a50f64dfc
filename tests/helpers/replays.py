"""Environments that are replayed, and played on by random actions."""

import numpy as np

from a3c_jax.envs import replayable


def record(env, **kwargs):
  return replayable.Recorded(env, **kwargs)


def random_actions(env, steps, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(env.single_action_space.n, size=(steps, env.num_envs))


def play(env, actions):
  seen = [env.step(action)[:4] for action in actions]
  return [np.stack(part) for part in zip(*seen, strict=True)]


def assert_continues_alike(make_env, *, before, after, **kwargs):
  """A second environment replays the past of the first; both play on."""
  first, second = (record(make_env(), **kwargs) for _ in range(2))
  first.reset(seed=5)
  actions = random_actions(first, before + after)
  obs = play(first, actions[:before])[0][-1]
  past = first.action_log()
  np.testing.assert_array_equal(second.replay(past), obs)
  for found, expected in zip(
    play(second, actions[before:]), play(first, actions[before:]), strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  for found, expected in zip(
    second.action_log(), first.action_log(), strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  first.close()
  second.close()
  return past
