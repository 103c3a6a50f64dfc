"""Replay memories of other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from a3c_jax.core import arrays
from a3c_jax.replay.memory import Memory, MemoryState
from a3c_jax.replay.minibatch import Minibatch
from a3c_jax.runtimes.cluster import actors
from a3c_jax.runtimes.cluster.remote_store import lost


class _Elsewhere:
  """What is known of a memory without the process that has it.

  Attributes:
    stack: as of `Memory`.
    num_bytes: as of `Memory`.
    most: as of `Memory`.
    persistent: whether checkpoints hold it.
    arguments: as of `Memory`.
  """

  def __init__(self, template: Memory, *, persistent: bool):
    """Describes a memory.

    Args:
      template: an empty one of the same layout.
      persistent: whether checkpoints hold it.
    """
    self.stack = template.stack
    self.num_bytes = template.num_bytes
    self.most = template.most
    self.arguments = template.arguments
    self.persistent = persistent
    self._template = template

  def example(self, batch_size: int) -> Minibatch:
    """Returns a minibatch of zeros, of the shapes and types of samples."""
    return self._template.example(batch_size)

  def why_not(self, state: MemoryState) -> str:
    """Returns why a state cannot be restored; '' if it can."""
    return self._template.why_not(state)


class ServersMemory(_Elsewhere):
  """The memory of all nodes, in the process of the parameter server.

  It is what `Memory` is for workers and services. Only the store changes it.

  Source: the global replay memory of Nair et al. 2015, arXiv:1507.04296.
  """

  def __init__(self, template: Memory, server: Callable[[], actors.Actor]):
    """Needs no server before its first call.

    Args:
      template: an empty memory of the same layout.
      server: returns the process.
    """
    super().__init__(template, persistent=template.persistent)
    self._server = server

  def size(self, worker: int) -> int:
    """Returns how many transitions may be drawn now."""
    return self._ask('size', worker)

  def sample(
    self,
    worker: int,
    batch_size: int,
    rng: np.random.Generator,
    *,
    beta: float = 0.0,
  ) -> Minibatch:
    """Draws windows as `Memory.sample` does."""
    drawn = self._ask('sample', worker, batch_size, rng, beta)
    frames = arrays.aligned_empty(drawn.frames.shape, drawn.frames.dtype)
    frames[:] = drawn.frames
    # Views of memory that lasts as long as one of them.
    rest = jax.tree.map(np.array, drawn._replace(frames=()))
    return rest._replace(frames=frames)

  def seal(self) -> None:
    """Compresses what is complete."""
    self._ask('seal')

  def saved(self, names: Sequence[str]) -> None:
    """Says that these chunks are on the disk."""
    self._ask('saved', names)

  def _ask(self, method: str, *arguments: Any) -> Any:
    try:
      return self._server().ask('of_memory', method, *arguments)
    except actors.EndedError as error:
      raise lost() from error


class NodesMemories(_Elsewhere):
  """The memories of nodes, as their driver sees them.

  They are in no checkpoint: a node that starts again fills its own again.

  Source: the local replay memories of Nair et al. 2015, arXiv:1507.04296.
  """

  def __init__(self, template: Memory, sizes: Callable[[], Sequence[int]]):
    """Knows them by their sizes.

    Args:
      template: an empty memory of the same layout.
      sizes: returns what one worker of each node may draw now.
    """
    super().__init__(template, persistent=False)
    self._sizes = sizes

  def size(self, worker: int) -> int:
    """Returns what a worker of the slowest node may draw now."""
    del worker
    return min(self._sizes(), default=0)
