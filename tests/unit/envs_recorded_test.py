"""Replayed environments continue as if they had never stopped."""

import signal

import gymnasium
from gymnasium.vector import AutoresetMode
import numpy as np
import pytest
from replays import assert_continues_alike, play, random_actions, record

from a3c_jax.envs import catch, gym, replayable


@pytest.mark.parametrize('before', [0, 1, 8, 9, 10, 44, 45, 46, 200])
def test_catch_continues_alike(before):
  if before == 0:
    env = record(gym.make(catch.Catch)())
    obs, _ = env.reset(seed=5)
    np.testing.assert_array_equal(env.replay(env.action_log()), obs)
    return
  # An episode of Catch lasts 9 steps, so each fifth starts with a new seed.
  log = assert_continues_alike(
    gym.make(catch.Catch), before=before, after=100, reseed_steps=40
  )
  assert len(log.actions) == before % 45


def test_episodes_of_different_lengths_are_reseeded_each_for_itself():
  lengths = iter([5, 7, 5, 7])

  def make_env():
    return gymnasium.vector.SyncVectorEnv(
      [
        lambda: gymnasium.wrappers.TimeLimit(Noise(), next(lengths))
        for _ in range(2)
      ],
      autoreset_mode=AutoresetMode.SAME_STEP,
    )

  log = assert_continues_alike(make_env, before=26, after=60, reseed_steps=10)
  # Ends at 10 and 20, and at 14.
  assert len(log.actions) == 26 - 14
  assert log.starts.tolist() == [20 - 14, 0]


class Noise(gymnasium.Env):
  """Observations are random numbers; an action skips that many."""

  observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float64)
  action_space = gymnasium.spaces.Discrete(3)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.np_random.random(2), {}

  def step(self, action):
    self.np_random.random(action)
    return self.np_random.random(2), 1.0, False, False, {}


def test_reseeding_replaces_the_first_observation_of_the_next_game():
  env = record(gym.make(catch.Catch)(), reseed_steps=9)
  env.reset(seed=1)
  obs = play(env, np.ones((9, 1), int))[0][-1]
  log = env.action_log()
  assert log.seeds.tolist() == [replayable.next_seed(1)]
  assert len(log.actions) == 0
  expected, _ = gym.make(catch.Catch)().reset(seed=replayable.next_seed(1))
  np.testing.assert_array_equal(obs, expected)


def test_a_log_does_not_change_later():
  env = record(gym.make(catch.Catch)(), reseed_steps=40)
  env.reset(seed=5)
  actions = random_actions(env, 300)
  pasts = []
  for action in actions:
    env.step(action)
    log = env.action_log()
    pasts.append((log, [part.copy() for part in log]))
  for log, copies in pasts:
    for part, copy in zip(log, copies, strict=True):
      np.testing.assert_array_equal(part, copy)


def test_what_an_environment_raised_is_kept():
  class Broken(catch.Catch):
    def step(self, action):
      raise OSError('no game')

  env = record(gym.make(Broken)())
  env.reset(seed=0)
  assert env.failure is None
  with pytest.raises(OSError, match='no game') as raised:
    env.step(np.ones(1, int))
  assert env.failure is raised.value


def test_ctrl_c_is_not_a_failure_of_the_environment(monkeypatch):
  def interrupt(*args, **kwargs):
    raise KeyboardInterrupt

  env = replayable.Recorded(gym.make('CartPole-v1')())
  monkeypatch.setattr(env.env, 'step', interrupt)
  env.reset(seed=1)
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(KeyboardInterrupt):
      env.step(np.zeros(1, int))
    # A handler takes Ctrl-C, so the environment raised it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    with pytest.raises(RuntimeError, match='the environment raised'):
      env.step(np.zeros(1, int))
  finally:
    signal.signal(signal.SIGINT, before)
