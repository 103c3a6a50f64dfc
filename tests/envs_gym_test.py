"""Ordinary Gymnasium environments, and clear words for those we cannot use."""

import importlib.util

import gymnasium
from gymnasium import spaces
from marks import needs_dm_control
import numpy as np
import pytest

from a3c_jax import checks
from a3c_jax.envs import gym, recorded


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
    self.actions.append(np.asarray(action).tolist())
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
  # One is tried out: reset, stepped once and closed.
  assert [(one.closed, one.actions) for one in made] == [(True, [0])]
  first, second = make_env(), make_env()
  first.reset(seed=1)
  second.reset(seed=1)
  first.step(np.array([1]))
  assert [one.actions for one in made] == [[0], [1], []]


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
    (spaces.Tuple([box(2), box(3)]), box(2), 'Tuple(Box('),
    (spaces.MultiDiscrete([2, 3]), box(2), 'MultiDiscrete([2 3])'),
    (box(3), spaces.MultiDiscrete([2, 3]), 'MultiDiscrete([2 3])'),
    (box(3), spaces.Dict({'a': box(2)}), "Dict('a'"),
    (box(3), spaces.Tuple([box(2)]), 'Tuple(Box('),
    (box(3), box(2, high=np.inf), 'Box(0.0, inf, (2,), float32)'),
    (box(3), spaces.Box(-np.inf, 1.0, (1,)), 'Box(-inf, 1.0, (1,), float32)'),
    (box(3), spaces.Box(1.0, 1.0, (1,)), 'Box(1.0, 1.0, (1,), float32)'),
    (box(3), spaces.Box(0, 5, (2,), np.int32), 'Box(0, 5, (2,), int32)'),
    (box(3), box(2, 3), 'Box(0.0, 1.0, (2, 3), float32)'),
    (box(3), box(), 'Box(0.0, 1.0, (), float32)'),
    (box(3), box(0), 'Box([], [], (0,), float32)'),
    # Printed in several lines.
    (box(3), spaces.Box(0.0, np.arange(40, dtype=np.float32)), '(40,)'),
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
    # Discrete observations; no longer there.
    ('FrozenLake-v1', 'observation space Discrete(16)'),
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


@needs_dm_control
@pytest.mark.parametrize(
  'name, hint', [('cheetah', 'cheetah-run'), ('', 'acrobot-swingup')]
)
def test_bad_names_of_dm_control(name, hint):
  with pytest.raises(checks.UsageError) as error:
    gym.make(f'dm_control/{name}')
  start = f'--env=dm_control/{name}: unknown; did you mean dm_control/{hint},'
  assert one_line(error).startswith(start)


def test_continuous_actions_are_scaled_and_clipped():
  space = spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
  env = gym.make(lambda: Custom(box(2), space), envs=2)()
  env.reset(seed=1)
  assert env.action_space == spaces.Box(-np.inf, np.inf, (2, 2), np.float32)
  env.step(np.array([[0.5, 0.0], [-1.0, 1.0]], np.float32))
  env.step(np.array([[7.0, -1.5], [-1e9, 0.2]], np.float32))
  first, second = [one.unwrapped.actions for one in env.envs]
  np.testing.assert_allclose(first, [[1.0, 5.0], [2.0, 0.0]])
  np.testing.assert_allclose(second, [[-2.0, 10.0], [-2.0, 6.0]], rtol=1e-6)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_no_rounding_leads_out_of_the_box(dtype):
  # 4.1 + 3.2 and the like are not what they look like.
  low = np.arange(1, 30, dtype=dtype) / dtype(7)
  high = (low + np.arange(1, 30, dtype=dtype) / dtype(3)).astype(dtype)
  env = gym.make(lambda: Custom(box(2), spaces.Box(low, high, dtype=dtype)))()
  env.reset(seed=1)
  for action in (-1.0, 1.0, -1e30, 1e30):
    env.step(np.full(env.action_space.shape, action, np.float32))
  taken = np.array(env.envs[0].unwrapped.actions)
  assert (taken >= low).all() and (taken <= high).all()
  np.testing.assert_allclose(taken[::2], [low, low], rtol=1e-6)
  np.testing.assert_allclose(taken[1::2], [high, high], rtol=1e-6)


def test_a_box_from_0_to_a_billion():
  space = spaces.Box(np.float32([0, 0.1]), np.float32([1e9, 0.3]))
  env = gym.make(lambda: Custom(box(2), space))()
  env.reset(seed=1)
  env.step(np.array([[0.5, -1.0]], np.float32))
  ((first, second),) = env.envs[0].unwrapped.actions
  assert first == pytest.approx(0.75e9)
  assert second == np.float32(0.1)


def test_actions_are_recorded_as_they_were_drawn():
  space = spaces.Box(np.float16([-1]), np.float16([1]), dtype=np.float16)
  env = recorded.Recorded(gym.make(lambda: Custom(box(2), space))())
  env.reset(seed=1)
  env.step(np.array([[1 / 3]], np.float32))
  assert env.past().actions[0, 0, 0] == np.float32(1 / 3)


