"""TORCS, the real game: rewards, images, repetition and cleanup."""

import collections
import concurrent.futures
import copy
import math
import os
import pathlib
import pickle
import resource
import signal
import subprocess
import tempfile

import gymnasium
from gymnasium.utils import env_checker
from marks import needs_torcs
import numpy as np
from processes import below, parent_of, wait_until
import pytest
from short_runs import run_python

from a3c_jax.core import errors
from a3c_jax.envs.replayable import Recorded
from a3c_jax.envs.torcs import baseline, build, installed, races, racing

pytestmark = needs_torcs

ACCELERATE = racing.ACTIONS.index('accelerate, straight')
LEFT = racing.ACTIONS.index('accelerate, left')
RIGHT = racing.ACTIONS.index('accelerate, right')
COAST = racing.ACTIONS.index('coast, straight')
BRAKE = racing.ACTIONS.index('brake, straight')


@pytest.fixture
def make(request):
  """Makes environments, and closes them at the end."""

  def make_one(**given):
    env = racing.Torcs(**{'action_repeat': 4} | given)
    request.addfinalizer(env.close)
    return env

  return make_one


Step = collections.namedtuple('Step', 'obs reward terminated truncated info')


def drive(env, act, *, seed, steps=10_000):
  """The steps of an episode, or the first ones."""
  env.reset(seed=seed)
  done = []
  while len(done) < steps:
    done.append(Step(*env.step(act(env))))
    if done[-1].terminated or done[-1].truncated:
      break
  return done


def always(action):
  return lambda env: action


def at_random(seed=0):
  rng = np.random.default_rng(seed)
  return lambda env: int(rng.integers(7))


def same(mine, others):
  for one, other in zip(mine, others, strict=True):
    np.testing.assert_array_equal(one.obs, other.obs)
    assert one.reward == other.reward
    assert one.info.keys() == other.info.keys()
    for name, value in one.info.items():
      np.testing.assert_array_equal(value, other.info[name])


def test_gymnasiums_own_checks():
  env = gymnasium.make('a3c_jax/Torcs-v0', render_mode='rgb_array')
  try:
    assert env.observation_space.shape == (84, 84, 3)
    assert env.action_space == gymnasium.spaces.Discrete(7)
    env_checker.check_env(env.unwrapped)
  finally:
    env.close()


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


def test_the_end_of_a_lap_is_no_way_back(make):
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


def test_going_back_costs(make):
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
def test_laps_at_a_line_on_a_slope(make, track):
  env = make(track=track, start='line')
  _, info = env.reset(seed=1)
  length = float(env.game.state.length)
  assert info['lap'] == 0 and 0 <= info['position'] < 5
  for step in drive(env, baseline.act, seed=1, steps=60):
    assert step.info['lap'] == 0 and 0 <= step.info['position'] < length


def test_left_is_left(make):
  env = make(track='a-speedway')
  for action, sign in ((LEFT, 1), (RIGHT, -1)):
    steps = drive(env, always(action), seed=1, steps=40)
    assert sign * steps[-1].info['to_middle'] > 0.05
    assert sign * steps[-1].info['angle'] < -0.1


def test_pedals_do_what_they_say(make):
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


def changed(image, other):
  """Pixels [84, 84] that are of another colour."""
  return np.abs(image.astype(int) - other).max(-1) > 20


def test_a_wreck_is_answered_for_all_the_same(make, monkeypatch):
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


def test_what_a_crash_costs(make):
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


def test_opponents_drive_as_well(make):
  env = make(opponents=4, car='fast', episode_seconds=30.0)
  env.reset(seed=1)
  start = env.game.others()
  for _ in range(350):
    *_, info = env.step(BRAKE)
    env._moving = env._time  # It may wait.
  gone = (info['opponents'] - start) % float(env.game.state.length)
  assert (gone > 500).all()


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


