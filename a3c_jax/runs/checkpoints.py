"""Checkpoints of a run: its newest states, and its best parameters."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import json
import pathlib
from typing import Any, NamedTuple

from flax import serialization
import jax
import numpy as np

from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting.worker_state import ReplayErrors, WorkerState
from a3c_jax.core import types
from a3c_jax.envs import replayable
from a3c_jax.parameters.store import StoreState
from a3c_jax.replay.chunks import Chunk
from a3c_jax.replay.memory import MemoryState
from a3c_jax.runs import model_file
from a3c_jax.runs.checkpoint_store import Saved, Store


class RunState(NamedTuple):
  """A whole run between two updates."""

  store: StoreState
  record: Mapping[str, Any]  # all else, fit for JSON


class MismatchError(ValueError):
  """A checkpoint does not fit the run that would resume from it."""


class WithoutMemoryError(OSError):
  """A checkpoint was written, but without its replay memory."""


class Checkpoints:
  """The newest states of one run, and its best parameters so far.

  Best parameters are kept as long as a state names them. A run that resumes
  from a state forgets better ones that came later.
  """

  def __init__(self, workdir: pathlib.Path, *, keep: int):
    """Opens or makes the folders 'checkpoints' and 'best'.

    Args:
      workdir: of one run.
      keep: how many of the newest states stay.
    """
    self._store = Store(workdir / 'checkpoints', keep=keep)
    self._best = Store(workdir / 'best')

  def save(
    self, state: RunState, *, best: int | None = None
  ) -> pathlib.Path | None:
    """Writes a state. Replaces one of the same count of frames.

    Args:
      state: what to write.
      best: the count of frames of the best parameters so far.

    Returns:
      The path of the file; None if the same was written before.

    Raises:
      WithoutMemoryError: if only its replay memory cannot be written. It takes
        the place of earlier ones without memory.
      OSError: if it cannot be written; the earlier ones are unchanged.
    """
    version = state.store.version
    record = {
      'run': dict(state.record),
      'frames': version.frames,
      'updates': version.updates,
      'best': best,
    }
    attached = {}
    if state.store.memory is not None:
      chunks = state.store.memory.chunks
      record['memory'] = [[each.name, each.sha256] for each in chunks]
      attached = {each.name: each.data for each in chunks}
    if version.frames in self._store.frames():
      old = self._store.record(version.frames)
      if old and _but_seconds(old) == _but_seconds(
        json.loads(json.dumps(record))
      ):
        return None
    try:
      self._store.save(
        version.frames, _to_arrays(state.store), record, attached
      )
    except OSError as error:
      if not attached:
        raise
      # There may be room for all but the memory.
      self._save_without_memory(state.store, record)
      raise WithoutMemoryError(*error.args) from error
    self._forget()
    return self._store.path(version.frames)

  def _save_without_memory(
    self, state: StoreState, record: Mapping[str, Any]
  ) -> None:
    """Replaces all that have no replay memory; those that have one stay."""
    record = {name: x for name, x in record.items() if name != 'memory'}
    arrays = _to_arrays(state._replace(memory=None))
    written = state.version.frames
    self._store.save(written, arrays, record, forgets=False)
    for frames in self._store.frames():
      other = self._store.record(frames)
      if frames != written and other and 'memory' not in other:
        self._store.delete(frames)

  def save_best(
    self, version: types.Version, record: Mapping[str, Any]
  ) -> None:
    """Writes a policy's arrays. Older ones stay while a state names them."""
    self._best.save(version.frames, _policy_arrays(version), record)

  def restore(self, template: RunState) -> tuple[RunState | None, list[str]]:
    """Reads the newest state that is intact.

    Args:
      template: a state of the same run, for its structure.

    Returns:
      The state, None if there is none, and a line for each corrupt one.

    Raises:
      MismatchError: if it holds other parameters than `template`.
    """
    has_memory = template.store.memory is not None
    saved, problems = self._store.newest(with_attached=has_memory)
    if saved is None and has_memory:
      # Checkpoints share the files of the memory: all lack a damaged one.
      saved, _ = self._store.newest()
      has_memory = False
    if saved is None:
      return None, problems
    try:
      state = _from_arrays(saved.arrays, saved.record, template)
      # Else the caller finds it empty.
      if has_memory and 'memory' in saved.arrays:
        state = _with_memory(state, saved)
    except MismatchError:
      raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
      raise MismatchError(f'it lacks a part of a run: {error!r}') from error
    self._forget()
    return state, problems

  def has_best(self, frames: int) -> bool:
    """Whether the parameters of this count of frames are on the disk."""
    return frames in self._best.frames()

  def _forget(self) -> None:
    """Removes the best parameters that no state names."""
    named = []
    for frames in self._store.frames():
      record = self._store.record(frames)
      if record is None:
        return  # It may name any.
      named.append(record.get('best'))
    for frames in self._best.frames():
      if frames not in named:
        self._best.delete(frames)


