"""The folder of one run: whose it is, and with what settings it goes on."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import csv
import dataclasses
import errno
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

from a3c_jax import checks
from a3c_jax import config as config_lib
from a3c_jax.config import Config
from a3c_jax.envs import spaces as spaces_lib

_PACKAGES = (
  'a3c_jax',
  'absl-py',
  'ale-py',
  'dm-control',
  'flax',
  'gymnasium',
  'jax',
  'jaxlib',
  'labmaze',
  'mujoco',
  'numpy',
  'optax',
  'orbax-checkpoint',
  'rich',
  'tensorboardX',
  'vizdoom',
)
_ALLOWED = 'a new or empty folder that can be written to, or that of a run'
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNFINISHED = 'config.json.new'  # Left behind if a process ends while writing.


class Workdir:
  """A folder that one process at a time writes to. A context manager.

  Attributes:
    path: the folder.
    goes_on: whether it holds a run that this one continues.
  """

  def __init__(self, config: Config):
    """Looks at the folder, compares settings, and changes nothing.

    Raises:
      UsageError: if the folder cannot be used, or holds a run that began with
        another value of a setting that `config.override` does not name.
    """
    self.path = pathlib.Path(config.workdir)
    self._config = config
    self._exit = contextlib.ExitStack()
    self._changes = []
    for name in config.override:
      if name not in [*settings(config)]:
        raise checks.UsageError(
          f'--override={name}: no setting that has to stay; allowed: '
          + ', '.join(sorted(settings(config)))
        )
    try:
      self.goes_on = self._check_folder()
    except OSError as error:
      self._refuse(error.strerror)
    with contextlib.ExitStack() as unless_it_fits:
      unless_it_fits.callback(self._exit.close)
      if self.goes_on:
        self._lock(self._open('r+'))
        self._compare()
      unless_it_fits.pop_all()

  def claim(self, frames: int, spaces: Mapping[str, Any] | None = None) -> None:
    """Writes config.json; from here on the folder is this run's.

    Args:
      frames: emulator frames that the run has seen, for the record of changes.
      spaces: from `spaces.to_records`, of the run's environments.
    """
    new = self.path / _UNFINISHED
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      changes = [{'frames': frames} | change for change in self._changes]
      record = _record(self._config) | {'changes': changes, 'spaces': spaces}
      # No buffer that would be written, and fail, once more at closing time.
      file = self._exit.enter_context(new.open('ab', buffering=0))
      self._lock(file)  # Before a byte of it changes: it may be another's.
      file.truncate(0)
      rest = (json.dumps(record, indent=2) + '\n').encode()
      while rest:
        rest = rest[file.write(rest) :]
      os.fsync(file.fileno())
      if self.goes_on:
        new.replace(self.path / 'config.json')
      else:
        os.link(new, self.path / 'config.json')
        new.unlink()
    except OSError as error:
      with contextlib.suppress(OSError):
        new.unlink()
      if isinstance(error, FileExistsError):
        self._refuse('another process is using it')
      if error.errno in _NO_SPACE:
        raise checks.RunError(
          f'--workdir={self.path}: {error.strerror}; nothing was changed'
        ) from error
      self._refuse(error.strerror)

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    return self._exit.__exit__(*exception)

  def _check_folder(self) -> bool:
    path = self.path
    existing = next(
      folder for folder in [path, *path.parents] if folder.exists()
    )
    if not existing.is_dir():
      self._refuse(f'{existing} is a file')
    if not os.access(existing, os.W_OK | os.X_OK):
      self._refuse(f'no permission to write to {existing}')
    if existing != path:
      return False
    checks.check_links(path, flag='workdir', below=('checkpoints', 'best'))
    if (path / 'config.json').exists():
      return True
    if any(entry.name != _UNFINISHED for entry in path.iterdir()):
      self._refuse('holds files, but no config.json of a run')
    return False

  def _open(self, mode):
    return self._exit.enter_context((self.path / 'config.json').open(mode))

  def _lock(self, file):
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._refuse('another process is using it')

  def _compare(self):
    try:
      record = json.loads((self.path / 'config.json').read_text())
      began = _flat(_with_new_settings(record['config']))
      self._changes = record['changes']
    except (ValueError, TypeError, KeyError):
      self._refuse('its config.json is not that of a run')
    for name, value in settings(self._config).items():
      was = began.get(name, '(none)')
      if value == was:
        continue
      if name not in self._config.override:
        raise checks.UsageError(
          f'--{name}={_text(value)}: the run in {self.path} has '
          f'{_text(was)}; allowed: that value, or --override={name}'
        )
      self._changes.append({'setting': name, 'was': was, 'became': value})

  def _refuse(self, problem):
    raise checks.UsageError(
      f'--workdir={self.path}: {problem}; allowed: {_ALLOWED}'
    )


def read_config(path: pathlib.Path) -> Config:
  """The settings of the run in a folder.

  Raises:
    UsageError: if there is none.
  """
  try:
    record = json.loads((path / 'config.json').read_text())
    values = _with_new_settings(record['config'])
    if 'name' not in values['environment']:
      raise ValueError('an environment without a name')
    for field in dataclasses.fields(Config):
      if field.type.startswith('tuple'):
        values[field.name] = tuple(values[field.name])
    config = Config(**values)
  except OSError as error:
    problem = f'config.json: {error.strerror}'
  except (ValueError, TypeError, KeyError):
    problem = 'its config.json is not that of a run'
  else:
    checks.check_settings(config)
    return config
  raise checks.UsageError(
    f'--workdir={path}: {problem}; allowed: the folder of a run'
  )


def read_spaces(path: pathlib.Path) -> spaces_lib.Spaces | None:
  """The spaces of the run in a folder; None if its config.json has none.

  Raises:
    UsageError: if its config.json is damaged.
  """
  try:
    record = json.loads((path / 'config.json').read_text()).get('spaces')
    return record and spaces_lib.from_records(record)
  except OSError as error:
    problem = f'config.json: {error.strerror}'
  # Gymnasium asserts; a size that is absurd ends in the last two.
  except (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
  ):
    problem = 'its config.json is not that of a run'
  raise checks.UsageError(
    f'--workdir={path}: {problem}; allowed: the folder of a run'
  )


def last_row(path: pathlib.Path, name: str) -> dict[str, str]:
  """The last row of a run's CSV file that is whole; empty without one."""
  try:
    with (path / name).open(newline='') as file:
      rows = [row for row in csv.DictReader(file) if None not in row.values()]
  except (OSError, ValueError, csv.Error):
    rows = []
  return rows[-1] if rows else {}


