"""Gorila, as a record: DQN with AdaGrad and many asynchronous learners.

Sources: 'Gorila' is Nair et al. 2015 (Massively parallel methods for deep
reinforcement learning, arXiv:1507.04296), by what others report of it. 'DQN' is
Mnih et al. 2015, as in `dqn`.
"""

from __future__ import annotations

import dataclasses

from a3c_jax.algorithms import dqn
from a3c_jax.algorithms.algorithm import Defaults, EpsilonGreedy
from a3c_jax.algorithms.replaying import Replaying
from a3c_jax.core import cpu, fields, types


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gorila(dqn.Family):
  """Hyperparameters of Gorila."""

  target_period_updates: int = fields.count(
    'Updates of all threads between copies into the target network.',
    default=60_000,
    source='Gorila',
  )
  replay: str = fields.changed(
    Replaying, 'replay', default='per_thread', source='Gorila'
  )
  replay_capacity: int = fields.changed(
    Replaying, 'replay_capacity', source='Gorila'
  )
  outlier_deviations: float = fields.changed(
    Replaying,
    'outlier_deviations',
    default=3.0,
    source='ours: Gorila has several',
  )
  # In frames, as all schedules are. An update comes with 16 frames: with the
  # update period of DQN, 4 steps of 4 frames.
  exploration_anneal_frames: int = fields.changed(
    EpsilonGreedy,
    'exploration_anneal_frames',
    default=16_000_000,
    source='Gorila, not verified: 1,000,000 updates, of 16 frames each',
  )

  @property
  def target_period(self) -> types.TargetPeriod:
    return types.TargetPeriod(self.target_period_updates, 'updates')


_ADAGRAD: Defaults = {
  'optimizer': ('adagrad', 'Gorila'),
  'learning_rate': (0.01, 'ours: Gorila gives none'),
}
_SMALL: Defaults = {
  **_ADAGRAD,
  'target_period_updates': (125, 'ours'),
}

GORILA = dqn.family(
  'gorila',
  'Gorila',
  Gorila,
  small={**dqn.SMALL, **_SMALL},
  gym={**dqn.GYM, **_SMALL},
  presets={},
  **_ADAGRAD,
  threads=(
    min(cpu.cores(), 16),
    'ours: one per core; Gorila has 100 machines',
  ),
  max_lag=(100, 'ours: Gorila gives none'),
  when_late=('drop', 'Gorila'),
)
