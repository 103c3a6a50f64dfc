"""TORCS, the real game: rewards, episodes and what a seed repeats."""

import concurrent.futures
import copy
import math
import pickle

import drives
from drives import (
  ACCELERATE,
  BRAKE,
  COAST,
  LEFT,
  RIGHT,
  always,
  at_random,
  drive,
  same,
)
import gymnasium
from marks import needs_torcs
import numpy as np
import pytest

from a3c_jax.core import errors
from a3c_jax.envs.replayable import Recorded
from a3c_jax.envs.torcs import baseline, races, racing

pytestmark = needs_torcs


@pytest.fixture
def make(close_later):
  """Makes environments, and closes them at the end."""
  return lambda **given: close_later(drives.make(**given))


@pytest.mark.parametrize('car, seconds', [('slow', 62), ('fast', 47)])
def test_a_driver_makes_a_lap_without_damage(make, car, seconds):
  env = make(car=car, start='line', episode_seconds=120.0)
  _, info = env.reset(seed=1)
  assert (info['lap'], info['damage']) == (0, 0)
  length = float(env.game.state.length)
  assert length == pytest.approx(1621.73, abs=0.01)  # As its file says.
  while info['lap'] < 1:
    _, _, terminated, truncated, info = env.step(baseline.act(env))
    assert not terminated and not truncated
    assert abs(info['to_middle']) < 1
  assert info['damage'] == 0
  assert info['distance'] == pytest.approx(length, abs=length * 0.01)
  assert info['position'] < 5
  assert info['time'] < seconds


@pytest.mark.parametrize('act', [at_random(), baseline.act])
def test_the_reward_is_the_speed_along_the_track(make, act):
  env = make(car='fast', track='g-track-1', episode_seconds=20.0)
  time = distance = along = 0.0
  durations, places = set(), []

  def act_and_note(env):
    places.append((float(env.game.state.x), float(env.game.state.y)))
    return act(env)

  for step in drive(env, act_and_note, seed=3):
    seconds = step.info['time'] - time
    durations.add(round(seconds, 3))
    distance += step.reward * seconds
    assert step.info['distance'] == pytest.approx(distance)
    # From the other things that the game tells, and roughly so.
    along += step.info['speed'] * math.cos(step.info['angle']) * seconds
    time = step.info['time']
  way = sum(map(math.dist, places, places[1:]))
  assert durations <= {0.080, 0.082, 0.084, 0.086, 0.088} != {0.080}
  assert distance > 10
  assert distance == pytest.approx(along, rel=0.05, abs=2)
  assert distance == pytest.approx(way, rel=0.05, abs=2)


def test_the_reward_does_not_jump_at_the_start_line(make):
  env = make(start='line', track='e-track-5')
  env.reset(seed=1)
  env.game.begin(0.99)  # 16 m before the start line.
  env.reset = lambda **_: None
  # As if the episode had begun there.
  env._position = env._first = float(env.game.state.distance)
  env._begin = env._time = float(env.game.state.time)
  laps = []
  for step in drive(env, always(ACCELERATE), seed=1, steps=60):
    laps.append(step.info['lap'])
    assert -1 < step.reward < 60
    if step.info['lap']:
      assert step.info['position'] < 60
  assert laps[0] == 0 and laps[-1] == 1 and laps == sorted(laps)


def test_going_backwards_has_a_negative_reward(make):
  env = make(track='a-speedway', car='fast')
  steps = drive(env, always(LEFT), seed=1)
  assert min(step.reward for step in steps) < -1


@pytest.mark.parametrize(
  'given',
  [{}, {'opponents': 3}, {'camera': 'behind'}],
  ids=['alone', 'with opponents', 'from behind'],
)
def test_the_same_seed_gives_the_same_episodes(make, given):
  env = make(episode_seconds=4.0, **given)
  first = drive(env, at_random(), seed=5)
  drive(env, at_random(1), seed=8)  # What was before does not matter.
  drive(env, baseline.act, seed=9)
  same(first, drive(env, at_random(), seed=5))
  same(first, drive(make(episode_seconds=4.0, **given), at_random(), seed=5))
  others = drive(env, at_random(), seed=6)
  assert (first[0].obs != others[0].obs).any()


