"""PGQL: A3C with Q-learning from a replay memory, as a record.

Source: O'Donoghue et al. 2017, arXiv:1611.01626, called 'PGQL' here.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import gymnasium

from a3c_jax import networks
from a3c_jax.algorithms import builtin, policy_based
from a3c_jax.algorithms.algorithm import Algorithm
from a3c_jax.algorithms.replaying import SMALL, Replaying
from a3c_jax.core import fields, types


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGQL(Replaying):
  """Hyperparameters of PGQL."""

  entropy_cost: float = fields.positive(
    'Weight of the entropy, per nat. It is α of Q = α (log π + H) + V, too.',
    most=1e6,
    default=0.01,
    source='PGQL: as A3C',
  )
  value_cost: float = fields.changed(builtin.ActorCritic, 'value_cost')
  replay_rate: float = fields.positive(
    'Learning rate of minibatches, as a factor of that of segments.',
    most=1e3,
    default=0.5,
    source='PGQL',
  )
  replay: str = fields.changed(
    Replaying, 'replay', default='per_thread', source='PGQL'
  )
  replay_capacity: int = fields.changed(
    Replaying, 'replay_capacity', default=100_000, source='PGQL'
  )
  replay_start_frames: int = fields.changed(
    Replaying,
    'replay_start_frames',
    default=160_000,
    source='ours',
  )


def _network(
  torso: nn.Module, space: gymnasium.spaces.Discrete, hyperparameters: PGQL
) -> nn.Module:
  del hyperparameters
  return networks.ActorCritic(torso, int(space.n))


def _learner(
  network: networks.ActorCritic, hyperparameters: PGQL
) -> types.Learner:
  return policy_based.pgql(
    network,
    entropy_cost=hyperparameters.entropy_cost,
    value_cost=hyperparameters.value_cost,
    replay_rate=hyperparameters.replay_rate,
  )


PGQL_ALGORITHM = Algorithm(
  name='pgql',
  title='PGQL',
  hyperparameters=PGQL,
  make_network=_network,
  make_learner=_learner,
  is_policy=True,
  defaults={
    'catch': SMALL,
    'gym': SMALL,
    'torcs': builtin.A3C.defaults['torcs'],
  },
  presets={
    'quick': {
      'atari': {
        **builtin.QUICK,
        'init_gain': (2.45, '√6, by He et al. 2015: more units stay alive'),
      }
    }
  },
)