def test_threads_drive_as_one_after_the_other(make):
  envs = [make(episode_seconds=4.0) for _ in range(4)]
  alone = [drive(envs[0], at_random(), seed=seed) for seed in range(4)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    together = list(
      pool.map(lambda seed: drive(envs[seed], at_random(), seed=seed), range(4))
    )
  for mine, others in zip(alone, together, strict=True):
    same(mine, others)


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


def test_replayed_it_comes_to_the_same_place():
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


def resident(process):
  """Bytes of memory of a process."""
  pages = pathlib.Path(f'/proc/{process}/statm').read_text().split()[1]
  return int(pages) * resource.getpagesize()


def test_300_episodes_need_no_more_memory(make):
  env = make(track='a-speedway')
  used = collections.defaultdict(list)
  before = set(os.listdir('/proc/self/fd'))
  for seed in range(300):
    drive(env, always(ACCELERATE), seed=seed, steps=3)
    used[env.game.process].append(resident(env.game.process))
  # The second process is for those that the first one may not have.
  assert [len(each) for each in used.values()] == [200, 100]
  for each in used.values():
    assert max(each) - each[0] < 20e6
  assert len(set(os.listdir('/proc/self/fd')) - before) <= 2


def test_a_process_for_each_episode_where_resets_would_not_do(make):
  env = make(opponents=1)
  processes = []
  for _ in range(3):
    env.reset()
    processes.append(env.game.process)
  assert len(set(processes)) == 3
  assert not set(processes[:2]) & below()


@pytest.mark.parametrize('how', ['close', 'del'])
def test_no_process_and_no_file_is_left(monkeypatch, tmp_path, how):
  home, folder = tmp_path / 'home', tmp_path / 'with a space; a : and $'
  home.mkdir()
  folder.mkdir()
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.setenv('XDG_CACHE_HOME', str(home))
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  before, files = below(), set(os.listdir('/proc/self/fd'))
  env = racing.Torcs()
  env.reset(seed=1)
  (process,) = below() - before
  assert process == env.game.process
  assert os.getsid(process) != os.getsid(0)  # Ctrl-C is not for it.
  env.step(0)
  # What it read at its start is gone, and it writes nothing.
  assert list(folder.iterdir()) == list(home.iterdir()) == []
  if how == 'close':
    env.close()
    env.close()
  del env
  assert process not in below()
  assert set(os.listdir('/proc/self/fd')) == files
  assert list(folder.iterdir()) == list(home.iterdir()) == []


KILLED = """
import os, signal, threading
from a3c_jax.envs.torcs import game, racing
env = racing.Torcs()
thread = threading.Thread(target=lambda: env.reset(seed=1))
thread.start()
thread.join()  # The game does not end with the thread that started it.
env.step(0)
print(env.game.process, flush=True)
if {busy}:
  env.game.state.repeat = 10**9
  env.game._talk.send(b's')
{end}
"""
ENDS = [
  'os.kill(os.getpid(), signal.SIGKILL)',
  'os.kill(os.getpid(), signal.SIGTERM)',
  'raise RuntimeError',
  'os._exit(3)',
]


@pytest.mark.parametrize('busy', [False, True])
@pytest.mark.parametrize('end', ENDS)
def test_games_end_with_their_process(tmp_path, end, busy):
  done = run_python(KILLED.format(end=end, busy=busy), tmp_path)
  assert done.returncode != 0
  process = int(done.stdout)
  wait_until(lambda: parent_of(process) is None)
  assert list(tmp_path.iterdir()) == []


KILLED_AT_THE_START = """
import os, signal
from a3c_jax.envs.torcs import game, racing
env = racing.Torcs()
def wait(self, what):
  print(self.process, flush=True)
  {end}
game.Game._wait = wait
env.reset(seed=1)
"""


@pytest.mark.parametrize('end', ENDS)
def test_no_folder_is_left_of_a_start_that_is_interrupted(tmp_path, end):
  done = run_python(KILLED_AT_THE_START.format(end=end), tmp_path)
  assert done.returncode != 0
  process = int(done.stdout)
  wait_until(lambda: parent_of(process) is None)
  wait_until(lambda: not list(tmp_path.iterdir()))


def test_a_game_that_is_killed_is_reported_and_restarted(make):
  env = make()
  first = drive(env, at_random(), seed=1, steps=5)
  os.kill(env.game.process, signal.SIGKILL)
  with pytest.raises(
    errors.RunError, match=r'TORCS ended: exit code -9; it pr'
  ):
    env.step(0)
  with pytest.raises(gymnasium.error.ResetNeeded):
    env.step(0)
  same(first, drive(env, at_random(), seed=1, steps=5))


def test_a_game_that_hangs_is_reported_and_ended(make):
  env = make()
  env.reset(seed=1)
  process = env.game.process
  os.kill(process, signal.SIGSTOP)
  env.game._talk.settimeout(0.05)
  with pytest.raises(errors.RunError, match='TORCS ended: no answer for'):
    env.step(0)
  assert process not in below()
  env.reset(seed=1)
  env.step(0)


def test_ctrl_c_in_a_step_does_not_mix_up_the_next_ones(make):
  env = make()
  first = drive(env, at_random(), seed=1, steps=5)

  class Interrupted:
    def send(self, byte):
      pass

    def recv(self, count):
      raise KeyboardInterrupt

  env.game._talk = Interrupted()
  with pytest.raises(KeyboardInterrupt):
    env.step(0)
  same(first, drive(env, at_random(), seed=1, steps=5))


FORKS = """
import os, sys
from a3c_jax.core import errors
from a3c_jax.envs.torcs import racing
env = racing.Torcs()
env.reset(seed=1)
child = os.fork()
if not child:
  try:
    env.step(0)
  except errors.RunError:
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
env.step(0)
env.reset()
env.close()
print('drove on')
"""


def test_a_fork_leaves_the_game_to_its_parent(tmp_path):
  done = run_python(FORKS, tmp_path)
  assert (done.returncode, done.stdout) == (0, 'drove on\n')


@pytest.mark.parametrize(
  'script, message',
  [
    ('echo no such luck >&2; exit 3', 'exit code 3; it printed: no such luck$'),
    ('kill -9 $$', 'exit code -9; it printed: nothing$'),
  ],
)
def test_a_start_that_fails_is_reported(
  make, monkeypatch, tmp_path, script, message
):
  folder = tmp_path / 'temporary'
  folder.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(folder))
  program = tmp_path / 'torcs-bin'
  program.write_text(f'#!/bin/sh\n{script}\n')
  program.chmod(0o700)
  env = make()
  monkeypatch.setattr(installed, 'programs', lambda: tmp_path)
  before, files = below(), set(os.listdir('/proc/self/fd'))
  for _ in range(2):
    with pytest.raises(
      errors.RunError, match=f'TORCS did not start: {message}'
    ):
      env.reset(seed=1)
  assert below() == before
  assert list(folder.iterdir()) == []
  assert set(os.listdir('/proc/self/fd')) == files


