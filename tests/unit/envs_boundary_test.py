"""What environments may return, and what is refused in one line."""

import signal
import warnings

import gymnasium
from gymnasium import spaces
import jax
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import errors, stopwatch, threads, types
from a3c_jax.envs import boundary, catch, control, gym, replayable


class Counts(gymnasium.Env):
  """Observation t / 5, of shape [3]; reward 1; truncated after 5 steps."""

  observation_space = spaces.Box(0, 1, (3,), np.float32)
  action_space = spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.t = 0
    return self.observation(), self.info()

  def step(self, action):
    self.t += 1
    return (
      self.observation(),
      self.reward(),
      self.terminated(),
      self.truncated(),
      self.info(),
    )

  def observation(self):
    return np.full(3, self.t / 5, np.float32)

  def reward(self):
    return 1.0

  def terminated(self):
    return False

  def truncated(self):
    return self.t >= 5

  def info(self):
    return {}


def having(**methods):
  """`Counts` with some methods and attributes replaced."""
  return type('Given', (Counts,), methods)


def refusal(make_one, **kwargs):
  """The line with which `gym.make` refuses an environment."""
  with pytest.raises(errors.UsageError) as error:
    gym.make(make_one, **kwargs)
  (line,) = str(error.value).splitlines()
  assert line.startswith('--env=')
  assert 'allowed: ' in line
  return line


# Reuse of buffers.


class Reuses(Counts):
  """Ends after 5 steps; every observation is the same array, overwritten."""

  def __init__(self, shape=(1,), dtype=np.float32, scale=1 / 5):
    self.observation_space = spaces.Box(0, 255, shape, dtype)
    self._buffer = np.zeros(shape, dtype)
    self._scale = scale

  def observation(self):
    self._buffer[...] = self.t * self._scale
    return self._buffer

  def reward(self):
    return float(self.t == 5)


def values_of_what_is_seen(scale):
  """A learner whose value of a state is its first number times `scale`."""
  network = networks.ActorCritic(networks.MLPTorso(obs_dims=1), 2)
  learner = policy_based.a3c(network, entropy_cost=0.0, value_cost=0.5)

  def bootstrap(params, target_params, state, obs, key, epsilon):
    return scale * obs.reshape(len(obs), -1)[:, 0].astype(np.float32), key

  def act(params, state, obs, key, epsilon):
    return np.zeros(len(obs), np.int32), state, key

  return learner._replace(bootstrap=bootstrap, act=act, act_and_keep=None)


def segment_of(env, learner, *, steps=12, params=None, epsilon=0.0):
  version = types.Version(params, params, frames=0, updates=0)
  return rollout.collect(
    env,
    actor_lib.in_training(learner, lambda: version),
    carry_lib.start(env, learner, seed=1, key=jax.random.PRNGKey(0)),
    rollout.RolloutSpec(steps, gamma=0.99),
    epsilon=lambda frames: np.float32(epsilon),
    clock=stopwatch.Stopwatch(),
  ).segment