def test_many_resets_give_one_episode(make):
  env = make(track='g-track-1', car='fast')
  first = drive(env, at_random(), seed=5, steps=60)
  for _ in range(5):
    same(first, drive(env, at_random(), seed=5, steps=60))


def test_episodes_start_anywhere_or_at_the_line(make):
  env = make()
  positions = [env.reset(seed=1)[1]['position']]
  positions += [env.reset()[1]['position'] for _ in range(7)]
  assert len(set(np.round(positions))) == 8
  assert max(positions) > 1000 and min(positions) < 600
  env = make(start='line')
  for _ in range(3):
    _, info = env.reset()
    assert info['position'] == pytest.approx(1.62, abs=0.5)
    assert info['to_middle'] == pytest.approx(0, abs=0.01)
    assert abs(info['speed']) < 0.1


@pytest.mark.parametrize('track', ['g-track-1', 'michigan', 'dirt-3'])
def test_cars_start_along_the_track(make, track):
  env = make(track=track)
  curves = set()
  for seed in range(12):
    _, info = env.reset(seed=seed)
    assert abs(info['angle']) < 0.05 and abs(info['to_middle']) < 0.05
    assert info['lap'] == info['damage'] == 0
    line = env.game.line()
    index = int(info['position'] / float(env.game.state.length) * len(line))
    curves.add(np.sign(line['curve'][index]))
  assert len(curves) >= 2


@pytest.mark.parametrize('track', ['dirt-3', 'aalborg', 'e-track-1'])
def test_no_lap_is_counted_at_a_start_line_on_a_slope(make, track):
  env = make(track=track, start='line')
  _, info = env.reset(seed=1)
  length = float(env.game.state.length)
  assert info['lap'] == 0 and 0 <= info['position'] < 5
  for step in drive(env, baseline.act, seed=1, steps=60):
    assert step.info['lap'] == 0 and 0 <= step.info['position'] < length


def test_actions_steer_left_and_right(make):
  env = make(track='a-speedway')
  for action, sign in ((LEFT, 1), (RIGHT, -1)):
    steps = drive(env, always(action), seed=1, steps=40)
    assert sign * steps[-1].info['to_middle'] > 0.05
    assert sign * steps[-1].info['angle'] < -0.1


def test_a_car_accelerates_coasts_and_brakes(make):
  env = make()
  drive(env, always(ACCELERATE), seed=1, steps=40)
  speeds = {}
  for name, action in (('coast', COAST), ('brake', BRAKE)):
    drive(env, always(ACCELERATE), seed=1, steps=40)
    speeds['before'] = float(env.game.state.speed)
    for _ in range(8):
      env.step(action)
    speeds[name] = float(env.game.state.speed)
  assert speeds['before'] > 8 and speeds['brake'] < speeds['coast'] - 2
  assert speeds['coast'] < speeds['before'] + 0.5


def test_the_highest_gear_is_used(make):
  env = make(car='fast', track='michigan', episode_seconds=200.0)
  env.reset(seed=1)
  highest = 0
  for _ in range(600):
    env.step(baseline.act(env))
    highest = max(highest, int(env.game.state.gear))
  assert highest == 6  # As the car's file has.


def test_gears_follow_speed_up_and_down(make):
  env = make(car='fast', track='a-speedway')
  gears = []
  env.reset(seed=1)
  for action in [ACCELERATE] * 80 + [BRAKE] * 40:
    env.step(action)
    gears.append(int(env.game.state.gear))
  assert max(gears) >= 4 and gears[0] == gears[-1] == 1
  changes = np.diff(gears)
  assert (changes[:75] >= 0).all()  # It does not hunt.
  assert (changes[85:] <= 0).all()


