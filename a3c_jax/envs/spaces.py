"""Spaces of one environment: as records, and conversion of actions to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces
from gymnasium.vector import utils
import numpy as np

_MOST_NUMBERS = 2**24  # Of an observation: a file must not exhaust memory.


class Spaces(NamedTuple):
  """The spaces of one environment of a run."""

  observation: gymnasium.Space
  action: gymnasium.Space  # of a learner's actions
  native_action: gymnasium.Space  # the environment's own


class OnlySpaces(gymnasium.vector.VectorEnv):
  """Spaces without an environment: enough to make a learner, not to step."""

  num_envs = 1

  def __init__(self, of: Spaces):
    self.single_observation_space = of.observation
    self.single_action_space = of.action
    self.native_action_space = of.native_action
    self.observation_space = utils.batch_space(of.observation, 1)
    self.action_space = utils.batch_space(of.action, 1)


def shape_and_dtype(
  space: gymnasium.Space,
) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and data type of the arrays that a space contains.

  Raises:
    ValueError: if it contains no arrays.
  """
  if space.shape is None or space.dtype is None:
    raise ValueError(f'{space} does not contain arrays')
  return space.shape, space.dtype


def of(env: gymnasium.vector.VectorEnv) -> Spaces:
  """The spaces of one environment of a vector environment."""
  return Spaces(
    env.single_observation_space,
    env.single_action_space,
    native_action_space(env),
  )


def to_units(of_run: Spaces) -> Callable[[Any], np.ndarray]:
  """As `to_native`, if the environment's own actions differ from a learner's.

  Else the function only converts the data type: vector environments that
  `gym.make` did not make take a learner's actions as they are.
  """
  native = of_run.native_action
  if of_run.action == native:
    return lambda action: np.asarray(action, native.dtype)
  return to_native(native)


def to_native(space: gymnasium.Space) -> Callable[[Any], np.ndarray]:
  """A function from a learner's actions to those of the environment.

  A learner's discrete actions count from 0. Its continuous actions have no
  bounds: -1 to 1 spans the environment's box, and actions outside are clipped.

  Args:
    space: the environment's own action space: Discrete, or a bounded Box.

  Returns:
    A function of an action, or of an array of actions [..., *shape], that
    returns the environment's units in the data type of its space.

  Raises:
    TypeError: if the space is neither Discrete nor a Box.
  """
  if isinstance(space, spaces.Discrete):
    return lambda action: (
      space.dtype.type(space.start) + np.asarray(action, space.dtype)
    )
  if not isinstance(space, spaces.Box):
    raise TypeError(f'actions of {space}; allowed: Discrete, Box')
  low, high = np.float64(space.low), np.float64(space.high)
  middle, half = (low + high) / 2, (high - low) / 2

  def to_box(action):  # Clips last, so that no rounding leaves the box.
    return np.clip(middle + half * action, low, high).astype(space.dtype)

  return to_box


def native_action_space(env: gymnasium.vector.VectorEnv) -> gymnasium.Space:
  """The action space of one of its environments, in that one's own units.

  It is the attribute of this name, which vector environments of `gym.make`
  have. Other vector environments take a learner's actions as they are.
  """
  default = env.single_action_space
  return getattr(env.unwrapped, 'native_action_space', default)


def to_record(space: spaces.Box | spaces.Discrete) -> dict[str, Any]:
  """A record for JSON of which `from_record` makes the space again."""
  if isinstance(space, spaces.Discrete):
    return {
      'kind': 'Discrete',
      'n': int(space.n),
      'start': int(space.start),
      'dtype': space.dtype.name,
    }
  return {
    'kind': 'Box',
    'shape': list(space.shape),
    'dtype': space.dtype.name,
    'low': _bound(space.low),
    'high': _bound(space.high),
  }


def from_record(record: Mapping[str, Any]) -> spaces.Box | spaces.Discrete:
  """The space of which `to_record` made a record.

  Raises:
    ValueError, TypeError, KeyError: if it is no such record.
  """
  dtype = np.dtype(record['dtype'])
  if dtype.kind not in 'biuf':
    raise ValueError(f'a space of {dtype}')
  if record['kind'] == 'Discrete':
    return spaces.Discrete(record['n'], start=record['start'], dtype=dtype.type)
  if record['kind'] != 'Box':
    raise ValueError(f'a space of kind {record["kind"]}')
  shape = tuple(record['shape'])
  if math.prod(shape) > _MOST_NUMBERS:
    raise ValueError(f'a space of shape {shape}')
  low, high = (
    # From text: JSON has no infinity, and an integer keeps all its digits.
    np.broadcast_to(_numbers(record[name], dtype), shape)
    for name in ('low', 'high')
  )
  return spaces.Box(low, high, shape, dtype.type)


def _numbers(text, dtype):
  values = np.array(text)
  return (values.astype(int) if dtype.kind == 'b' else values).astype(dtype)


def to_records(of_run: Spaces) -> dict[str, Any] | None:
  """As `to_record`, of all three; None if one is neither Box nor Discrete."""
  records = {}
  for name, space in of_run._asdict().items():
    if not isinstance(space, (spaces.Box, spaces.Discrete)):
      return None
    records[name] = to_record(space)
  return records


def from_records(records: Mapping[str, Any]) -> Spaces:
  """The spaces of which `to_records` made records.

  Raises:
    ValueError, TypeError, KeyError: as `from_record`.
  """
  found = Spaces(*(from_record(records[name]) for name in Spaces._fields))
  if not isinstance(found.observation, spaces.Box):
    raise ValueError('observations that are no Box')
  action, native = found.action, found.native_action
  if (type(action), action.shape) != (type(native), native.shape) or (
    getattr(action, 'n', None) != getattr(native, 'n', None)
  ):
    raise ValueError('actions of a learner that the environment cannot take')
  return found


def _bound(values: np.ndarray) -> Any:
  """The bounds as text, since JSON has no infinity; one if all are equal."""
  if values.dtype.kind == 'b':
    values = values.astype(int)  # NumPy reads the text 'False' as true.
  if values.size and (values == values.flat[0]).all():
    return str(values.flat[0].item())
  return values.astype(str).tolist()
