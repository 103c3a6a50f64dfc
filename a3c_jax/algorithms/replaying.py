"""Settings of algorithms that learn from a replay memory."""

from __future__ import annotations

import dataclasses

from a3c_jax.algorithms.algorithm import Hyperparameters
from a3c_jax.core import errors, fields

KINDS = ('shared', 'per_thread')
# Defaults of memories beside segments, for small tasks.
SMALL = {
  'replay_capacity': (20_000, 'ours'),
  'replay_start_frames': (2_000, 'ours'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replaying(Hyperparameters):
  """Base of the settings of algorithms that learn from a replay memory."""

  replay: str = fields.one_of(
    'Replay memory of transitions. shared: one for all threads. per_thread: '
    'each thread has its own.',
    KINDS,
    default='shared',
    source='Mnih et al. 2015',
  )
  replay_capacity: int = fields.count(
    'Transitions of the replay memory, or of that of each thread. It keeps the '
    'newest.',
    most=10**9,
    default=1_000_000,
    source='Mnih et al. 2015',
  )
  replay_batch: int = fields.count(
    'Transitions, or sequences of --t_max, of a minibatch.',
    most=100_000,
    default=32,
    source='Mnih et al. 2015',
  )
  replay_minibatches: int = fields.count(
    'Minibatches after each segment of a thread. Each gives one update.',
    most=10_000,
    default=1,
    source='Mnih et al. 2015',
  )
  replay_start_frames: int = fields.count(
    'Emulator frames that the replay memory must hold for a minibatch; for one '
    'memory per thread, those of all threads together.',
    default=200_000,
    source='Mnih et al. 2015: 50,000 agent steps',
  )
  prioritized: bool = fields.true_or_false(
    'Draw transitions in proportion to a priority, (|δ| + 1e-6)^α. δ is the '
    'error of the last time it was drawn. Otherwise all are equally likely.',
    default=False,
    source='Mnih et al. 2015',
  )
  priority_alpha: float = fields.fraction(
    'α of priorities; 0 draws uniformly.',
    default=0.6,
    source='Schaul et al. 2016',
  )
  priority_beta: float = fields.fraction(
    'β of importance weights at frame 0; it rises linearly to 1 at the end.',
    default=0.4,
    source='Schaul et al. 2016',
  )
  outlier_deviations: float = fields.not_negative(
    'A thread discards the gradient of a minibatch if its mean absolute error '
    'is more than so many standard deviations above the mean of its '
    'minibatches; 0 for never.',
    default=0.0,
    source='Mnih et al. 2015',
  )
  replay_checkpoint: str = fields.one_of(
    'What a checkpoint holds of the replay memory. exact: all of it, so that '
    'a run resumes as if it had not stopped. empty: nothing, so that a run '
    'which resumes fills it again first.',
    ('exact', 'empty'),
    default='exact',
    source='ours',
    may_change=True,
  )

  @property
  def replays(self) -> bool:
    """Whether there is a replay memory."""
    return self.replay in KINDS

  def replay_steps(self, t_max: int) -> int:
    """Returns the steps of each sequence of a minibatch."""
    del t_max
    return 1

  def check_together(self) -> None:
    """Raises UsageError if a minibatch is larger than the memory."""
    super().check_together()
    if self.replays and self.replay_batch > self.replay_capacity:
      raise errors.UsageError(
        f'--replay_batch={self.replay_batch} with --replay_capacity='
        f'{self.replay_capacity}: allowed: a minibatch that is not larger than '
        'the memory'
      )
