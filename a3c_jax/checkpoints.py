"""What a run needs to go on where it stood, in files of orbax."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import shutil
from typing import Any, NamedTuple

from flax import serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from a3c_jax import base, rollout, shared
from a3c_jax.envs import recorded

_METADATA_BYTES = 1_000_000  # At most, of orbax's own.


class Point(NamedTuple):
  """Where one thread stands between two segments."""

  carry: rollout.Carry
  past: recorded.Past  # of its environment


class Moment(NamedTuple):
  """A whole run between two updates."""

  captured: shared.Captured
  points: list[Point]
  record: Mapping[str, Any]  # all else, fit for JSON


class MismatchError(ValueError):
  """A checkpoint does not fit the run that wants to go on from it."""


class CorruptError(ValueError):
  """A checkpoint is not what was written."""


class Store:
  """Checkpoints in one folder, a folder for each, named by frames.

  A checkpoint is there as a whole or not at all: orbax writes it under another
  name first.
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
    """
    self.folder = folder.absolute()
    self._read_only = read_only
    if not read_only:
      self._put_back()
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.LatestN(keep),
        cleanup_tmp_directories=not read_only,
        enable_async_checkpointing=False,
        create=not read_only,
      ),
    )

  def frames(self) -> list[int]:
    """Of all checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def _replaced(self, frames):
    return self.folder.with_name(f'{self.folder.name}-{frames}-replaced')

  def _put_back(self):
    """Undoes a replacement that was cut short; forgets those that were not."""
    for old in self.folder.parent.glob(f'{self.folder.name}-*-replaced'):
      frames = old.name.removesuffix('-replaced').rpartition('-')[2]
      if (self.folder / frames).exists():
        shutil.rmtree(old)
      else:
        old.rename(self.folder / frames)

  def save(self, frames: int, arrays: Any, record: Mapping[str, Any]) -> None:
    """Writes one checkpoint, in the place of one of the same count of frames.

    Args:
      frames: its name.
      arrays: nested dicts of arrays.
      record: all else, fit for JSON.

    Raises:
      OSError: if it cannot be written; the earlier ones are as they were.
    """
    arrays = _without_empty(jax.tree.map(np.asarray, arrays))
    record = json.loads(json.dumps(record))  # As it will be read.
    self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
    old = self._replaced(frames)
    if frames in self._manager.all_steps():
      (self.folder / str(frames)).rename(old)
      self._manager.reload()
    try:
      self._manager.save(
        frames,
        args=ocp.args.Composite(
          arrays=ocp.args.StandardSave(arrays),
          record=ocp.args.JsonSave(
            {'record': record, 'digests': _digests(arrays, record)}
          ),
        ),
        force=True,
      )
    finally:
      self._put_back()
      self._manager.reload()

  def _check_space(self, size):
    """Orbax tells of a full disk too, but in hundreds of lines."""
    needed = size + _METADATA_BYTES
    free = shutil.disk_usage(self.folder).free
    if free < needed:
      raise OSError(
        errno.ENOSPC,
        f'{os.strerror(errno.ENOSPC)}: {free:,} of {needed:,} bytes are free',
      )

  def record(self, frames: int) -> Mapping[str, Any] | None:
    """The record alone; None where it cannot be read."""
    try:
      with contextlib.redirect_stderr(io.StringIO()):
        saved = self._manager.restore(
          frames, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        )['record']
    except Exception:  # Whatever damaged files make orbax raise.
      return None
    digests = _digests({}, saved['record'])
    intact = digests['record'] == saved['digests']['record']
    return saved['record'] if intact else None

  def delete(self, frames: int) -> None:
    """Removes one checkpoint."""
    self._manager.delete(frames)

  def read(self, frames: int) -> tuple[Any, Mapping[str, Any]]:
    """The arrays and the record of one checkpoint.

    Raises:
      CorruptError: if they are not what was written.
    """
    try:
      # Damaged files make orbax print dozens of tracebacks besides raising.
      with contextlib.redirect_stderr(io.StringIO()):
        saved = self._manager.restore(
          frames,
          args=ocp.args.Composite(
            arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()
          ),
        )
      arrays, record = saved['arrays'], saved['record']
      if _digests(arrays, record['record']) != record['digests']:
        raise ValueError('it is not what was written')
    except Exception as error:  # Whatever damaged files make orbax raise.
      raise CorruptError(
        f'checkpoint of frame {frames} is corrupt: '
        + ' '.join(str(error).split())[:100]
      ) from error
    return arrays, record['record']

  def newest(self) -> tuple[Any, Mapping[str, Any], list[str]]:
    """The newest checkpoint that can be read, and the trouble with newer ones.

    Unless the store is only read, those are moved away, to 'corrupt-FRAMES'
    beside the folder.

    Returns:
      Arrays and record, both None if there is none, and a line for each corrupt
      one.
    """
    problems = []
    for frames in reversed(self.frames()):
      try:
        return *self.read(frames), problems
      except CorruptError as error:
        problem = str(error)
        if not self._read_only:
          name = f'corrupt-{frames}'
          while (self.folder.parent / name).exists():
            name += '-again'
          aside = self.folder.parent / name
          (self.folder / str(frames)).rename(aside)
          self._manager.reload()
          problem += f'; now {aside}'
        problems.append(problem)
    return None, None, problems


