"""The settings of all algorithms and of all runtimes."""

from __future__ import annotations

from a3c_jax.algorithms import registry
from a3c_jax.runtimes import registry as runtimes


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
