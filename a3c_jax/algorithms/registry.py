"""The algorithms that `--algo` can name: the four of the paper, and others."""

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
    ValueError: if the name is taken, or a setting has no default or source, or
      another type than one of the same name of another algorithm.
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
  """Of all algorithms, those of the paper first."""
  return tuple(_algorithms)


def presets() -> tuple[str, ...]:
  """What `--preset` can be for any of them."""
  own = (preset for each in _algorithms.values() for preset in each.presets)
  return ('paper', *dict.fromkeys(own))


def continuous() -> str:
  """The names, separated by commas, of those that take continuous actions."""
  return ', '.join(
    name for name, each in _algorithms.items() if each.continuous
  )


def get(name: str) -> Algorithm:
  """The algorithm of a name.

  Raises:
    UsageError: naming `--algo` and the allowed names, if there is none.
  """
  if name not in _algorithms:
    raise errors.UsageError(
      f'--algo={errors.as_text(name)}: allowed: {", ".join(names())}'
    )
  return _algorithms[name]


def _name(kind) -> str:
  # Of a module without `from __future__ import annotations` it is a type.
  return kind if isinstance(kind, str) else inspect.formatannotation(kind)


for _algorithm in builtin.ALGORITHMS:
  register(_algorithm)
