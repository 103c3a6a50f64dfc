"""What a run needs to go on where it stood, in files of orbax."""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import pathlib
from typing import Any, NamedTuple

from flax import serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from a3c_jax import base, rollout, shared
from a3c_jax.envs import recorded


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


class Checkpoints:
  """The newest checkpoints of one run, one folder for each, named by frames.

  A checkpoint is there as a whole or not at all: orbax writes it under another
  name first.
  """

  def __init__(self, folder: pathlib.Path, *, keep: int):
    """Opens or makes the folder.

    Args:
      folder: of this run alone.
      keep: how many checkpoints stay, the newest.
    """
    self._folder = folder.absolute()
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.LatestN(keep),
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
      ),
    )

  def save(self, moment: Moment) -> None:
    """Writes one checkpoint; no second one of the same count of frames.

    Raises:
      OSError: if it cannot be written; the earlier ones are as they were.
    """
    frames = moment.captured.snapshot.frames
    if frames in self._manager.all_steps():
      return
    arrays = _to_arrays(moment)
    record = {
      'run': dict(moment.record),
      'frames': frames,
      'updates': moment.captured.snapshot.updates,
      'digest': _digest(arrays),
    }
    self._manager.save(
      frames,
      args=ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
      ),
      force=True,
    )

  def restore(self, like: Moment) -> tuple[Moment | None, list[str]]:
    """The newest checkpoint that can be read, and the trouble with newer ones.

    Those are moved away, to 'corrupt-FRAMES' beside the folder.

    Args:
      like: a moment of the same run, for its structure.

    Returns:
      The moment, None if there is none, and a line for each corrupt one.

    Raises:
      MismatchError: if it holds other parameters than `like`.
    """
    problems = []
    for frames in sorted(self._manager.all_steps(), reverse=True):
      try:
        saved = self._manager.restore(
          frames,
          args=ocp.args.Composite(
            arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()
          ),
        )
        arrays, record = saved['arrays'], saved['record']
        if _digest(arrays) != record['digest']:
          raise ValueError('its arrays are not those that were written')
      except Exception as error:  # Whatever damaged files make orbax raise.
        aside = self._folder.parent / f'corrupt-{frames}'
        (self._folder / str(frames)).rename(aside)
        self._manager.reload()
        problems.append(
          f'checkpoint of frame {frames} is corrupt, now {aside}: '
          + ' '.join(str(error).split())[:200]
        )
      else:
        return _from_arrays(arrays, record, like), problems
    return None, problems


def _to_arrays(moment) -> dict[str, Any]:
  """A nested dict of arrays, none of them empty: orbax cannot save those."""
  snapshot, optimizer_states = moment.captured
  tree = {
    'params': snapshot.params,
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
  return _without_empty(jax.tree.map(np.asarray, _state_dict(tree)))


def _state_dict(tree):
  return serialization.to_state_dict(tree)


def _without_empty(tree):
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
  params = _fill(snapshot.params, arrays['params'], 'parameters')
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
    base.Snapshot(params, target_params, record['frames'], record['updates']),
    states,
  )
  return Moment(captured, points, record['run'])


def _point(arrays, like: Point) -> Point:
  carry, past = arrays['carry'], arrays['past']
  return Point(
    rollout.Carry(
      **{
        name: _fill(like.carry.state, carry.get('state'), 'recurrent state')
        if name == 'state'
        else carry.get(name)
        for name in rollout.Carry._fields
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


def _digest(arrays) -> str:
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {leaf.dtype} {leaf.shape}'.encode())
    digest.update(np.ascontiguousarray(leaf))
  return digest.hexdigest()
