"""Continuous control: repeated actions, and images for observations."""

import functools
import threading

import gymnasium
from marks import needs_dm_control, needs_pictures
import numpy as np
import pytest
from stores import in_threads

from a3c_jax.core import errors as errors_lib
from a3c_jax.core import fields, workers
from a3c_jax.envs import control, domain, gym, mujoco, replayable


def make(env, **given):
  return control.make(control.Options(env=env, **given))()


class Counting(gymnasium.Env):
  """Rewards 1, 2, 3, …; ends at a step."""

  observation_space = gymnasium.spaces.Box(0.0, 100.0, (1,), np.float32)
  action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

  def __init__(self, end, truncated):
    self._end, self._truncated = end, truncated
    self.steps = 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.steps = 0
    return np.zeros(1, np.float32), {}

  def step(self, action):
    self.steps += 1
    over = self.steps == self._end
    obs = np.full(1, self.steps, np.float32)
    cut = self._truncated
    return obs, self.steps, over and not cut, over and cut, {}


@pytest.mark.parametrize('truncated', [False, True])
def test_an_action_is_repeated_until_the_end(truncated):
  env = control.Repeat(Counting(5, truncated), 3)
  env.reset()
  obs, reward, *over, _ = env.step(np.zeros(1, np.float32))
  assert (obs[0], reward, over) == (3.0, 1 + 2 + 3, [False, False])
  obs, reward, *over, _ = env.step(np.zeros(1, np.float32))
  assert (obs[0], reward, over) == (5.0, 4 + 5, [not truncated, truncated])


def test_repeated_actions_of_mujoco():
  once, twice = make('Hopper-v5'), make('Hopper-v5', action_repeat=2)
  once.reset(seed=1)
  twice.reset(seed=1)
  action = np.full((1, 3), 0.4, np.float32)
  obs, rewards = None, 0.0
  for _ in range(2):
    obs, reward, *_ = once.step(action)
    rewards += reward
  other, reward, *_ = twice.step(action)
  np.testing.assert_array_equal(other, obs)
  np.testing.assert_array_equal(reward, rewards)


@pytest.mark.parametrize(
  'given', [{'image_size': 35}, {'image_size': 481}, {'action_repeat': 0}]
)
def test_bad_options(given):
  ((name, value),) = given.items()
  options = control.Options(env='Hopper-v5', **given)
  for use in (fields.check_settings, control.make):
    with pytest.raises(
      errors_lib.UsageError, match=f'^--{name}={value}: allowed'
    ):
      use(options)


TASKS = (
  'Ant-v5',
  'HalfCheetah-v5',
  'Hopper-v5',
  'Humanoid-v5',
  'InvertedDoublePendulum-v5',
  'InvertedPendulum-v5',
  'Pusher-v5',
  'Reacher-v5',
  'Swimmer-v5',
  'Walker2d-v5',
  pytest.param('dm_control/cheetah-run', marks=needs_dm_control),
  pytest.param('dm_control/pendulum-swingup', marks=needs_dm_control),
  pytest.param('dm_control/walker-walk', marks=needs_dm_control),
)


@needs_pictures
@pytest.mark.parametrize('task', TASKS)
def test_the_robot_is_in_the_image_and_moves(task):
  env = make(task, pixels=True)
  first, _ = env.reset(seed=1)
  assert first.shape == (1, 84, 84, 3) and first.dtype == np.uint8
  rng = np.random.default_rng(0)
  images = [first[0]]
  for _ in range(25):
    action = rng.uniform(-1, 1, env.action_space.shape)
    obs, *_ = env.step(action)
    images.append(obs[0])
  assert min(image.max() for image in images) > 50
  assert np.any(images[-1] != images[-2])
  # Without the robot, which is all that can move, the image is another one.
  game = env.envs[0]
  model, data = mujoco.simulation(game)
  model.geom_rgba[model.body_dofnum[model.geom_bodyid] > 0, 3] = 0
  model.geom_rgba[model.body_weldid[model.geom_bodyid] > 0, 3] = 0
  model.geom_matid[:] = -1
  without = game.get_wrapper_attr('observation')(None)
  assert np.sum(np.any(without != images[-1], axis=2)) >= 40
  env.close()


