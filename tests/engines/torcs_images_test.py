"""What is seen in TORCS, and what of it is rendered."""

import drives
from drives import BRAKE
import gymnasium
from marks import needs_torcs
import numpy as np
import pytest

from a3c_jax.envs.torcs import baseline

pytestmark = needs_torcs


@pytest.fixture
def make(close_later):
  """Makes environments, and closes them at the end."""
  return lambda **given: close_later(drives.make(**given))


def changed(image, other):
  """Pixels [84, 84] that are of another colour."""
  return np.abs(image.astype(int) - other).max(-1) > 20


def test_opponents_are_seen_and_move(make):
  alone = make(start='line')
  env = make(start='line', opponents=5)
  obs, info = env.reset(seed=1)
  empty, _ = alone.reset(seed=1)
  start = info['opponents']
  assert start.shape == (5,)
  # One after the other before us.
  np.testing.assert_allclose(np.diff(start), 15, atol=0.5)
  assert start[0] - info['position'] == pytest.approx(15, abs=0.5)
  differ = changed(obs, empty)
  assert 40 < differ.sum() < 1000  # The cars, and nothing else.
  assert not differ[:25].any()  # They are not in the sky.
  assert differ[:, :35].any() and differ[:, 49:].any()  # On both sides.
  for _ in range(40):
    seen, *_, info = env.step(BRAKE)
    unchanged, *_ = alone.step(BRAKE)
  assert ((info['opponents'] - start) % env.game.state.length > 5).all()
  assert changed(seen, obs).sum() > 40
  assert abs(info['distance']) < 0.5
  assert changed(unchanged, empty).sum() < 10


def test_what_is_seen_depends_on_camera_and_distance(make):
  images = [
    make(start='line', **given).reset(seed=1)[0]
    for given in (
      {},
      {'camera': 'bonnet'},
      {'camera': 'behind'},
      {'view_distance': 400.0},
      {'track': 'g-track-1'},
    )
  ]
  for i, image in enumerate(images):
    assert image.shape == (84, 84, 3) and image.dtype == np.uint8
    assert image.std() > 20
    assert image[:20].mean() > image[50:].mean()  # The sky is up.
    for other in images[:i]:
      assert (image != other).any(-1).mean() > 0.01


def test_rendered_frames(make):
  env = make(render_mode='rgb_array', opponents=1)
  obs, _ = env.reset(seed=1)
  image = env.render()
  assert (image.shape, image.dtype) == ((336, 672, 3), np.uint8)
  np.testing.assert_array_equal(image[2::4, 2:336:4], obs)
  own_map = image[:, 336:]
  for colour in ((230, 40, 40), (0, 0, 0), (225, 225, 225)):
    assert (own_map == colour).all(-1).sum() > 10
  assert env.metadata['render_fps'] == pytest.approx(12.5)
  quiet = make()
  quiet.reset(seed=1)
  assert quiet.render() is None
  with pytest.raises(gymnasium.error.ResetNeeded):
    make(render_mode='rgb_array').render()


def test_cars_on_the_map(make):
  env = make(render_mode='rgb_array', opponents=1, car='fast')
  env.reset(seed=1)
  red, black = (230, 40, 40), (0, 0, 0)

  def on_map(colour):
    dots = np.argwhere((env.render()[:, 336:] == colour).all(-1))
    return dots.mean(0)

  # 15 m apart, and the track fills 0.9 of 336 pixels.
  line = env.game.line()
  scale = 0.9 * 336 / max(np.ptp(line['x']), np.ptp(line['y']))
  away = np.hypot(*(on_map(red) - on_map(black)))
  assert 5 * scale < away < 25 * scale
  start, x, y = on_map(red), float(env.game.state.x), float(env.game.state.y)
  for _ in range(80):
    env.step(baseline.act(env))
  state = env.game.state
  down, right = (on_map(red) - start) / scale
  assert (right, -down) == pytest.approx((state.x - x, state.y - y), abs=15)
