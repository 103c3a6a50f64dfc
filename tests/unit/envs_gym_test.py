"""Gymnasium environments, and clear messages for those that are refused."""

import dataclasses
import importlib.util
import json
import sys

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest

from a3c_jax.core import errors, fields
from a3c_jax.envs import control, domain, gym, named, replayable, space_checks
from a3c_jax.runs import workdir
from a3c_jax.settings import build, config


class Custom(gymnasium.Env):
  """Any spaces; keeps the actions that it got."""

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
  assert isinstance(error.value, errors.UsageError)
  (line,) = str(error.value).splitlines()
  return line


def test_two_environments_of_cartpole():
  env = gym.make('CartPole-v1', num_envs=2)()
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
  # One is checked: reset, stepped once and closed.
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
  with pytest.raises(errors.UsageError) as error:
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
  with pytest.raises(errors.UsageError) as error:
    gym.make(name)
  line = one_line(error)
  assert line.startswith(f'--env={name}:')
  assert hint in line


def test_continuous_actions_are_scaled_and_clipped():
  space = spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
  env = gym.make(lambda: Custom(box(2), space), num_envs=2)()
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
  env = replayable.Recorded(gym.make(lambda: Custom(box(2), space))())
  env.reset(seed=1)
  env.step(np.array([[1 / 3]], np.float32))
  assert env.action_log().actions[0, 0, 0] == np.float32(1 / 3)


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
  """Observations are not finite from some step on."""

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

  # The first step is checked before a run starts.
  expected = errors.UsageError if at_step < 2 else errors.RunError
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
  with pytest.raises(errors.RunError, match=f'a reward is {value}; allowed'):
    env.step(np.array([1]))


def test_a_refused_environment_is_closed():
  made = []

  def make_one():
    made.append(Custom(box(2), spaces.MultiDiscrete([2, 3])))
    return made[-1]

  with pytest.raises(errors.UsageError):
    gym.make(make_one)
  assert [one.closed for one in made] == [True]


