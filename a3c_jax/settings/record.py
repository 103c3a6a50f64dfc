"""Writes the settings of a run for config.json, and reads them back."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import errno
import json
import os
import pathlib
from typing import Any, NamedTuple

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields, paths
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import defaults as defaults_lib
from a3c_jax.settings.common import Config

_NO_RUN = 'its config.json is not that of a run'


class Record(NamedTuple):
  """The checked content of a run's config.json."""

  config: Config
  changes: list[dict[str, Any]]  # settings changed whenever the run resumed
  spaces: Any  # from `spaces.to_records`, not checked; None without


def to_record(config: Config) -> dict[str, Any]:
  """Returns the settings as JSON values.

  Paths are as the user gave them: a folder with all its runs may be moved.
  """
  as_given = {
    name: paths.as_given(value) if value else value
    for name, value in paths.absolute_paths(config).items()
  }
  return dataclasses.asdict(config) | as_given


def read(workdir: str | pathlib.Path) -> Record:
  """Reads the settings of the run in a folder, which may have been moved.

  A setting that is newer than the run gets its default without a preset: what
  the run did.

  Raises:
    UsageError: if there is no run, its config.json is damaged or of another
      version, or its domain or algorithm is not registered.
  """
  path = pathlib.Path(workdir)
  try:
    if not (path / 'config.json').is_file():
      (path / 'config.json').stat()
      raise OSError(errno.EINVAL, 'is no file')  # A pipe would block.
    record = json.loads((path / 'config.json').read_text())
    values, changes = record['config'], [*map(dict, record['changes'])]
    problem = _why_unknown(values)
    if not problem:
      return Record(_from_record(values, path), changes, record.get('spaces'))
  except OSError as error:
    problem = f'config.json: {error.strerror}'
  except errors.UsageError as error:
    problem = f'{_NO_RUN}, {error}'
  except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
    problem = _NO_RUN
  raise errors.UsageError(
    f'--workdir={paths.as_given(path)}: {problem}; allowed: the folder of a run'
  )


def spaces_of(record: Record) -> spaces_lib.Spaces | None:
  """The spaces of the run's environments; None if config.json has none.

  Raises:
    UsageError: if they are damaged.
  """
  try:
    return record.spaces and spaces_lib.from_records(record.spaces)
  except Exception as error:  # Damaged content may raise anything.
    raise errors.UsageError(
      f'--workdir={paths.as_given(record.config.workdir)}: {_NO_RUN}; allowed: '
      'the folder of a run'
    ) from error


def _why_unknown(values: Mapping[str, Any]) -> str:
  """Returns why this process cannot use the settings; '' if it may."""
  if 'domain' in values and not {'algorithm', 'arrangement'} <= values.keys():
    return 'its config.json is of an earlier version of a3c_jax'
  known = {field.name for field in dataclasses.fields(Config)}
  unknown = ', '.join(sorted(values.keys() - known))
  if unknown:
    return (
      'its config.json has settings that this version of a3c_jax does not '
      f'know, {errors.as_text(unknown)}'
    )
  for kind, name, names in (
    ('algorithm', values['algo'], registry.names()),
    ('domain', values['domain'], domain_lib.names()),
    ('runtime', values['runtime'], runtimes.names()),
  ):
    if name not in names:
      return (
        f'its {kind} {errors.as_text(name)} is not registered here, which '
        '--import of its module does'
      )
  return ''