@needs_pictures
def test_the_camera_goes_with_the_cheetah():
  env = make('HalfCheetah-v5', pixels=True)
  env.reset(seed=1)
  _, data = mujoco.simulation(env.envs[0])
  data.qpos[0] += 30.0
  before = env.step(np.zeros((1, 6), np.float32))[0][0]
  for _ in range(3):
    after = env.step(np.ones((1, 6), np.float32))[0][0]
  # The floor has a pattern; the cheetah is neither.
  assert np.any(after != before, axis=2).sum() > 40
  env.close()


@needs_pictures
def test_images_in_threads_are_those_of_one_thread():
  def play(env, images):
    obs, _ = env.reset(seed=7)
    images.append(obs)
    for step in range(12):
      action = np.full(env.action_space.shape, np.sin(step), np.float32)
      images.append(env.step(action)[0])

  # Made, used first and closed in this thread; played in others, at one time.
  envs = [make('InvertedPendulum-v5', pixels=True) for _ in range(3)]
  expected = []
  play(envs[0], expected)
  found = [[] for _ in envs]
  in_threads(
    *(
      functools.partial(play, env, images)
      for env, images in zip(envs, found, strict=True)
    )
  )
  for images in found:
    np.testing.assert_array_equal(images, expected)
  # One that is closed takes nothing from the others.
  envs[0].close()
  again = []
  play(envs[1], again)
  np.testing.assert_array_equal(again, expected)
  assert len({image.tobytes() for image in expected}) > 6
  for env in envs[1:]:
    env.close()


@needs_pictures
def test_few_images_are_rendered_again_to_resume():
  env = replayable.Recorded(
    make('InvertedPendulum-v5', pixels=True, image_size=36)
  )
  env.reset(seed=1)
  seeds = env.action_log().seeds
  for _ in range(1000):  # Its episodes are short.
    assert env.action_log().seeds == seeds
    env.step(np.zeros((1, 1), np.float32))
  while env.action_log().seeds == seeds:
    env.step(np.zeros((1, 1), np.float32))
  assert len(env.action_log().actions) == 0
  env.close()


@needs_pictures
@needs_dm_control
def test_environments_of_one_thread_have_images_of_their_own():
  make_env = control.make(
    control.Options(env='dm_control/cartpole-swingup', pixels=True),
    domain.EnvRequest(num_envs=2),
  )
  env = make_env()
  obs, _ = env.reset(seed=1)
  assert obs.shape == (2, 84, 84, 3)
  assert np.any(obs[0] != obs[1])
  kept = obs.copy()
  env.step(np.ones((2, 1), np.float32))
  np.testing.assert_array_equal(obs, kept)  # They are not overwritten.
  env.close()


@needs_pictures
@needs_dm_control
def test_size_and_camera():
  env = make(
    'dm_control/cheetah-run', pixels=True, image_size=40, camera='back'
  )
  back, _ = env.reset(seed=1)
  assert back.shape == (1, 40, 40, 3)
  env.close()
  env = make('dm_control/cheetah-run', pixels=True, image_size=40, camera='1')
  np.testing.assert_array_equal(env.reset(seed=1)[0], back)
  env.close()


@needs_pictures
@pytest.mark.parametrize(
  'task, camera, allowed',
  [
    ('HalfCheetah-v5', 'side', 'auto, track'),
    ('HalfCheetah-v5', '1', 'auto, track'),
    ('Humanoid-v5', '7', 'auto, track, 1'),
    ('Humanoid-v5', '', 'auto, track, 1'),
    ('Reacher-v5', '0', 'auto'),
  ],
)
def test_an_unknown_camera_is_refused(task, camera, allowed):
  with pytest.raises(errors_lib.UsageError) as error:
    make(task, pixels=True, camera=camera)
  message = f'--camera={camera}: allowed for {task}: {allowed}'
  assert str(error.value) == message
  # Also where it is for videos only, and not needed yet.
  with pytest.raises(errors_lib.UsageError) as error:
    make(task, camera=camera)
  assert str(error.value) == message


class WithPhysics(Counting):
  """Has what tasks of dm_control have, by another meaning."""

  physics = 'none'

  def __init__(self):
    super().__init__(5, False)


def make_with_physics():
  return WithPhysics()


@pytest.mark.parametrize('given', [{'pixels': True}, {'camera': 'track'}])
@pytest.mark.parametrize(
  'task', ['Pendulum-v1', 'envs_control_test:make_with_physics']
)
def test_pixels_need_a_simulation_of_mujoco(task, given):
  with pytest.raises(errors_lib.UsageError) as error:
    make(task, **given)
  (line,) = str(error.value).splitlines()
  assert line.startswith(f'--env={task}: no MuJoCo simulation')


