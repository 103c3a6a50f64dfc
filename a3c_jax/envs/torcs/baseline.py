"""A programmed driver, which knows the track: what to hold a policy against."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from a3c_jax.envs.torcs import racing


class Abilities(NamedTuple):
  """What the driver thinks that a car can do."""

  grip: float  # Sideways, in multiples of gravity.
  braking: float  # m/s^2
  lock: float  # Radians that its wheels turn.


CARS = {
  'slow': Abilities(1.0, 4.0, math.radians(38)),
  'fast': Abilities(1.6, 11.2, math.radians(21)),
}
_OTHERS = Abilities(0.85, 6.0, math.radians(21))
_GRAVITY = 9.81  # m/s^2
_LOOK, _LOOK_SECONDS = 6.0, 0.5  # Metres ahead at rest; more with speed.
_MARGIN = 2.0  # m/s above the speed that it wants, before it brakes.


def act(env: racing.Torcs) -> int:
  """The action that keeps a car on the road, and fast.

  It steers at a place in the middle of the track, further ahead the faster it
  is, and drives as `wanted_speed` says. It does not see other cars.

  Args:
    env: that has been reset.
  """
  state, line = env.game.state, env.game.line()
  car = CARS.get(env.options.car, _OTHERS)
  length = float(state.length)
  speed = max(0.0, float(state.speed))
  # From here on, once around.
  first = int(float(state.distance) / length * len(line)) % len(line)
  line = np.roll(line, -first)
  step = length / len(line)
  ahead = line[max(1, int((_LOOK + _LOOK_SECONDS * speed) / step)) % len(line)]
  bearing = math.atan2(ahead['y'] - state.y, ahead['x'] - state.x)
  heading = float(line['heading'][0] - state.angle)
  share = math.remainder(bearing - heading, 2 * math.pi) / car.lock
  steering = 'straight'
  if abs(share) > racing.STEER / 2:
    steering = 'left' if share > 0 else 'right'
  wanted = wanted_speed(line['curve'], step, car.grip, car.braking)
  pedal = 'accelerate'
  if speed >= wanted + _MARGIN:
    return racing.ACTIONS.index('brake, straight')
  if speed >= wanted:
    pedal = 'coast'
  return racing.ACTIONS.index(f'{pedal}, {steering}')


def wanted_speed(
  curve: np.ndarray, step: float, grip: float, braking: float
) -> float:
  """The highest speed from which a car can keep to the track ahead.

  In a curve of radius r it may have sqrt(grip g r), and at a distance before it
  so much more that it can brake in time.

  Args:
    curve: [N] 1/m, of the track from here on.
    step: m between its places.
    grip: sideways, in multiples of gravity.
    braking: m/s^2.

  Returns:
    m/s; infinite where there is no curve.
  """
  with np.errstate(divide='ignore'):
    squared = grip * _GRAVITY / np.abs(curve)
  away = step * np.arange(len(curve))
  return math.sqrt((squared + 2 * braking * away).min())
