"""The flags with which a script makes the settings of a run again."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from a3c_jax.envs import domain as domain_lib
from a3c_jax.settings import common
from a3c_jax.settings.common import Config
from a3c_jax.settings.defaults import defaults

_OF_ONE_START = {'workdir', 'seconds', 'profile', 'override', 'tracker'}


def as_flags(config: Config) -> list[str]:
  """Returns the flags that make a config; each is one argument.

  They are the algorithm, the seed, what differs from the defaults, and all
  settings of the runtime, whose defaults depend on the machine. The folder of
  the run is not among them, nor is how long one process trains.
  """
  options = domain_lib.get(config.domain).options()
  environment = _differing(
    dataclasses.asdict(config.environment), dataclasses.asdict(options)
  )
  chosen = {'algo': config.algo, 'seed': config.seed}
  own = dataclasses.asdict(config.algorithm)
  values = own | {name: getattr(config, name) for name in common.settings()}
  known = _defaults(config, lstm=own.get('lstm'), runtime=config.runtime)
  # Of these two, the table above has what it was made for.
  plain = _defaults(config)
  known |= {name: plain[name] for name in ('lstm', 'runtime') if name in plain}
  known.setdefault('anneal_frames', config.frames)
  learning = _differing(
    {name: x for name, x in values.items() if name not in _OF_ONE_START}, known
  )
  arrangement = dataclasses.asdict(config.arrangement)
  found = chosen | environment | learning | arrangement
  return [_flag(name, value) for name, value in found.items()]


def _defaults(config: Config, **chosen: Any) -> dict[str, Any]:
  table = defaults(
    config.domain,
    config.algo,
    preset=config.preset,
    environment=config.environment,
    **chosen,
  )
  return {name: value for name, (value, _) in table.items()}


def _differing(
  values: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
  return {name: x for name, x in values.items() if x != known[name]}


def _flag(name: str, value: Any) -> str:
  if isinstance(value, bool):
    return f'--{name}' if value else f'--no{name}'
  if isinstance(value, tuple):
    return f'--{name}={",".join(map(str, value))}'
  return f'--{name}={value}'