@pytest.mark.parametrize(
  'end, act, given',
  [
    ('stuck', always(COAST), {}),
    ('backwards', always(LEFT), {'car': 'fast'}),
    ('backwards', always(RIGHT), {'car': 'fast'}),
    ('stuck', always(COAST), {'episode_seconds': 5.0}),
    ('off road', always(ACCELERATE), {'car': 'slow'}),
    ('time', always(ACCELERATE), {'episode_seconds': 2.0}),
  ],
  ids=['stuck', 'left', 'right', 'stuck at the end', 'off road', 'time'],
)
def test_how_episodes_end(make, end, act, given):
  steps = drive(make(**given), act, seed=2)
  last = steps[-1]
  assert last.info['end'] == end
  assert (last.terminated, last.truncated) == (end != 'time', end == 'time')
  assert not any('end' in step.info for step in steps[:-1])
  info = last.info
  if end == 'stuck':
    assert info['time'] == pytest.approx(5, abs=0.1)
  elif end == 'backwards':
    facing = [abs(step.info['angle']) > math.pi / 2 for step in steps]
    assert all(facing[-11:]) and not all(facing[-14:])
  elif end == 'off road':
    off = [abs(step.info['to_middle']) > 1 for step in steps]
    assert all(off[-23:]) and not all(off[-27:])
  else:
    assert info['time'] == pytest.approx(2, abs=0.1)


def test_damage_ends_an_episode(make, monkeypatch):
  env = make(track='aalborg', car='fast')
  monkeypatch.setattr(racing, 'MOST_DAMAGE', 50)
  steps = drive(env, always(ACCELERATE), seed=1)
  assert steps[-1].info['end'] == 'damage' and steps[-1].terminated
  damage = [step.info['damage'] for step in steps]
  assert damage[-1] >= 50 and max(damage[:-1]) < 50
  assert env.reset()[1]['damage'] == 0


def test_a_wrecked_car_can_be_stepped_and_reset(make, monkeypatch):
  race = races._race

  def harder(options):
    result = race(options)
    result['Quick Race']['damage factor'] = 50
    return result

  monkeypatch.setattr(races, '_race', harder)
  env = make(track='aalborg', car='fast', opponents=1)
  steps = drive(env, always(ACCELERATE), seed=1)
  assert steps[-1].info['end'] == 'damage'
  assert steps[-1].info['damage'] >= 10_000
  for _ in range(200):  # To a standstill, and on.
    *_, info = env.step(BRAKE)
  assert abs(info['speed']) < 1
  assert env.reset()[1]['damage'] == 0


def test_the_damage_of_a_crash(make):
  steps = drive(make(track='aalborg', car='fast'), always(ACCELERATE), seed=1)
  assert 500 < steps[-1].info['damage'] < 2500


def test_a_car_that_waits_for_long_is_not_eliminated(make):
  env = make(action_repeat=50, track='a-speedway')
  env.reset(seed=1)
  for _ in range(400):  # TORCS does that after 276 seconds in one lap.
    env.game.step(0.0, 0.0, 1.0)
  for _ in range(8):
    env.game.step(0.0, 1.0, 0.0)
  assert env.game.state.time > 400 and env.game.state.speed > 8


def test_opponents_drive_as_well(make):
  env = make(opponents=4, car='fast', episode_seconds=30.0)
  env.reset(seed=1)
  start = env.game.others()
  for _ in range(350):
    *_, info = env.step(BRAKE)
    env._moving = env._time  # It may wait.
  gone = (info['opponents'] - start) % float(env.game.state.length)
  assert (gone > 500).all()