def test_cars_that_are_missing_are_reported(make):
  env = make()
  env.game.state.cars = 3
  with pytest.raises(errors.RunError, match='1 of 3 cars / .* is not what'):
    env.reset(seed=1)


def test_another_layout_of_memory_is_reported(make, monkeypatch):
  env = make()
  env.game.state.bytes -= 4
  with pytest.raises(errors.RunError, match='compile the plugin again'):
    env.reset(seed=1)


def test_a_temporary_folder_that_is_not_there(make, monkeypatch, tmp_path):
  missing = tmp_path / 'missing'
  monkeypatch.setattr(tempfile, 'tempdir', str(missing))
  with pytest.raises(
    errors.RunError, match=f'TMPDIR={missing}: No such file or directory'
  ):
    make().reset(seed=1)


def test_what_is_called_at_the_wrong_time(make):
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
def test_names_that_are_not_installed(given, message):
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
def test_other_tracks(make, track):
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


def test_it_compiles_once(monkeypatch, tmp_path):
  path = tmp_path / 'compiled' / 'plugin.so'
  monkeypatch.setattr(installed, 'plugin', lambda: path)
  with pytest.raises(
    errors.UsageError, match=f'not compiled: {installed.BUILD}'
  ):
    racing.Torcs()
  assert build.compile_plugin() == path
  first = path.stat().st_mtime_ns
  assert list(path.parent.iterdir()) == [path]
  assert build.compile_plugin() == path
  assert path.stat().st_mtime_ns == first
  env = racing.Torcs()
  try:
    env.reset(seed=1)
  finally:
    env.close()


def test_a_plugin_that_is_removed_meanwhile(make, monkeypatch, tmp_path):
  path = tmp_path / 'plugin.so'
  path.write_bytes(installed.plugin().read_bytes())
  monkeypatch.setattr(installed, 'plugin', lambda: path)
  env = make(opponents=1)
  path.unlink()
  env.reset(seed=1)
  env.step(0)


def test_no_race_runs_without_the_plugin(make, monkeypatch, tmp_path):
  path = tmp_path / 'plugin.so'
  path.write_text('no library')
  monkeypatch.setattr(installed, 'plugin', lambda: path)
  before = below()
  with pytest.raises(errors.RunError, match='did not start: exit code'):
    make(opponents=2).reset(seed=1)
  assert below() == before


def test_what_the_compiler_says(monkeypatch, tmp_path):
  source = tmp_path / 'plugin.cpp'
  source.write_text('int broken(')
  monkeypatch.setattr(installed, 'plugin', lambda: tmp_path / 'new' / 'x.so')
  monkeypatch.setattr(installed, 'SOURCE', source)
  with pytest.raises(
    errors.RunError, match='does not compile.*g\\+\\+ printed: '
  ):
    build.compile_plugin()
  assert list((tmp_path / 'new').iterdir()) == []


def test_no_compiler(monkeypatch, tmp_path):
  monkeypatch.setattr(installed, 'plugin', lambda: tmp_path / 'new' / 'x.so')
  run = subprocess.run

  def without(command, **given):
    if command[0] == 'g++':
      raise FileNotFoundError('g++')
    return run(command, **given)

  monkeypatch.setattr(subprocess, 'run', without)
  with pytest.raises(
    errors.UsageError, match='g\\+\\+ is not installed; on De'
  ):
    build.compile_plugin()