@pytest.mark.parametrize('envs', [1, 3])
@pytest.mark.parametrize(
  'shape, dtype, scale',
  [
    ((1,), np.float32, 1 / 5),
    ((1,), np.float64, 1 / 5),
    ((84, 84, 3), np.uint8, 10),
  ],
)
def test_a_final_observation_that_its_environment_overwrites(
  envs, shape, dtype, scale
):
  make_env = gym.make(lambda: Reuses(shape, dtype, scale), num_envs=envs)
  # The final observation has value 1: reward 1 + 0.99 · 1 where truncated.
  learner = values_of_what_is_seen(1 / (5 * scale))
  segment = segment_of(make_env(), learner)
  expected = np.zeros((12, envs))
  expected[[4, 9]] = 1.99
  np.testing.assert_allclose(segment.r_t, expected, rtol=1e-6)
  np.testing.assert_allclose(
    segment.obs[:, 0].reshape(13, -1)[:, 0],
    scale * np.float32([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]),
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  'make',
  [
    value_based.one_step_q,
    value_based.one_step_sarsa,
    value_based.nstep_q,
    None,
  ],
)
def test_every_algorithm_bootstraps_from_that_final_observation(make):
  # Twins of which one copies, the other reuses: equal segments.
  if make is None:
    network = networks.ActorCritic(networks.MLPTorso(obs_dims=1), 2)
    learner = policy_based.a3c(network, entropy_cost=0.0, value_cost=0.5)
  else:
    learner = make(networks.QNetwork(networks.MLPTorso(obs_dims=1), 2))

  class Copies(Reuses):
    def observation(self):
      return super().observation().copy()

  params = learner.init(jax.random.PRNGKey(0), np.zeros((2, 1), np.float32))

  reused, copied = (
    segment_of(
      gym.make(kind, num_envs=2)(),
      learner,
      steps=7,
      params=params,
      epsilon=[1, 1],
    )
    for kind in (Reuses, Copies)
  )
  np.testing.assert_array_equal(reused.r_t, copied.r_t)
  np.testing.assert_array_equal(reused.obs, copied.obs)


# Options and info.


def test_options_are_none_unless_given():
  given = []

  def reset(self, *, seed=None, options=None):
    given.append(options)
    return Counts.reset(self, seed=seed)

  make_env = gym.make(having(reset=reset), num_envs=2)
  given.clear()
  env = replayable.Recorded(make_env(), reseed_steps=5)
  env.reset(seed=1)
  for _ in range(11):  # Ends, each followed by a seeded reset, and replays.
    env.step(np.zeros(2, int))
  env.replay(env.action_log())
  assert given
  assert set(given) == {None}
  options = {'level': 3, 'reset_mask': np.array([False, True])}
  given.clear()
  env.env.reset(seed=[1, 2], options=options)
  assert given == [{'level': 3}]
  assert list(options) == ['level', 'reset_mask']  # The caller's own.


def test_only_the_environments_of_the_mask_are_reset():
  env = gym.make(Counts, num_envs=3)()
  env.reset(seed=1)
  env.step(np.zeros(3, int))
  mask = np.array([True, False, True])
  obs, _ = env.reset(seed=[1, 2, 3], options={'reset_mask': mask})
  np.testing.assert_allclose(obs[:, 0], [0, 0.2, 0])
  assert [each.t for each in env.envs] == [0, 1, 0]


@pytest.mark.parametrize(
  'infos',
  [
    [{'winner': 1}, {'winner': None}],
    [{'winner': 1}, {'winner': 'white'}],
    [{'x': np.zeros(2)}, {'x': np.zeros(3)}],
    [{'x': np.zeros(2, np.int8)}, {'x': {'y': 1}}],
    [{'x': {'y': 1}}, {'x': 3}],
    [{1: 2}, {(2, 3): 4}],
    [{'final_obs': 5}, {}],
    [{'_x': 1, 'x': [1]}, {'x': [2, 3]}],
    [None, 'text'],
  ],
)
def test_no_content_of_info_matters(infos):
  which = iter(np.arange(10**6) % 2)

  def info(self):
    return infos[next(which)]

  env = gym.make(having(info=info), num_envs=2)()
  _, found = env.reset(seed=1)
  assert found == {}
  for step in range(1, 6):
    _, reward, _, truncated, found = env.step(np.zeros(2, int))
    np.testing.assert_array_equal(reward, [1, 1])
    assert set(found) <= {'final_obs'}
    assert truncated.all() == (step == 5)
  np.testing.assert_array_equal(np.stack(found['final_obs']), np.ones((2, 3)))


