"""Labyrinth in its real engine: what it pays, shows and repeats."""

import collections
import concurrent.futures
import math
import re

import gymnasium
from marks import needs_labyrinth
import numpy as np
import pytest

from a3c_jax.core import errors
from a3c_jax.envs import domain
from a3c_jax.envs.labyrinth import baseline, doom, foraging, mazes, wads
from a3c_jax.settings import config

pytestmark = needs_labyrinth

APPLE_SEED = 3  # The portal is not on the way to the second apple.
STEPS = 525  # Of an episode: 60 * 35 / 4.


@pytest.fixture
def make(close_later):
  """Makes environments, and closes them at the end."""
  return lambda **given: close_later(foraging.Labyrinth(**given))


def play(env, actions, *, seed):
  """Observations, rewards and ends of a seeded reset and some steps."""
  obs, _ = env.reset(seed=seed)
  steps = [(obs, 0.0, False)]
  for action in actions:
    obs, reward, terminated, truncated, _ = env.step(action)
    assert not terminated
    steps.append((obs, reward, truncated))
    if truncated:
      steps.append((env.reset()[0], 0.0, False))
  return [np.array(parts) for parts in zip(*steps, strict=True)]


def random_actions(steps, seed=0):
  return np.random.default_rng(seed).integers(len(foraging.ACTIONS), size=steps)


def test_the_docstring_lists_the_actions():
  rows = re.findall(r'\| (\d) \| ([a-z, 5]+)', foraging.Labyrinth.__doc__)
  names = [name.split(', 5')[0].strip() for _, name in rows]
  assert [int(number) for number, _ in rows] == list(range(8))
  assert names == list(foraging.ACTIONS)


def test_the_same_seed_gives_the_same_mazes_and_images(make):
  actions = random_actions(60)
  first = play(make(episode_seconds=2), actions, seed=5)
  env = make(episode_seconds=2)
  play(env, actions[:31], seed=8)  # What was before does not matter.
  for mine, other in zip(first, play(env, actions, seed=5), strict=True):
    np.testing.assert_array_equal(mine, other)
  others = play(env, actions, seed=6)
  assert (first[0][0] != others[0][0]).any()


def test_threads_play_as_one_after_the_other(make):
  actions = random_actions(100)
  envs = [make(episode_seconds=5) for _ in range(6)]
  alone = [play(envs[0], actions, seed=seed) for seed in range(6)]
  with concurrent.futures.ThreadPoolExecutor(6) as pool:
    together = pool.map(
      lambda seed: play(envs[seed], actions, seed=seed), range(6)
    )
    for mine, other in zip(alone, together, strict=True):
      for part, its in zip(mine, other, strict=True):
        np.testing.assert_array_equal(part, its)


def test_every_episode_has_a_new_maze(make):
  env = make(maze_size=11)
  env.reset(seed=1)
  seen = [env.maze.walls]
  for _ in range(4):
    env.reset()
    assert all((env.maze.walls != walls).any() for walls in seen)
    seen.append(env.maze.walls)


def test_an_apple_pays_one_and_is_gone(make):
  env = make(apples=3)
  env.reset(seed=APPLE_SEED)
  goal = env.maze.apples[1]
  others = set(env.maze.apples) - {goal}
  x, y = mazes.centre(goal)
  rewards = []
  while goal in env.apples_left:
    near = max(abs(env.x - x), abs(env.y - y))
    before = set(env.apples_left)
    _, reward, *_ = env.step(baseline.go_to(env, goal))
    assert reward == len(before - set(env.apples_left))
    rewards.append(reward)
  # The apple is 24 wide to either side, the agent 16; a step is below 4 * 8.4.
  assert max(abs(env.x - x), abs(env.y - y)) < 40 <= near + 4 * 8.4
  assert near < 40 + 4 * 8.4
  assert rewards[-1] == 1.0
  assert sum(rewards) == 3 - len(env.apples_left)
  assert set(env.apples_left) <= others
  for _ in range(10):  # It stays gone.
    _, reward, *_ = env.step(foraging.ACTIONS.index('turn left'))
    assert reward == 0.0


