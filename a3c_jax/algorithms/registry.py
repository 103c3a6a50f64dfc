"""The registry of algorithms that `--algo` can name."""

from __future__ import annotations

from a3c_jax.algorithms import builtin, dqn, gorila, pgql
from a3c_jax.algorithms.algorithm import Algorithm
from a3c_jax.core import errors, fields

_algorithms: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
  """Makes an algorithm known to flags, training, evaluation and figures.

  Raises:
    ValueError: as `fields.check_registered`.
  """
  fields.check_registered(
    'algorithm',
    algorithm.name,
    algorithm.hyperparameters,
    taken=_algorithms,
    beside={name: each.hyperparameters for name, each in _algorithms.items()},
  )
  _algorithms[algorithm.name] = algorithm


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


for _algorithm in (
  *builtin.ALGORITHMS,
  *dqn.ALGORITHMS,
  gorila.GORILA,
  pgql.PGQL_ALGORITHM,
):
  register(_algorithm)