def _but_seconds(record: Mapping[str, Any]) -> dict[str, Any]:
  run = {name: v for name, v in record['run'].items() if name != 'seconds'}
  return {**record, 'run': run}


def read_params(
  folder: pathlib.Path, which: str, template: types.Params
) -> tuple[types.Params, types.RunningStatistics | None, int, list[str]]:
  """Reads parameters of a run, also while it trains, or of a model.

  Args:
    folder: of the run or the model.
    which: 'latest', 'best', or a count of frames.
    template: parameters of the same network.

  Returns:
    Parameters, the statistics that normalise observations, the count of frames
    at which both were the run's, and a line for each corrupt checkpoint that is
    newer than 'latest'.

  Raises:
    FileNotFoundError, CorruptError: as `read_arrays`.
    MismatchError: if it holds other parameters than `template`.
  """
  arrays, frames, problems = read_arrays(folder, which)
  return *_policy(arrays, template), frames, problems


def read_arrays(
  folder: pathlib.Path, which: str
) -> tuple[dict[str, Any], int, list[str]]:
  """Reads what `read_params` does, as nested dicts of arrays.

  Args:
    folder: of the run or the model.
    which: 'latest', 'best', or a count of frames.

  Returns:
    Arrays, with 'params' and 'statistics' among them; the count of frames, and
    a line for each corrupt checkpoint.

  Raises:
    FileNotFoundError: if there is no such checkpoint, naming those that exist.
    CorruptError: if `which` is 'best' or a count, and that one is corrupt, or
      if the model is.
  """
  if model_file.is_model(folder):
    model = model_file.read(folder)
    if which not in ('latest', str(model.frames)):
      raise FileNotFoundError(
        f'this is a model, which has the parameters of frame {model.frames} '
        'alone'
      )
    return model.arrays, model.frames, []
  newest, best = stores = [
    Store(folder / name, read_only=True) for name in ('checkpoints', 'best')
  ]
  problems = []
  if which == 'latest':
    saved, problems = newest.newest()
    if saved is not None:
      return saved.arrays, saved.record.get('frames', 0), problems
  elif which == 'best':
    while found := best.frames():
      with contextlib.suppress(FileNotFoundError):  # Deleted by its writer.
        return best.read(found[-1]).arrays, found[-1], problems
  else:
    count = which.lstrip('0') or '0'
    for store in stores:
      # As text: Python refuses to make a number of 5,000 digits.
      if count in map(str, store.frames()):
        with contextlib.suppress(FileNotFoundError):
          return store.read(int(count)).arrays, int(count), problems
  found = sorted({frames for store in stores for frames in store.frames()})
  counts = ', '.join(map(str, found)) or 'none'
  raise FileNotFoundError(
    '; '.join([*problems, f'checkpoints exist of frames: {counts}'])
  )


