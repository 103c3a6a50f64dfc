"""A scripted driver that knows the track: a baseline for TORCS."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from a3c_jax.envs.torcs import racing


class Abilities(NamedTuple):
  """The driver's estimate of a car's abilities."""

  grip: float  # Sideways, in multiples of gravity.
  braking: float  # m/s^2
  lock: float  # Largest angle of its wheels, radians.


CARS = {
  'slow': Abilities(1.0, 4.0, math.radians(38)),
  'fast': Abilities(1.6, 11.2, math.radians(21)),
}
_OTHERS = Abilities(0.85, 6.0, math.radians(21))
_GRAVITY = 9.81  # m/s^2
_LOOK, _LOOK_SECONDS = 6.0, 0.5  # Metres ahead at rest; more with speed.
_MARGIN = 2.0  # m/s above the wanted speed at which it brakes.


def act(env: racing.Torcs) -> int:
  """The driver's next action, which keeps the car fast and on the road.

  It steers towards a point in the middle of the track, which is further ahead
  the faster the car is. Its speed is `wanted_speed`. It ignores other cars.

  Args:
    env: after its first reset.
  """
  state, line = env.game.state, env.game.line()
  car = CARS.get(env.options.car, _OTHERS)
  length = float(state.length)
  speed = max(0.0, float(state.speed))
  # One lap, from the car on.
  first = int(float(state.distance) / length * len(line)) % len(line)
  line = np.roll(line, -first)
  step = length / len(line)
  ahead = line[max(1, int((_LOOK + _LOOK_SECONDS * speed) / step)) % len(line)]
  bearing = math.atan2(ahead['y'] - state.y, ahead['x'] - state.x)
  heading = float(line['heading'][0] - state.angle)
  steer = math.remainder(bearing - heading, 2 * math.pi) / car.lock
  steering = 'straight'
  if abs(steer) > racing.STEER / 2:
    steering = 'left' if steer > 0 else 'right'
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
  """The highest speed at which a car can stay on the track ahead.

  In a curve of radius r, that is sqrt(grip g r). Before a curve, it is the
  speed from which the car can brake in time.

  Args:
    curve: [N] 1/m, curvature of the track from the car on.
    step: m between the points of `curve`.
    grip: sideways, in multiples of gravity.
    braking: m/s^2.

  Returns:
    m/s; infinite if there is no curve.
  """
  with np.errstate(divide='ignore'):
    squared = grip * _GRAVITY / np.abs(curve)
  distance = step * np.arange(len(curve))
  return math.sqrt((squared + 2 * braking * distance).min())
