"""Domains: their options, environments and defaults; and their registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import importlib
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import gymnasium

from a3c_jax.core import errors, fields


class _Dataclass(Protocol):
  __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Options = TypeVar('Options', bound=_Dataclass)

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# Modules of this package's domains. `get` imports one when it is asked for, so
# that an unused engine or emulator costs nothing.
_OWN = {
  'atari': 'a3c_jax.envs.atari',
  'gym': 'a3c_jax.envs.gym',
  'catch': 'a3c_jax.envs.catch',
  'control': 'a3c_jax.envs.control',
  'labyrinth': 'a3c_jax.envs.labyrinth.foraging',
  'torcs': 'a3c_jax.envs.torcs.racing',
}
_registered: dict[str, Domain] = {}

# Defaults of small tasks, which take minutes to learn: value and source of each
# setting.
SMALL: MappingProxyType[str, tuple[Any, str]] = MappingProxyType(
  {
    'frames': (500_000, 'ours'),
    'learning_rate': (3e-3, 'ours'),
    'rms_epsilon': (1e-3, 'ours'),
    'reward_clip': (0.0, 'ours'),
    'target_period_frames': (1_000, 'ours'),
    'exploration_ends': ((0.05,), 'ours'),
    'exploration_probabilities': ((1.0,), 'ours'),
    'exploration_anneal_frames': (50_000, 'ours'),
    'network': ('auto', 'ours'),
    'log_seconds': (2.0, 'ours'),
    'checkpoint_frames': (50_000, 'ours'),
    'eval_frames': (50_000, 'ours'),
    'eval_protocol': ('plain', 'ours'),
  }
)


class EnvRequest(NamedTuple):
  """What a run, an evaluation or a video asks of a domain's environment.

  Attributes:
    num_envs: K, the environments that one call steps.
    protocol: of an evaluation; None for training.
    render: whether `render` returns one frame of each environment.
  """

  num_envs: int = 1
  protocol: str | None = None
  render: bool = False


SINGLE = EnvRequest()  # One environment of training.


def torso_by_axes(dims: int, lstm: bool) -> str:
  """The default torso of most domains: convolutions for images, else an MLP.

  Args:
    dims: number of axes of one observation.
    lstm: whether the network has an LSTM core.
  """
  del lstm
  return 'nips' if dims == 3 else 'mlp'


class Domain(NamedTuple):
  """One kind of environment, and all that the rest of a3c_jax knows of it.

  Attributes:
    name: in config.json and in Python, such as 'atari'.
    options: a frozen dataclass of `fields.setting` fields. Each has a default
      and its source. The command line has a flag for each.
    make: from options and an `EnvRequest` to a function that makes the
      `gymnasium.vector.VectorEnv` of one thread. It raises a UsageError if it
      cannot be made.
    env_name: the name under which results are recorded, such as 'pong'.
    defaults: settings that differ from the paper's on Atari, each with its
      source. They are common settings, and settings of some algorithms.
    option_defaults: the same for settings that depend on the options. They
      take precedence over `defaults`.
    action_repeat: emulator frames per agent step. All counts of frames use it.
    image_layout: 'CHW' or 'HWC' if it is known. If it is None, the smaller one
      of the first and the last axis holds the channels, and the run prints so.
    protocols: protocols of evaluations, each with its description.
    default_torso: the torso of `--network=auto`, from the number of axes of an
      observation and whether there is an LSTM core.
    continuous: whether actions are always a Box.
    packages: distributions whose versions config.json records.
    code_named: flags whose values name code that would be imported, each with
      its value. A config.json from someone else must not decide this.
  """

  name: str
  options: type
  make: Callable[[Any, EnvRequest], Callable[[], gymnasium.vector.VectorEnv]]
  env_name: Callable[[Any], str]
  defaults: Mapping[str, tuple[Any, str]] = _NOTHING
  option_defaults: Callable[[Any], Mapping[str, tuple[Any, str]]] = (
    lambda options: _NOTHING
  )
  action_repeat: Callable[[Any], int] = lambda options: 1
  image_layout: Callable[[Any], str | None] = lambda options: None
  protocols: Mapping[str, str] = MappingProxyType(
    {'plain': 'the environment as it is'}
  )
  default_torso: Callable[[int, bool], str] = torso_by_axes
  continuous: bool = False
  packages: tuple[str, ...] = ()
  code_named: Callable[[Any], Mapping[str, str]] = lambda options: _NOTHING


def register(domain: Domain) -> None:
  """Registers a domain under its name, in this process.

  Raises:
    ValueError: as `fields.check_registered`.
  """
  fields.check_registered('domain', domain.name, domain.options, taken=names())
  _registered[domain.name] = domain


def names() -> tuple[str, ...]:
  """Names of the domains of this package, then of registered ones."""
  return (*_OWN, *_registered)


def get(name: str) -> Domain:
  """The domain of a name.

  Raises:
    UsageError: if there is none.
  """
  if name in _OWN:
    return importlib.import_module(_OWN[name]).DOMAIN
  if name not in _registered:
    raise errors.UsageError(
      f'domain {errors.as_text(name)}: unknown; allowed: {", ".join(names())}, '
      'or one that an imported module registers'
    )
  return _registered[name]


def from_record(kind: type[Options], record: Mapping[str, Any]) -> Options:
  """Checked options, from the JSON of their `dataclasses.asdict`.

  An option that the record lacks has its default.

  Args:
    kind: dataclass of the options.
    record: from config.json.

  Raises:
    UsageError: naming an option that is unknown, or whose value is not allowed.
  """
  known = {field.name for field in dataclasses.fields(kind)}
  for name in record:
    if name not in known:
      raise errors.UsageError(
        f'{errors.as_text(name)}, a setting in config.json: this version of '
        'a3c_jax does not know it'
      )
  options = kind(
    **{
      name: tuple(value) if isinstance(value, list) else value
      for name, value in record.items()
    }
  )
  fields.check_settings(options)
  return options
