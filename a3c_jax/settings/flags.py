"""The absl flags of every script, made from the settings, and their help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

from absl import flags

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields, paths
from a3c_jax.envs import domain as domain_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import common, record
from a3c_jax.settings import config as config_lib
from a3c_jax.settings.common import Config
from a3c_jax.settings.defaults import ALGORITHM, RUNTIME, defaults

_OPTIONS = 'options'
_ENVIRONMENT = 'environment'
_ALGORITHM = 'algorithm '  # The names of those with the settings follow.
_RUNTIME = 'runtime '  # Likewise.
_HEADINGS = {_OPTIONS, _ENVIRONMENT, *common.sections()}
_ALLOWED = 'Allowed: '  # Begins the line of the help that gives the values.
_SOURCES = """\
After each default is its source. paper: Mnih et al. 2016, arXiv:1602.01783.
authors: their advice to reimplementers. ours: our choice or experiments."""


class _Parser(flags.ArgumentParser):
  """Names the allowed values if it cannot read a value."""

  def __init__(self, convert: Callable[[str], Any], allowed: str):
    super().__init__()
    self._convert = convert
    self._allowed = allowed

  def parse(self, argument):
    try:
      return self._convert(argument)
    except ValueError:
      raise ValueError(f'allowed: {self._allowed}') from None


def _whole(text):
  """Reads 40e6 and 40_000_000 too."""
  try:
    return int(text)
  except ValueError:
    value = float(text)
    if not value.is_integer():
      raise
    return int(value)


_PARSERS = {  # Of each of `fields.TYPES`.
  'bool': _Parser(flags.BooleanParser().parse, 'true, false'),
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


class _Flag(flags.Flag):
  """A flag of a setting; its value is None if it is not given."""

  def __init__(
    self, field: dataclasses.Field, help_for: Callable[[str | None], str]
  ):
    """Makes the flag, whose help depends on an algorithm, or None for all."""
    kind = fields.type_name(field)
    self.help_for = help_for
    super().__init__(
      _PARSERS[kind],
      None,
      field.name,
      default=None,
      help_string=help_for(None),
      boolean=kind == 'bool',
    )


def _help_text(field, default: str, *, about: str = '', allowed: str = ''):
  """Returns the help: what it is, the allowed values, and the default.

  Args:
    field: a `fields.setting`.
    default: the default and its source.
    about: follows what the field says of itself.
    allowed: replaces what the field allows.
  """
  lines = [' '.join([field.metadata['help'], about]).strip()]
  if field.type not in ('bool', bool):
    lines.append(f'{_ALLOWED}{allowed or fields.allowed(field)}.')
  return '\n'.join([*lines, f'Default: {default}.'])


def allowed_values(name: str) -> str:
  """Returns the allowed values of a flag, in words, from its help."""
  lines = flags.FLAGS[name].help.splitlines()
  own = [line for line in lines if line.startswith(_ALLOWED)]
  return ' '.join(own or lines).removeprefix(_ALLOWED).removesuffix('.')


def _shown(value: Any) -> str:
  """Returns a default as one would write it on the command line."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, int):
    return f'{value:_}'
  if isinstance(value, float):
    return f'{value:g}'
  return errors.as_text(value) or 'none'


def _given(names: Sequence[str]) -> dict[str, Any]:
  values = {name: flags.FLAGS[name].value for name in names}
  return {name: value for name, value in values.items() if value is not None}


def define_options(options: type, *, check: bool = True) -> Callable[[], Any]:
  """Defines a flag for every field of a dataclass.

  Args:
    options: its fields are `fields.setting`s with defaults.
    check: whether the values are checked.

  Returns:
    A function that makes the options once flags are parsed. It raises a
    UsageError that names the first flag whose value is not allowed.
  """
  names = _define_options(options)

  def make_options():
    made = options(**_given(names))
    made = dataclasses.replace(made, **paths.absolute_paths(made))
    if check:
      fields.check_settings(made)
    return made

  return make_options


def _define_options(options, *, heading=_OPTIONS) -> list[str]:
  for field in dataclasses.fields(options):
    known = 'none' if field.default is None else _shown(field.default)
    text = _help_text(field, f'{known} ({field.metadata["source"]})')
    flag = _Flag(field, lambda algo, text=text: text)
    flags.DEFINE_flag(flag, module_name=heading)
  return [field.name for field in dataclasses.fields(options)]


def _define_environment(domain: domain_lib.Domain) -> Callable[[], Any]:
  """Defines a flag for every option of a domain.

  Returns:
    A function that makes the options once flags are parsed. A run that resumes
    gives those that are not given. The function raises a UsageError if that run
    would import an environment that is not given.
  """
  names = _define_options(domain.options, heading=_ENVIRONMENT)

  def make_environment():
    given = _given(names)
    run = record.of_run(flags.FLAGS['workdir'].value, domain.name)
    if run is None:
      made = domain.options(**given)
    else:
      # `config.make` checks the network.
      config_lib.check_not_imported(run, {'network', *given})
      made = dataclasses.replace(run.environment, **given)
    return dataclasses.replace(made, **paths.absolute_paths(made))

  return make_environment