@pytest.mark.parametrize('true', [True, np.True_, 1, np.array(True)])
@pytest.mark.parametrize('false', [False, None, 0, 'left out'])
@pytest.mark.parametrize('envs', [1, 2, 3])
def test_life_loss_of_some_games(envs, true, false):
  """Each in its second step, and the first game in its truncated one too."""

  class Lives(Counts):
    def __init__(self, number):
      self._lost = [2, 5] if number == 0 else [2] if number == 1 else []

    def info(self):
      lost = true if self.t in self._lost else false
      return {} if isinstance(lost, str) else {'life_loss': lost}

  numbers = iter([0, *range(envs)])
  env = gym.make(lambda: Lives(next(numbers)), num_envs=envs)()
  env.reset(seed=1)
  seen = []
  for _ in range(6):
    *_, info = env.step(np.zeros(envs, int))
    seen.append(np.broadcast_to(info.get('life_loss', False), envs).copy())
  expected = np.zeros((6, envs), bool)
  expected[1, :2] = True
  expected[4, 0] = True  # Of the step that ended, not of the reset after it.
  np.testing.assert_array_equal(seen, expected)


# The first reset and step.


def old_reset(self, *, seed=None, options=None):
  return Counts.reset(self, seed=seed)[0]


def seedless_reset(self):
  return Counts.reset(self)


def optionless_reset(self, *, seed=None):
  return Counts.reset(self, seed=seed)


def positional_reset(self, seed, /, *, options=None):
  return Counts.reset(self, seed=seed)


def leveled_reset(self, level, *, seed=None, options=None):
  return Counts.reset(self, seed=seed)


def reset_to(outcome):
  return lambda self, *, seed=None, options=None: outcome


def step_to(*outcome):
  return lambda self, action: outcome


ZEROS = np.zeros(3, np.float32)


@pytest.mark.parametrize(
  'methods, hint',
  [
    ({'reset': seedless_reset}, "unexpected keyword argument 'seed'"),
    ({'reset': optionless_reset}, "unexpected keyword argument 'options'"),
    ({'reset': positional_reset}, 'reset() got some positional-only'),
    ({'reset': leveled_reset}, "missing 1 required positional argument: 'leve"),
    ({'reset': old_reset}, 'reset returned float32 of shape [3]'),
    ({'reset': reset_to(None)}, 'reset returned None'),
    ({'reset': reset_to((ZEROS,))}, 'reset returned a tuple of 1'),
    ({'reset': reset_to((ZEROS, {}, {}))}, 'reset returned a tuple of 3'),
    ({'reset': reset_to((None, {}))}, 'observation that is None'),
    ({'reset': reset_to(({}, ZEROS))}, 'observation that is dict'),
    ({'reset': reset_to({'obs': ZEROS})}, 'reset returned dict'),
    ({'step': lambda self: None}, 'takes 1 positional argument but 2'),
    ({'step': step_to(ZEROS, 1.0, True, {})}, 'step returned a tuple of 4'),
    ({'step': step_to(ZEROS, 1.0, True, {}, 1, 2)}, 'returned a tuple of 6'),
    ({'step': lambda self, action: None}, 'step returned None'),
    ({'step': step_to(ZEROS, 1.0, False, {}, {})}, 'truncated is dict; allow'),
    (
      {'step': step_to(1.0, ZEROS, False, False, {})},
      'that is float64 1.0; allowed',
    ),
  ],
)
def test_a_reset_or_step_that_is_not_gymnasiums(methods, hint):
  line = refusal(having(**methods))
  assert hint in line


