"""The registry of algorithms that `--algo` can name."""

from __future__ import annotations

import dataclasses
import inspect

from a3c_jax.algorithms import builtin
from a3c_jax.algorithms.algorithm import Algorithm
from a3c_jax.core import errors

_algorithms: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
  """Makes an algorithm known to flags, training, evaluation and figures.

  Raises:
    ValueError: if the name is taken, if a setting has no default or source, or
      if another algorithm has a setting of that name and another type.
  """
  name = algorithm.name
  if name in _algorithms:
    raise ValueError(f'algorithm {name} is registered already')
  for field in algorithm.settings.values():
    if field.default is dataclasses.MISSING or not field.metadata['source']:
      raise ValueError(f'{name}: {field.name} needs a default and its source')
    for other in _algorithms.values():
      known = other.settings.get(field.name, field)
      if _name(known.type) != _name(field.type):
        raise ValueError(
          f'{name}: {field.name} is {field.type}, but {known.type} in '
          f'{other.name}'
        )
  _algorithms[name] = algorithm


def names() -> tuple[str, ...]:
  """Returns the names of all algorithms; those of the paper come first."""
  return tuple(_algorithms)


def presets() -> tuple[str, ...]:
  """Returns the values of `--preset` of all algorithms."""
  own = (preset for each in _algorithms.values() for preset in each.presets)
  return ('paper', *dict.fromkeys(own))


def continuous() -> str:
  """Returns the names of those with continuous actions, as text."""
  return ', '.join(
    name for name, each in _algorithms.items() if each.continuous
  )


def get(name: str) -> Algorithm:
  """Returns the algorithm of a name.

  Raises:
    UsageError: naming `--algo` and the allowed names, if there is no such one.
  """
  if name not in _algorithms:
    raise errors.UsageError(
      f'--algo={errors.as_text(name)}: allowed: {", ".join(names())}'
    )
  return _algorithms[name]


def _name(kind) -> str:
  # A type, unless its module has `from __future__ import annotations`.
  return kind if isinstance(kind, str) else inspect.formatannotation(kind)


for _algorithm in builtin.ALGORITHMS:
  register(_algorithm)
