"""From the folder of a real run back to its policy."""

import copy
import pickle

from catch_runs import run, vector
import gymnasium
from gymnasium import spaces
import jax
import numpy as np
from programs import run_code, succeeded
import pytest
from results import change_record, read_record
from walks import NUMBERS, make_walk, train_catch, walk

import a3c_jax
from a3c_jax.core import errors
from a3c_jax.envs import catch, gym
from a3c_jax.settings import build, config


@pytest.mark.parametrize(
  'given', [{'algo': 'a3c'}, {'algo': 'a3c', 'lstm': True}, {'algo': 'nstep_q'}]
)
def test_the_parameters_at_the_end_are_those_that_come_back(tmp_path, given):
  result = train_catch(tmp_path, **given)
  policy = a3c_jax.load(tmp_path)
  assert policy.frames == result.frames
  jax.tree.map(np.testing.assert_array_equal, policy.params, result.params)


def test_a_policy_plays(tmp_path):
  train_catch(tmp_path, algo='one_step_sarsa')
  policy = a3c_jax.load(str(tmp_path), greedy=True)
  env = catch.Catch()
  obs, _ = env.reset(seed=1)
  state, over = policy.initial_state(seed=1), False
  steps = 0
  while not over:
    action, state = policy(obs[None], state)
    obs, _, over, _, _ = env.step(int(action[0]))
    steps += 1
  assert steps == 9


def test_a_checkpoint_is_chosen_by_best_or_by_its_frames(tmp_path):
  result = train_catch(tmp_path)
  (best,) = (tmp_path / 'best').iterdir()
  assert a3c_jax.load(tmp_path, checkpoint='best').frames == int(best.name)
  assert a3c_jax.load(tmp_path, checkpoint=0).frames == 0
  assert a3c_jax.load(tmp_path, checkpoint='0').frames == 0
  with pytest.raises(errors.UsageError) as error:
    a3c_jax.load(tmp_path, checkpoint=7)
  assert str(error.value) == (
    '--checkpoint=7: checkpoints exist of frames: '
    + ', '.join(map(str, sorted({0, int(best.name), result.frames})))
    + '; allowed: latest, best, or the frames of one that is there'
  )


def test_without_evaluations_there_is_no_best(tmp_path):
  train_catch(tmp_path, eval_frames=0)
  with pytest.raises(errors.UsageError, match='--checkpoint=best: .*exist'):
    a3c_jax.load(tmp_path, checkpoint='best')


def test_a_corrupt_checkpoint_is_told_of_and_left_where_it_is(
  tmp_path, caplog, capfd
):
  result = train_catch(tmp_path)
  newest = tmp_path / 'checkpoints' / str(result.frames)
  newest.write_bytes(b'')
  caplog.clear()
  policy = a3c_jax.load(tmp_path)
  assert policy.frames == 0
  (problem,) = caplog.messages
  assert capfd.readouterr() == ('', '')
  assert f'checkpoint of frame {result.frames} is corrupt' in problem
  assert newest.exists()
  with pytest.raises(errors.UsageError, match='is corrupt'):
    a3c_jax.load(tmp_path, checkpoint=result.frames)


def test_a_run_whose_checkpoints_are_all_corrupt_is_refused(tmp_path):
  train_catch(tmp_path)
  for path in (tmp_path / 'checkpoints').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  with pytest.raises(errors.UsageError) as error:
    a3c_jax.load(tmp_path)
  assert '\n' not in str(error.value)


def test_another_network_is_refused(tmp_path):
  train_catch(tmp_path, algo='nstep_q')
  change_record(tmp_path, algo='a3c', algorithm={})
  with pytest.raises(errors.UsageError, match='checkpoint does not fit'):
    a3c_jax.load(tmp_path)


@pytest.mark.parametrize(
  ('text', 'hint'),
  [
    (None, 'No such file'),
    ('', 'not that of a run'),
    ('{}', 'not that of a run'),
    ('{"config": {"algo": "a3c"}}', 'not that of a run'),
    ('[1]', 'not that of a run'),
  ],
)
def test_a_folder_of_another_program_is_refused(tmp_path, text, hint):
  if text is not None:
    (tmp_path / 'config.json').write_text(text)
  with pytest.raises(errors.UsageError) as error:
    a3c_jax.load(tmp_path)
  assert str(error.value).startswith(f'--workdir={tmp_path}: ')
  assert hint in str(error.value)


def test_a_learner_of_ones_own(tmp_path):
  result = train_catch(tmp_path, algo='one_step_q')
  settings = config.make('catch', algo='nstep_q')
  made = []

  def make_learner(env):
    made.append(env)
    return build.make_learner(settings, env)

  policy = a3c_jax.load(
    tmp_path, make_env=build.make_env(settings), make_learner=make_learner
  )
  assert len(made) == 1
  jax.tree.map(np.testing.assert_array_equal, policy.params, result.params)


