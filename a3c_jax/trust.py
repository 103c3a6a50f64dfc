"""Which code a config.json would have imported: it may be a stranger's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

# Environments of these are known by their names, so nothing else is imported.
_OWN_PACKAGES = ('gymnasium', 'a3c_jax')


def code_named(
  domain: str, environment: Mapping[str, Any], network: str
) -> dict[str, str]:
  """What names code that has to be imported, by its flag.

  Args:
    domain: of the run.
    environment: its name and options.
    network: its torso; `os:abort` is a name too.
  """
  code = {}
  name = environment['name']
  if domain in ('gym', 'control') and not _is_known(name):
    code['env'] = name
    # Environments such as Shimmy's import what their arguments name.
    arguments = environment.get('env_args')
    if _holds_text(arguments):
      code['env_args'] = str(arguments)
  if ':' in network:
    code['network'] = network
  return code


def _holds_text(value) -> bool:
  if isinstance(value, Mapping):
    value = [*value.values()]
  if isinstance(value, list):
    return any(map(_holds_text, value))
  return isinstance(value, str) and value != ''


def _is_known(name) -> bool:
  """Whether nothing but Gymnasium's and our own packages makes it."""
  if ':' in name:
    return False
  spec = gymnasium.registry.get(name)
  if spec is None:
    return True  # Of dm_control, or refused as unknown.
  entry_points = [
    spec.entry_point,
    *(wrapper.entry_point for wrapper in spec.additional_wrappers),
  ]
  return all(
    isinstance(each, str)
    and each.partition(':')[0].partition('.')[0] in _OWN_PACKAGES
    for each in entry_points
  )