def _from_record(values: Mapping[str, Any], path: pathlib.Path) -> Config:
  domain, algo = values['domain'], values['algo']
  environment = domain_lib.from_record(
    domain_lib.get(domain).options, values['environment']
  )
  hyperparameters = values['algorithm']
  # Of what is newer than the run: a preset may have another value by now.
  table = defaults_lib.defaults(
    domain,
    algo,
    lstm=hyperparameters.get('lstm'),
    runtime=values['runtime'],
    environment=environment,
  )
  known = {name: value for name, (value, _) in table.items()}
  algorithm = registry.get(algo)
  own = {name: known.pop(name) for name in algorithm.settings}
  runtime = runtimes.get(values['runtime'])
  of_runtime = {name: known.pop(name) for name in runtime.settings}
  known |= {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in values.items()
  }
  config = Config(
    **known
    | {
      'workdir': str(path),
      'environment': environment,
      'arrangement': domain_lib.from_record(
        runtime.settings_type, of_runtime | values['arrangement']
      ),
      'algorithm': domain_lib.from_record(
        algorithm.hyperparameters, own | hyperparameters
      ),
    }
  )
  fields.check_settings(config)
  return config


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
  """Returns a config with other values of `fixed_settings`.

  Raises:
    UsageError: if they are of another algorithm or runtime, or damaged.
  """
  owned = {'environment', 'arrangement', 'algorithm'}
  given = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in values.items()
  }
  try:
    parts = {}
    for part in owned:
      owner = getattr(config, part)
      names = {field.name for field in dataclasses.fields(owner)}
      own = {name: given.pop(name) for name in names & given.keys()}
      parts[part] = dataclasses.replace(owner, **own)
    changed = dataclasses.replace(config, **given, **parts)
    fields.check_settings(changed)
  except TypeError as error:
    raise errors.UsageError(
      f'--workdir={paths.as_given(config.workdir)}: the run began with another '
      'algorithm or runtime; allowed: a run that did not change it'
    ) from error
  return changed


def of_run(workdir: str | None, domain: str) -> Config | None:
  """Returns the settings of the run to resume; None without one of the domain.

  Raises:
    UsageError: as `read`, if there is a config.json.
  """
  if not isinstance(workdir, str) or not workdir:
    return None
  workdir = paths.absolute(workdir)
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return None
  config = read(workdir).config
  return config if config.domain == domain else None


def all_settings(config: Config) -> dict[str, Any]:
  """Returns all settings by flag, as JSON has them; the environment's first."""
  record = json.loads(json.dumps(dataclasses.asdict(config)))
  values = record.pop('environment') | record
  values |= values.pop('arrangement') | values.pop('algorithm')
  return values


def fixed_settings(config: Config) -> dict[str, Any]:
  """Returns the settings that must not change when a run resumes, by flag.

  Those of the environment are first: an error names the first that differs.
  """
  values = all_settings(config)
  for name, field in _fields(config).items():
    if field.metadata['may_change']:
      del values[name]
  return values


def _fields(config: Config) -> dict[str, dataclasses.Field]:
  owners = (config, config.environment, config.arrangement, config.algorithm)
  return {
    field.name: field for each in owners for field in dataclasses.fields(each)
  }


def _overridable(config: Config) -> list[str]:
  """Returns the names of the settings that `--override` may name."""
  fixed = fixed_settings(config)
  return sorted(
    name
    for name, field in _fields(config).items()
    if name in fixed
    and field.metadata['flag']
    and field.metadata['may_override']
  )


def check_override(config: Config) -> None:
  """Checks that a run can resume with other values of what is overridden.

  Raises:
    UsageError: naming `--override` and the first setting that cannot change.
  """
  can = _overridable(config)
  for name in config.override:
    if name not in can:
      problem = 'no setting that has to stay'
      if name in fixed_settings(config):
        problem = 'no run resumes with another value of it'
      raise errors.UsageError(
        f'--override={name}: {problem}; allowed: {", ".join(can)}'
      )


def changes_of(config: Config, run: Config) -> list[dict[str, Any]]:
  """Returns which settings of a run are others in the config that resumes it.

  Args:
    config: whose `override` names the settings that may change.
    run: that resumes, of the same domain.

  Returns:
    The name of each setting, what it was and what it became. `(none)` is what
    it was if it belongs to another algorithm or runtime than the run had.

  Raises:
    UsageError: naming the first setting that must not change.
  """
  began, changes = fixed_settings(run), []
  for name, value in fixed_settings(config).items():
    was = began.get(name, '(none)')
    if value == was:
      continue
    # What the run lacks comes with `--algo` or `--runtime`, compared before.
    if name in began and name not in config.override:
      also = f', or --override={name}' if name in _overridable(config) else ''
      raise errors.UsageError(
        f'--{name}={_text(value)}: the run in {paths.as_given(run.workdir)} '
        f'has {_text(was)}; allowed: that value{also}'
      )
    changes.append({'setting': name, 'was': was, 'became': value})
  return changes


def _text(value: Any) -> str:
  return errors.as_text(tuple(value) if isinstance(value, list) else value)
