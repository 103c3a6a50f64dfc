"""Images that are normalised by what random play measures."""

import dataclasses

import catch_runs
import counting
import gymnasium
import jax
import numpy as np
import pytest
from results import digest

import a3c_jax
from a3c_jax.core import errors
from a3c_jax.envs import gym
from a3c_jax.runs import image_moments
from a3c_jax.settings import build

SHAPE = (2, 36, 36)


class Blinking(counting.Counting):
  """Images of 100, whose first pixel is 40 and 60 by turns."""

  observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
  made = closed = 0

  def __init__(self):
    Blinking.made += 1

  def close(self):
    Blinking.closed += 1

  def _reward(self, action):
    return float(action)

  def _observe(self):
    image = np.full(SHAPE, 100, np.uint8)
    image[0, 0, 0] = 40 + 20 * (self._steps % 2)
    return image


def run(workdir, env=Blinking, **given):
  """A run of `Blinking` with the small network, in the place of Catch."""
  given = {'frames': 60, 'network': 'nips', 'normalize_images': True} | given
  return catch_runs.run(workdir, gym.make(env), **given)


class Steered(Blinking):
  """The same with a number as action."""

  action_space = gymnasium.spaces.Box(-1, 1, (1,))

  def step(self, action):
    return super().step(action[0])


def moments_of(params):
  """The moments of the first torso, of which others have the same."""
  first, *others = jax.tree.leaves(
    params['image_moments'], is_leaf=lambda each: 'mean' in each
  )
  for other in others:
    jax.tree.map(np.testing.assert_array_equal, first, other)
  return first


def check(moments):
  """Checks those of `Blinking`, but for how often it starts."""
  mean, deviation = np.asarray(moments['mean']), float(moments['deviation'])
  assert mean[0, 0, 0] * 255 == pytest.approx(50, abs=0.1)
  np.testing.assert_allclose(mean.flat[1:], 100 / 255, rtol=1e-6)
  # One pixel has variance 10², and all others have none.
  expected = 10 / 255 / np.sqrt(mean.size)
  assert deviation == pytest.approx(expected, rel=1e-3)


def test_moments_by_hand():
  for num_envs in (1, 3):
    env = gym.make(Blinking, num_envs=num_envs)()
    first = image_moments.measure(env, 7)
    check(first._asdict())
    again = image_moments.measure(env, 7)
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_images_that_never_change():
  class Still(Blinking):
    def _observe(self):
      return np.full(SHAPE, 255, np.uint8)

  moments = image_moments.measure(gym.make(Still)(), 1)
  np.testing.assert_array_equal(moments.mean, np.ones(SHAPE))
  assert moments.deviation == 1


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'nstep_q', 'network': 'nature', 'threads': 2},
    {'runtime': 'queues'},
    {'algo': 'dqn', 'replay_start_frames': 20},
    # Policy and value have a torso each.
    {'env': Steered, 'network': 'linear_conv', 'lstm': True},
  ],
)
def test_every_version_of_a_run_has_the_moments(tmp_path, given):
  Blinking.made = Blinking.closed = 0
  result = run(tmp_path, **given)
  check(moments_of(result.params))
  # That of the measurement too.
  assert Blinking.made == Blinking.closed > given.get('threads', 1)
  make_env = gym.make(given.get('env', Blinking))
  loaded = a3c_jax.load(tmp_path, make_env=make_env)
  jax.tree.map(
    np.testing.assert_array_equal,
    moments_of(loaded.params),
    moments_of(result.params),
  )


class Fragile(Blinking):
  """Fails before the end of its episode, as often as `failures`."""

  failures = 0

  def step(self, action):
    if self._steps == counting.EPISODE - 1 and Fragile.failures:
      Fragile.failures -= 1
      raise ValueError('it broke')
    return super().step(action)


def test_an_environment_that_fails_is_made_again(tmp_path, caplog):
  Fragile.failures = 2
  Blinking.made = Blinking.closed = 0
  result = run(tmp_path / 'enough', env=Fragile, max_env_restarts=2)
  check(moments_of(result.params))
  assert Blinking.made == Blinking.closed > 3
  assert caplog.text.count('while images were measured') == 2
  Fragile.failures = 3
  with pytest.raises(ValueError, match='it broke') as error:
    run(tmp_path / 'too_few', env=Fragile, max_env_restarts=2)
  assert error.value.__notes__[0] == 'in random play that measures images'
  assert not (tmp_path / 'too_few/config.json').exists()


def test_a_learner_of_ones_own_without_moments(tmp_path):
  def make_learner(settings, env):
    plain = dataclasses.replace(settings, normalize_images=False)
    return build.make_learner(plain, env)

  with pytest.raises(errors.UsageError, match='^--normalize_images: the netw'):
    run(tmp_path, make_learner=make_learner)


def test_a_resumed_run_keeps_its_images(tmp_path):
  run(tmp_path)
  with pytest.raises(errors.UsageError) as error:
    run(tmp_path, normalize_images=False)
  line = str(error.value)
  assert line.startswith('--normalize_images=') and 'override' not in line


def test_a_run_that_resumes_measures_nothing(tmp_path, monkeypatch):
  given = {'anneal_frames': 100}
  whole = run(tmp_path / 'whole', frames=100, **given)
  run(tmp_path / 'parts', frames=50, **given)
  monkeypatch.delattr(image_moments, 'measure')
  given |= {'override': ('frames',)}
  parts = run(tmp_path / 'parts', frames=100, **given)
  assert digest(parts.params) == digest(whole.params)
