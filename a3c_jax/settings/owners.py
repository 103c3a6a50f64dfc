"""The settings of all algorithms and of all runtimes, and who has which."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses

from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import Algorithm
from a3c_jax.core import errors
from a3c_jax.envs.domain import Domain
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings.common import Config


def of_runtimes() -> set[str]:
  """Returns the names of the settings of all runtimes."""
  return {
    name for each in runtimes.names() for name in runtimes.get(each).settings
  }


def all_settings() -> set[str]:
  """Returns the names of the settings that not every run has."""
  return of_runtimes() | {
    name for each in registry.names() for name in registry.get(each).settings
  }


def check_apart(algorithm: Algorithm, domain: Domain) -> None:
  """Checks that a name means one setting: a flag or a key of config.json.

  `register` cannot check this: an algorithm knows neither domains nor runtimes,
  which may be registered after it.

  Raises:
    UsageError: naming the setting and the two that have it.
  """
  groups: list[dict[str, Iterable[str]]] = [
    {'every run': [field.name for field in dataclasses.fields(Config)]},
    {
      f'runtime {name}': runtimes.get(name).settings
      for name in runtimes.names()
    },
    {f'algorithm {algorithm.name}': algorithm.settings},
    {
      f'domain {domain.name}': [
        field.name for field in dataclasses.fields(domain.options)
      ]
    },
  ]
  owner_of: dict[str, str] = {}
  for group in groups:
    # Within a group settings may be shared.
    found = {name: owner for owner, names in group.items() for name in names}
    for name in found.keys() & owner_of.keys():
      raise errors.UsageError(
        f'--{name}: a setting of {owner_of[name]} and of {found[name]}; '
        'allowed: another name in one of them'
      )
    owner_of |= found
