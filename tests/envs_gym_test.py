"""Ordinary Gymnasium environments, and clear words for those we cannot use."""

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest

from a3c_jax import checks
from a3c_jax.envs import gym


class Custom(gymnasium.Env):
  """Any spaces; remembers the actions it was given."""

  def __init__(self, observation_space, action_space):
    self.observation_space = observation_space
    self.action_space = action_space
    self.actions = []
    self.closed = False

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.observation_space.sample(), {}

  def step(self, action):
    self.actions.append(int(action))
    return self.observation_space.sample(), 1.0, False, False, {}

  def close(self):
    self.closed = True


def box(*shape, high=1.0):
  return spaces.Box(0.0, high, shape, np.float32)


def make_custom():
  """Used by name, as `envs_gym_test:make_custom`."""
  return Custom(box(2), spaces.Discrete(2))


def one_line(error):
  assert isinstance(error.value, checks.UsageError)
  (line,) = str(error.value).splitlines()
  return line


def test_cartpole_with_two_streams():
  env = gym.make('CartPole-v1', envs=2)()
  obs, _ = env.reset(seed=3)
  assert env.num_envs == 2
  assert obs.shape == (2, 4)
  assert env.single_action_space.n == 2
  autoreset = env.metadata['autoreset_mode']
  assert autoreset == gymnasium.vector.AutoresetMode.SAME_STEP
  assert not np.array_equal(obs[0], obs[1])
  np.testing.assert_array_equal(obs, env.reset(seed=3)[0])
  env.close()


def test_each_call_makes_another_environment():
  made = []

  def make_one():
    made.append(make_custom())
    return made[-1]

  make_env = gym.make(make_one)
  assert [one.closed for one in made] == [True]  # Only looked at.
  first, second = make_env(), make_env()
  first.reset(seed=1)
  second.reset(seed=1)
  first.step(np.array([1]))
  assert [one.actions for one in made if one.actions] == [[1]]


@pytest.mark.parametrize('first', [0, 5, -2])
def test_actions_count_from_the_first_of_the_space(first):
  env = gym.make(lambda: Custom(box(2), spaces.Discrete(3, start=first)))()
  env.reset(seed=1)
  assert env.single_action_space == spaces.Discrete(3)
  for action in range(3):
    env.step(np.array([action], np.int32))
  custom = env.envs[0].unwrapped
  assert custom.actions == [first, first + 1, first + 2]


@pytest.mark.parametrize(
  'observation_space, action_space, named',
  [
    (spaces.Dict({'a': box(2)}), spaces.Discrete(2), "Dict('a'"),
    (spaces.Discrete(16), spaces.Discrete(2), 'Discrete(16)'),
    (box(3), box(2), 'Box(0.0, 1.0, (2,), float32)'),
    (box(3), spaces.MultiDiscrete([2, 3]), 'MultiDiscrete([2 3])'),
  ],
)
def test_other_spaces_are_refused_by_name(
  observation_space, action_space, named
):
  with pytest.raises(checks.UsageError) as error:
    gym.make(lambda: Custom(observation_space, action_space))
  line = one_line(error)
  assert named in line
  assert 'allowed: ' in line


@pytest.mark.parametrize(
  'name, hint',
  [
    ('CartPole', 'CartPole-v1'),
    ('cartpole-v1', 'CartPole-v1'),
    ('Acrobat-v1', 'Acrobot-v1'),
    ('§§§', 'try CartPole-v1'),
    ('', 'try CartPole-v1'),
    # Discrete observations; Box actions; no such version; no longer there.
    ('FrozenLake-v1', 'observation space Discrete(16)'),
    ('Pendulum-v1', 'action space Box'),
    ('Ant-v2', 'Ant-v2'),
    ('no_such_module:make', 'no_such_module'),
    ('envs_gym_test:no_such_function', 'no_such_function'),
    ('envs_gym_test:', 'module:function'),
    (':make', 'module:function'),
    ('.relative:make', 'module:function'),
    ('math:pi', 'module:function'),
    ('builtins:dict', 'module:function'),
  ],
)
def test_bad_names_are_refused_in_one_line(name, hint):
  with pytest.raises(checks.UsageError) as error:
    gym.make(name)
  line = one_line(error)
  assert line.startswith(f'--env={name}:')
  assert hint in line


def test_missing_dependency_tells_what_to_install():
  def make_one():
    raise gymnasium.error.DependencyNotInstalled('run `pip install "box"`')

  with pytest.raises(checks.UsageError, match='pip install') as error:
    gym.make(make_one)
  assert one_line(error).startswith('--env=')


def test_missing_dependency_of_a_registered_environment():
  def make_one():
    raise ImportError('No module named box')

  gymnasium.register('NeedsBox-v0', make_one)
  try:
    with pytest.raises(checks.UsageError) as error:
      gym.make('NeedsBox-v0')
    assert one_line(error) == '--env=NeedsBox-v0: No module named box'
  finally:
    del gymnasium.registry['NeedsBox-v0']
  # From a function of the user's it is a bug there, to be seen with its place.
  with pytest.raises(ImportError, match='box'):
    gym.make(make_one)


def test_empty_observations_are_refused():
  with pytest.raises(checks.UsageError, match='not empty'):
    gym.check_spaces(
      gymnasium.spaces.Box(0, 1, (2, 0)), gymnasium.spaces.Discrete(2), 'mine'
    )


def test_module_and_function():
  env = gym.make('envs_gym_test:make_custom')()
  obs, _ = env.reset(seed=1)
  assert obs.shape == (1, 2)
