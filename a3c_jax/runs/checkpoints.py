"""What a run needs to resume, in files of our own."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
from typing import Any, NamedTuple

from flax import serialization
import jax
import numpy as np

from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, files, types
from a3c_jax.core import paths as paths_lib
from a3c_jax.envs import replayable
from a3c_jax.parameters.store import StoreState

# A file is a line, which is this, the SHA-256 of the header, and the header in
# JSON; then the arrays in flax's form of MessagePack. The header has the
# SHA-256 of the arrays.
_FORMAT = b'a3c_jax-checkpoint-2'
_OTHER_FORMAT = re.compile(rb'a3c_jax-checkpoint-[0-9]{1,9}')
_UNFINISHED = '.new'  # Ends the name of a file that is being written.
_COUNT = re.compile('0|[1-9][0-9]{0,18}')


class RunState(NamedTuple):
  """A whole run between two updates."""

  store: StoreState
  record: Mapping[str, Any]  # all else, fit for JSON


class MismatchError(ValueError):
  """A checkpoint does not fit the run that would resume from it."""


class CorruptError(ValueError):
  """A checkpoint is not what was written."""


class _FormatError(ValueError):
  """Another version of a3c_jax wrote a checkpoint."""


class Store:
  """Checkpoints in one folder, a file for each, named by frames.

  A checkpoint is there as a whole or not at all: it is written under another
  name first, and read back.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    keep: int | None = None,
    read_only: bool = False,
  ):
    """Opens the folder, and makes it unless it is only read.

    Args:
      folder: of this store alone.
      keep: how many checkpoints stay, the newest; None for all.
      read_only: leaves everything as it is, so that another process can write.

    Raises:
      UsageError: if the folder cannot be used.
    """
    self.folder = folder.absolute()
    self._keep = keep
    self._read_only = read_only
    if not read_only:
      try:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in os.listdir(self.folder):
          if name.endswith(_UNFINISHED):
            self._remove(self.folder / name)
      except OSError as error:
        self._refuse(f'{self.folder.name}: {error.strerror}')

  def frames(self) -> list[int]:
    """Of all checkpoints, ascending.

    Raises:
      UsageError: if the folder cannot be read.
    """
    try:
      names = os.listdir(self.folder)
    except FileNotFoundError:
      return []
    except OSError as error:
      self._refuse(f'{self.folder.name}: {error.strerror}')
    paths = [self.folder / name for name in names if _COUNT.fullmatch(name)]
    return sorted(int(path.name) for path in paths if path.exists())

  def _path(self, frames):
    return self.folder / str(frames)

  def _remove(self, path):
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      path.unlink()

  def _refuse(self, problem):
    raise errors.UsageError(
      f'--workdir={paths_lib.as_given(self.folder.parent)}: {problem}; '
      'allowed: the folder of a run, of this version'
    )

  def save(self, frames: int, arrays: Any, record: Mapping[str, Any]) -> None:
    """Writes one checkpoint, in the place of one of the same count of frames.

    Args:
      frames: its name.
      arrays: nested dicts of arrays.
      record: all else, fit for JSON.

    Raises:
      OSError: if it cannot be written or not be read back; the earlier ones are
        as they were.
    """
    content = serialization.msgpack_serialize(jax.tree.map(np.asarray, arrays))
    header = {'record': record, 'arrays_sha256': _sha256(content)}
    header = json.dumps(header, sort_keys=True).encode()
    line = b' '.join([_FORMAT, _sha256(header).encode(), header])
    new = self.folder / f'{frames}{_UNFINISHED}'
    try:
      with new.open('wb', buffering=0) as file:
        files.write_all(file, line + b'\n' + content)
      if _read(new)[1] != content:
        raise CorruptError('it is not what was written')
      if self._path(frames).is_dir():
        self._remove(self._path(frames))
      new.replace(self._path(frames))
    except CorruptError as error:
      raise OSError(f'it cannot be read back, {error}') from error
    finally:
      with contextlib.suppress(OSError):
        new.unlink()
    files.sync_folder(self.folder)
    if self._keep:
      for old in self.frames()[: -self._keep]:
        self.delete(old)

  def record(self, frames: int) -> Mapping[str, Any] | None:
    """The record alone; None where it cannot be read."""
    try:
      with _open(self._path(frames)) as file:
        return _read_header(file).get('record')
    except (OSError, CorruptError, _FormatError):
      return None

  def delete(self, frames: int) -> None:
    """Removes one checkpoint."""
    self._remove(self._path(frames))

  def read(self, frames: int) -> tuple[Any, Mapping[str, Any]]:
    """The arrays and the record of one checkpoint.

    Raises:
      CorruptError: if they are not what was written.
      FileNotFoundError: if it is not there, or not there any more.
      UsageError: if it cannot be read, or another version wrote it.
    """
    path = self._path(frames)
    try:
      header, content = _read(path)
    except FileNotFoundError:
      raise
    except _FormatError:  # It is intact, and is left where it is.
      self._refuse(
        f'another version of a3c_jax wrote {self.folder.name}/{frames}'
      )
    except (IsADirectoryError, CorruptError) as error:
      if (path / '_CHECKPOINT_METADATA').exists():
        self._refuse(
          f'an older version of a3c_jax wrote {self.folder.name}/{frames}, '
          'with orbax'
        )
      problem = getattr(error, 'strerror', None) or error
      raise CorruptError(
        f'checkpoint of frame {frames} is corrupt: {problem}'
      ) from error
    except OSError as error:  # It may be intact, and is left where it is.
      self._refuse(f'{self.folder.name}/{frames}: {error.strerror}')
    try:
      arrays = serialization.msgpack_restore(content)
      arrays = jax.tree.map(np.array, arrays)  # To be written to.
      if not isinstance(arrays, dict):
        raise ValueError('it is no mapping')
      record = dict(header['record'])
      if record.get('frames', frames) != frames:
        raise ValueError('it is of another count of frames')
      return arrays, record
    except Exception as error:  # Whatever a made-up file makes flax raise.
      raise CorruptError(
        f'checkpoint of frame {frames} is corrupt: {error!r}'
      ) from error

  def newest(self) -> tuple[Any, Mapping[str, Any], list[str]]:
    """The newest checkpoint that can be read, and the trouble with newer ones.

    Unless the store is only read, those are moved away, to 'corrupt-FRAMES'
    beside the folder.

    Returns:
      Arrays and record, both None if there is none, and a line for each corrupt
      one.

    Raises:
      UsageError: as `read`, or if a corrupt one cannot be moved away.
    """
    problems = {}
    while left := [each for each in self.frames() if each not in problems]:
      frames = left[-1]
      try:
        return *self.read(frames), [*problems.values()]
      except FileNotFoundError:
        continue  # Deleted by its writer, who has written a newer one before.
      except CorruptError as error:
        problems[frames] = str(error)
        if not self._read_only:
          problems[frames] += f'; now {self._move_aside(frames)}'
    return None, None, [*problems.values()]

  def _move_aside(self, frames):
    aside = self.folder.parent / f'corrupt-{frames}'
    while os.path.lexists(aside):
      aside = aside.with_name(f'{aside.name}-again')
    try:
      # Not `rename`: the folder may be a link to another file system.
      shutil.move(self._path(frames), aside)
    except OSError as error:
      self._refuse(f'{self.folder.name}/{frames}: {error.strerror}')
    return paths_lib.as_given(aside)


