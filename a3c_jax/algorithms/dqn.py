"""DQN and its family, as records: Double, Dueling, Prioritized.

Sources: 'DQN' is Mnih et al. 2015 (Human-level control through deep
reinforcement learning, Nature 518) with the authors' code, whose numbers of
agent steps are frames here. 'Double DQN' is van Hasselt et al. 2016,
arXiv:1509.06461, its tuned version. 'Dueling' is Wang et al. 2016,
arXiv:1511.06581. 'Prioritized' is Schaul et al. 2016, arXiv:1511.05952.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

import flax.linen as nn
import gymnasium
import numpy as np

from a3c_jax import networks
from a3c_jax.algorithms import value_based
from a3c_jax.algorithms.algorithm import (
  ANY_DOMAIN,
  Algorithm,
  Defaults,
  EpsilonGreedy,
  ValueBased,
)
from a3c_jax.algorithms.replaying import Replaying
from a3c_jax.core import cpu, fields, types


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family(EpsilonGreedy, Replaying):
  """Hyperparameters of DQN but for the period of the target network."""

  update_period: int = fields.count(
    'Agent steps of each environment between two updates.',
    most=10_000,
    default=4,
    source='DQN',
  )
  double: bool = fields.true_or_false(
    'The newest parameters choose the best next action, and the target '
    'parameters give its value.',
    default=False,
    source='DQN',
  )
  dueling: bool = fields.true_or_false(
    'The network has one stream for the value of a state and one for the '
    'advantages of actions.',
    default=False,
    source='DQN',
  )
  error_clip: float = fields.not_negative(
    'Errors are clipped to this absolute value in the gradient, after they are '
    'multiplied by their importance weights; 0 for no clipping.',
    default=1.0,
    source='DQN',
  )
  exploration_ends: tuple[float, ...] = fields.changed(
    EpsilonGreedy, 'exploration_ends', default=(0.1,), source='DQN'
  )
  exploration_probabilities: tuple[float, ...] = fields.changed(
    EpsilonGreedy, 'exploration_probabilities', default=(1.0,), source='DQN'
  )

  def segment_steps(self, t_max: int) -> int:
    """Returns the update period: `t_max` is the n of n-step targets."""
    del t_max
    return self.update_period

  def replay_steps(self, t_max: int) -> int:
    return t_max

  def exploration(self, rng: np.random.Generator, num_envs: int):
    """Returns ε [K], which falls once the replay memory has its start."""
    after_start = super().exploration(rng, num_envs)
    return lambda frames: after_start(max(0, frames - self.replay_start_frames))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DQN(Family, ValueBased):
  """Hyperparameters of DQN."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoubleDQN(DQN):
  """Hyperparameters of Double DQN, tuned."""

  double: bool = fields.changed(
    DQN, 'double', default=True, source='Double DQN'
  )
  target_period_frames: int = fields.changed(
    DQN,
    'target_period_frames',
    default=120_000,
    source='Double DQN, tuned: 30,000 agent steps',
  )
  exploration_ends: tuple[float, ...] = fields.changed(
    DQN, 'exploration_ends', default=(0.01,), source='Double DQN, tuned'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuelingDQN(DoubleDQN):
  """Hyperparameters of Dueling Double DQN."""

  dueling: bool = fields.changed(
    DoubleDQN, 'dueling', default=True, source='Dueling'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrioritizedDQN(DoubleDQN):
  """Hyperparameters of Prioritized Double DQN, proportional."""

  prioritized: bool = fields.changed(
    DoubleDQN, 'prioritized', default=True, source='Prioritized'
  )


def _network(
  torso: nn.Module, space: gymnasium.spaces.Discrete, hyperparameters: Family
) -> nn.Module:
  kind = (
    networks.DuelingQNetwork if hyperparameters.dueling else networks.QNetwork
  )
  return kind(torso, int(space.n))


def _learner(network: types.Network, hyperparameters: Family) -> types.Learner:
  return value_based.dqn(
    network,
    double=hyperparameters.double,
    error_clip=hyperparameters.error_clip or None,
    uses_target=hyperparameters.target_period is not None,
  )


_COMMON = {
  'threads': (1, 'DQN'),
  'envs_per_thread': (1, 'DQN'),
  't_max': (1, 'DQN: one-step targets'),
  'learning_rate': (2.5e-4, 'DQN'),
  'anneal_frames': (0, 'DQN: it does not fall'),
  'optimizer': ('centered_rmsprop', 'DQN'),
  'rms_decay': (0.95, 'DQN'),
  'rms_epsilon': (0.01, 'DQN'),
  'max_grad_norm': (0.0, 'DQN'),
  'network': ('nature', 'DQN'),
  'frames': (200_000_000, 'DQN'),
}
# Not those of the domains with 3D engines, which are for A3C.
_LEARNING = (
  'envs_per_thread',
  't_max',
  'learning_rate',
  'rms_epsilon',
  'max_grad_norm',
)
# Adam does not depend on the scale of rewards.
SMALL: Defaults = {
  't_max': (1, 'DQN: one-step targets'),
  'optimizer': ('adam', 'ours'),
  'learning_rate': (1e-3, 'ours'),
  'target_period_frames': (500, 'ours'),
  'exploration_anneal_frames': (5_000, 'ours'),
  'replay_capacity': (50_000, 'ours'),
  'replay_start_frames': (1_000, 'ours'),
}
# Returns of CartPole are of hundreds. With errors clipped to 1, its Q grows
# without end: many small errors outweigh the few large ones of final steps.
GYM: Defaults = {
  **SMALL,
  'error_clip': (0.0, 'ours'),
  'replay_batch': (64, 'ours'),
  'update_period': (2, 'ours'),
  'target_period_frames': (200, 'ours'),
  'exploration_ends': ((0.02,), 'ours'),
}
# What is known to learn Pong faster: the settings of later implementations.
_QUICK = {
  'threads': (
    min(cpu.cores(), 16),
    'ours: one per core, which share memory and parameters',
  ),
  'optimizer': ('adam', 'CleanRL, SB3'),
  'learning_rate': (1e-4, 'CleanRL, SB3'),
  'adam_epsilon': (1e-5, 'ours'),
  'network': ('nips', 'half of the time of nature'),
  'replay_capacity': (200_000, '1.4 GB'),
  'replay_start_frames': (80_000, 'Dopamine: 20,000 agent steps'),
  'target_period_frames': (16_000, 'ours: 1,000 updates'),
  'exploration_ends': ((0.01,), 'CleanRL, Dopamine'),
  'exploration_anneal_frames': (1_000_000, 'Dopamine: 250,000 agent steps'),
  'frames': (12_000_000, 'ours'),
  'eval_frames': (1_000_000, 'ours'),
}
_PRESETS = {'quick': {'atari': _QUICK}}


def family(
  name: str,
  title: str,
  hyperparameters: type[Family],
  *,
  small: Defaults = SMALL,
  gym: Defaults = GYM,
  presets: Mapping[str, Mapping[str, Defaults]] = _PRESETS,
  **changes: tuple[Any, str],
) -> Algorithm:
  """Returns a record of the family.

  Args:
    name: as in `Algorithm`.
    title: as in `Algorithm`.
    hyperparameters: as in `Algorithm`.
    small: defaults of Catch.
    gym: those of Gymnasium.
    presets: as in `Algorithm`.
    **changes: of the defaults of all domains, each with its source.
  """
  common = _COMMON | changes
  learning = {setting: common[setting] for setting in _LEARNING}
  return Algorithm(
    name=name,
    title=title,
    hyperparameters=hyperparameters,
    make_network=_network,
    make_learner=_learner,
    is_policy=False,
    defaults={
      ANY_DOMAIN: common,
      'catch': small,
      'gym': gym,
      'labyrinth': learning,
      'torcs': learning,
    },
    presets=presets,
  )


ALGORITHMS = (
  family('dqn', 'DQN', DQN),
  family('double_dqn', 'Double DQN', DoubleDQN),
  family(
    'dueling_dqn',
    'Dueling DQN',
    DuelingDQN,
    max_grad_norm=(10.0, 'Dueling'),
  ),
  family(
    'prioritized_dqn',
    'Prioritized DQN',
    PrioritizedDQN,
    learning_rate=(6.25e-5, 'Prioritized: a quarter of that of DQN'),
  ),
)
