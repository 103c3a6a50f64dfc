"""An actor without parameters: it asks a predictor for each action."""

from __future__ import annotations

from collections.abc import Callable
import queue
from typing import Any, NamedTuple

import jax
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import steps as steps_lib
from a3c_jax.core import types


class Reply(NamedTuple):
  """A predictor's answer for the K environments of one request."""

  action: np.ndarray  # [K, ...]
  state: types.State  # after the observation
  kept: Any  # as `actor.Decision.kept`
  version: types.Version  # that chose the actions


class Request(NamedTuple):
  """What an agent asks of a predictor."""

  obs: np.ndarray  # [K, ...] normalized
  state: types.State  # before the observation
  epsilon: np.ndarray  # [K] float32
  reply: queue.SimpleQueue[Reply]


class QueuedActor(actor_lib.BaseActor):
  """Acts by the newest parameters of whichever predictor answers.

  `version` is that of the newest answer. A step is played with one version, but
  the steps of a segment may have several. Truncations are rare, so bootstrap
  values need no queue: the actor computes them itself.
  """

  def __init__(
    self,
    learner: types.Learner,
    read: actor_lib.Read,
    ask: Callable[[Request], Reply],
  ):
    """Sets whom to ask.

    Args:
      learner: the algorithm.
      read: called at the beginning of each segment, for the statistics that
        normalize its observations.
      ask: returns the reply to a request, or raises `threads.Stopped`.
    """
    super().__init__(learner, read)
    self.decides_on_arrival = learner.acting != 'snapshot'
    self._ask = ask
    self._reply: queue.SimpleQueue[Reply] = queue.SimpleQueue()

  def act(self, obs, state, key, epsilon) -> actor_lib.Decision:
    epsilon = np.broadcast_to(np.asarray(epsilon, np.float32), len(obs))
    reply = self._ask(Request(obs, state, epsilon, self._reply))
    self.version = reply.version
    # A predictor draws all actions of a batch with a key of its own.
    return actor_lib.Decision(reply.action, reply.state, key, reply.kept)


class Predictor:
  """Answers several requests by one call of the learner.

  Batches have fixed sizes, so that each is compiled once. The rest of a batch
  is filled with copies of its first request, whose answers are dropped.
  """

  def __init__(self, learner: types.Learner, read: actor_lib.Read):
    self._read = read
    # What is kept must not be of other parameters than the gradient's.
    self._act: Callable[..., tuple] = learner.act
    if learner.act_and_keep is not None and not learner.keeps_activations:
      self._act = learner.act_and_keep

  def answer(self, requests: list[Request], key: jax.Array) -> jax.Array:
    """Answers requests of the same K; returns the key of the next draw."""
    version = self._read()
    num_envs = len(requests[0].obs)
    size = padded_size(len(requests))
    batch = requests + requests[:1] * (size - len(requests))
    action, state, key, *kept = self._act(
      version.params,
      steps_lib.joined([each.state for each in batch]),
      steps_lib.joined([each.obs for each in batch]),
      key,
      np.concatenate([each.epsilon for each in batch]),
    )
    answers = jax.tree.map(np.asarray, (action, state, kept[0] if kept else ()))
    for index, request in enumerate(requests):
      rows = slice(index * num_envs, (index + 1) * num_envs)
      action, state, kept = jax.tree.map(lambda x, rows=rows: x[rows], answers)
      request.reply.put(Reply(action, state, kept, version))
    return key


def padded_size(requests: int) -> int:
  """Returns the number of requests in the batch of so many: a power of 2.

  >>> [padded_size(n) for n in (1, 2, 3, 5, 8)]
  [1, 2, 4, 8, 8]
  """
  return 1 << (requests - 1).bit_length()
