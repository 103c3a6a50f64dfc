"""Labyrinth: a new random maze in every episode, in first-person view."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from typing import Any

import gymnasium
import numpy as np

from a3c_jax.core import cpu, errors, fields, packages
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import gym
from a3c_jax.envs.labyrinth import doom, mazes, wads

APPLE_REWARD, PORTAL_REWARD = 1.0, 10.0
SIZE = 84  # Pixels of an observation, height and width.
TURN = 5.625  # Degrees per tic: a right angle takes 16.
_PUSH = 25.0  # Acceleration of Doom's walk, to about 8 units per tic.
# Per tic: turn to the right, acceleration forward and to the right.
_MOVES: dict[str, tuple[float, float, float]] = {
  'forward': (0, _PUSH, 0),
  'backward': (0, -_PUSH, 0),
  'step left': (0, 0, -_PUSH),
  'step right': (0, 0, _PUSH),
  'turn left': (-TURN, 0, 0),
  'turn right': (TURN, 0, 0),
  'forward, turn left': (-TURN, _PUSH, 0),
  'forward, turn right': (TURN, _PUSH, 0),
}
ACTIONS = tuple(_MOVES)
_PROBES = 100  # Mazes generated to check that there is room for the apples.
_TICS_AT_ONCE = 4  # Between two checks of what the agent took.
_VIEW = 336  # Pixels of each half of a rendered frame.


@dataclasses.dataclass(frozen=True)
class Options:
  """Mazes, and the length of an episode."""

  maze_size: int = fields.setting(
    'Cells per side of a maze, with its outer walls.',
    'an odd whole number, 5 to 101',
    lambda value: type(value) is int and value % 2 == 1 and 5 <= value <= 101,
    default=9,
    source='ours',
  )
  apples: int = fields.count(
    'Apples in a maze.', least=0, most=1000, default=5, source='ours'
  )
  episode_seconds: float = fields.positive(
    'Length of an episode, seconds of 35 tics each.',
    default=60.0,
    source='paper, section 5.4',
  )
  textures: str = fields.one_of(
    'Walls of each room look different (rooms), or all alike (plain).',
    ('rooms', 'plain'),
    default='rooms',
    source='ours',
  )
  action_repeat: int = fields.count(
    'Tics of the engine per agent step.', most=35, default=4, source='as Atari'
  )


class Labyrinth(gymnasium.Env):
  """A maze of rooms and corridors with apples and a portal.

  After Mnih et al. 2016, arXiv:1602.01783, section 5.4. An apple gives reward 1
  and disappears. The portal gives reward 10, moves the agent to a random place
  and restores all apples. After 60 seconds the episode is truncated; it never
  terminates. Every episode has a new maze. The same seed gives the same mazes
  and, for the same actions, the same observations.

  Observations are the agent's first-person view, [84, 84, 3] uint8 RGB. The
  field of view is 90 degrees wide. Doom renders 160x120 pixels; each pixel of
  an observation is the mean of four of them.

  Actions, as in the small set that is used with DeepMind Lab:

  | action | effect for `action_repeat` tics of 1/35 s |
  | --- | --- |
  | 0 | forward |
  | 1 | backward |
  | 2 | step left |
  | 3 | step right |
  | 4 | turn left, 5.625 degrees per tic |
  | 5 | turn right |
  | 6 | forward, turn left |
  | 7 | forward, turn right |

  The agent has Doom's inertia, and moves up to 3 cells per second. Touching the
  portal ends the step, up to 3 tics later. A new maze takes 2 to 6 ms up to a
  size of 21, and 150 ms for the largest.

  Frames of render mode rgb_array are [336, 672, 3]: the observation, and a map
  with the agent and its path since it last started from a random place.

  Attributes:
    maze: the `mazes.Maze` of this episode.
    apples_left: cells of the apples that are left. Of an apple taken, the
      engine gives no place: the one nearest to the agent is removed.
    x, y, angle: the agent's position in units of the map, and degrees.
    action_repeat: tics per step.
  """

  metadata = {
    'render_modes': ['rgb_array'],
    'reseed_steps': 2_000,  # About four episodes, replayed in a second.
  }

  def __init__(self, *, render_mode: str | None = None, **given: Any):
    """Starts the engine; the other arguments are those of `Options`.

    Raises:
      UsageError: naming the first argument whose value is not allowed, or the
        package that is not installed.
      RunError: if the engine does not start, with the end of its output.
    """
    _check_installed()
    options = fields.settings_of(Options, given)
    gym.check_render_mode(render_mode)
    self._options = options
    self.action_repeat = options.action_repeat
    self._tics: int | None = None  # In this episode so far.
    self._episode_tics = max(
      1, round(doom.TICS_PER_SECOND * options.episode_seconds)
    )
    _check_apples(options)
    self.render_mode = render_mode
    self.metadata = self.metadata | {
      'render_fps': doom.TICS_PER_SECOND / options.action_repeat
    }
    self.observation_space = gymnasium.spaces.Box(
      0, 255, (SIZE, SIZE, 3), np.uint8
    )
    self.action_space = gymnasium.spaces.Discrete(len(ACTIONS))
    self._engine = doom.Engine(wads.resources())

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    maze = None
    while maze is None:
      maze = _generate(self.np_random, self._options)
    self.maze = maze
    self._tics = 0
    self._start()
    return _smaller(self._image), {}

  def step(self, action):
    if self._tics is None:
      raise gymnasium.error.ResetNeeded('reset comes before the first step')
    if not 0 <= action < len(ACTIONS):
      raise ValueError(f'action={action}: allowed: 0 to {len(ACTIONS) - 1}')
    reward = 0.0
    end = min(self._tics + self.action_repeat, self._episode_tics)
    while self._tics < end:
      # In so few tics it cannot pass more than one apple.
      tics = min(_TICS_AT_ONCE, end - self._tics)
      state = self._engine.act(*_MOVES[ACTIONS[action]], tics)
      self._tics += tics
      self._note(state)
      reward += APPLE_REWARD * self._take(state.items)
      if state.secrets:
        reward += PORTAL_REWARD
        self._start()
        break
    truncated = self._tics >= self._episode_tics
    return _smaller(self._image), reward, False, truncated, {}

  def _start(self):
    """Puts the agent at a random place, and restores all apples."""
    free = self.maze.free
    start = free[self.np_random.integers(len(free))]
    heading = int(self.np_random.integers(mazes.HEADINGS))
    self.apples_left = list(self.maze.apples)
    self._path: list[tuple[float, float]] = []
    self._note(self._engine.load(wads.level(self.maze, start, heading)))

  def _note(self, state):
    self.x, self.y, self.angle = state.x, state.y, state.angle
    if self.render_mode:
      self._path.append((state.x, state.y))
    self._image = state.image

  def _take(self, items):
    """Removes the nearest apples until `items` are taken."""
    taken = items - (len(self.maze.apples) - len(self.apples_left))
    for _ in range(taken):
      nearest = min(
        self.apples_left,
        key=lambda cell: math.dist((self.x, self.y), mazes.centre(cell)),
      )
      self.apples_left.remove(nearest)
    return taken

  def render(self):
    if self.render_mode is None:
      return None
    times = _VIEW // SIZE
    view = _smaller(self._image).repeat(times, 0).repeat(times, 1)
    return np.concatenate([view, self._map()], axis=1)

  def _map(self):
    """Walls, apples, the portal, the path and the agent, [H, W, 3] uint8."""
    size = len(self.maze.walls)
    scale = _VIEW / (size * mazes.CELL)  # Pixels per unit.
    index = np.arange(_VIEW) * size // _VIEW
    walls = self.maze.walls[index][:, index]
    pixels = np.where(walls[..., None], 60, 225).astype(np.uint8).repeat(3, 2)
    rows, columns = np.mgrid[:_VIEW, :_VIEW]

    def dot(point, radius, colour):
      x, y = point
      far = np.hypot(columns - x * scale, rows + y * scale)
      pixels[far <= radius * scale] = colour

    for cell in self.apples_left:
      dot(mazes.centre(cell), 18, (220, 30, 30))
    dot(mazes.centre(self.maze.portal), 34, (40, 90, 255))
    for begin, end in zip(self._path, self._path[1:], strict=False):
      x, y = np.linspace(begin, end, 32).T * scale
      pixels[(-y).astype(int), x.astype(int)] = 0, 120, 0
    dot((self.x, self.y), 26, (0, 150, 0))
    angle = math.radians(self.angle)
    nose = self.x + 20 * math.cos(angle), self.y + 20 * math.sin(angle)
    dot(nose, 10, (255, 255, 255))
    return pixels

  def close(self):
    self._engine.close()


def _before_middles(pixels):
  """The engine's pixel before the middle of each pixel of an observation."""
  return ((np.arange(SIZE) + 0.5) * pixels / SIZE - 0.5).astype(int)


