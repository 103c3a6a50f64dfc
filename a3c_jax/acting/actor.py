"""Actors: a learner with the parameters it acts on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from a3c_jax.acting import normalization
from a3c_jax.core import types

Read = Callable[[], types.Version]  # Returns the newest shared version.


class Decision(NamedTuple):
  """An actor's output in one step of K environments."""

  action: np.ndarray  # [K] int32 or [K, D] float32
  state: types.State  # recurrent state after the observation
  key: jax.Array  # PRNG key of the next draw
  kept: Any = ()  # this step's part of `Segment.kept`


class Actor(Protocol):
  """Acts in the K environments of one thread.

  Attributes:
    version: the version that it acted on last.
    decides_on_arrival: whether a segment draws the action of its last
      observation, which the next segment then executes first.
    pure_act: `act` for tracing, as `Learner.act_and_keep` with the parameters
      of `version`; None if it cannot be part of an XLA program.
  """

  version: types.Version
  decides_on_arrival: bool
  pure_act: types.ActAndKeepFn | None

  def initial_state(self, num_envs: int, /) -> types.State:
    """Returns the recurrent state at the start of an episode."""
    ...

  def begin_segment(self) -> types.Version:
    """Returns the version that the next segment begins with.

    Its statistics normalize observations until the next call.
    """
    ...

  def normalize(self, obs: np.ndarray, /) -> np.ndarray:
    """Returns observations [K, ...] as the network's input."""
    ...

  def act(
    self, obs: np.ndarray, state: types.State, key: jax.Array, epsilon
  ) -> Decision:
    """Chooses an action in each environment.

    Args:
      obs: [K, ...], from `normalize`.
      state: recurrent state before `obs`.
      key: PRNG key of the draws.
      epsilon: [] or [K] float32, of ε-greedy exploration.
    """
    ...

  def bootstrap(
    self, final_obs: np.ndarray, state: types.State, key: jax.Array, epsilon
  ) -> tuple[np.ndarray, jax.Array]:
    """Estimates the values of final observations of truncated episodes.

    Args:
      final_obs: [K, ...], from `normalize`; arbitrary where no episode was
        truncated.
      state: recurrent state before `final_obs`.
      key: PRNG key of the draws.
      epsilon: as in `act`.

    Returns:
      [K] float32, and the key of the next draw.
    """
    ...


class BaseActor:
  """The part that all actors share."""

  version: types.Version
  decides_on_arrival: bool = False
  pure_act: types.ActAndKeepFn | None = None

  def __init__(self, learner: types.Learner, read: Read):
    """Sets what to read, and reads nothing yet.

    Args:
      learner: the algorithm.
      read: called at the beginning of each segment; `NewestActor` calls it at
        each step too.
    """
    self._learner = learner
    self._read = read
    self.initial_state = learner.initial_state

  def begin_segment(self) -> types.Version:
    self.version = self._read()
    self._normalize = normalization.normalizer(self.version.statistics)
    return self.version

  def normalize(self, obs: np.ndarray, /) -> np.ndarray:
    return self._normalize(obs)

  def act(self, obs, state, key, epsilon) -> Decision:
    action, state, key = self._learner.act(
      self.version.params, state, obs, key, epsilon
    )
    return Decision(np.asarray(action), state, key)

  def bootstrap(
    self, final_obs, state, key, epsilon
  ) -> tuple[np.ndarray, jax.Array]:
    params, target_params, *_ = self.version
    value, key = self._learner.bootstrap(
      params, target_params, state, final_obs, key, epsilon
    )
    return np.asarray(value), key


class FixedActor(BaseActor):
  """Acts on one fixed version: evaluations and loaded policies."""

  def __init__(
    self,
    learner: types.Learner,
    version: types.Version,
    *,
    greedy: bool = False,
  ):
    """Sets how actions are chosen.

    Args:
      learner: the algorithm.
      version: parameters, and the statistics that normalize observations.
      greedy: whether it always takes the best action; of a Gaussian policy,
        the mean.
    """
    super().__init__(learner, lambda: version)
    self._greedy = greedy
    self.begin_segment()

  def act(self, obs, state, key, epsilon) -> Decision:
    if not self._greedy:
      return super().act(obs, state, key, epsilon)
    action, state = self._learner.greedy(self.version.params, state, obs)
    return Decision(np.asarray(action), state, key)


class SnapshotActor(BaseActor):
  """Acts on one version in each segment.

  It keeps activations for the gradient, if the learner uses them.
  """

  def __init__(self, learner: types.Learner, read: Read):
    super().__init__(learner, read)
    self.pure_act = learner.act_and_keep

  def act(self, obs, state, key, epsilon) -> Decision:
    if self.pure_act is None:
      return super().act(obs, state, key, epsilon)
    action, state, key, kept = self.pure_act(
      self.version.params, state, obs, key, epsilon
    )
    return Decision(np.asarray(action), state, key, kept)


class NewestActor(BaseActor):
  """Acts on the newest version at each step; for learners without a state.

  The version that a segment begins with normalizes its observations, so that
  all of them are in the same units.
  """

  decides_on_arrival = True

  def act(self, obs, state, key, epsilon) -> Decision:
    self.version = self._read()
    return super().act(obs, state, key, epsilon)

  def bootstrap(
    self, final_obs, state, key, epsilon
  ) -> tuple[np.ndarray, jax.Array]:
    self.version = self._read()
    return super().bootstrap(final_obs, state, key, epsilon)


class ArrivalActor(SnapshotActor):
  """Acts on one version in each segment, and draws its last action too.

  The first action of a segment is thus of the version before. What is kept is
  of the segment's own.
  """

  decides_on_arrival = True


_IN_TRAINING = {
  'snapshot': SnapshotActor,
  'newest': NewestActor,
  'arrival': ArrivalActor,
}


def in_training(learner: types.Learner, read: Read) -> Actor:
  """Returns the actor that the learner's `acting` names.

  Args:
    learner: the algorithm.
    read: gives the newest version of the shared parameters.

  Raises:
    ValueError: if `acting` names no actor.
  """
  if learner.acting not in _IN_TRAINING:
    raise ValueError(
      f'acting={learner.acting!r}: allowed: {", ".join(_IN_TRAINING)}'
    )
  return _IN_TRAINING[learner.acting](learner, read)
