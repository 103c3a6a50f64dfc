"""Catch: its rules, and Gymnasium's checks of an environment."""

import gymnasium
from gymnasium.utils import env_checker
import numpy as np
import pytest

from a3c_jax.envs import catch, gym

LEFT, STAY, RIGHT = range(3)


def ball_column(obs):
  return int(np.argmax(obs[0]))


def play(env, action_of):
  """One episode; `action_of(obs)` acts. Returns rewards and observations."""
  obs, _ = env.reset()
  observations, rewards = [obs], []
  terminated = False
  while not terminated:
    obs, reward, terminated, truncated, _ = env.step(action_of(obs))
    assert not truncated
    observations.append(obs)
    rewards.append(reward)
  return rewards, observations


def test_obeys_gymnasium():
  env_checker.check_env(catch.Catch(), skip_render_check=True)


def test_an_episode_by_hand():
  env = catch.Catch(rows=3, columns=3, render_mode='ansi')
  env.reset(seed=1)
  env.reset()
  first = env.render().split('\n')
  assert first[1:] == ['...', '.x.']
  assert sorted(first[0]) == ['.', '.', 'x']
  obs, reward, terminated, *_ = env.step(LEFT)
  assert env.render().split('\n') == ['...', first[0], 'x..']
  assert (reward, terminated) == (0.0, False)
  obs, reward, terminated, *_ = env.step(LEFT)  # The wall stops it.
  assert terminated
  assert reward == (1.0 if first[0] == 'x..' else -1.0)
  assert obs.sum() == (1.0 if reward == 1.0 else 2.0)


def test_the_best_player_always_scores_and_staying_rarely_does():
  env = catch.Catch()
  env.reset(seed=5)

  def best(obs):
    ball = int(np.argwhere(obs[:-1])[0, 1])
    return 1 + int(np.sign(ball - int(np.argmax(obs[-1]))))

  for _ in range(20):
    rewards, observations = play(env, best)
    assert rewards == [0.0] * 8 + [1.0]
    assert len(observations) == 10
  scores = [sum(play(env, lambda obs: STAY)[0]) for _ in range(500)]
  # One column in five: mean -0.6, standard error 0.8 / √500 = 0.036.
  assert np.mean(scores) == pytest.approx(-0.6, abs=0.15)


def test_seed_repeats_the_balls_and_they_fall_everywhere():
  def columns(seed):
    env = catch.Catch()
    obs, _ = env.reset(seed=seed)
    return [ball_column(obs)] + [ball_column(env.reset()[0]) for _ in range(40)]

  assert columns(3) == columns(3)
  assert columns(3) != columns(4)
  assert set(columns(3)) == {0, 1, 2, 3, 4}


def test_in_a_vector_environment():
  env = gym.make(catch.Catch, num_envs=2)()
  obs, _ = env.reset(seed=1)
  assert obs.shape == (2, 10, 5) and obs.dtype == np.float32
  for _ in range(9):
    obs, reward, terminated, _, info = env.step(np.array([STAY, STAY]))
  assert terminated.all()
  # The next episode has started in the same step.
  np.testing.assert_array_equal(obs[:, 0].sum(1), [1, 1])
  for final in info['final_obs']:
    assert final[0].sum() == 0
  env.close()
  assert isinstance(env, gymnasium.vector.VectorEnv)