class Checkpoints:
  """The newest moments of one run, and the best parameters it has had.

  The best ones are those that a moment tells of: a run that goes on from there
  forgets better ones that came later.
  """

  def __init__(self, workdir: pathlib.Path, *, keep: int):
    """Opens or makes the folders 'checkpoints' and 'best'.

    Args:
      workdir: of one run.
      keep: how many moments stay, the newest.
    """
    self._store = Store(workdir / 'checkpoints', keep=keep)
    self._best = Store(workdir / 'best')

  def save(self, moment: Moment, *, best: int | None = None) -> None:
    """Writes a moment, in the place of one of the same count of frames.

    Args:
      moment: what to write.
      best: the count of frames of the best parameters so far.

    Raises:
      OSError: if it cannot be written; the earlier ones are as they were.
    """
    snapshot = moment.captured.snapshot
    record = {
      'run': dict(moment.record),
      'frames': snapshot.frames,
      'updates': snapshot.updates,
      'best': best,
    }
    if snapshot.frames in self._store.frames():
      old = self._store.record(snapshot.frames)
      if old and _but_seconds(old) == _but_seconds(
        json.loads(json.dumps(record))
      ):
        return
    self._store.save(snapshot.frames, _to_arrays(moment), record)
    self._forget()

  def save_best(
    self, snapshot: base.Snapshot, record: Mapping[str, Any]
  ) -> None:
    """Writes what acts alone; older ones stay while a moment tells of them."""
    self._best.save(snapshot.frames, _acting(snapshot), record)

  def restore(self, like: Moment) -> tuple[Moment | None, list[str]]:
    """The newest moment that can be read, and the trouble with newer ones.

    Args:
      like: a moment of the same run, for its structure.

    Returns:
      The moment, None if there is none, and a line for each corrupt one.

    Raises:
      MismatchError: if it holds other parameters than `like`.
    """
    arrays, record, problems = self._store.newest()
    if arrays is None:
      return None, problems
    moment = _from_arrays(arrays, record, like)
    self._forget()
    return moment, problems

  def has_best(self, frames: int) -> bool:
    """Whether the parameters of this count of frames are kept."""
    return frames in self._best.frames()

  def _forget(self):
    """Removes the best ones of which no moment tells."""
    records = [self._store.record(frames) for frames in self._store.frames()]
    if None in records:
      return  # It may tell of any.
    named = {record['best'] for record in records}
    for frames in self._best.frames():
      if frames not in named:
        self._best.delete(frames)


def _but_seconds(record):
  run = {name: v for name, v in record['run'].items() if name != 'seconds'}
  return record | {'run': run}