def test_the_portal_pays_ten_and_everything_grows_back(make):
  env = make(apples=4)
  env.reset(seed=3)
  maze = env.maze
  x, y = mazes.centre(maze.portal)
  starts, headings = [], set()
  for _ in range(6):
    reward = 0.0
    while reward < 10:
      near = max(abs(env.x - x), abs(env.y - y))
      obs, reward, _, truncated, _ = env.step(baseline.go_to(env, maze.portal))
      assert not truncated
    # An apple may be taken within the same four tics.
    assert reward - 10 in (0.0, 1.0)
    # The portal is 28 wide to either side, the agent 16, a tic at most 8.4.
    assert near < 44 + 4 * 8.4
    assert env.maze is maze
    assert env.apples_left == list(maze.apples)
    starts.append(mazes.cell_at(env.x, env.y))
    headings.add(round(env.angle / 45, 3) % 8)
    assert starts[-1] in maze.free
    assert (env.x, env.y) == mazes.centre(starts[-1])
    assert obs.std() > 0
  assert len(set(starts)) > 1
  assert len(headings) > 1 and headings <= set(range(8))
  # Apples that were taken before are really there again.
  goal = maze.apples[0]
  while goal in env.apples_left:
    _, reward, *_ = env.step(baseline.go_to(env, goal))
  assert reward >= 1.0


def test_touching_the_portal_is_enough(make):
  env = make(maze_size=5, apples=0, action_repeat=1)
  env.reset(seed=1)
  x, y = mazes.centre(env.maze.portal)
  reward = 0.0
  while not reward:
    near = max(abs(env.x - x), abs(env.y - y))
    _, reward, *_ = env.step(baseline.go_to(env, env.maze.portal))
  assert reward == 10.0
  # It is 28 wide to either side, and the agent 16; a tic is at most 8.4.
  assert 44 - 8.4 < near < 44 + 8.4


def test_the_image_after_the_portal_is_of_the_new_place(make):
  env = make()
  env.reset(seed=4)
  reward = 0.0
  while reward < 10:
    obs, reward, *_ = env.step(baseline.go_to(env, env.maze.portal))
  start = mazes.cell_at(env.x, env.y)
  level = wads.level(env.maze, start, round(env.angle / 45) % 8)
  other = doom.Engine(wads.resources())
  try:
    image = other.load(level).image.astype(int)
  finally:
    other.close()
  expected = np.empty((84, 84, 3), int)
  for row in range(84):
    for column in range(84):
      # The middle of the pixel is a corner of four in 120 rows of 160.
      y = int((row + 0.5) * 120 / 84 - 0.5)
      x = int((column + 0.5) * 160 / 84 - 0.5)
      block = image[y : y + 2, x : x + 2]
      expected[row, column] = (block.sum((0, 1)) + 2) // 4
  np.testing.assert_array_equal(obs, expected)


def test_sixty_seconds_are_a_truncation(make):
  env = make()
  _, rewards, truncated = play(env, random_actions(STEPS), seed=7)
  assert np.flatnonzero(truncated).tolist() == [STEPS]
  assert rewards.sum() >= 0


def test_the_last_step_is_shorter_where_the_repeat_does_not_fit(make):
  env = make(episode_seconds=1.0, action_repeat=8)  # 35 = 4 * 8 + 3 tics.
  env.reset(seed=1)
  turns = []
  for _ in range(5):
    before = env.angle
    *_, truncated, _ = env.step(foraging.ACTIONS.index('turn left'))
    turns.append((env.angle - before) % 360)
  np.testing.assert_allclose(turns, [45.0] * 4 + [3 * 5.625], atol=1e-3)
  assert truncated