class Checkpoints:
  """The newest states of one run, and the best parameters it has had.

  The best ones are those that a state tells of: a run that resumes from there
  forgets better ones that came later.
  """

  def __init__(self, workdir: pathlib.Path, *, keep: int):
    """Opens or makes the folders 'checkpoints' and 'best'.

    Args:
      workdir: of one run.
      keep: how many states stay, the newest.
    """
    self._store = Store(workdir / 'checkpoints', keep=keep)
    self._best = Store(workdir / 'best')

  def save(self, state: RunState, *, best: int | None = None) -> None:
    """Writes a state, in the place of one of the same count of frames.

    Args:
      state: what to write.
      best: the count of frames of the best parameters so far.

    Raises:
      OSError: if it cannot be written; the earlier ones are as they were.
    """
    version = state.store.version
    record = {
      'run': dict(state.record),
      'frames': version.frames,
      'updates': version.updates,
      'best': best,
    }
    if version.frames in self._store.frames():
      old = self._store.record(version.frames)
      if old and _but_seconds(old) == _but_seconds(
        json.loads(json.dumps(record))
      ):
        return
    self._store.save(version.frames, _to_arrays(state.store), record)
    self._forget()

  def save_best(
    self, version: types.Version, record: Mapping[str, Any]
  ) -> None:
    """Writes what acts alone; older ones stay while a state tells of them."""
    self._best.save(version.frames, _acting(version), record)

  def restore(self, template: RunState) -> tuple[RunState | None, list[str]]:
    """The newest state that can be read, and the trouble with newer ones.

    Args:
      template: a state of the same run, for its structure.

    Returns:
      The state, None if there is none, and a line for each corrupt one.

    Raises:
      MismatchError: if it holds other parameters than `template`.
    """
    arrays, record, problems = self._store.newest()
    if arrays is None:
      return None, problems
    try:
      state = _from_arrays(arrays, record, template)
    except MismatchError:
      raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
      raise MismatchError(f'it lacks what a run has: {error!r}') from error
    self._forget()
    return state, problems

  def has_best(self, frames: int) -> bool:
    """Whether the parameters of this count of frames are kept."""
    return frames in self._best.frames()

  def _forget(self):
    """Removes the best ones of which no state tells."""
    records = [self._store.record(frames) for frames in self._store.frames()]
    if None in records:
      return  # It may tell of any.
    named = [record.get('best') for record in records]
    for frames in self._best.frames():
      if frames not in named:
        self._best.delete(frames)


