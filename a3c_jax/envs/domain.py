"""What a domain is: its options, its environment, its defaults; all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import importlib
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import gymnasium

from a3c_jax import checks

Options = TypeVar('Options')

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# Where those of this package are. Imported when they are asked for: an engine
# or emulator that is not used costs nothing.
_OWN = {
  'atari': 'a3c_jax.envs.atari',
  'gym': 'a3c_jax.envs.gym',
  'catch': 'a3c_jax.envs.catch',
  'control': 'a3c_jax.envs.control',
  'labyrinth': 'a3c_jax.envs.labyrinth',
  'torcs': 'a3c_jax.envs.torcs.racing',
}
_registered: dict[str, Domain] = {}

# Defaults of small tasks, which are learnt within minutes: setting to value and
# source.
SMALL: Mapping[str, tuple[Any, str]] = MappingProxyType(
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
    emulator_threads: threads that step these K. Only a domain whose emulator
      has threads of its own honours it.
    protocol: how an evaluation is played; None for training.
    render: whether `render` returns one frame of each environment.
  """

  num_envs: int = 1
  emulator_threads: int = 1
  protocol: str | None = None
  render: bool = False


SINGLE = EnvRequest()  # One environment, as training has it.


def torso_by_axes(dims: int, lstm: bool) -> str:
  """The torso of most domains: convolutions for images, else an MLP.

  Args:
    dims: number of axes of one observation.
    lstm: whether the network has an LSTM core.
  """
  del lstm
  return 'nips' if dims == 3 else 'mlp'


class Domain(NamedTuple):
  """One kind of environment and all that the rest of a3c_jax knows of it.

  Attributes:
    name: in config.json and in Python, such as 'atari'.
    options: a frozen dataclass of `checks.setting` fields. Each has a default
      and its source. The command line has a flag for each.
    make: from options and an `EnvRequest` to a function that makes the
      `gymnasium.vector.VectorEnv` of one thread. It raises a UsageError if it
      cannot be made.
    env_name: the name under which results are recorded, such as 'pong'.
    defaults: settings that differ from the paper's on Atari, each with its
      source: common ones, and those that some algorithms have.
    option_defaults: the same for settings that depend on the options. They
      take precedence over `defaults`.
    action_repeat: emulator frames per agent step. All counts of frames use it.
    image_layout: 'CHW' or 'HWC' if it is known. If it is None, the smaller one
      of the first and the last axis holds the channels, and the run prints so.
    protocols: how evaluations can be played, each with its description.
    default_torso: what `--network=auto` means, by the number of axes of an
      observation and by whether there is an LSTM core.
    continuous: whether actions are always a Box.
    packages: distributions whose versions config.json records.
    code_named: the code that would be imported because the options name it, by
      the flag that names it. A stranger's config.json must not decide this.
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
  """Makes a domain known by its name, in this process.

  Raises:
    ValueError: if there is one of this name.
    TypeError: naming the first option that is no `checks.setting` with a
      default and a source.
  """
  if domain.name in names():
    raise ValueError(f'there is a domain {domain.name} already')
  for field in dataclasses.fields(domain.options):
    if not (
      field.metadata.get('source') and field.default is not dataclasses.MISSING
    ):
      raise TypeError(
        f'option {field.name} of domain {domain.name}: expected a '
        'checks.setting with a default and a source'
      )
  _registered[domain.name] = domain


def names() -> tuple[str, ...]:
  """The domains of this package, then those that were registered."""
  return (*_OWN, *_registered)


def get(name: str) -> Domain:
  """The domain of a name.

  Raises:
    UsageError: if there is none.
  """
  if name in _OWN:
    return importlib.import_module(_OWN[name]).DOMAIN
  if name not in _registered:
    raise checks.UsageError(
      f'domain {checks.as_text(name)}: unknown; allowed: {", ".join(names())}, '
      'or one that an imported module registers'
    )
  return _registered[name]


def from_record(kind: type[Options], record: Mapping[str, Any]) -> Options:
  """Checked options, from what `dataclasses.asdict` gave and JSON has kept.

  An option that did not exist yet has its default.

  Args:
    kind: dataclass of the options.
    record: from config.json.

  Raises:
    UsageError: naming an option that is unknown, or whose value is not allowed.
  """
  known = {field.name for field in dataclasses.fields(kind)}
  for name in record:
    if name not in known:
      raise checks.UsageError(
        f'{checks.as_text(name)}, a setting in config.json: this version of '
        'a3c_jax does not know it'
      )
  options = kind(
    **{
      name: tuple(value) if isinstance(value, list) else value
      for name, value in record.items()
    }
  )
  checks.check_settings(options)
  return options
