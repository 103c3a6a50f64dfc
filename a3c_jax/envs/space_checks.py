"""Checks that the learners can use the spaces of an environment."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
from gymnasium import spaces
import numpy as np

from a3c_jax.core import errors
from a3c_jax.envs import boundary


def check_spaces(
  observation_space: Any, action_space: Any, name: str
) -> tuple[spaces.Box, spaces.Discrete | spaces.Box]:
  """The two spaces, if the learners can use them.

  Args:
    observation_space: what the environment has under this name.
    action_space: likewise.
    name: of the environment, for messages.

  Raises:
    UsageError: naming the space that is not supported, with a hint.
  """
  box = isinstance(observation_space, spaces.Box)
  if not box or 0 in observation_space.shape:
    raise errors.UsageError(
      f'--env={name}: observation space {_as_text(observation_space)} is '
      'not supported; allowed: Box that is not empty'
      + _hint_for_observations(observation_space)
    )
  if not isinstance(action_space, spaces.Discrete) and not (
    _is_bounded_vector(action_space)
  ):
    raise errors.UsageError(
      f'--env={name}: action space {_as_text(action_space)} is not '
      'supported; allowed: Discrete, or a Box of floats of one axis with a '
      'finite lower and a larger finite upper bound for each'
      + _hint_for_actions(action_space)
    )
  return observation_space, action_space


def _is_bounded_vector(space) -> bool:
  """Whether it is a Box of floats, of one axis, with finite bounds."""
  return (
    isinstance(space, spaces.Box)
    and len(space.shape) == 1
    and 0 not in space.shape
    and np.issubdtype(space.dtype, np.floating)
    and bool(np.isfinite([space.low, space.high]).all())
    and bool((space.low < space.high).all())
  )


def _as_text(space) -> str:
  if space is None:
    return 'None (is it set before the constructor ends?)'
  if isinstance(space, gymnasium.Space):
    return boundary.in_one_line(space)
  if isinstance(space, type):
    return f'{space.__name__}, a class,'
  old = type(space).__module__.split('.')[0] == 'gym'
  of = ' of the old package gym' if old else f', a {type(space).__name__},'
  return f'{boundary.in_one_line(space)}{of}'


def _hint_for_observations(space) -> str:
  """A hint, for spaces that FlattenObservation flattens; else ''."""
  if not isinstance(space, gymnasium.Space) or isinstance(space, spaces.Box):
    return ''
  if not space.is_np_flattenable or not spaces.flatdim(space):
    return ''
  numbers = f'{spaces.flatdim(space)} numbers'
  if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
    numbers += ', one-hot'
  return (
    '. A function that returns gymnasium.wrappers.FlattenObservation(env), '
    f'named by --env=module:function, gives {numbers}'
  )


def _hint_for_actions(space) -> str:
  """A hint, for spaces that can be numbered or flattened; else ''."""
  wrapper = '. A gymnasium.wrappers.TransformAction with the action space'
  if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
    sizes = getattr(space, 'nvec', np.full(space.shape, 2)).ravel().tolist()
    combinations = math.prod(sizes)
    return f'{wrapper} Discrete({combinations}) can number the combinations'
  if isinstance(space, spaces.Dict | spaces.Tuple):
    return (
      f'{wrapper} gymnasium.spaces.flatten_space(…) helps if all parts are '
      'bounded Boxes, one that is Discrete if all parts are'
    )
  if isinstance(space, spaces.Box):
    return f'{wrapper} Box(-1, 1, [{math.prod(space.shape)}]) can convert them'
  return ''