@pytest.mark.parametrize(
  'name, turn, ahead, aside',
  [
    ('forward', 0, 1, 0),
    ('backward', 0, -1, 0),
    ('step left', 0, 0, 1),
    ('step right', 0, 0, -1),
    ('turn left', 1, 0, 0),
    ('turn right', -1, 0, 0),
    ('forward, turn left', 1, 1, 0),
    ('forward, turn right', -1, 1, 0),
  ],
)
def test_each_action_moves_the_agent_as_its_name_says(
  make, name, turn, ahead, aside
):
  env = make(maze_size=5, apples=0, action_repeat=1)
  env.reset(seed=1)
  x, y, angle = env.x, env.y, env.angle
  env.step(foraging.ACTIONS.index(name))
  np.testing.assert_allclose(
    (env.angle - angle + 180) % 360 - 180, 5.625 * turn, atol=1e-4
  )
  # It turns first. A push of 25 is 25 / 32 units.
  heading = math.radians(env.angle)
  moved = [
    (env.x - x) * math.cos(heading) + (env.y - y) * math.sin(heading),
    (env.y - y) * math.cos(heading) - (env.x - x) * math.sin(heading),
  ]
  expected = [25 / 32 * ahead, 25 / 32 * aside]
  np.testing.assert_allclose(moved, expected, atol=2e-3)


def test_an_agent_that_knows_the_maze_scores_far_above_chance(make):
  env = make()
  scores = collections.Counter()
  actions = iter(random_actions(4 * STEPS))
  choose = {'random': lambda: next(actions), 'path': lambda: baseline.act(env)}
  for name, act in choose.items():
    for seed in range(4):
      env.reset(seed=seed)
      for _ in range(STEPS):
        scores[name] += env.step(act())[1]
  assert scores['path'] > 10 * scores['random']
  assert scores['path'] > 4 * 100


def test_plain_walls_look_alike(make):
  colours = {}
  for textures in ('rooms', 'plain'):
    env = make(maze_size=5, apples=0, textures=textures)  # One room.
    obs, *_ = play(env, [5] * 16, seed=9)
    horizon = obs[:, 38:42].reshape(-1, 3).astype(int)
    # The walls of corridors are grey; the portal is there too.
    colours[textures] = (np.ptp(horizon, axis=1) > 20).mean()
    kinds = set(env.maze.textures[1:4, 1:4].flat)
    assert len(kinds) == 1
    assert (kinds == {0}) == (textures == 'plain')
  assert colours['plain'] < 0.2
  assert colours['rooms'] > 0.8