def _but_seconds(record):
  run = {name: v for name, v in record['run'].items() if name != 'seconds'}
  return record | {'run': run}


def read_params(
  workdir: pathlib.Path, which: str, template: types.Params
) -> tuple[types.Params, types.RunningStatistics | None, int, list[str]]:
  """Parameters of a run, which may be going on meanwhile.

  Args:
    workdir: of the run.
    which: 'latest', 'best', or a count of frames.
    template: parameters of the same network.

  Returns:
    Parameters, the statistics that observations are normalised by, the count
    of frames at which they were those of the run, and a line for each corrupt
    checkpoint that is newer than 'latest'.

  Raises:
    FileNotFoundError: if there is no such checkpoint, naming those there are.
    CorruptError: if the one asked for by 'best' or frames is.
    MismatchError: if it holds other parameters than `template`.
  """
  newest, best = stores = [
    Store(workdir / name, read_only=True) for name in ('checkpoints', 'best')
  ]
  problems = []
  if which == 'latest':
    arrays, record, problems = newest.newest()
    if arrays is not None:
      return *_what_acts(arrays, template), record.get('frames', 0), problems
  elif which == 'best':
    while found := best.frames():
      with contextlib.suppress(FileNotFoundError):  # Deleted by its writer.
        arrays, _ = best.read(found[-1])
        return *_what_acts(arrays, template), found[-1], problems
  else:
    frames = which.lstrip('0') or '0'
    for store in stores:
      # As text: Python refuses to make a number of 5,000 digits.
      if frames in map(str, store.frames()):
        with contextlib.suppress(FileNotFoundError):
          arrays, _ = store.read(int(frames))
          return *_what_acts(arrays, template), int(frames), problems
  found = sorted({frames for store in stores for frames in store.frames()})
  counts = ', '.join(map(str, found)) or 'none'
  raise FileNotFoundError(
    '; '.join([*problems, f'there are those of frames: {counts}'])
  )


def _acting(version) -> dict[str, Any]:
  """All that a policy is made of."""
  return _state_dict(
    {'params': version.params, 'statistics': version.statistics}
  )


def _what_acts(arrays, template):
  statistics = arrays.get('statistics')
  if statistics is not None:
    fields = {*types.RunningStatistics._fields}
    if not isinstance(statistics, dict) or set(statistics) != fields:
      raise MismatchError('its statistics of observations are none')
    statistics = types.RunningStatistics(**statistics)
  return _fill(template, arrays.get('params'), 'parameters'), statistics


