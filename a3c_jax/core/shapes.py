"""Checks of shapes whose messages name the argument."""

from __future__ import annotations

import re

import jax
import numpy as np


def check_shapes(**arrays: tuple[jax.Array, str]) -> None:
  """Checks that axes with the same letter have the same length.

  It works on tracers: inside `jax.jit` it costs nothing once compiled.

  >>> check_shapes(q_tm1=(np.zeros([5, 3]), 'TA'), a_tm1=(np.zeros([5]), 'T'))
  >>> check_shapes(q_tm1=(np.zeros([5, 3]), 'TA'), a_tm1=(np.zeros([4]), 'T'))
  Traceback (most recent call last):
  ...
  ValueError: a_tm1 has shape [4], expected [T] with T = 5 as in q_tm1

  Args:
    **arrays: by the argument's name, the array and one letter per axis. A 1
      after the letter adds one: 'T1' is one axis of length T + 1.

  Raises:
    ValueError: naming the first argument with another number of axes, or with
      another length of an axis than an earlier argument.
  """
  known: dict[str, tuple[int, str]] = {}
  for name, (array, axes) in arrays.items():
    shape = list(np.shape(array))
    letters = re.findall('([A-Z])(1?)', axes)
    expected = ', '.join(axis + '+1' * bool(extra) for axis, extra in letters)
    problem = f'{name} has shape {shape}, expected [{expected}]'
    if len(shape) != len(letters):
      raise ValueError(problem)
    for (axis, extra), size in zip(letters, shape, strict=True):
      length, owner = known.setdefault(axis, (size - len(extra), name))
      if size - len(extra) != length:
        raise ValueError(f'{problem} with {axis} = {length} as in {owner}')
