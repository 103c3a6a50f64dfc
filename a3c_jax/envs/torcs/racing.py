"""TORCS: driving a car on a race track, from images."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import math
from typing import Any

import gymnasium
import numpy as np

from a3c_jax.core import cpu, errors, fields
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import gym
from a3c_jax.envs.torcs import game, races
from a3c_jax.envs.torcs.races import Options as Options

SIZE = 84  # Pixels of an observation, height and width.
CARS = {'slow': 'p406', 'fast': 'car1-trb1'}
STEER = 0.2  # As a fraction of the wheels' largest angle.
_MOVES = {  # Steer, accelerate, brake.
  'accelerate, left': (STEER, 1.0, 0.0),
  'accelerate, straight': (0.0, 1.0, 0.0),
  'accelerate, right': (-STEER, 1.0, 0.0),
  'coast, left': (STEER, 0.0, 0.0),
  'coast, straight': (0.0, 0.0, 0.0),
  'coast, right': (-STEER, 0.0, 0.0),
  # One way to brake only: with three, random play would hardly move.
  'brake, straight': (0.0, 0.0, 1.0),
}
ACTIONS = tuple(_MOVES)
STUCK_SPEED, STUCK_SECONDS = 1.0, 5.0  # m/s along the track.
BACKWARDS_SECONDS = 1.0
OFF_ROAD_SECONDS = 2.0
MOST_DAMAGE = 10_000  # As in TORCS' own races.
_LINE = 1e-3  # Fraction of a lap: after the line, so that no lap counts yet.
_VIEW = 336  # Pixels of each half of a rendered frame.


class Torcs(gymnasium.Env, gymnasium.utils.EzPickle):
  """A car on a race track of TORCS 1.3.7, the unchanged game.

  After Mnih et al. 2016, arXiv:1602.01783, section 5.2: the agent drives from
  images, and is rewarded for speed along the track. The car, the track, the
  actions and the length of an episode are ours: the paper does not give them.

  Observations are the camera's image, [84, 84, 3] uint8 RGB, one per step. The
  reward is the car's speed along the middle of the track in m/s, negative if it
  moves backwards: the distance gained in the step, divided by its seconds. The
  seconds are those of TORCS' clock: a tick of 0.02 s is sometimes 0.022. So the
  sum of reward times seconds is the distance.

  Steering is 0.2 of the wheels' largest angle; gears are automatic. Actions:

  | action | effect for `action_repeat` ticks |
  | --- | --- |
  | 0 | accelerate, left |
  | 1 | accelerate, straight |
  | 2 | accelerate, right |
  | 3 | coast, left |
  | 4 | coast, straight |
  | 5 | coast, right |
  | 6 | brake, straight |

  An episode starts at rest in the middle of the track. It is truncated after
  `episode_seconds`. It terminates if the car

  - is stuck: slower than 1 m/s along the track for 5 seconds;
  - faces backwards for 1 second;
  - has its middle off the road for 2 seconds;
  - has taken 10,000 points of damage.

  `info` has, for the car:

  - 'speed' in m/s;
  - 'distance' gained since the start of the episode, in m;
  - 'position' in m from the start line;
  - 'lap': how often the car passed the start line, at least 0;
  - 'damage' in points;
  - 'to_middle' from -1 at the right edge of the road to 1 at the left edge;
  - 'angle' of the track against the car in radians; left is positive;
  - 'time' in seconds since the start of the episode;
  - with opponents, 'opponents': their positions;
  - at the end of an episode, 'end': stuck, backwards, off road, damage or time.

  The same seed gives the same episodes; the same actions then give the same
  observations. A reset takes 20 ms. With opponents or the camera 'behind' it
  starts a new process, which takes 0.5 to 1.2 s.

  Frames of render mode rgb_array are [336, 672, 3]: the observation, and a map
  with all cars.

  Attributes:
    game: the `game.Game`, with the middle of the track and more of the car.
    options: as given.
    action_repeat: as given.
  """

  metadata = {
    'render_modes': ['rgb_array'],
    'reseed_steps': 2_000,  # Replayed in about 3 seconds.
  }

  def __init__(self, *, render_mode: str | None = None, **given: Any):
    """Prepares the game, which the first reset starts.

    The other arguments are those of `Options`.

    Raises:
      UsageError: naming the first argument whose value is not allowed, or what
        is not installed or compiled.
    """
    options = fields.settings_of(Options, given)
    gymnasium.utils.EzPickle.__init__(self, render_mode=render_mode, **given)
    gym.check_render_mode(render_mode)
    # TORCS' own name of the car.
    race = dataclasses.replace(options, car=CARS.get(options.car, options.car))
    # Raises if something is not installed.
    self.game = game.Game(race, size=SIZE)
    _check_name('track', race.track, races.tracks())
    _check_name('car', race.car, races.cars())
    self.options = options
    self.action_repeat = options.action_repeat
    self._started = False
    self.render_mode = render_mode
    self.metadata = self.metadata | {
      'render_fps': 1 / (game.TICK * options.action_repeat)
    }
    self.observation_space = gymnasium.spaces.Box(
      0, 255, (SIZE, SIZE, 3), np.uint8
    )
    self.action_space = gymnasium.spaces.Discrete(len(ACTIONS))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._started = False
    random = self.options.start == 'random'
    self.game.begin(self.np_random.random() if random else _LINE)
    self._started = True
    state = self.game.state
    self._length = float(state.length)
    self._begin = self._time = float(state.time)
    self._position = self._first = float(state.distance) % self._length
    self._distance = 0.0
    self._first_damage = int(state.damage)  # From falling to the ground.
    # Times at which the car last moved, faced forward, was on the road.
    self._moving = self._forward = self._on_road = self._time
    return self.game.image(), self._info()

  def step(self, action):
    if not self._started:
      raise gymnasium.error.ResetNeeded('reset comes before the first step')
    if not self.action_space.contains(action):
      raise ValueError(f'action={action}: allowed: 0 to {len(ACTIONS) - 1}')
    self.game.step(*_MOVES[ACTIONS[action]])
    state = self.game.state
    time = float(state.time)
    position = float(state.distance) % self._length
    # Modulo the lap: its end is next to its start.
    gained = math.remainder(position - self._position, self._length)
    reward = gained / (time - self._time)
    self._time, self._position = time, position
    self._distance += gained
    end = self._end(reward)
    truncated = not end and time - self._begin >= self.options.episode_seconds
    info = self._info()
    if end or truncated:
      info['end'] = end or 'time'
    return self.game.image(), reward, bool(end), truncated, info

  def _end(self, speed):
    state, time = self.game.state, self._time
    if speed >= STUCK_SPEED:
      self._moving = time
    if abs(state.angle) <= math.pi / 2:
      self._forward = time
    if abs(state.to_middle) <= state.track_width / 2:
      self._on_road = time
    if state.damage - self._first_damage >= MOST_DAMAGE:
      return 'damage'
    if time - self._forward >= BACKWARDS_SECONDS:
      return 'backwards'
    if time - self._moving >= STUCK_SECONDS:
      return 'stuck'
    if time - self._on_road >= OFF_ROAD_SECONDS:
      return 'off road'
    return ''

  def _info(self):
    state = self.game.state
    info = {
      'speed': float(state.speed),
      'distance': self._distance,
      'position': self._position,
      'lap': max(0, math.floor((self._first + self._distance) / self._length)),
      'damage': int(state.damage) - self._first_damage,
      'to_middle': float(2 * state.to_middle / state.track_width),
      'angle': float(state.angle),
      'time': self._time - self._begin,
    }
    if self.options.opponents:
      info['opponents'] = self.game.others()
    return info

  def render(self):
    if self.render_mode is None:
      return None
    if not self._started:
      raise gymnasium.error.ResetNeeded('reset comes before the first frame')
    times = _VIEW // SIZE
    view = self.game.image().repeat(times, 0).repeat(times, 1)
    return np.concatenate([view, self._map()], axis=1)

  def _map(self):
    """The track and all cars from above, [H, W, 3] uint8."""
    line = self.game.line()
    points = np.stack([line['x'], line['y']], axis=1)
    low, high = points.min(0), points.max(0)
    scale = 0.9 * _VIEW / (high - low).max()  # Pixels per metre.
    middle = (low + high) / 2
    pixels = np.full((_VIEW, _VIEW, 3), 60, np.uint8)

    def draw(where, radius, colour):
      columns, rows = ((where - middle) * scale + _VIEW / 2).astype(int).T
      for x, y in itertools.product(range(-radius, radius + 1), repeat=2):
        if math.hypot(x, y) <= radius:
          pixels[_VIEW - rows + y, columns + x] = colour

    draw(points, 2, (225, 225, 225))
    others = self.game.others() / self._length * len(points)
    draw(points[others.astype(int) % len(points)], 4, (0, 0, 0))
    own = np.array([[self.game.state.x, self.game.state.y]])
    # The car may be far from the track.
    draw(np.clip(own, low, high), 5, (230, 40, 40))
    return pixels

  def close(self):
    self.game.close()


def _check_name(flag, name, known):
  if name not in known:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise errors.UsageError(
      f'--{flag}={name}: allowed: {", ".join(near or known)}'
    )


DOMAIN = domain_lib.Domain(
  name='torcs',
  options=Options,
  make=functools.partial(gym.make_own, Torcs),
  env_name=lambda options: 'torcs',
  defaults={
    'frames': (20_000_000, 'ours'),
    'threads': (min(cpu.cores(), 16), 'the cores'),
    'envs_per_thread': (
      4,
      'ours: steps of one environment are too similar',
    ),
    't_max': (20, 'ours; the paper has 5'),
    'learning_rate': (3e-4, 'ours, with the next'),
    'rms_epsilon': (1e-3, 'ours: gradients grow a hundredfold with speed'),
    'max_grad_norm': (10.0, 'ours: with 40, networks died'),
    'gamma': (0.98, 'ours: 8 seconds'),
    'lstm': (True, 'ours: one image does not show speed; not in the paper'),
    'reward_clip': (0.0, 'ours: rewards are m/s'),
    'reward_scale': (0.005, 'ours: gives values of about 10'),
    'eval_frames': (2_000_000, 'ours'),
    'eval_protocol': ('plain', 'ours'),
  },
  action_repeat=lambda options: options.action_repeat,
  image_layout=lambda options: 'HWC',
)