def read_params(
  workdir: pathlib.Path, which: str, like: base.Params
) -> tuple[base.Params, base.Moments | None, int, list[str]]:
  """Parameters of a run, which may be going on meanwhile.

  Args:
    workdir: of the run.
    which: 'latest', 'best', or a count of frames.
    like: parameters of the same network.

  Returns:
    Parameters, the moments that observations are normalised by, the count of
    frames at which they were those of the run, and a line for each corrupt
    checkpoint that is newer than 'latest'.

  Raises:
    FileNotFoundError: if there is no such checkpoint, naming those there are.
    CorruptError: if the one asked for by 'best' or frames is.
    MismatchError: if it holds other parameters than `like`.
  """
  stores = {
    name: Store(workdir / name, read_only=True)
    for name in ('checkpoints', 'best')
    if (workdir / name).is_dir()
  }
  found = {name: store.frames() for name, store in stores.items()}
  store, frames, problems = None, None, []
  if which == 'latest' and found.get('checkpoints'):
    arrays, record, problems = stores['checkpoints'].newest()
    if arrays is not None:
      return *_what_acts(arrays, like), record['frames'], problems
  elif which == 'best' and found.get('best'):
    store, frames = stores['best'], found['best'][-1]
  elif which.isdecimal():
    frames = int(which)
    store = next(
      (stores[name] for name in stores if frames in found[name]), None
    )
  if store is None:
    counts = ', '.join(map(str, sorted({*sum(found.values(), [])})))
    raise FileNotFoundError(
      '; '.join([*problems, f'there are those of frames: {counts or "none"}'])
    )
  arrays, _ = store.read(frames)
  return *_what_acts(arrays, like), frames, problems


def _acting(snapshot) -> dict[str, Any]:
  """All that a policy is made of."""
  return _state_dict({'params': snapshot.params, 'moments': snapshot.moments})


def _what_acts(arrays, like):
  moments = arrays.get('moments')
  return (
    _fill(like, arrays['params'], 'parameters'),
    moments and base.Moments(**moments),
  )


def _to_arrays(moment) -> dict[str, Any]:
  snapshot, optimizer_states = moment.captured
  tree = {
    'target_params': snapshot.target_params,
    'optimizer': optimizer_states,
    'threads': [
      {
        'carry': point.carry._asdict(),
        'past': point.past._asdict(),
      }
      for point in moment.points
    ],
  }
  return _acting(snapshot) | _state_dict(tree)


def _state_dict(tree):
  return serialization.to_state_dict(tree)


def _without_empty(tree):
  """Without empty arrays: orbax cannot save those."""
  if not isinstance(tree, dict):
    return tree
  pruned = {name: _without_empty(branch) for name, branch in tree.items()}
  return {
    name: branch
    for name, branch in pruned.items()
    if branch is not None
    and (len(branch) if isinstance(branch, dict) else branch.size)
  }


def _from_arrays(arrays, record, like: Moment) -> Moment:
  snapshot, optimizer_states = like.captured
  params, moments = _what_acts(arrays, snapshot.params)
  # Whether observations are normalised is for the run to say.
  moments = snapshot.moments and (moments or snapshot.moments)
  target_params = snapshot.target_params
  if target_params is not None:
    target_params = _fill(
      target_params, arrays.get('target_params'), 'target parameters'
    )
  (template, *_) = optimizer_states
  saved_states = arrays.get('optimizer', {})
  states = [
    _fill(template, saved_states.get(str(slot)), 'optimizer')
    for slot in range(max(1, len(saved_states)))
  ]
  points = [
    _point(arrays['threads'][str(thread)], like.points[0])
    for thread in range(len(arrays['threads']))
  ]
  captured = shared.Captured(
    base.Snapshot(
      params, target_params, record['frames'], record['updates'], moments
    ),
    states,
  )
  return Moment(captured, points, record['run'])


def _point(arrays, like: Point) -> Point:
  carry, past = arrays['carry'], arrays['past']
  return Point(
    rollout.Carry(
      **{name: carry.get(name) for name in rollout.Carry._fields}
      | {
        'state': _fill(like.carry.state, carry.get('state'), 'recurrent state'),
        # Of another shape if another generator drew.
        **_fill({'key': like.carry.key}, {'key': carry['key']}, 'PRNG'),
      }
    ),
    recorded.Past(
      past['seeds'], past['starts'], past.get('actions', like.past.actions[:0])
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


def _digests(arrays, record) -> dict[str, str]:
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {leaf.dtype} {leaf.shape}'.encode())
    digest.update(np.ascontiguousarray(leaf))
  text = json.dumps(record, sort_keys=True).encode()
  return {
    'arrays': digest.hexdigest(),
    'record': hashlib.sha256(text).hexdigest(),
  }