_ROWS, _COLUMNS = _before_middles(doom.HEIGHT), _before_middles(doom.WIDTH)


def _smaller(image):
  """The engine's image scaled to an observation, by means of 2x2 pixels."""
  wide = image.astype(np.uint16)
  total = wide.take(_ROWS, 0) + wide.take(_ROWS + 1, 0)
  total = total.take(_COLUMNS, 1) + total.take(_COLUMNS + 1, 1)
  return ((total + 2) // 4).astype(np.uint8)


def _generate(rng, options):
  return mazes.generate(
    rng,
    size=options.maze_size,
    apples=options.apples,
    rooms=options.textures == 'rooms',
  )


def _check_installed():
  if sys.platform != 'linux':
    raise errors.UsageError(
      f'Labyrinth on {sys.platform}: the supervisor of its engine needs Linux'
    )
  packages.check_installed(
    'Labyrinth',
    'vizdoom',
    'labmaze',
    extra='labyrinth',
    needs='Python 3.11 or 3.12',
  )


def _check_apples(options):
  rng = np.random.default_rng(0)
  if all(_generate(rng, options) is None for _ in range(_PROBES)):
    raise errors.UsageError(
      f'--apples={options.apples}: no cell is left for the agent in a maze of '
      f'--maze_size={options.maze_size}; allowed: fewer apples, larger mazes'
    )


DOMAIN = domain_lib.Domain(
  name='labyrinth',
  options=Options,
  make=functools.partial(gym.make_own, Labyrinth),
  env_name=lambda options: 'labyrinth',
  defaults={
    'frames': (10_000_000, 'ours'),
    'threads': (min(cpu.cores(), 16), 'the cores'),
    'envs_per_thread': (8, 'ours: most frames per second'),
    'learning_rate': (2e-3, 'ours: as good as 7e-4, better than 4e-3'),
    'lstm': (True, 'paper, section 5.4'),
    'reward_clip': (0.0, "ours: else the portal's 10 would count as 1"),
    'eval_frames': (1_000_000, 'ours'),
    'eval_protocol': ('plain', 'ours'),
  },
  action_repeat=lambda options: options.action_repeat,
  image_layout=lambda options: 'HWC',
  packages=('vizdoom', 'labmaze'),
)