def test_a_rendered_frame(make):
  env = make(render_mode='rgb_array')
  obs, _ = env.reset(seed=3)
  for _ in range(12):
    obs, *_ = env.step(baseline.go_to(env, env.maze.portal))
  image = env.render()
  assert (image.shape, image.dtype) == ((336, 672, 3), np.uint8)
  np.testing.assert_array_equal(image[2:336:4, 2:336:4], obs)
  drawn = image[:, 336:].astype(int)
  # 9 cells on 336 pixels.
  middle = lambda cell: tuple((np.array(cell) * 336 + 168) // 9)
  for row, column in np.argwhere(env.maze.walls):
    assert drawn[middle((row, column))].tolist() == [60, 60, 60]
  for cell in env.apples_left:
    assert drawn[middle(cell)].tolist() == [220, 30, 30]
  assert drawn[middle(env.maze.portal)].tolist() == [40, 90, 255]
  here = int(-env.y * 336 / 864), int(env.x * 336 / 864)
  assert drawn[here].tolist() == [0, 150, 0]
  nose = [20 * f(math.radians(env.angle)) for f in (math.cos, math.sin)]
  looks = (
    int(-(env.y + nose[1]) * 336 / 864),
    int((env.x + nose[0]) * 336 / 864),
  )
  assert drawn[looks].tolist() == [255, 255, 255]
  assert env.metadata['render_fps'] == 35 / 4


def path_drawn(env):
  return (env.render()[:, 336:] == [0, 120, 0]).all(-1).sum()


def test_the_path_on_the_map_begins_where_the_agent_appeared(make):
  env = make(render_mode='rgb_array', apples=0, maze_size=15)
  env.reset(seed=3)
  longest = path_drawn(env)
  assert longest == 0
  reward = 0.0
  while not reward:
    longest = max(longest, path_drawn(env))
    _, reward, *_ = env.step(baseline.go_to(env, env.maze.portal))
  assert longest > 40
  assert path_drawn(env) == 0


def test_nothing_is_drawn_without_a_render_mode(make):
  env = make()
  env.reset(seed=1)
  assert env.render() is None


def test_a_resumed_run_repeats_few_steps():
  env = foraging.DOMAIN.make(
    foraging.Options(maze_size=5), domain.EnvRequest(num_envs=2)
  )()
  try:
    assert env.metadata['reseed_steps'] == 2_000
  finally:
    env.close()


@pytest.mark.parametrize(
  'given',
  [
    {'maze_size': 8},
    {'maze_size': 3},
    {'maze_size': -9},
    {'maze_size': 103},
    {'maze_size': 9.0},
    {'apples': -1},
    {'apples': 1.5},
    {'episode_seconds': 0.0},
    {'episode_seconds': math.nan},
    {'episode_seconds': None},
    {'episode_seconds': '60'},
    {'apples': True},
    {'textures': 'gold'},
    {'action_repeat': 0},
    {'action_repeat': 36},
  ],
)
def test_bad_options(given):
  ((name, value),) = given.items()
  for use in (
    lambda: foraging.Labyrinth(**given),
    lambda: config.make('labyrinth', environment=foraging.Options(**given)),
    lambda: foraging.DOMAIN.make(foraging.Options(**given)),
  ):
    with pytest.raises(errors.UsageError, match=f'^--{name}={value}: allowed:'):
      use()


def test_numbers_of_numpy_are_numbers(make):
  env = make(maze_size=np.int64(7), episode_seconds=np.float32(1))
  *_, truncated = play(env, [0] * 9, seed=1)
  assert np.flatnonzero(truncated).tolist() == [9]  # 35 = 8 * 4 + 3 tics.
  assert type(env.action_repeat) is int


def test_the_shortest_episode_is_one_step(make):
  env = make(episode_seconds=1e-9)
  env.reset(seed=1)
  assert env.step(np.int64(3))[3]


def test_calls_in_the_wrong_order_are_refused(make):
  env = make()
  with pytest.raises(gymnasium.error.ResetNeeded):
    env.step(0)
  env.reset(seed=1)
  for action in (-1, 8):
    with pytest.raises(ValueError, match=f'action={action}: allowed: 0 to 7'):
      env.step(action)
  env.close()
  with pytest.raises(gymnasium.error.ClosedEnvironmentError):
    env.reset()


def test_a_bad_render_mode():
  with pytest.raises(
    errors.UsageError, match='render_mode=human: allowed: None'
  ):
    foraging.Labyrinth(render_mode='human')


def test_long_steps_take_the_same_apples_as_short_ones(make):
  short = make(maze_size=11, apples=40)
  long = make(maze_size=11, apples=40, action_repeat=32)
  short.reset(seed=1)
  long.reset(seed=1)
  rng = np.random.default_rng(1)
  total = 0.0
  for action in rng.choice([0, 0, 0, 6, 7], size=60):
    rewards = 0.0
    for _ in range(8):
      rewards += short.step(action)[1]
      if rewards >= 10:  # The portal ends a step.
        break
    _, reward, _, truncated, _ = long.step(action)
    assert reward == rewards
    assert long.apples_left == short.apples_left
    assert (long.x, long.y) == (short.x, short.y)
    total += reward
  assert total > 10


def test_apples_need_room_and_so_does_the_agent(make):
  # All 9 cells of a maze of 5x5: the portal, the agent, and 7 apples.
  env = make(maze_size=5, apples=7)
  env.reset(seed=1)
  assert len(env.maze.free) == 1
  with pytest.raises(errors.UsageError, match='--apples=8: no cell is left'):
    foraging.Labyrinth(maze_size=5, apples=8)
