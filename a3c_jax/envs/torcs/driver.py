"""A programmed driver, which knows the track: what to hold a policy against."""

from __future__ import annotations

import math

import numpy as np

from a3c_jax.envs.torcs import racing

_GRAVITY = 9.81  # m/s^2
_GRIP = {'slow': 0.85, 'fast': 1.6}  # Sideways, in multiples of gravity.
_BRAKING = 7.0  # m/s^2, for each multiple of gravity of its grip.
_LOCK = math.radians(21)  # What the wheels of most cars can turn.
_LOOK, _LOOK_SECONDS = 6.0, 0.35  # Metres ahead at rest; more with speed.
_MARGIN = 2.0  # m/s above the speed that it wants, before it brakes.


def act(env: racing.Torcs) -> int:
  """The action that keeps a car on the road, and fast.

  It steers at a place in the middle of the track, further ahead the faster it
  is, and drives as `wanted_speed` says. It does not see other cars.

  Args:
    env: that has been reset.
  """
  state, line = env.game.state, env.game.line()
  length = float(state.length)
  speed = max(0.0, float(state.speed))
  # From here on, once around.
  first = int(float(state.distance) / length * len(line)) % len(line)
  line = np.roll(line, -first)
  step = length / len(line)
  ahead = line[max(1, int((_LOOK + _LOOK_SECONDS * speed) / step)) % len(line)]
  bearing = math.atan2(ahead['y'] - state.y, ahead['x'] - state.x)
  heading = float(line['heading'][0] - state.angle)
  share = math.remainder(bearing - heading, 2 * math.pi) / _LOCK
  steering = 'straight'
  if abs(share) > racing.STEER / 2:
    steering = 'left' if share > 0 else 'right'
  grip = _GRIP.get(env.options.car, _GRIP['slow'])
  wanted = wanted_speed(line['curve'], step, grip)
  pedal = 'accelerate'
  if speed >= wanted + _MARGIN:
    return racing.ACTIONS.index('brake, straight')
  if speed >= wanted:
    pedal = 'coast'
  return racing.ACTIONS.index(f'{pedal}, {steering}')


def wanted_speed(curve: np.ndarray, step: float, grip: float) -> float:
  """The highest speed from which a car can keep to the track ahead.

  In a curve of radius r it may have sqrt(grip g r), and at a distance before it
  so much more that it can brake in time.

  Args:
    curve: [N] 1/m, of the track from here on.
    step: m between its places.
    grip: sideways, in multiples of gravity.

  Returns:
    m/s; infinite where there is no curve.
  """
  with np.errstate(divide='ignore'):
    squared = grip * _GRAVITY / np.abs(curve)
  away = step * np.arange(len(curve))
  return math.sqrt((squared + 2 * _BRAKING * grip * away).min())