@needs_pictures
@pytest.mark.parametrize(
  'task, fps',
  [
    ('HalfCheetah-v5', 20),
    pytest.param('dm_control/cheetah-run', 100, marks=needs_dm_control),
  ],
)
def test_a_frame_of_a_simulation_is_rendered(task, fps):
  env = gym.make(task, render=True)()
  env.reset(seed=1)
  env.step(np.zeros(env.action_space.shape, np.float32))
  (image,) = env.render()
  assert image.shape == (480, 480, 3)
  assert image.max() > 50
  assert env.metadata['render_fps'] == fps
  env.close()


@needs_pictures
@pytest.mark.parametrize('pixels', [False, True])
def test_a_video_of_repeated_actions_takes_as_long_as_they_do(pixels):
  options = control.Options(
    env='HalfCheetah-v5', action_repeat=4, pixels=pixels
  )
  env = control.make(options, domain.EnvRequest(render=True))()
  obs, _ = env.reset(seed=1)
  (image,) = env.render()
  assert image.shape == (480, 480, 3)
  assert obs.shape == ((1, 84, 84, 3) if pixels else (1, 17))
  assert env.metadata['render_fps'] == 5
  env.close()


@needs_pictures
@needs_dm_control
def test_videos_are_taken_by_the_camera_that_was_asked_for():
  images = []
  for camera in ('auto', 'back'):
    options = control.Options(env='dm_control/cheetah-run', camera=camera)
    env = control.make(options, domain.EnvRequest(render=True))()
    env.reset(seed=1)
    images.append(env.render()[0])
    env.close()
  assert np.any(images[0] != images[1])


def test_every_repeated_step_is_a_sign_of_life():
  env = control.Repeat(gymnasium.make('CartPole-v1'), 4)
  env.reset(seed=1)
  before = workers.beats(threading.current_thread())
  env.step(0)
  assert workers.beats(threading.current_thread()) == before + 4


@pytest.mark.parametrize(
  'name',
  ['Hopper-v5', pytest.param('dm_control/hopper-hop', marks=needs_dm_control)],
)
def test_mujoco_repeats_itself_to_the_last_bit(name):
  env = replayable.Recorded(gym.make(name, num_envs=2)(), reseed_steps=30)
  env.reset(seed=5)
  rng = np.random.default_rng(0)
  actions = rng.normal(size=(60, *env.action_space.shape)).astype(np.float32)
  for action in actions[:40]:
    obs, *_ = env.step(action)
  past = env.action_log()
  other = replayable.Recorded(gym.make(name, num_envs=2)(), reseed_steps=30)
  np.testing.assert_array_equal(other.replay(past), obs)
  for action in actions[40:]:
    for one, another in zip(env.step(action), other.step(action), strict=True):
      if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, another)


@needs_dm_control
def test_dm_control_has_flat_observations_and_is_truncated():
  env = gym.make('dm_control/pendulum-swingup')()
  obs, _ = env.reset(seed=1)
  assert obs.shape == (1, 3)  # Cosine, sine and velocity.
  assert env.single_action_space.shape == (1,)
  for step in range(1000):
    _, reward, terminated, truncated, _ = env.step(np.zeros((1, 1)))
    assert (terminated[0], truncated[0]) == (False, step == 999)
    assert 0 <= reward[0] <= 1


@needs_dm_control
@pytest.mark.parametrize(
  'name, hint', [('cheetah', 'cheetah-run'), ('', 'acrobot-swingup')]
)
def test_bad_names_of_dm_control(name, hint):
  with pytest.raises(errors_lib.UsageError) as error:
    gym.make(f'dm_control/{name}')
  start = f'--env=dm_control/{name}: unknown; did you mean dm_control/{hint},'
  assert str(error.value).startswith(start)


@needs_dm_control
@pytest.mark.parametrize('task', ['quadruped-escape', 'lqr-lqr_2_1'])
def test_unsupported_tasks_of_dm_control_are_refused(task):
  with pytest.raises(errors_lib.UsageError) as error:
    gym.make(f'dm_control/{task}')
  assert str(error.value).startswith(f'--env=dm_control/{task}: ')