@pytest.mark.parametrize(
  ('space', 'least', 'most'),
  [
    (spaces.Box(-2.0, 2.0, (1,), np.float32), -2, 2),
    (spaces.Box(10.0, 11.0, (3,), np.float64), 10, 11),
    (spaces.Discrete(3, start=5), 5, 7),
    (spaces.Discrete(2, dtype=np.int32), 0, 1),
  ],
)
def test_actions_are_in_the_units_and_the_type_of_the_space(
  tmp_path, space, least, most
):
  walk(tmp_path, NUMBERS, space)
  for greedy in (False, True):
    policy = a3c_jax.load(tmp_path, greedy=greedy)  # Makes no environment.
    state = policy.initial_state(1, num_envs=300)
    actions, _ = policy(np.zeros((300, 2), np.float32), state)
    assert actions.dtype == space.dtype
    assert actions.shape == (300, *space.shape)
    assert all(space.contains(action) for action in actions)
    if not greedy:  # Samples of a new policy are all over the box.
      assert (actions.min(), actions.max()) == (least, most)
  learner_actions, _ = policy.learner_policy(
    np.zeros((1, 2), np.float32), policy.initial_state()
  )
  assert learner_actions.dtype == (
    np.int32 if isinstance(space, spaces.Discrete) else np.float32
  )


def test_a_policy_plays_in_gymnasiums_own_vector_environment(tmp_path):
  options = gym.Options(env='Pendulum-v1')
  run(tmp_path, domain='gym', environment=options, frames=40, network='mlp')
  policy = a3c_jax.load(tmp_path)
  env = gymnasium.make_vec('Pendulum-v1', num_envs=4)
  obs, _ = env.reset(seed=1)
  state = policy.initial_state(seed=1, num_envs=4)
  for _ in range(20):
    actions, state = policy(obs, state)
    assert env.action_space.contains(actions)
    obs, *_ = env.step(actions)


def test_environments_that_take_a_learners_actions_still_get_these(tmp_path):
  # One of the user's own is given actions as they are, in training too.
  make_env = lambda: vector(lambda: gymnasium.make('Pendulum-v1'))
  walk(tmp_path, make_env=make_env)
  policy = a3c_jax.load(tmp_path)
  obs = np.zeros((300, 3), np.float32)
  state = policy.initial_state(1, num_envs=300)
  np.testing.assert_array_equal(
    policy(obs, state)[0], policy.learner_policy(obs, state)[0]
  )


IMAGES = spaces.Box(0, 255, (3, 2), np.uint8)
CODES = spaces.Box(-100, 100, (3,), np.int8)


@pytest.fixture(scope='module')
def policies(tmp_path_factory):
  """A policy for each of some observation spaces, by their data types."""
  loaded = {}
  for space in (NUMBERS, IMAGES, CODES):
    workdir = tmp_path_factory.mktemp('walk')
    walk(workdir, space)
    loaded[space.dtype] = a3c_jax.load(workdir, greedy=True)
  return loaded


@pytest.mark.parametrize(
  ('space', 'obs', 'found'),
  [
    (NUMBERS, np.zeros(2), '[2] float64'),
    (NUMBERS, np.zeros((4, 3)), '[4, 3] float64'),
    (NUMBERS, np.zeros((0, 2)), '[0, 2] float64'),
    (NUMBERS, (np.zeros(2), {}), 'a tuple'),
    (NUMBERS, None, '[] object'),
    (NUMBERS, {'obs': np.zeros(2)}, '[] object'),
    (NUMBERS, np.array([['a', 'b']]), '[1, 2] <U1'),
    (NUMBERS, np.zeros((1, 2), complex), '[1, 2] complex128'),
    (IMAGES, np.zeros((1, 3, 2)), '[1, 3, 2] float64'),
    (IMAGES, np.zeros((1, 3, 2), int), '[1, 3, 2] int64'),
    (IMAGES, np.zeros((1, 2, 3), np.uint8), '[1, 2, 3] uint8'),
    (CODES, np.full((1, 3), 200, np.uint8), '[1, 3] uint8'),
  ],
)
def test_a_wrong_observation_is_told_in_one_line(policies, space, obs, found):
  policy = policies[space.dtype]
  with pytest.raises(ValueError) as error:
    policy(obs, policy.initial_state())
  expected = ', '.join(map(str, ('K', *space.shape)))
  assert str(error.value) == (
    f'observations: expected [{expected}] {space.dtype} of K environments, '
    f'found {found}; obs[None] for a single environment'
  )


def test_an_observation_of_the_same_meaning_is_taken(policies):
  policy = policies[NUMBERS.dtype]
  state = policy.initial_state()
  expected = policy(np.float32([[1, 0]]), state)[0]
  # Bytes of a space of floats are no parts of 255.
  for obs in ([[1.0, 0.0]], [[1, 0]], np.uint8([[1, 0]]), [[True, False]]):
    action, _ = policy(obs, state)
    np.testing.assert_array_equal(action, expected)


def test_the_state_of_another_number_of_environments_is_refused(tmp_path):
  walk(tmp_path, lstm=True)
  policy = a3c_jax.load(tmp_path)
  with pytest.raises(ValueError) as error:
    policy(np.zeros((4, 2), np.float32), policy.initial_state())
  assert str(error.value) == (
    'observations of 4 environments, but a state of 1: '
    'initial_state(num_envs=4)'
  )


