"""A policy: a learner that acts with fixed parameters."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import observations, types

POLICIES = ('sample', 'greedy', 'mean')
EXPLORATION_EPSILON = 0.05


class PolicyState(NamedTuple):
  """What a policy remembers from one step of an episode to the next."""

  recurrent: types.State
  key: jax.Array


class Policy:
  """A learner with fixed parameters: `policy(obs, state) -> action, state`.

  Attributes:
    params: of the learner's network.
    frames: emulator frames of training at which they were the run's.
  """

  def __init__(
    self,
    learner: types.Learner,
    version: types.Version,
    *,
    greedy: bool = False,
    exploration_epsilon: float = EXPLORATION_EPSILON,
  ):
    """Fixes how actions are chosen.

    Args:
      learner: the algorithm.
      version: parameters of its network, and the statistics that normalise
        observations, if any do.
      greedy: take the best action, deterministically; of a Gaussian policy
        the mean.
      exploration_epsilon: ε of a value-based learner that is not greedy. A
        policy-based one samples from its policy.
    """
    self.params = version.params
    self.frames = version.frames
    self._actor = actor_lib.FixedActor(learner, version, greedy=greedy)
    self._exploration_epsilon = np.float32(exploration_epsilon)

  def initial_state(self, seed: int = 0, *, num_envs: int = 1) -> PolicyState:
    """The state at the start of an episode.

    Args:
      seed: of the actions that are sampled in the episode.
      num_envs: K, the number of environments.
    """
    return PolicyState(
      self._actor.initial_state(num_envs), jax.random.PRNGKey(seed)
    )

  def __call__(
    self, obs: np.ndarray, state: PolicyState
  ) -> tuple[np.ndarray, PolicyState]:
    """Chooses the actions of one step.

    Args:
      obs: [K, ...], from a vector environment.
      state: from `initial_state` or from the step before.

    Returns:
      [K] int32 or [K, D] float32 actions, and the state for the next step.
    """
    decision = self._actor.act(
      self._actor.normalize(observations.as_network_input(np.asarray(obs))),
      state.recurrent,
      state.key,
      self._exploration_epsilon,
    )
    return decision.action, PolicyState(decision.state, decision.key)