def test_threads_drive_as_one_after_the_other(make):
  envs = [make(episode_seconds=4.0) for _ in range(4)]
  alone = [drive(envs[0], at_random(), seed=seed) for seed in range(4)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    together = list(
      pool.map(lambda seed: drive(envs[seed], at_random(), seed=seed), range(4))
    )
  for mine, others in zip(alone, together, strict=True):
    same(mine, others)


def test_a_replayed_race_comes_to_the_same_place():
  make_env = racing.DOMAIN.make(racing.Options(episode_seconds=3.0))
  first, second = Recorded(make_env()), Recorded(make_env())
  try:
    assert first.metadata['reseed_steps'] == 2_000
    first.reset(seed=4)
    rng = np.random.default_rng(2)
    for _ in range(60):
      obs, *_ = first.step(rng.integers(7, size=1))
    np.testing.assert_array_equal(second.replay(first.action_log()), obs)
    action = np.array([ACCELERATE])
    for mine, other in zip(
      first.step(action)[:2], second.step(action)[:2], strict=True
    ):
      np.testing.assert_array_equal(mine, other)
  finally:
    first.close()
    second.close()


def test_calls_in_the_wrong_order_are_refused(make):
  env = make()
  with pytest.raises(gymnasium.error.ResetNeeded):
    env.step(0)
  env.reset(seed=1)
  for action in (-1, 7, 1.5, None, '1'):
    with pytest.raises(ValueError, match=f'action={action}: allowed: 0 to 6'):
      env.step(action)
  env.close()
  for use in (lambda: env.step(0), env.reset):
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
      use()


def test_a_reset_that_fails_is_no_start(make, monkeypatch):
  env = make()
  env.reset(seed=1)

  def fail(start):
    raise errors.RunError('no luck')

  monkeypatch.setattr(env.game, 'begin', fail)
  with pytest.raises(errors.RunError, match='no luck'):
    env.reset()
  with pytest.raises(gymnasium.error.ResetNeeded):
    env.step(0)


@pytest.mark.parametrize('after', [False, True])
def test_copies_are_environments_of_their_own(make, request, after):
  env = make(episode_seconds=2.0)
  if after:
    env.reset(seed=3)
  for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
    request.addfinalizer(twin.close)
    same(
      drive(env, at_random(), seed=1, steps=20),
      drive(twin, at_random(), seed=1, steps=20),
    )
    assert twin.game.process != env.game.process


def test_numbers_of_numpy_are_numbers(make):
  env = make(episode_seconds=np.float32(1), action_repeat=np.int64(2))
  assert type(env.action_repeat) is int
  assert len(drive(env, always(np.int64(1)), seed=1)) in range(22, 26)


@pytest.mark.parametrize(
  'given, message',
  [
    ({'track': 'g-track-9'}, '--track=g-track-9: allowed: .*g-track-1'),
    ({'track': '../x'}, '--track=../x: allowed: '),
    ({'car': 'car1-trb9'}, '--car=car1-trb9: allowed: .*car1-trb1'),
    ({'car': 'qqq'}, '--car=qqq: allowed: 155-DTM, .*, p406'),
  ],
)
def test_tracks_and_cars_that_are_not_installed_are_refused(given, message):
  with pytest.raises(errors.UsageError, match=message):
    racing.Torcs(**given)


def test_the_tracks_and_cars_that_are_installed():
  tracks = races.tracks()
  assert tracks['g-track-1'] == 'road' and tracks['e-track-5'] == 'oval'
  assert len(tracks) > 30
  assert set(racing.CARS.values()) <= set(races.cars())


@pytest.mark.parametrize(
  'track', ['aalborg', 'michigan', 'dirt-1', 'wheel-2', 'e-track-4']
)
def test_a_driver_stays_on_other_tracks(make, track):
  env = make(track=track, car='fast', episode_seconds=8.0)
  steps = drive(env, baseline.act, seed=1)
  assert len(steps) > 80 and steps[-1].info['end'] == 'time'
  line = env.game.line()
  assert (line['width'] > 5).all()
  gaps = np.hypot(
    np.diff(line['x'], append=line['x'][:1]),
    np.diff(line['y'], append=line['y'][:1]),
  )
  # It is closed, in equal distances but for short cuts in curves.
  step = float(env.game.state.length) / len(line)
  assert (gaps < 1.1 * step).all() and np.median(gaps) > 0.9 * step
