"""The folder of one run: its lock, its config.json, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import csv
import json
import logging
import os
import pathlib
import platform
from typing import Any

from a3c_jax.core import errors, files, packages, paths
from a3c_jax.envs import domain as domain_lib
from a3c_jax.runs import model_file
from a3c_jax.settings import record as record_lib
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
_PACKAGES = (  # Of every run.
  'a3c_jax',
  'absl-py',
  'flax',
  'gymnasium',
  'jax',
  'jaxlib',
  'numpy',
  'optax',
  'rich',
  'tensorboardX',
)
_ALLOWED = 'a new or empty folder that can be written to, or that of a run'
_UNFINISHED = 'config.json.new'  # Left behind if a process ends while writing.
_IN_USE = 'another process is using it'


class Workdir:
  """A folder that one process at a time writes to. A context manager.

  Attributes:
    path: the folder, absolute.
    shown: the same as the user wrote it.
    resumes: whether it holds a run, which this one resumes.
  """

  def __init__(self, config: Config):
    """Checks the folder, compares settings, and changes nothing.

    Raises:
      UsageError: if the folder cannot be used, or if it holds a run with
        another value of a setting that `config.override` does not name.
    """
    self.path = pathlib.Path(config.workdir)
    self.shown = paths.as_given(self.path)
    self._config = config
    self._exit = contextlib.ExitStack()
    self._changes = []
    record_lib.check_override(config)
    try:
      self.resumes = self._check_folder()
    except OSError as error:
      self._refuse(error.strerror)
    with contextlib.ExitStack() as unless_it_fits:
      unless_it_fits.callback(self._exit.close)
      if self.resumes:
        try:
          self._lock(self._open('r+'))
        except OSError as error:
          self._refuse(f'config.json: {error.strerror}')
        self._compare(record_lib.read(self.path))
        if 'frames' in config.override and config.frames > config.anneal_frames:
          _logger.warning(
            '--frames=%d: the learning rate is 0 from frame %d on; to change '
            'that, --anneal_frames with --override=anneal_frames',
            config.frames,
            config.anneal_frames,
          )
      elif config.override:
        _logger.warning(
          '--override=%s: without effect; there is no run in %s to resume',
          ','.join(config.override),
          self.shown,
        )
      unless_it_fits.pop_all()

  def claim(self, frames: int, spaces: Mapping[str, Any] | None = None) -> None:
    """Writes config.json: the folder belongs to this run from now on.

    Args:
      frames: emulator frames so far, for the record of changes.
      spaces: from `spaces.to_records`, of the run's environments.

    Raises:
      UsageError: if the folder cannot be used.
      RunError: if the disk is full.
    """
    new = self.path / _UNFINISHED
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      changes = [{'frames': frames} | change for change in self._changes]
      record = _record(self._config) | {'changes': changes, 'spaces': spaces}
      file = self._exit.enter_context(new.open('ab', buffering=0))
      self._lock(file)  # Before a byte of it changes: it may be another run's.
      # Only one process can have the lock of the file of this name. The name is
      # free for another file only after this one has become config.json.
      if not self.resumes and (self.path / 'config.json').exists():
        new.unlink(missing_ok=True)
        self._refuse(_IN_USE)
      file.truncate(0)
      files.write_all(file, (json.dumps(record, indent=2) + '\n').encode())
      new.replace(self.path / 'config.json')
      files.sync_folder(self.path)
    except OSError as error:
      with contextlib.suppress(OSError):
        new.unlink()
      if error.errno in files.NO_SPACE:
        raise errors.RunError(
          f'--workdir={self.shown}: {error.strerror}; nothing was changed'
        ) from error
      self._refuse(error.strerror)

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    return self._exit.__exit__(*exception)

  def _check_folder(self) -> bool:
    path = self.path
    existing = next(
      folder for folder in [path, *path.parents] if os.path.lexists(folder)
    )
    shown = paths.as_given(existing)
    if not existing.exists():
      self._refuse(f'{shown} is a link to nothing')
    if not existing.is_dir():
      self._refuse(f'{shown} is a file')
    if not os.access(existing, os.W_OK | os.X_OK):
      self._refuse(f'no permission to write to {shown}')
    if existing != path:
      return False
    below = ('checkpoints', 'checkpoints/attached', 'best')
    paths.check_links(path, flag='workdir', below=below)
    if model_file.is_model(path):
      self._refuse('holds a model, which has no state of training')
    if (path / 'config.json').exists():
      return True
    if any(entry.name != _UNFINISHED for entry in path.iterdir()):
      self._refuse('holds files, but no config.json of a run')
    return False

  def _open(self, mode):
    return self._exit.enter_context((self.path / 'config.json').open(mode))

  def _lock(self, file):
    try:
      files.lock(file, folder=f'--workdir={self.shown}')
    except BlockingIOError:
      self._refuse(_IN_USE)

  def _compare(self, record):
    if record.config.domain != self._config.domain:
      self._refuse(
        f'holds a run of the domain {record.config.domain}, this one is of '
        f'{self._config.domain}'
      )
    self._changes = [
      *record.changes,
      *record_lib.changes_of(self._config, record.config),
    ]

  def _refuse(self, problem):
    raise errors.UsageError(
      f'--workdir={self.shown}: {problem}; allowed: {_ALLOWED}'
    )


def read_config(path: pathlib.Path) -> Config:
  """The settings of the run in a folder.

  Raises:
    UsageError: if there is none.
  """
  return record_lib.read(path).config


def last_row(path: pathlib.Path, name: str) -> dict[str, str]:
  """The last whole row of a CSV file of a run; empty without one."""
  try:
    with (path / name).open(newline='', errors='replace') as file:
      rows = [row for row in csv.DictReader(file) if None not in row.values()]
  except (OSError, ValueError, csv.Error):
    rows = []
  return rows[-1] if rows else {}


def is_finished(path: pathlib.Path) -> bool:
  """Whether the run in a folder has finished training and evaluations."""
  if not os.path.isfile(path / 'config.json'):  # Reading a pipe would block.
    return False
  train = last_row(path, 'train.csv')
  evaluation = last_row(path, 'eval.csv')
  try:
    config = json.loads((path / 'config.json').read_text())['config']
    seconds = config.get('seconds')
    if seconds and float(train['seconds']) >= seconds:
      return True
    last = evaluation if config.get('eval_frames') else train
    return float(last['frames']) >= config['frames']
  except Exception:  # Damaged files may raise anything.
    return False


def planned_frames(path: pathlib.Path) -> int:
  """Returns the emulator frames that a run is to train for; 0 if unknown."""
  try:
    return int(
      json.loads((path / 'config.json').read_text())['config']['frames']
    )
  except Exception:  # Damaged files may raise anything.
    return 0


def versions_of(config: Config) -> dict[str, str]:
  """Returns the versions of Python and of the packages that a run uses."""
  names = sorted({*_PACKAGES, *domain_lib.get(config.domain).packages})
  return {'python': platform.python_version()} | packages.versions(names)


def _record(config) -> dict[str, Any]:
  return {
    'config': record_lib.to_record(config),
    'versions': versions_of(config),
    'platform': platform.platform(),
    'evaluation_protocol': (
      'training episodes: actions as explored, raw undiscounted return of '
      'whole games, mean of the newest 100'
    ),
  }
