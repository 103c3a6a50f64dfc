"""Parameters in parts, each of which has a server of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import threading
from typing import Any, NamedTuple

import jax
import numpy as np

from a3c_jax.core import errors, types
from a3c_jax.optim import factored
from a3c_jax.parameters.store import Contribution, StoreState
from a3c_jax.runtimes.cluster import actors, wire

_NEVER = 2**62  # Updates that no version is ahead.
_REMEMBERED = 1000  # Versions of which those of all parts are known.


class _Piece(NamedTuple):
  """Rows of a leaf that a shard has."""

  shard: int
  start: int
  stop: int


class Partition:
  """Divides parameters into parts of about equal size.

  Leaves follow each other, and each part has the next bytes. So a large kernel
  is cut between two rows of its first axis.

  A part is a dict with the collection `params`, of a flat dict of pieces. That
  of the first shard has the other collections too.
  """

  def __init__(self, params: types.Params, shards: int):
    """Plans the parts.

    Args:
      params: a network's variables, of this structure.
      shards: S, number of parts.

    Raises:
      UsageError: naming `--shards`, if a part would be empty.
    """
    self._template = params
    leaves, self._structure = jax.tree.flatten(types.trained(params))
    shapes = [np.shape(leaf) for leaf in leaves]
    self._pieces = _cut(shapes, shards)
    if not _fills_all(self._pieces, shards):
      # Where rows are of unequal size, even fewer parts may be too many.
      allowed = next(
        each
        for each in range(shards - 1, 0, -1)
        if _fills_all(_cut(shapes, each), each)
      )
      raise errors.UsageError(
        f'--shards={shards}: a part would have nothing of so small a network; '
        f'allowed: {allowed}, for example'
      )
    self.shards = shards
    self._part_structures = [
      jax.tree.structure(part) for part in self.split_variables(params)
    ]

  def split(self, tree: types.Params) -> list[dict[str, Any]]:
    """Returns the parts of what is like `trained(params)`."""
    parts: list[dict[str, Any]] = [{} for _ in range(self.shards)]
    leaves = jax.tree.leaves(tree)
    for number, (leaf, pieces) in enumerate(
      zip(leaves, self._pieces, strict=True)
    ):
      leaf = np.asarray(leaf)
      for shard, start, stop in pieces:
        whole = len(pieces) == 1
        # Numbers in the order of names.
        parts[shard][f'{number:06d}'] = leaf if whole else leaf[start:stop]
    return [{'params': part} for part in parts]

  def split_variables(self, variables: types.Params) -> list[dict[str, Any]]:
    """Returns the parts of what is like the parameters."""
    first, *others = self.split(types.trained(variables))
    if isinstance(variables, dict) and 'params' in variables:
      first = variables | first
    return [first, *others]

  def join_variables(self, parts: Sequence[dict[str, Any]]) -> types.Params:
    """Returns what `split_variables` has divided."""
    rows: list[list[np.ndarray]] = [[] for _ in self._pieces]
    for part in parts:
      for name, piece in part['params'].items():
        rows[int(name)].append(np.asarray(piece))
    leaves = [
      each[0] if len(each) == 1 else np.concatenate(each) for each in rows
    ]
    trained = jax.tree.unflatten(self._structure, leaves)
    variables = self._template
    if isinstance(variables, dict) and 'params' in variables:
      variables = variables | {
        name: x for name, x in parts[0].items() if name != 'params'
      }
    return types.with_trained(variables, trained)

  def leaves_to_part(self, shard: int, leaves: list) -> dict[str, Any]:
    """Returns the part of a shard from `wire.leaves_of` of it."""
    return jax.tree.unflatten(self._part_structures[shard], wire.whole(leaves))


def _cut(shapes: Sequence[tuple[int, ...]], shards: int) -> list[list[_Piece]]:
  """Returns the pieces of each leaf, in the order of shards."""
  sizes = [int(np.prod(shape)) for shape in shapes]
  total, before = sum(sizes), 0
  cut = []
  for shape, size in zip(shapes, sizes, strict=True):
    rows = shape[0] if shape else 1
    # A row belongs where its first number lies.
    firsts = before + np.arange(rows) * (size // max(rows, 1))
    owners = np.minimum(firsts * shards // max(total, 1), shards - 1)
    edges = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), rows]
    cut.append(
      [
        _Piece(int(owners[start]), start, stop)
        for start, stop in zip(edges[:-1], edges[1:], strict=True)
      ]
    )
    before += size
  return cut


def _fills_all(cut: Sequence[Sequence[_Piece]], shards: int) -> bool:
  used = {piece.shard for pieces in cut for piece in pieces}
  return len(used) == shards


class ShardedServer:
  """Several servers that are called as one: see `actors.Actor` and `Server`.

  The first has all but the parameters of the others: frames, workers, events,
  the replay memory. Each part has a count of updates of its own. A version may
  mix parts of different counts, as in Gorila.

  Source: Nair et al. 2015, arXiv:1507.04296, after Dean et al. 2012.

  Attributes:
    updates: of each part of the newest version that this process got.
  """

  def __init__(self, servers: Sequence[actors.Actor], partition: Partition):
    """Knows no version yet.

    Args:
      servers: one for each part, in their order.
      partition: of the parameters.
    """
    self._servers = servers
    self._partition = partition
    self._lock = threading.Lock()
    self._forget()

  def _forget(self) -> None:
    count = len(self._servers)
    self.updates = [-1] * count
    self._known = [wire.NOTHING] * count
    self._parts: list[Any] = [None] * count
    self._target_parts: list[Any] = [None] * count
    # By updates of the first part, those of all.
    self._versions: dict[int, list[int]] = {}

  def ask(self, method: str, *arguments: Any) -> Any:
    """Asks the first server, or all of them, as `actors.Actor.ask`."""
    own = getattr(self, f'_{method}', None)
    if own is not None:
      return own(*arguments)
    return self._servers[0].ask(method, *arguments)

  def tell(
    self,
    method: str,
    contribution: Contribution,
    known: wire.Known,
    life: int,
    *,
    while_waiting: Callable[[], object] = lambda: None,
  ) -> wire.Pushed:
    """Pushes a contribution to all servers, as `actors.Actor.tell`."""
    assert method == 'push'
    read = self._versions.get(contribution.read_version, self.updates)
    parts: list[Any] = [None] * len(self._servers)
    if contribution.grads is not None:
      grads = wire.whole(contribution.grads)
      parts = [wire.gradients(x) for x in self._partition.split(grads)]
    others = [
      server.start(
        'push',
        Contribution(
          part,
          contribution.frames,
          version,
          (),
          optimizer=contribution.optimizer,
          rate_scale=contribution.rate_scale,
        ),
        None,
        life,
      )
      for server, part, version in zip(
        self._servers[1:], parts[1:], read[1:], strict=True
      )
    ]
    receipt, _ = self._servers[0].tell(
      'push',
      contribution._replace(grads=parts[0]),
      None,
      life,
      while_waiting=while_waiting,
    )
    for reference in others:
      actors.answered(reference)
    if receipt.version < known.updates + known.ahead:
      known = known._replace(ahead=_NEVER)
    return wire.Pushed(receipt, self._fetch(known))

  def _fetch(self, known: wire.Known) -> wire.News:
    """Returns the newest version, joined from what changed."""
    with self._lock:
      ahead = known.ahead if known.ahead == _NEVER else 1
      asked = [each._replace(ahead=ahead) for each in self._known]
    references = [
      server.start('fetch', each)
      for server, each in zip(self._servers, asked, strict=True)
    ]
    news = []
    for server, reference, each in zip(
      self._servers, references, asked, strict=True
    ):
      try:
        news.append(actors.answered(reference))
      except actors.UnansweredError:
        news.append(server.ask('fetch', each))
    with self._lock:
      for shard, each in enumerate(news):
        if each.updates < self.updates[shard]:
          continue  # Another thread has got a newer one.
        self.updates[shard] = each.updates
        self._known[shard] = wire.Known(each.updates, each.target)
        if each.params is not None:
          self._parts[shard] = self._partition.leaves_to_part(
            shard, each.params
          )
        if each.target_params is not None:
          self._target_parts[shard] = self._partition.leaves_to_part(
            shard, each.target_params
          )
      self._versions[self.updates[0]] = list(self.updates)
      while len(self._versions) > _REMEMBERED:
        self._versions.pop(next(iter(self._versions)))
      target = sum(each.target for each in self._known)
      params = target_params = None
      if ahead != _NEVER:
        params = self._leaves(self._parts)
      if target != known.target:
        target_params = self._leaves(self._target_parts)
      return news[0]._replace(
        updates=known.updates if params is None else self.updates[0],
        target=target,
        params=params,
        target_params=target_params,
      )

  def _leaves(self, parts: list[Any]) -> list:
    return jax.tree.leaves(self._partition.join_variables(parts))

  def _capture(self, timeout: float) -> tuple[StoreState, list, float]:
    """Returns the states of all parts as one.

    A gradient on its way may be in some of them. The optimizer states are those
    of the first part, then those of the second, and so on.
    """
    captured = [server.ask('capture', timeout) for server in self._servers]
    state, applied, now = captured[0]
    versions = [each[0].version for each in captured]
    join = self._partition.join_variables
    target_params = None
    if versions[0].target_params is not None:
      target_params = join([each.target_params for each in versions])
    version = versions[0]._replace(
      params=join([each.params for each in versions]),
      target_params=target_params,
    )
    optimizer_states = [
      x for each in captured for x in each[0].optimizer_states
    ]
    return (
      state._replace(version=version, optimizer_states=optimizer_states),
      applied,
      now,
    )

  def _restore(self, state: StoreState) -> None:
    """Restores all parts, and forgets what this process knows."""
    version, count = state.version, len(self._servers)
    params = self._partition.split_variables(version.params)
    targets = [None] * count
    if version.target_params is not None:
      targets = self._partition.split_variables(version.target_params)
    each = len(state.optimizer_states) // count
    for shard, server in enumerate(self._servers):
      server.ask(
        'restore',
        state._replace(
          version=version._replace(
            params=params[shard], target_params=targets[shard]
          ),
          optimizer_states=state.optimizer_states[
            shard * each : (shard + 1) * each
          ],
          memory=None if shard else state.memory,
        ),
      )
    with self._lock:
      self._forget()

  def _warm_up(self, grads: types.Params) -> None:
    """Compiles the update of each part."""
    parts = self._partition.split(factored.dense(wire.whole(grads)))
    for server, part in zip(self._servers, parts, strict=True):
      server.ask('warm_up', wire.gradients(part))


def joined(
  servers: Sequence[actors.Actor], params: types.Params
) -> actors.Actor | ShardedServer:
  """Returns one server, or what calls several as one."""
  if len(servers) == 1:
    return servers[0]
  return ShardedServer(servers, Partition(params, len(servers)))