def test_pendulum_takes_its_own_torque():
  env, plain = gym.make('Pendulum-v1')(), gymnasium.make('Pendulum-v1')
  env.reset(seed=3)
  plain.reset(seed=3)
  for torque in (0.3, -1.9):
    obs, reward, *_ = env.step(np.array([[torque / 2]], np.float32))
    expected, expected_reward, *_ = plain.step(np.array([torque], np.float32))
    np.testing.assert_allclose(obs[0], expected, rtol=1e-5)
    np.testing.assert_allclose(reward, [expected_reward], rtol=1e-5)


class Spoilt(Custom):
  """Its observations are not finite from some step on."""

  def __init__(self, at_step, value):
    wide = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    super().__init__(wide, spaces.Discrete(2))
    self._at_step, self._value = at_step, value

  def reset(self, *, seed=None, options=None):
    return self._observe(0), {}

  def step(self, action):
    self.actions.append(action)
    return self._observe(len(self.actions)), 1.0, False, False, {}

  def _observe(self, step):
    return np.array([0.0, self._value if step >= self._at_step else 1.0, 0.0])


# The last is too large for the float32 that learners see.
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, -1e39])
@pytest.mark.parametrize('at_step', [0, 1, 2])
def test_observations_that_are_not_finite(at_step, value):
  def make_spoilt():
    return Spoilt(at_step, value)

  # The first step is tried before there is a run.
  expected = checks.UsageError if at_step < 2 else checks.RunError
  with pytest.raises(expected) as error:
    env = gym.make(make_spoilt)()
    env.reset(seed=1)
    for _ in range(2):
      env.step(np.array([0]))
  (line,) = str(error.value).splitlines()
  assert 'make_spoilt' in line
  assert f'observation[1] is {value}' in line
  assert 'Box(-inf, inf, (3,), float64)' in line


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_a_reward_that_is_not_finite(value):
  class Rewards(Custom):
    def step(self, action):
      reward = value if action else 1.0
      return self.observation_space.sample(), reward, False, False, {}

  env = gym.make(lambda: Rewards(box(2), spaces.Discrete(2)))()
  env.reset(seed=1)
  with pytest.raises(checks.RunError, match=f'a reward is {value}; allowed'):
    env.step(np.array([1]))


def test_a_refused_environment_is_closed():
  made = []

  def make_one():
    made.append(Custom(box(2), spaces.MultiDiscrete([2, 3])))
    return made[-1]

  with pytest.raises(checks.UsageError):
    gym.make(make_one)
  assert [one.closed for one in made] == [True]


def test_mujoco_is_missing(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  needs = {'Hopper-v5': '', 'dm_control/hopper-hop': ', Python 3.11 or 3.12'}
  for name, more in needs.items():
    with pytest.raises(checks.UsageError) as error:
      gym.make(name)
    assert one_line(error) == (
      f"--env={name}: mujoco is not installed; pip install -e '.[mujoco]'{more}"
    )


@pytest.mark.parametrize(
  'name',
  ['Hopper-v5', pytest.param('dm_control/hopper-hop', marks=needs_dm_control)],
)
def test_mujoco_repeats_itself_to_the_last_bit(name):
  env = recorded.Recorded(gym.make(name, envs=2)(), reseed_steps=30)
  env.reset(seed=5)
  rng = np.random.default_rng(0)
  actions = rng.normal(size=(60, *env.action_space.shape)).astype(np.float32)
  for action in actions[:40]:
    obs, *_ = env.step(action)
  past = env.past()
  other = recorded.Recorded(gym.make(name, envs=2)(), reseed_steps=30)
  np.testing.assert_array_equal(other.replay(past), obs)
  for action in actions[40:]:
    for one, another in zip(env.step(action), other.step(action), strict=True):
      if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, another)


@needs_dm_control
@pytest.mark.parametrize('task', ['quadruped-escape', 'lqr-lqr_2_1'])
def test_tasks_of_dm_control_that_cannot_be_had(task):
  with pytest.raises(checks.UsageError) as error:
    gym.make(f'dm_control/{task}')
  assert one_line(error).startswith(f'--env=dm_control/{task}: ')


@needs_dm_control
def test_dm_control_is_flat_and_cut_by_its_time_limit():
  env = gym.make('dm_control/pendulum-swingup')()
  obs, _ = env.reset(seed=1)
  assert obs.shape == (1, 3)  # Cosine, sine and velocity.
  assert env.single_action_space.shape == (1,)
  for step in range(1000):
    _, reward, terminated, truncated, _ = env.step(np.zeros((1, 1)))
    assert (terminated[0], truncated[0]) == (False, step == 999)
    assert 0 <= reward[0] <= 1


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