def test_mujoco_is_missing(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  needs = {'Hopper-v5': '', 'dm_control/hopper-hop': ', Python 3.11 or 3.12'}
  for name, more in needs.items():
    with pytest.raises(errors.UsageError) as error:
      gym.make(name)
    assert one_line(error) == (
      f'--env={name}: mujoco is not installed; '
      f"pip install 'a3c_jax[mujoco]'{more}"
    )


def test_missing_dependency_tells_what_to_install():
  def make_one():
    raise gymnasium.error.DependencyNotInstalled('run `pip install "box"`')

  with pytest.raises(errors.UsageError, match='pip install') as error:
    gym.make(make_one)
  assert one_line(error).startswith('--env=')


def test_missing_dependency_of_a_registered_environment():
  def make_one():
    raise ImportError('No module named box')

  gymnasium.register('NeedsBox-v0', make_one)
  try:
    with pytest.raises(errors.UsageError) as error:
      gym.make('NeedsBox-v0')
    assert one_line(error) == '--env=NeedsBox-v0: No module named box'
  finally:
    del gymnasium.registry['NeedsBox-v0']
  # In a function of the user it is a bug, which needs its traceback.
  with pytest.raises(ImportError, match='box'):
    gym.make(make_one)


def test_empty_observations_are_refused():
  with pytest.raises(errors.UsageError, match='not empty'):
    space_checks.check_spaces(
      gymnasium.spaces.Box(0, 1, (2, 0)), gymnasium.spaces.Discrete(2), 'mine'
    )


def test_module_and_function():
  env = gym.make('envs_gym_test:make_custom')()
  obs, _ = env.reset(seed=1)
  assert obs.shape == (1, 2)


class Levels(Custom):
  """Takes arguments, as environments of `gymnasium.make` do."""

  def __init__(self, level=1, *, name='', sizes=(), render_mode=None):
    super().__init__(box(2), spaces.Discrete(2))
    if level > 9:
      raise AssertionError(f'no level {level}')
    self.given = level, name, sizes
    self.render_mode = render_mode


def make_levels(level, **others):
  """Used by name, as `envs_gym_test:make_levels`."""
  return Levels(level, **others)


def make_fixed_levels(**given):
  """Passes on unknown arguments, as `envs_gym_test:make_fixed_levels`."""
  return Levels(**given)


@pytest.fixture
def package(monkeypatch, tmp_path):
  """A package `odd_games`, which registers environments when imported."""
  (tmp_path / 'odd_games.py').write_text(
    'import gymnasium\n'
    "gymnasium.register('Levels-v0', 'envs_gym_test:Levels')\n"
    "gymnasium.register('Levels-v3', 'envs_gym_test:Levels')\n"
    "gymnasium.register('odd/Levels-v0', 'envs_gym_test:Levels')\n"
    "gymnasium.register('Plain', 'envs_gym_test:Levels')\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  before = set(gymnasium.registry)
  yield
  for name in set(gymnasium.registry) - before:
    del gymnasium.registry[name]
  sys.modules.pop('odd_games', None)


@pytest.mark.parametrize('env_id', ['Levels-v0', 'odd/Levels-v0', 'Plain'])
def test_an_id_that_a_package_registers(package, env_id):
  env = gym.make(f'odd_games:{env_id}', args={'level': 3}, num_envs=2)()
  assert [one.unwrapped.given[0] for one in env.envs] == [3, 3]


@pytest.mark.parametrize(
  'name, hint',
  [
    ('odd_games:Levels-v7', 'did you mean Levels-v0, Levels-v3?'),
    ('odd_games:Levles-v0', 'did you mean Levels-v'),
    ('odd_games:no_such_function', 'has no no_such_function'),
    ('no_such_package:Levels-v0', "No module named 'no_such_package'"),
    ('no.such.package:Levels-v0', 'No module named'),
    ('.odd_games:Levels-v0', 'is not the name of a module'),
    (':Levels-v0', 'is not the name of a module'),
    ('a:b:Levels-v0', "No module named 'a'"),
  ],
)
def test_an_id_that_no_package_registers(package, name, hint):
  with pytest.raises(errors.UsageError) as error:
    gym.make(name)
  line = one_line(error)
  assert line.startswith(f'--env={name}: ')
  assert hint in line


@pytest.mark.parametrize('name', ['odd_broken:Levels-v0', 'odd_broken:make'])
def test_what_a_package_raises_when_imported_is_told(
  monkeypatch, tmp_path, name
):
  (tmp_path / 'odd_broken.py').write_text('import no_such_dependency\n')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.UsageError) as error:
    gym.make(name)
  line = one_line(error)
  assert line.startswith(f'--env={name}: importing it raised Module')
  assert 'no_such_dependency' in line and 'odd_broken.py:1; allowed:' in line


@pytest.mark.parametrize(
  'text, expected',
  [
    ('', {}),
    (' ', {}),
    ('{}', {}),
    ('level=3', {'level': 3}),
    ('level=3,render=false', {'level': 3, 'render': False}),
    (' level = 3 , render = False ', {'level': 3, 'render': False}),
    (
      'a=True,b=true,c=None,d=null',
      {'a': True, 'b': True, 'c': None, 'd': None},
    ),
    ('a=0.5,b=-1e-3,c=.5,d=+3', {'a': 0.5, 'b': -1e-3, 'c': 0.5, 'd': 3}),
    ('map_name=8x8', {'map_name': '8x8'}),
    ('map_name="8x8",s=' + "'3'", {'map_name': '8x8', 's': '3'}),
    ('a=x=y', {'a': 'x=y'}),
    ('path=/tmp/x-1.txt', {'path': '/tmp/x-1.txt'}),
    ('sizes=[1,2],level=3', {'sizes': [1, 2], 'level': 3}),
    ('sizes=(1,2)', {'sizes': [1, 2]}),
    ('sizes=1,2', {'sizes': [1, 2]}),
    ('options={"a":1,"b":[2]}', {'options': {'a': 1, 'b': [2]}}),
    ('{"level": 3, "map": {"x": null}}', {'level': 3, 'map': {'x': None}}),
    ('name=', {'name': ''}),
  ],
)
def test_arguments_as_text(text, expected):
  options = gym.Options(env='CartPole-v1', env_args=text)
  fields.check_settings(options)
  assert named.parse_args(options.env_args) == expected
  # And back from the record of a run.
  for made in (options, control.Options(env='x', env_args=text)):
    record = json.loads(json.dumps(dataclasses.asdict(made)))
    assert domain.from_record(type(made), record) == made


@pytest.mark.parametrize(
  'text',
  [
    'level',
    'level=3,render',
    'level 3',
    'level=3,level=4',
    '{"level": 3, "level": 4}',
    '{"level": 3',
    '["level"]',
    '3',
    '=3',
    '2x=3',
    'a b=3',
    'level=NaN',
    '{"level": Infinity}',
    'level=1e999',
    'level={1, 2}',
    'level=b"3"',
    'level=1j',
  ],
)
def test_arguments_that_cannot_be_read(text):
  with pytest.raises(errors.UsageError) as error:
    fields.check_settings(gym.Options(env_args=text))
  assert one_line(error) == (
    f'--env_args={text}: allowed: name=value, separated by commas, each name '
    'once; or a JSON object'
  )


@pytest.mark.parametrize(
  'name', ['odd_games:Levels-v0', 'envs_gym_test:make_levels']
)
def test_arguments_reach_the_environment(package, name):
  args = {'level': 3, 'name': 'x', 'sizes': [1, 2]}
  env = gym.make(name, args=args)()
  assert env.envs[0].unwrapped.given == (3, 'x', [1, 2])
  options = control.Options(env='Pendulum-v1', env_args='g=0.5')
  assert control.make(options)().envs[0].unwrapped.g == 0.5
  settings = config.make(
    'gym', environment=gym.Options(env=name, env_args='level=4')
  )
  for protocol in (None, 'plain'):
    request = domain.EnvRequest(protocol=protocol)
    env = build.make_env(settings, request)()
    assert env.envs[0].unwrapped.given[0] == 4


def test_arguments_of_gymnasium_itself():
  env = gym.make('CartPole-v1', args={'max_episode_steps': 3})()
  env.reset(seed=1)
  ends = [env.step(np.array([step % 2]))[3][0] for step in range(3)]
  assert ends == [False, False, True]


@pytest.mark.parametrize(
  'name, args, hint',
  [
    (
      'odd_games:Levels-v0',
      {'levle': 3},
      "unexpected keyword argument 'levle'",
    ),
    ('odd_games:Levels-v0', {'level': 10}, 'AssertionError: no level 10'),
    ('odd_games:Levels-v0', {'level': 'x'}, 'TypeError: '),
    ('odd_games:Levels-v0', {'id': 'x'}, "multiple values for argument 'id'"),
    ('CartPole-v1', {'gravity': 1}, "unexpected keyword argument 'gravity'"),
    ('CartPole-v1', {'max_episode_steps': 'x'}, 'to be an integer'),
    ('envs_gym_test:make_custom', {'level': 3}, "keyword argument 'level'"),
    ('envs_gym_test:make_levels', {'name': 'x'}, "required argument: 'level'"),
    ('envs_gym_test:make_fixed_levels', {'x': 1}, "keyword argument 'x'"),
    ('dm_control/cheetah-run', {'random': 1}, 'dm_control'),
    # The constructor takes it, the first step does not.
    ('Pendulum-v1', {'g': 'x'}, 'TypeError: unsupported operand'),
  ],
)
def test_arguments_that_are_refused(package, name, args, hint):
  with pytest.raises(errors.UsageError) as error:
    gym.make(name, args=args)
  line = one_line(error)
  assert hint in line
  assert '--env_args' in line
  assert 'allowed' in line


def test_a_run_keeps_its_arguments(tmp_path):
  def claim(env_args, **given):
    settings = config.make(
      'gym',
      workdir=str(tmp_path / 'run'),
      environment=gym.Options(env='odd_games:Levels-v0', env_args=env_args),
      **given,
    )
    with workdir.Workdir(settings) as folder:
      folder.claim(0)

  claim('level=3,name=x')
  claim('{"name": "x", "level": 3}')  # The same.
  environment = workdir.read_config(tmp_path / 'run').environment
  assert environment.env_args == '{"level": 3, "name": "x"}'
  for other in ('level=4,name=x', ''):
    with pytest.raises(errors.UsageError, match='--env_args=') as error:
      claim(other)
    assert 'has {"level": 3, "name": "x"}; allowed: that' in one_line(error)
  claim('', override=('env_args',))
  assert workdir.read_config(tmp_path / 'run').environment.env_args == ''


@pytest.mark.parametrize(
  'name, game',
  [
    ('PongNoFrameskip-v4', 'pong'),
    ('PongDeterministic-v4', 'pong'),
    ('Pong-v5', 'pong'),
    ('Pong-v0', 'pong'),
    ('ALE/Pong-v5', 'pong'),
    ('ALE/Pong-ram-v5', 'pong'),
    ('ale_py:ALE/Pong-v5', 'pong'),
    ('Breakout-ram-v0', 'breakout'),
    ('Breakout-ramNoFrameskip-v4', 'breakout'),
    ('SpaceInvadersNoFrameskip-v4', 'space_invaders'),
    ('MsPacman-v5', 'ms_pacman'),
    ('UpNDownDeterministic-v4', 'up_n_down'),
    ('ALE/TicTacToe3D-v5', 'tic_tac_toe_3d'),
    ('pong', 'pong'),
    ('space_invaders', 'space_invaders'),
    ('PonNoFrameskip-v4', 'pong'),
    ('ALE/Pnog-v5', 'pong'),
    ('ALE/Xyzzy-v5', '…'),
    ('ALE/', '…'),
  ],
)
def test_atari_games_are_for_the_script_of_atari(name, game):
  pytest.importorskip('ale_py')
  with pytest.raises(errors.UsageError) as error:
    gym.make(name)
  assert one_line(error) == (
    f'--env={name}: allowed: python experiments/atari.py --game={game} for '
    'Atari, or another environment'
  )


def test_atari_games_where_ale_py_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ale_py', None)
  with pytest.raises(errors.UsageError, match='--game=space_invaders for'):
    gym.make('SpaceInvadersNoFrameskip-v4')
  with pytest.raises(errors.UsageError, match='unknown'):
    gym.make('Pong-v5')


@pytest.mark.parametrize(
  'name, hint',
  [
    ('Blackjack-v0', 'did you mean Blackjack-v1?'),
    ('blackjack', 'did you mean Blackjack-v1?'),
    ('cartpole', 'did you mean CartPole-v0, CartPole-v1?'),
    ('Pendulum-v9', 'did you mean Pendulum-v1?'),
  ],
)
def test_ids_of_gymnasium_come_before_games(name, hint):
  with pytest.raises(errors.UsageError) as error:
    gym.make(name)
  assert one_line(error) == f'--env={name}: unknown; {hint}'


@pytest.mark.parametrize(
  'space, hint',
  [
    (spaces.Discrete(16), 'gives 16 numbers, one-hot'),
    (spaces.MultiDiscrete([2, 3]), 'gives 5 numbers, one-hot'),
    (spaces.MultiBinary(4), 'gives 4 numbers'),
    (spaces.Dict({'a': box(2), 'b': box(3, 2)}), 'gives 8 numbers'),
    (spaces.Tuple([box(2), spaces.Discrete(3)]), 'gives 5 numbers'),
    (spaces.Sequence(box(2)), None),
    (spaces.Graph(box(2), None), None),
    (spaces.Dict({'a': spaces.Sequence(box(2))}), None),
  ],
)
def test_what_flattens_other_observations(space, hint):
  def make_one():
    return Custom(space, spaces.Discrete(2))

  with pytest.raises(errors.UsageError) as error:
    gym.make(make_one)
  line = one_line(error)
  if hint is None:
    assert 'Flatten' not in line
    return
  wrapper = 'gymnasium.wrappers.FlattenObservation(env)'
  assert f'{wrapper}, named by --env=module:function, {hint}' in line
  # What the line says is true.
  env = gym.make(lambda: gymnasium.wrappers.FlattenObservation(make_one()))()
  assert hint.startswith(f'gives {env.single_observation_space.shape[0]} numbe')


@pytest.mark.parametrize(
  'space, hint',
  [
    (spaces.MultiDiscrete([2, 3]), 'Discrete(6) can number the combinations'),
    (spaces.MultiBinary(3), 'Discrete(8) can number the combinations'),
    (spaces.Dict({'a': box(2)}), 'gymnasium.spaces.flatten_space(…)'),
    (spaces.Tuple([box(2)]), 'gymnasium.spaces.flatten_space(…)'),
    (box(2, 3), 'Box(-1, 1, [6]) can convert'),
    (spaces.Text(3), None),
  ],
)
def test_what_helps_with_other_actions(space, hint):
  with pytest.raises(errors.UsageError) as error:
    gym.make(lambda: Custom(box(2), space))
  line = one_line(error)
  if hint is None:
    assert 'TransformAction' not in line
  else:
    assert 'gymnasium.wrappers.TransformAction with the action space' in line
    assert hint in line
