"""What crosses between processes: records whose arrays are NumPy's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import arrays, types
from a3c_jax.envs import replayable
from a3c_jax.optim import factored
from a3c_jax.parameters.store import Contribution, Played, Receipt

_PART_BYTES = 2**20 - 2**12  # Ray's limit is 1 MiB.


class Known(NamedTuple):
  """The version that a process has already."""

  updates: int
  target: int  # number of the target parameters; 0 for none
  ahead: int = 1  # a version must be so many updates newer to be sent


NOTHING = Known(-1, 0)


class News(NamedTuple):
  """The newest version, without what the receiver has already."""

  frames: int
  updates: int  # of the parameters that the receiver has then
  target: int  # number of the target parameters; 0 for none
  params: list | None  # from `leaves_of`; None: as known
  target_params: list | None
  statistics: types.RunningStatistics | None


class Pushed(NamedTuple):
  """The answer to a push."""

  receipt: Receipt
  news: News | None  # None: the caller asks for none


class LogTail(NamedTuple):
  """An action log that continues one which the receiver has.

  A whole log has up to 20,000 actions of each environment, a segment few.
  """

  seeds: np.ndarray  # as in `ActionLog`
  starts: np.ndarray
  before: int | None  # actions of the earlier log; None: this one is whole
  kept: int  # how many of the last of them remain
  actions: np.ndarray  # [N, K, ...] that follow them


def to_numpy(tree: Any) -> Any:
  """Returns a pytree with NumPy's arrays for JAX's, not copied on the CPU."""
  return jax.tree.map(
    lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree
  )


def packed(
  contribution: Contribution, sent: dict[int, int | None]
) -> Contribution:
  """Returns a contribution that can cross.

  Args:
    contribution: of workers of this process.
    sent: by worker, the actions of the log that the receiver has; None: it has
      none. It is changed to what it has after it got this.
  """
  return contribution._replace(
    grads=gradients(contribution.grads),
    played=tuple(_packed_played(each, sent) for each in contribution.played),
  )


def gradients(grads: types.Params) -> types.Params:
  """Returns gradients, dense or factored, that can cross; None for None."""
  if isinstance(grads, factored.Factored):
    return factored.Factored(_in_parts(grads.tree))
  return _in_parts(grads)


class _Parts(NamedTuple):
  """An array in parts, each of at most `_PART_BYTES`."""

  parts: list[np.ndarray]  # of its first axis, in order


def _in_parts(tree: Any) -> Any:
  """Returns a pytree of NumPy's arrays, large ones in parts.

  Ray copies a larger array with six threads, which it starts for that. That
  takes longer than the copy.
  """

  def split(leaf):
    leaf = np.asarray(leaf)
    if leaf.nbytes <= _PART_BYTES:
      return leaf
    rows = _PART_BYTES // (leaf.nbytes // len(leaf))
    if not rows:
      return leaf
    starts = range(0, len(leaf), rows)
    return _Parts([leaf[start : start + rows] for start in starts])

  return jax.tree.map(split, tree)


def whole(tree: Any) -> Any:
  """Returns a pytree as it was before `_in_parts`."""
  if isinstance(tree, factored.Factored):
    return factored.Factored(whole(tree.tree))

  def join(leaf):
    if not isinstance(leaf, _Parts):
      return leaf
    shape = (sum(map(len, leaf.parts)), *leaf.parts[0].shape[1:])
    # So that JAX uses it in place.
    out = arrays.aligned_empty(shape, leaf.parts[0].dtype)
    return np.concatenate(leaf.parts, out=out)

  return jax.tree.map(join, tree, is_leaf=lambda x: isinstance(x, _Parts))


def _packed_played(played: Played, sent: dict[int, int | None]) -> Played:
  state = played.worker_state
  log, before = state.action_log, sent.get(played.worker)
  actions = log.actions
  kept = 0
  if before is not None:
    # All but this segment's, some of which may have been dropped.
    kept = max(0, len(actions) - len(played.acted_versions))
    actions = actions[kept:]
  tail = LogTail(log.seeds, log.starts, before, kept, actions)
  sent[played.worker] = len(log.actions)
  carry = to_numpy(state.carry)
  return played._replace(
    worker_state=state._replace(carry=carry, action_log=tail)
  )


def unpacked(
  contribution: Contribution, states: dict[int, WorkerState]
) -> Contribution:
  """Returns a contribution as it was before `packed`.

  Args:
    contribution: as it arrived. Its arrays are views of memory that lasts as
      long as one of them, so all that may stay is copied: everything but the
      gradients.
    states: by worker, the state of the last contribution. It is changed.

  Raises:
    ValueError: if a log does not continue that of the state.
  """
  rest = jax.tree.map(
    lambda leaf: np.array(leaf) if isinstance(leaf, np.ndarray) else leaf,
    contribution._replace(grads=None),
  )
  played = []
  for each in rest.played:
    state = each.worker_state
    log = _joined(state.action_log, states.get(each.worker))
    state = state._replace(action_log=log)
    states[each.worker] = state
    played.append(each._replace(worker_state=state))
  return rest._replace(grads=whole(contribution.grads), played=tuple(played))


def _joined(tail: Any, state: WorkerState | None) -> replayable.ActionLog:
  actions = tail.actions
  if tail.before is not None:
    old = None if state is None else state.action_log.actions
    if old is None or len(old) != tail.before:
      raise ValueError('an action log does not continue the one before it')
    actions = np.concatenate([old[len(old) - tail.kept :], actions])
  return replayable.ActionLog(tail.seeds, tail.starts, actions)


def num_bytes(tree: Any) -> int:
  """Returns the bytes of all arrays of a pytree, factors included."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, factored.Factored):
      total += num_bytes(leaf.tree)
    total += getattr(leaf, 'nbytes', 0)
  return total


def leaves_of(params: types.Params) -> list:
  """Returns the leaves of parameters, so that they can cross."""
  return _in_parts(jax.tree.leaves(params))


def params_of(leaves: list, structure: Any) -> types.Params:
  """Returns parameters from `leaves_of`, as arrays of JAX."""
  return jax.tree.unflatten(structure, jax.device_put(whole(leaves)))