def is_finished(path: pathlib.Path) -> bool:
  """Whether the run in a folder has done all that it was to do."""
  train = last_row(path, 'train.csv')
  evaluation = last_row(path, 'eval.csv')
  try:
    config = json.loads((path / 'config.json').read_text())['config']
    seconds = config.get('seconds')
    if seconds and float(train['seconds']) >= seconds:
      return True
    last = evaluation if config.get('eval_frames') else train
    return float(last['frames']) >= config['frames']
  except (OSError, ValueError, TypeError, KeyError):
    return False


def _with_new_settings(values: dict[str, Any]) -> dict[str, Any]:
  """What a run is that began before some settings existed: their defaults."""
  if values['domain'] in ('gym', 'control'):
    environment = {'env_args': {}} | values['environment']
    values = values | {'environment': environment}
  table = config_lib.defaults(
    values['domain'],
    lstm=values.get('lstm'),
    preset=values.get('preset', 'paper'),
  )
  return {name: value for name, (value, _) in table.items()} | values


def settings(config: Config) -> dict[str, Any]:
  """What must stay as it is while a run goes on, by the name of its flag."""
  values = _flat(json.loads(json.dumps(dataclasses.asdict(config))))
  for field in dataclasses.fields(config):
    if field.metadata['may_change']:
      del values[field.name]
  return values


def _flat(config):
  environment = config['environment'] | {'env': config['environment']['name']}
  del environment['name']
  # The environment's own names first: --game tells more than --env.
  return environment | {
    name: value for name, value in config.items() if name != 'environment'
  }


def _text(value):
  if isinstance(value, dict):
    return json.dumps(value)
  return checks.as_text(tuple(value) if isinstance(value, list) else value)


def _record(config) -> dict[str, Any]:
  versions = {'python': platform.python_version()}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  return {
    'config': dataclasses.asdict(config),
    'versions': versions,
    'platform': platform.platform(),
    'evaluation_protocol': (
      'training episodes: actions as explored, raw undiscounted return of '
      'whole games, mean of the newest 100'
    ),
  }