@pytest.mark.parametrize(
  'space, obs, hint',
  [
    (spaces.Box(0, 1, (3,)), np.zeros(4), 'float64 of shape [4]'),
    (spaces.Box(0, 1, (3,)), np.zeros((1, 3)), 'float64 of shape [1, 3]'),
    (spaces.Box(0, 1, (3,)), np.zeros(1), 'float64 of shape [1]'),
    (spaces.Box(0, 1, (3,)), 0.5, 'float64 0.5'),
    (spaces.Box(0, 1, (1,)), 0.5, 'float64 0.5'),
    (spaces.Box(0, 1, (3,)), [], 'float64 of shape [0]'),
    (spaces.Box(0, 1, (3,)), [0.0, [1.0], 0.0], 'a list of 3'),
    (spaces.Box(0, 1, (3,)), 'abc', '<U3 abc'),
    (spaces.Box(0, 1, (3,)), ['a', 'b', 'c'], '<U1 of shape [3]'),
    (spaces.Box(0, 1, (3,)), [0.0, None, 0.0], 'a list of 3'),
    (spaces.Box(0, 1, (3,)), np.zeros(3, complex), 'complex128 of shape [3]'),
    (spaces.Box(0, 1, (3,)), [0.0, np.nan, 0.0], 'observation[1] is nan'),
    (spaces.Box(0, 1, (3,)), [0.0, 0.0, 1e39], 'float64 with 1e+39'),
    (
      spaces.Box(0, 9, (3,), np.float16),
      np.float32([0, 1e6, 0]),
      'float32 with 1000000.0',
    ),
    (
      spaces.Box(0, 9, (3,), np.float16),
      np.float16([0, 0, np.inf]),
      'observation[2] is inf',
    ),
    (spaces.Box(-128, 127, (3,), np.int8), [200, 0, 1], 'int64 with 200'),
    (spaces.Box(0, 255, (3,), np.uint8), [0, 256, 1], 'int64 with 256'),
    (spaces.Box(0, 255, (3,), np.uint8), [0, -1, 1], 'int64 with -1'),
    (spaces.Box(0, 255, (3,), np.uint8), [0, 0.5, 1], 'float64 with 0.5'),
    (spaces.Box(0, 255, (3,), np.uint8), [0, np.nan, 1], 'float64 with nan'),
    (spaces.Box(0, 9, (3,), np.int64), [0, np.inf, 1], 'float64 with inf'),
    (spaces.Box(0, 9, (3,), np.int64), [2**63, 0, 1], ' with 9.22337'),
  ],
)
def test_an_observation_that_does_not_fit_its_space(space, obs, hint):
  """As the first observation, and likewise as a later one."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # NumPy's own, of lists like these.
    kind = having(observation_space=space, observation=lambda self: obs)
    assert hint in refusal(kind)

  def later(self):
    return np.zeros(space.shape, space.dtype) if self.t < 2 else obs

  kind = having(observation_space=space, observation=later)
  env = gym.make(kind, num_envs=2)()
  env.reset(seed=1)
  env.step(np.zeros(2, int))
  with pytest.raises(errors.RunError) as error:
    env.step(np.zeros(2, int))
  (line,) = str(error.value).splitlines()
  assert hint in line and 'Given' in line


@pytest.mark.parametrize(
  'space, obs, expected',
  [
    (spaces.Box(0, 1, (3,)), np.array([0, 0.1, 1]), [0, np.float32(0.1), 1]),
    (spaces.Box(0, 1, (3,)), [0.0, 0.5, 1], [0, 0.5, 1]),
    (spaces.Box(0, 1, (3,)), (0, True, 1), [0, 1, 1]),
    (spaces.Box(0, 1, (3,)), np.array([0, 3, -9]), [0, 3, -9]),  # Beyond it.
    (spaces.Box(0, 1, (3,)), jax.numpy.ones(3), [1, 1, 1]),
    (spaces.Box(0, 1, (3,)), np.ones(6, np.float32)[::2], [1, 1, 1]),
    (spaces.Box(0, 1, (3,)), np.ones(3, '>f4'), [1, 1, 1]),
    (spaces.Box(0, 255, (3,), np.uint8), [0, 255, 3], [0, 255, 3]),
    (spaces.Box(0, 255, (3,), np.uint8), [0.0, 255.0, 3.0], [0, 255, 3]),
    (spaces.Box(0, 1, (3,), np.int8), [True, False, True], [1, 0, 1]),
    (spaces.Box(0, 9, (3,), np.int64), [0, 2**62 + 1, 1], [0, 2**62 + 1, 1]),
    (spaces.Box(0, 1, (3,), np.float64), np.float32([0, 1, 0.5]), [0, 1, 0.5]),
    (
      spaces.Box(0, 1, (3,), np.float16),
      [0, 1e-9, 0.1],
      np.float16([0, 0, 0.1]),
    ),
    (spaces.Box(0, 1, ()), 0.5, 0.5),
    (spaces.Box(0, 1, ()), np.float32(0.5), 0.5),
  ],
)
def test_an_observation_of_which_nothing_is_lost(space, obs, expected):
  kind = having(observation_space=space, observation=lambda self: obs)
  env = gym.make(kind, num_envs=2)()
  for found in (env.reset(seed=1)[0], env.step(np.zeros(2, int))[0]):
    assert found.dtype == space.dtype
    np.testing.assert_array_equal(found, [expected, expected])


@pytest.mark.parametrize(
  'reward, hint',
  [
    (np.array([1.0]), 'float64 of shape [1]'),
    (np.zeros((1, 1)), 'float64 of shape [1, 1]'),
    ([1.0], 'a list of 1'),
    ((1.0,), 'a tuple of 1'),
    (None, 'None'),
    ('1.0', "str '1.0'"),
    (1j, 'complex 1j'),
    (np.complex64(1), 'complex64 (1+0j)'),
    ({}, 'dict'),
    (np.nan, 'nan'),
    (-np.inf, '-inf'),
    (1e39, '1e+39'),
    (10**400, 'int'),
  ],
)
def test_a_reward_that_is_no_number(reward, hint):
  line = refusal(having(reward=lambda self: reward))
  assert f': a reward is {hint}' in line


@pytest.mark.parametrize(
  'reward',
  [1, True, np.float32(1), np.int8(1), np.array(1.0), jax.numpy.ones(())],
)
def test_a_reward_that_is_a_number(reward):
  env = gym.make(having(reward=lambda self: reward))()
  env.reset(seed=1)
  _, rewards, *_ = env.step(np.array([0]))
  assert rewards.dtype == np.float64
  np.testing.assert_array_equal(rewards, [1.0])


@pytest.mark.parametrize('which', ['terminated', 'truncated'])
@pytest.mark.parametrize(
  'flag, hint',
  [
    (None, 'None'),
    (np.array([False]), 'bool of shape [1]'),
    ([True], 'a list of 1'),
    ('False', "str 'False'"),
    (2, 'int 2'),
    (0.5, 'float 0.5'),
    (np.nan, 'float nan'),
    ({}, 'dict'),
  ],
)
def test_a_flag_that_is_neither_true_nor_false(which, flag, hint):
  line = refusal(having(**{which: lambda self: flag}))
  assert f': {which} is {hint}; allowed: True or False' in line


@pytest.mark.parametrize('true', [True, np.True_, 1, 1.0, np.array(True)])
def test_a_flag_that_is_one(true):
  env = gym.make(having(terminated=lambda self: true))()
  env.reset(seed=1)
  _, _, terminated, truncated, _ = env.step(np.array([0]))
  assert (terminated.tolist(), truncated.tolist()) == ([True], [False])


def test_life_loss_that_is_no_flag():
  line = refusal(having(info=lambda self: {'life_loss': [True]}))
  assert ": info['life_loss'] is a list of 1; allowed" in line


def test_what_an_environment_itself_raises_is_left_to_the_run():
  def step(self, action):
    raise OSError('no server')

  env = gym.make(having(step=step))()
  env.reset(seed=1)
  with pytest.raises(OSError, match='no server'):
    env.step(np.array([0]))


def test_a_type_error_within_an_environment_is_its_own():
  def step(self, action):
    return len(3)

  env = gym.make(having(step=step))()
  env.reset(seed=1)
  with pytest.raises(TypeError, match='has no len'):
    env.step(np.array([0]))


def test_the_trial_is_closed_once_and_may_fail_to_close():
  closed = []

  def close(self):
    closed.append(self)
    raise AttributeError('viewer')

  gym.make(having(close=close))
  assert len(closed) == 1
  with pytest.raises(errors.UsageError, match='a reward is None'):
    gym.make(having(close=close, reward=lambda self: None))
  assert len(closed) == 2


def test_the_trial_leaves_the_random_numbers_of_a_space_alone():
  space = spaces.Discrete(1000, seed=7)
  expected = [int(spaces.Discrete(1000, seed=7).sample())]
  gym.make(having(action_space=space))
  assert [int(space.sample())] == expected


@pytest.mark.parametrize('repeat', [1, 3])
@pytest.mark.parametrize(
  'methods, hint',
  [
    ({'reward': lambda self: np.ones(1)}, 'a reward is float64 of shape [1]'),
    ({'reward': lambda self: None}, 'a reward is None'),
    ({'step': step_to(ZEROS, 1.0, True, {})}, '4'),
    ({'terminated': lambda self: [False]}, 'terminated is a list of 1'),
    ({'truncated': lambda self: None}, 'truncated is None'),
  ],
)
def test_with_repeated_actions_too(monkeypatch, repeat, methods, hint):
  kind = having(action_space=spaces.Box(-1, 1, (1,)), **methods)
  monkeypatch.setattr(catch, 'kind', kind, raising=False)
  options = control.Options(env='a3c_jax.envs.catch:kind', action_repeat=repeat)
  with pytest.raises(errors.UsageError) as error:
    control.make(options)
  (line,) = str(error.value).splitlines()
  assert hint in line and line.startswith('--env=a3c_jax.envs.catch:kind: ')


@pytest.mark.parametrize('wrapped', [True, False])
def test_an_old_environment_in_a_wrapper_of_gymnasiums(wrapped):
  kind = having(step=step_to(ZEROS, 1.0, True, {}))
  gymnasium.register('Old-v0', kind, max_episode_steps=9 if wrapped else None)
  try:
    with pytest.raises(errors.UsageError) as error:
      gym.make('Old-v0')
  finally:
    del gymnasium.registry['Old-v0']
  (line,) = str(error.value).splitlines()
  assert line.startswith('--env=Old-v0: ')
  assert '4' in line and 'terminated, truncated' in line


def test_a_life_lost_between_repeated_actions():
  def info(self):
    return {'life_loss': self.t == 2}

  env = control.Repeat(having(info=info)(), 3)
  env.reset(seed=1)
  *_, found = env.step(0)
  assert found['life_loss'] is True
  *_, found = env.step(0)
  assert found['life_loss'] is False


def test_a_signal_handler_that_a_thread_cannot_set():
  def reset(self, *, seed=None, options=None):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return Counts.reset(self, seed=seed)

  env = gym.make(having(reset=reset))()
  env.reset(seed=1)
  group = threads.ThreadGroup.numbered(
    lambda thread, stop: env.reset(seed=1), 1, name='actor-learner'
  )
  group.start()
  while group.wait(60.0):
    pass
  assert group.stop(60.0) == []
  assert isinstance(group.error, errors.RunError)
  (line,) = str(group.error).splitlines()
  assert 'main thread' in line
  assert 'this is thread actor-learner-0; allowed: ' in line


# Environments that are none, and spaces that are none.


class OldSpace:
  """As of the package gym."""

  shape = (3,)

  def __repr__(self):
    return 'Box(3,)'


OldSpace.__module__ = 'gym.spaces.box'


class OldEnv:
  """As of the package gym."""


OldEnv.__module__ = 'gym.core'


@pytest.mark.parametrize(
  'made, hint',
  [
    (None, 'returned NoneType'),
    (Counts, 'returned the class Counts and no environment of it'),
    (OldEnv(), 'returned OldEnv, of the old package gym'),
    ('CartPole-v1', 'returned str'),
    (lambda: Counts(), 'returned function'),
  ],
)
def test_what_is_no_environment(made, hint):
  assert hint in refusal(lambda: made)


def test_several_environments_instead_of_one():
  several = gymnasium.vector.SyncVectorEnv([Counts, Counts])
  line = refusal(lambda: several)
  assert 'returned SyncVectorEnv, several environments' in line
  assert '--envs_per_thread' in line


@pytest.mark.parametrize('name', ['observation_space', 'action_space'])
@pytest.mark.parametrize(
  'space, hint',
  [
    (None, 'None'),
    (OldSpace(), 'Box(3,) of the old package gym'),
    (spaces.Discrete, 'Discrete, a class,'),
    ((3,), '(3,), a tuple,'),
    (3, '3, a int,'),
  ],
)
def test_a_space_that_is_none(name, space, hint):
  line = refusal(having(**{name: space}))
  assert f'{name.replace("_", " ")} {hint}' in line


@pytest.mark.parametrize('name', ['observation_space', 'action_space'])
def test_a_space_that_is_missing(name):
  class Bare(gymnasium.Env):
    pass

  other = {'observation_space', 'action_space'} - {name}
  for each in other:
    setattr(Bare, each, getattr(Counts, each))
  line = refusal(Bare)
  assert f'{name.replace("_", " ")} None' in line
  assert f'{name.replace("_", " ")} None' in refusal(
    lambda: gymnasium.wrappers.TimeLimit(Bare(), 9)
  )


def test_the_spaces_of_all_must_be_the_same():
  shapes = iter([3, 3, 4])

  class Grows(Counts):
    def __init__(self):
      self._size = next(shapes)
      self.observation_space = spaces.Box(0, 1, (self._size,))

    def observation(self):
      return np.zeros(self._size, np.float32)

  with pytest.raises(errors.UsageError) as error:
    gym.make(Grows, num_envs=2)()
  (line,) = str(error.value).splitlines()
  assert '(3,)' in line and '(4,)' in line and 'the same spaces' in line


def test_one_environment_is_not_used_twice():
  one = Counts()
  make_env = gym.make(lambda: gymnasium.wrappers.TimeLimit(one, 9))
  env = make_env()
  with pytest.raises(errors.UsageError, match='the same environment twice'):
    make_env()
  env.close()
  make_env().close()  # It may be used again.


# Actions.


@pytest.mark.parametrize('envs', [1, 2])
@pytest.mark.parametrize(
  'space, dtype',
  [
    (spaces.Discrete(2), np.int64),
    (spaces.Discrete(2, start=5), np.int64),
    (spaces.Box(-1, 1, (2,), np.float16), np.float16),
    (spaces.Box(-1, 1, (2,), np.float32), np.float32),
    (spaces.Box(-1, 1, (2,), np.float64), np.float64),
  ],
)
def test_actions_have_the_data_type_of_the_space(envs, space, dtype):
  given = []

  def step(self, action):
    given.append(action)
    assert space.contains(action)
    return Counts.step(self, action)

  env = gym.make(having(action_space=space, step=step), num_envs=envs)()
  env.reset(seed=1)
  learners = np.ones(env.action_space.shape, np.int32)  # As JAX gives them.
  env.step(learners if isinstance(space, spaces.Discrete) else learners / 2)
  if isinstance(space, spaces.Discrete):
    assert {type(action) for action in given} == {dtype}
    assert given[-1] == space.start + 1
  else:
    assert {type(action) for action in given} == {np.ndarray}
    assert {action.dtype for action in given} == {np.dtype(dtype)}
    given[-1][:] = 9  # An environment may change its action.
    assert (learners == 1).all()


def test_metadata_may_be_missing():
  env = gym.make(having(metadata=None))()
  autoreset = gymnasium.vector.AutoresetMode.SAME_STEP
  assert env.metadata == {'autoreset_mode': autoreset}
  assert isinstance(env, boundary.CheckedVectorEnv)