@pytest.mark.parametrize(
  'given', [{'lstm': True, 'normalize_obs': True}, {'algo': 'nstep_q'}]
)
def test_a_policy_can_be_pickled_and_copied(tmp_path, given):
  action_space = None if 'algo' in given else spaces.Box(0.0, 9.0, (2,))
  walk(tmp_path, NUMBERS, action_space, **given)
  policy = a3c_jax.load(tmp_path, exploration_epsilon=0.5)
  obs = np.linspace(-1, 1, 600, dtype=np.float32).reshape(300, 2)
  expected, after = policy(obs, policy.initial_state(1, num_envs=300))
  for same in (
    pickle.loads(pickle.dumps(policy)),
    copy.copy(policy),
    copy.deepcopy(policy),
  ):
    assert (same.frames, same.spaces) == (policy.frames, policy.spaces)
    action, _ = same(obs, pickle.loads(pickle.dumps(after)))
    np.testing.assert_array_equal(action, policy(obs, after)[0])
    action, _ = same(obs, same.initial_state(1, num_envs=300))
    np.testing.assert_array_equal(action, expected)


def test_a_pickled_policy_acts_in_another_process(tmp_path):
  walk(tmp_path / 'run', NUMBERS, spaces.Box(-2.0, 2.0, (1,), np.float32))
  policy = a3c_jax.load(tmp_path / 'run')
  obs = np.ones((3, 2), np.float32)
  action, _ = policy(obs, policy.initial_state(7, num_envs=3))
  (tmp_path / 'policy').write_bytes(pickle.dumps(policy))
  out = succeeded(
    run_code(
      'import pickle, numpy\n'
      'from a3c_jax.core import cpu\n'
      'cpu.set_up()\n'  # As here: it chooses the random numbers.
      'policy = pickle.load(open("policy", "rb"))\n'
      'obs = numpy.ones((3, 2), numpy.float32)\n'
      'print(policy(obs, policy.initial_state(7, num_envs=3))[0].tolist())',
      tmp_path,
    )
  )
  assert out == f'{action.tolist()}\n'


def test_a_learner_of_ones_own_is_pickled_by_its_name(tmp_path):
  walk(tmp_path, algo='nstep_q', make_learner=make_own_learner)
  policy = a3c_jax.load(tmp_path, make_learner=make_own_learner)
  same = pickle.loads(pickle.dumps(policy))
  obs = np.zeros((1, 2), np.float32)
  state = policy.initial_state(1)
  np.testing.assert_array_equal(policy(obs, state)[0], same(obs, state)[0])


def make_own_learner(env):
  settings = config.make('gym', algo='nstep_q', network='mlp')
  assert env.num_envs == 1
  return build.make_learner(settings, env)


def test_loading_an_older_run_makes_its_environment(tmp_path):
  train_catch(tmp_path)
  change_record(tmp_path, spaces=None)
  policy = a3c_jax.load(tmp_path, greedy=True)
  action, _ = policy(np.zeros((1, 10, 5), np.uint8), policy.initial_state())
  assert action.dtype == np.int64
  walk(tmp_path / 'walk')
  change_record(tmp_path / 'walk', spaces=None)
  with pytest.raises(errors.UsageError, match='--env=NoSuchWalk-v0: unknown'):
    a3c_jax.load(tmp_path / 'walk')
  a3c_jax.load(tmp_path / 'walk', make_env=gym.make(make_walk()))


def test_a_run_in_unknown_spaces_records_none(tmp_path):
  space = spaces.MultiDiscrete([3])

  class Multi(gymnasium.vector.VectorWrapper):
    def step(self, actions):
      return self.env.step(actions.ravel())

  def make_env():
    env = Multi(gym.make(make_walk())())
    env.single_action_space = space
    env.action_space = spaces.MultiDiscrete([[3]])
    return env

  def make_learner(env):
    env = gym.make(make_walk())()
    return make_own_learner(env)

  walk(tmp_path, algo='nstep_q', make_env=make_env, make_learner=make_learner)
  assert read_record(tmp_path)['spaces'] is None


@pytest.mark.parametrize(
  'checkpoint',
  ['x', '1e3', '', '9' * 5000, 10**5000],
  ids=['letter', 'float', 'nothing', 'digits', 'number'],
)
def test_an_invalid_checkpoint_is_refused_in_one_line(tmp_path, checkpoint):
  with pytest.raises(errors.UsageError) as error:
    a3c_jax.load(tmp_path, checkpoint=checkpoint)
  line = str(error.value)
  assert '\n' not in line
  assert line.startswith('--checkpoint=')
  assert line.endswith(': allowed: latest, best, or a count of frames')


def test_reading_a_checkpoint_unpickles_nothing(tmp_path, monkeypatch):
  train_catch(tmp_path)

  def refuse(*args, **kwargs):
    raise AssertionError('something is unpickled')

  for name in ('load', 'loads', 'Unpickler'):
    monkeypatch.setattr(pickle, name, refuse)
  assert a3c_jax.load(tmp_path).frames >= 400