def _to_arrays(state: StoreState) -> dict[str, Any]:
  version, optimizer_states, worker_states = state
  tree = {
    'target_params': version.target_params,
    'optimizer': optimizer_states,
    'workers': [
      {
        'carry': each.carry._asdict(),
        'action_log': each.action_log._asdict(),
      }
      for each in worker_states
    ],
  }
  return _acting(version) | _state_dict(tree)


def _state_dict(tree):
  return serialization.to_state_dict(tree)


def _from_arrays(arrays, record, template: RunState) -> RunState:
  version, optimizer_states, worker_states = template.store
  params, statistics = _what_acts(arrays, version.params)
  # Whether observations are normalised is for the run to say.
  statistics = version.statistics and (statistics or version.statistics)
  target_params = version.target_params
  if target_params is not None:
    target_params = _fill(
      target_params, arrays.get('target_params'), 'target parameters'
    )
  saved_states = arrays.get('optimizer', {})
  optimizer_states = [
    _fill(optimizer_states[0], saved_states.get(str(slot)), 'optimizer')
    for slot in range(max(1, len(saved_states)))
  ]
  worker_states = [
    _worker_state(arrays['workers'][str(worker)], worker_states[0])
    for worker in range(len(arrays['workers']))
  ]
  version = types.Version(
    params, target_params, record['frames'], record['updates'], statistics
  )
  return RunState(
    StoreState(version, optimizer_states, worker_states), record['run']
  )


def _worker_state(arrays, template: WorkerState) -> WorkerState:
  carry, log = arrays['carry'], arrays['action_log']
  own = template.carry
  return WorkerState(
    carry_lib.Carry(
      **{name: carry.get(name) for name in carry_lib.Carry._fields}
      | {
        'state': _fill(own.state, carry.get('state'), 'recurrent state'),
        # Of another shape if another generator drew.
        **_fill({'key': own.key}, {'key': carry['key']}, 'PRNG'),
      }
    ),
    replayable.ActionLog(
      log['seeds'],
      log['starts'],
      log.get('actions', template.action_log.actions[:0]),
    ),
  )


def _fill(template, arrays, what):
  """The arrays in the structure of the template, which has the same shapes."""
  wanted = _shapes(_state_dict(template))
  found = _shapes(arrays or {})
  if wanted != found:
    differing = sorted(set(wanted.items()) ^ set(found.items()))
    name = differing[0][0]
    raise MismatchError(
      f'{what}: {name} has shape {found.get(name, "(none)")}, '
      f'expected {wanted.get(name, "(none)")}'
    )
  return serialization.from_state_dict(template, arrays or {})


def _shapes(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.shape(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _read(path) -> tuple[dict[str, Any], bytes]:
  """Header and arrays of a file, as they were written.

  Raises:
    CorruptError: if they are not.
    FileNotFoundError: if there is no file, or none any more.
    OSError: if it cannot be read.
  """
  try:
    with _open(path) as file:
      header = _read_header(file)
      content = file.read()
  except OSError as error:
    if error.errno == errno.ESTALE:  # Another machine deleted it just now.
      raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    raise
  if _sha256(content) != header.get('arrays_sha256'):
    raise CorruptError('it is not what was written')
  return header, content


def _open(path):
  """A regular file, to read: from a pipe nothing comes, a device never ends."""
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return open(descriptor, 'rb')
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
  raise CorruptError('it is no file')


def _read_header(file) -> dict[str, Any]:
  name, _, rest = file.readline().partition(b' ')
  digest, _, header = rest.removesuffix(b'\n').partition(b' ')
  if name != _FORMAT and _OTHER_FORMAT.fullmatch(name):
    raise _FormatError(name)
  if name != _FORMAT or digest != _sha256(header).encode():
    raise CorruptError('it is not what was written')
  try:
    return dict(json.loads(header))
  except (ValueError, TypeError, RecursionError) as error:
    raise CorruptError('its header is no mapping') from error