def _policy_arrays(version: types.Version) -> dict[str, Any]:
  return _state_dict(
    {'params': version.params, 'statistics': version.statistics}
  )


def _policy(
  arrays: Mapping[str, Any], template: types.Params
) -> tuple[types.Params, types.RunningStatistics | None]:
  """Parameters and statistics, as `_policy_arrays` wrote them."""
  statistics = arrays.get('statistics')
  if statistics is not None:
    fields = {*types.RunningStatistics._fields}
    if not isinstance(statistics, dict) or set(statistics) != fields:
      raise MismatchError('its statistics of observations have other names')
    statistics = types.RunningStatistics(**statistics)
    for name, array in statistics._asdict().items():
      if not (isinstance(array, np.ndarray) and array.dtype.kind == 'f'):
        raise MismatchError(f'its {name} of observations has no numbers')
  params = _fill(template, arrays.get('params'), 'parameters')
  kinds, expected = (
    [leaf.dtype.name for leaf in jax.tree.leaves(tree)]
    for tree in (params, template)
  )
  if kinds != expected:
    raise MismatchError(
      f'parameters of {", ".join(sorted({*kinds}))}, expected '
      f'{", ".join(sorted({*expected}))}'
    )
  return params, statistics


def _to_arrays(state: StoreState) -> dict[str, Any]:
  version = state.version
  tree = {
    'target_params': version.target_params,
    'optimizer': state.optimizer_states,
    'workers': [
      {
        'carry': each.carry._asdict(),
        'action_log': each.action_log._asdict(),
        'minibatches_due': each.minibatches_due,
        'replay_errors': each.replay_errors._asdict(),
      }
      for each in state.worker_states
    ],
  }
  if state.memory is not None:
    tree['memory'] = state.memory.arrays
  return _policy_arrays(version) | _state_dict(tree)


def _state_dict(tree):
  return serialization.to_state_dict(tree)


def _from_arrays(
  arrays: Mapping[str, Any], record: Mapping[str, Any], template: RunState
) -> RunState:
  version = template.store.version
  params, statistics = _policy(arrays, version.params)
  # The settings of the run decide whether observations are normalised.
  statistics = version.statistics and (statistics or version.statistics)
  target_params = version.target_params
  if target_params is not None:
    target_params = _fill(
      target_params, arrays.get('target_params'), 'target parameters'
    )
  saved_states = arrays.get('optimizer', {})
  optimizer_states = [
    _fill(
      template.store.optimizer_states[0],
      saved_states.get(str(slot)),
      'optimizer',
    )
    for slot in range(max(1, len(saved_states)))
  ]
  worker_states = [
    _worker_state(
      arrays['workers'][str(worker)], template.store.worker_states[0]
    )
    for worker in range(len(arrays['workers']))
  ]
  version = types.Version(
    params,
    target_params,
    frames=record['frames'],
    updates=record['updates'],
    statistics=statistics,
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
    int(arrays.get('minibatches_due', 0)),
    _replay_errors(arrays.get('replay_errors')),
  )


def _replay_errors(arrays) -> ReplayErrors:
  if arrays is None:  # Of a run from before there were any.
    return ReplayErrors()
  return ReplayErrors(
    count=int(arrays['count']),
    mean=float(arrays['mean']),
    variance=float(arrays['variance']),
  )


def _with_memory(state: RunState, saved: Saved) -> RunState:
  """Adds the replay memory of a checkpoint and its attached files."""
  chunks = tuple(
    Chunk(name, sha256, saved.attached[name])
    for name, sha256 in saved.record['memory']
  )
  memory = MemoryState(saved.arrays['memory'], chunks)
  store = state.store._replace(memory=memory)
  return state._replace(store=store)


def _fill(template: Any, arrays: Any, what: str) -> Any:
  """Arrays in the structure of a template.

  Raises:
    MismatchError: if their names or shapes differ from those of the template.
  """
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
