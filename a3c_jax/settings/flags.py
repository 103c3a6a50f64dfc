"""The absl flags of every script, made from the settings under headings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import inspect
from typing import Any, NamedTuple

from absl import flags

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields, paths
from a3c_jax.envs import domain as domain_lib
from a3c_jax.settings import common, record
from a3c_jax.settings import config as config_lib
from a3c_jax.settings.common import Config
from a3c_jax.settings.defaults import ALGORITHM, defaults

_ENVIRONMENT = 'environment'
_ALGORITHM = 'algorithm '  # And the names of those that have the settings.
_HEADINGS = {_ENVIRONMENT, *common.sections()}

# Flags belong to the script that has them defined, and to its --help.
flags.disclaim_key_flags()


class _Parser(flags.ArgumentParser):
  """Says what is allowed where a value cannot be read."""

  def __init__(self, convert: Callable[[str], Any], allowed: str):
    super().__init__()
    self.syntactic_help = allowed
    self._convert = convert

  def parse(self, argument):
    try:
      return self._convert(argument)
    except ValueError:
      raise ValueError(f'allowed: {self.syntactic_help}') from None


class _Boolean(flags.BooleanFlag):
  """Says what is allowed where a value cannot be read."""

  def parse(self, argument):
    try:
      super().parse(argument)
    except flags.IllegalFlagValueError:
      raise flags.IllegalFlagValueError(
        f'flag --{self.name}={argument}: allowed: true, false'
      ) from None


def _whole(text):
  """Also as 40e6 or 40_000_000."""
  try:
    return int(text)
  except ValueError:
    value = float(text)
    if not value.is_integer():
      raise
    return int(value)


_PARSERS = {
  'str': _Parser(str, 'text'),
  'float': _Parser(float, 'a number'),
  'int': _Parser(_whole, 'a whole number'),
  'tuple[float, ...]': _Parser(
    lambda text: tuple(float(part) for part in text.split(',')),
    'numbers, separated by commas',
  ),
  'tuple[int, ...]': _Parser(
    lambda text: tuple(_whole(part) for part in text.split(',')),
    'whole numbers, separated by commas',
  ),
  'tuple[str, ...]': _Parser(
    lambda text: tuple(part for part in text.split(',') if part), 'text'
  ),
}


def _define(
  field: dataclasses.Field,
  default_text: str,
  *,
  heading: str | None = None,
  allowed: str = '',
) -> None:
  """Defines one flag, whose value is None if it is not given.

  Args:
    field: a `fields.setting`.
    default_text: the default and its source.
    heading: in `--help`; None for the name of the script.
    allowed: instead of what the field says.
  """
  help_text = field.metadata['help']
  # Of a module without `from __future__ import annotations` it is a type.
  kind = field.type
  if not isinstance(kind, str):
    kind = inspect.formatannotation(kind)
  if kind == 'bool':
    help_text += f' Default: {default_text}.'
    flag = _Boolean(field.name, None, help_text)
    flags.DEFINE_flag(flag, module_name=heading)
  else:
    allowed = allowed or fields.allowed(field)
    help_text += f' Allowed: {allowed}. Default: {default_text}.'
    flags.DEFINE(
      _PARSERS[kind], field.name, None, help_text, module_name=heading
    )


def _given(names: Sequence[str]) -> dict[str, Any]:
  values = {name: flags.FLAGS[name].value for name in names}
  return {name: value for name, value in values.items() if value is not None}


def define_options(options: type) -> Callable[[], Any]:
  """Defines a flag for every field of a dataclass.

  Args:
    options: its fields are `fields.setting`s with defaults.

  Returns:
    A function that makes the options, unchecked, once flags are parsed.
  """
  names = _define_options(options)

  def make_options():
    made = options(**_given(names))
    return dataclasses.replace(made, **paths.absolute_paths(made))

  return make_options


def _define_options(options, *, heading=None) -> list[str]:
  for field in dataclasses.fields(options):
    known = field.default is not None and errors.as_text(field.default)
    default = known or 'nothing'
    text = f'{default} ({field.metadata["source"]})'
    _define(field, text, heading=heading)
  return [field.name for field in dataclasses.fields(options)]


def _define_environment(domain: domain_lib.Domain) -> Callable[[], Any]:
  """Defines a flag for every option of a domain.

  Returns:
    A function that makes the options once flags are parsed. Those that are not
    given are taken from the run that is resumed. It raises a UsageError if that
    run would import an environment that is not given.
  """
  names = _define_options(domain.options, heading=_ENVIRONMENT)

  def make_environment():
    given = _given(names)
    run = record.of_run(flags.FLAGS.workdir, domain.name)
    if run is None:
      made = domain.options(**given)
    else:
      # The network is checked with the other settings.
      config_lib.check_not_imported(run, {'network', *given})
      made = dataclasses.replace(run.environment, **given)
    return dataclasses.replace(made, **paths.absolute_paths(made))

  return make_environment


def define(domain: str, **instead) -> Callable[..., Config]:
  """Defines a flag for every setting of Config and of every algorithm.

  Args:
    domain: the name of the one whose defaults the help gives and the Config
      gets.
    **instead: defaults of the script's own.

  Returns:
    A function `(environment=None, **fixed) -> Config` that reads the flags once
    they are parsed. `environment` is as for `config.make`, and `fixed` are
    settings that the command line does not choose.
  """
  names = _define_settings(domain_lib.get(domain), instead)

  def make_config(environment: Any = None, **fixed) -> Config:
    given = _given(names)
    for name, value in fixed.items():
      if given.get(name, value) != value:
        raise errors.UsageError(
          f'--{name}={errors.as_text(given[name])}: allowed here: '
          f'{errors.as_text(value)}'
        )
    settings = {'domain': domain} | given | fixed
    return config_lib.make(environment=environment, instead=instead, **settings)

  return make_config


def _define_settings(domain: domain_lib.Domain, instead) -> list[str]:
  """Defines the flags of `define`; returns their names."""
  algorithms = [
    name
    for name in registry.names()
    if registry.get(name).continuous or not domain.continuous
  ]
  tables = _tables(domain.name, algorithms, instead)
  first, *rest = common.sections().items()
  # `--algo` is in the first one.
  sections = dict([first, *_sections_of(algorithms).items(), *rest])
  for heading, settings in sections.items():
    for name, field in settings.items():
      of_domain = name == 'eval_protocol'
      _define(
        field,
        _describe(name, tables),
        heading=heading,
        allowed=', '.join(domain.protocols) if of_domain else '',
      )
  return [name for settings in sections.values() for name in settings]


def _sections_of(algorithms) -> dict[str, dict[str, dataclasses.Field]]:
  """Settings of algorithms by heading, together where several share them."""
  owners: dict[str, list[str]] = {}
  for algo in algorithms:
    for name in registry.get(algo).settings:
      owners.setdefault(name, []).append(algo)
  sections: dict[str, dict[str, dataclasses.Field]] = {}
  for name, algos in owners.items():
    section = sections.setdefault(_ALGORITHM + ', '.join(algos), {})
    section[name] = registry.get(algos[0]).settings[name]
  return sections


class _Table(NamedTuple):
  """Defaults, and the flag with which they hold."""

  flag: str
  algo: str
  defaults: dict[str, tuple[Any, str]]

  def has(self, name) -> bool:
    own = registry.get(self.algo).settings
    return name in own or name in common.settings()


def _tables(domain, algorithms, instead) -> list[_Table]:
  """The defaults without flags, and those with flags that change them."""
  own = {name: (value, 'this script') for name, value in instead.items()}
  algorithm = registry.get(ALGORITHM)

  def table(flag, algo=ALGORITHM, **given):
    return _Table(flag, algo, defaults(domain, algo, **given) | own)

  _, *presets = algorithm.presets_in(domain)
  return [
    table(''),
    table('--lstm', lstm=True),
    *(table(f'--preset={preset}', preset=preset) for preset in presets),
    *(
      table(f'--algo={algo}', algo) for algo in algorithms if algo != ALGORITHM
    ),
  ]


def _describe(name, tables) -> str:
  """The default of a setting, and with which flags it is another."""
  first, *others = [table for table in tables if table.has(name)]
  known = first.defaults.get(name)
  text = _default_text(name, known)
  flags_of: dict[str, list[str]] = {}
  for table in others:
    other = table.defaults.get(name)
    if other != known and name != 'algo':
      flags_of.setdefault(_default_text(name, other), []).append(table.flag)
  for other_text, names in flags_of.items():
    text += f'; with {" or ".join(names)} {other_text}'
  return text


def _default_text(name, default) -> str:
  if default is not None:
    value, source = default
    return f'{errors.as_text(value) or "nothing"} ({source})'
  if name == 'workdir':
    return 'runs/ENVIRONMENT-ALGORITHM-SEED-TIME-PROCESS'
  return '--frames (paper, section 8)'  # That of `anneal_frames`.


def define_run(domain: str) -> Callable[[], Config]:
  """Defines a flag for every option of a domain and every setting of Config.

  Args:
    domain: its name.

  Returns:
    A function that makes the Config once flags are parsed.
  """
  make_environment = _define_environment(domain_lib.get(domain))
  make_config = define(domain)
  return lambda: make_config(make_environment())


def describe(algo: str | None) -> str:
  """The help of all flags, under their headings.

  Args:
    algo: the algorithm whose flags are shown; None for those of all.
  """
  parts = [flags.FLAGS.main_module_help()]
  for heading in flags.FLAGS.flags_by_module_dict():
    owners = heading.removeprefix(_ALGORITHM).split(', ')
    of_algorithms = heading.startswith(_ALGORITHM)
    if heading in _HEADINGS or (
      of_algorithms and (algo is None or algo in owners)
    ):
      parts.append(flags.FLAGS.module_help(heading))
  return '\n'.join(part.strip('\n') + '\n' for part in parts if part)