def define(domain: str, **instead) -> Callable[..., Config]:
  """Defines a flag for every setting of Config and of every algorithm.

  Args:
    domain: the name of the domain of the defaults.
    **instead: the script's own defaults.

  Returns:
    A function `(environment=None, **fixed) -> Config` that reads the flags once
    they are parsed. `environment` is as for `config.make`. `fixed` are settings
    that the command line cannot change.
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
  first, *rest = common.sections().items()
  # `--algo` and `--runtime` are in the first one.
  sections = dict([first])
  for prefix, owners in (
    (_ALGORITHM, {algo: registry.get(algo).settings for algo in algorithms}),
    (
      _RUNTIME,
      {name: runtimes.get(name).settings for name in runtimes.names()},
    ),
  ):
    sections |= _sections_of(prefix, owners)
  sections |= dict(rest)
  describe_setting = _describer(domain, algorithms, instead)
  for heading, settings in sections.items():
    for field in settings.values():
      flag = _Flag(field, functools.partial(describe_setting, field))
      flags.DEFINE_flag(flag, module_name=heading)
  return [name for settings in sections.values() for name in settings]


def _sections_of(
  prefix: str, settings: Mapping[str, Mapping[str, dataclasses.Field]]
) -> dict[str, dict[str, dataclasses.Field]]:
  """Returns settings by the names of those that share them.

  Args:
    prefix: of each heading.
    settings: of each owner.
  """
  owners: dict[str, list[str]] = {}
  for owner, names in settings.items():
    for name in names:
      owners.setdefault(name, []).append(owner)
  sections: dict[str, dict[str, dataclasses.Field]] = {}
  for name, found in owners.items():
    section = sections.setdefault(prefix + ', '.join(found), {})
    section[name] = settings[found[0]][name]
  return sections


def _describer(
  domain: domain_lib.Domain, algorithms: Sequence[str], instead
) -> Callable[[dataclasses.Field, str | None], str]:
  """Returns a function from a setting and an algorithm to the help text.

  The text gives the defaults of the algorithm in the domain. Without an
  algorithm it gives those of all.
  """

  @functools.cache
  def tables_of(algo):
    return _tables(domain.name, [algo] if algo else algorithms, instead)

  def describe_setting(field, algo):
    about = allowed = ''
    if field.name == 'eval_protocol':
      allowed = ', '.join(domain.protocols)
      about = '. '.join(f'{k}: {v}' for k, v in domain.protocols.items()) + '.'
    elif field.name == 'preset':
      chosen = [algo] if algo else algorithms
      presets = [registry.get(each).presets_in(domain.name) for each in chosen]
      allowed = ', '.join(dict.fromkeys(sum(presets, ())))
    elif field.name == 'algo':
      allowed = ', '.join(algorithms)
    elif field.name == 'runtime':
      about = '. '.join(
        f'{name}: {runtimes.get(name).description}' for name in runtimes.names()
      )
      about += '.'
    # The default algorithm is the same, whichever of them is described.
    tables = tables_of(None if field.name == 'algo' else algo)
    default = _describe_default(field.name, tables)
    return _help_text(field, default, about=about, allowed=allowed)

  return describe_setting


class _Table(NamedTuple):
  """Defaults, and the flag that selects them."""

  flag: str
  algo: str
  defaults: Mapping[str, tuple[Any, str]]

  def has(self, name) -> bool:
    return name in self.defaults or name in common.settings()


def _tables(domain: str, algorithms: Sequence[str], instead) -> list[_Table]:
  """Returns the defaults without flags, then with flags that change them.

  Args:
    domain: its name.
    algorithms: those to describe. The flags are those of the default algorithm
      if it is among them, otherwise of the first.
    instead: the script's own defaults.
  """
  own = {name: (value, 'this script') for name, value in instead.items()}
  first = ALGORITHM if ALGORITHM in algorithms else algorithms[0]
  algorithm = registry.get(first)

  def table(flag, algo=first, **given):
    return _Table(flag, algo, defaults(domain, algo, **given) | own)

  _, *presets = algorithm.presets_in(domain)
  tables = [table('')]
  if 'lstm' in algorithm.settings:
    tables.append(table('--lstm', lstm=True))
  tables += [table(f'--preset={preset}', preset=preset) for preset in presets]
  others = [algo for algo in algorithms if algo != first]
  tables += [table(f'--algo={algo}', algo) for algo in others]
  return tables + [
    table(f'--runtime={name}', runtime=name)
    for name in runtimes.names()
    if name != RUNTIME
  ]


def _describe_default(name: str, tables: Iterable[_Table]) -> str:
  """Returns the default of a setting, and others with the flags they need."""
  first, *others = [table for table in tables if table.has(name)]
  known = first.defaults.get(name)
  text = _default_text(name, known)
  flags_of: dict[str, list[str]] = {}
  for table in others:
    other = table.defaults.get(name)
    if other != known and not table.flag.startswith(f'--{name}='):
      flags_of.setdefault(_default_text(name, other), []).append(table.flag)
  for other_text, names in flags_of.items():
    text += f'; with {" or ".join(names)} {other_text}'
  return text


def _default_text(name, default) -> str:
  if default is not None:
    value, source = default
    return f'{_shown(value)} ({source})'
  if name == 'workdir':
    return 'runs/ENVIRONMENT-ALGORITHM-SEED-TIME-PROCESS (ours)'
  return 'that of --frames (paper, section 8)'  # Of `anneal_frames`.


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
  """Returns the help of all flags, under their headings.

  Args:
    algo: the algorithm whose flags and defaults are shown; None for all.
  """
  parts = [flags.FLAGS.main_module_help()]
  for heading, found in flags.FLAGS.flags_by_module_dict().items():
    owners = heading.removeprefix(_ALGORITHM).split(', ')
    of_algorithms = heading.startswith(_ALGORITHM)
    if (
      heading in _HEADINGS
      or heading.startswith(_RUNTIME)
      or (of_algorithms and (algo is None or algo in owners))
    ):
      for flag in found:
        if isinstance(flag, _Flag):
          flag.help = flag.help_for(algo)
      parts.append(flags.FLAGS.module_help(heading))
  parts.append(_SOURCES)
  return '\n'.join(part.strip('\n') + '\n' for part in parts if part)
