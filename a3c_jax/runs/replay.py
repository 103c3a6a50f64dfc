"""Makes the replay memory of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging
import math
from typing import Any

import numpy as np

from a3c_jax.algorithms.replaying import Replaying
from a3c_jax.core import errors, memory, types
from a3c_jax.envs import spaces
from a3c_jax.replay.memory import Memory, Priorities
from a3c_jax.runs import supervise
from a3c_jax.runtimes import replaying, runtime
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
_PRIORITY_EPSILON = 1e-6


class SealMemory(supervise.Service):
  """Compresses what the memory has got, so that checkpoints are quick."""

  def __init__(self, of_memory: Memory):
    self._memory = of_memory

  def tick(self, now: supervise.Tick) -> None:
    del now
    self._memory.seal()


class WatchStart(supervise.Service):
  """Warns if a memory gives no minibatch.

  Once if it lacks its start after twice the frames, and at the end of a run
  that has learnt nothing.
  """

  def __init__(self, replay: runtime.Replay, *, start_frames: int, frames: int):
    """Starts to count.

    Args:
      replay: of the run.
      start_frames: emulator frames that the memory needs.
      frames: emulator frames of the run so far.
    """
    self._replay = replay
    self._late = frames + 2 * start_frames
    self._done = False

  def tick(self, now: supervise.Tick) -> None:
    if self._done or now.version.frames < self._late:
      return
    self._done = True
    size = self._replay.memory.size(0)
    if size < self._replay.start:
      _logger.warning(
        'nothing is learnt from the replay memory yet: %s transitions can be '
        'drawn, and the first minibatch needs %s; none can that a time limit '
        'truncates, nor sequences that contain one',
        f'{size:,}',
        f'{self._replay.start:,}',
      )

  def finish(self, now: supervise.Tick, outcome: supervise.Outcome) -> None:
    self.tick(now)
    whole = outcome.stop is None and outcome.error is None
    if whole and not now.version.updates:
      _logger.warning(
        'the run ended before the first minibatch, so nothing was learnt'
      )


def make(
  config: Config,
  learner: types.Learner,
  team: Sequence[runtime.Worker],
  place: Callable[[Memory], Any] = lambda memory: memory,
) -> runtime.Replay | None:
  """Returns the replay memory that a Config asks for; None for none.

  Args:
    config: of the run.
    learner: of the run.
    team: workers of this process. A shared memory is for all of the run.
    place: from the memory as it would be here, gives the one to use.

  Raises:
    UsageError: if it is too small, or larger than the memory of the machine,
      or the learner cannot learn from one.
  """
  settings = config.replay
  if settings is None:
    return None
  if learner.replay_gradients is None:
    raise errors.UsageError(
      f'--algo={config.algo}: the learner has no replay_gradients; allowed: '
      'one that has'
    )
  shared = settings.replay == 'shared'
  agent_steps = settings.replay_start_frames / config.action_repeat
  start = math.ceil(agent_steps / (1 if shared else config.num_workers))
  made = place(_memory(config, settings, team, start=start))
  beta = settings.priority_beta if settings.prioritized else 0.0
  return runtime.Replay(
    memory=made,
    gradients=replaying.gradients_of(learner, stack=made.stack),
    batch_size=settings.replay_batch,
    minibatches=settings.replay_minibatches,
    start=start,
    beta=lambda frames: beta + (1 - beta) * min(1.0, frames / config.frames),
    outlier_deviations=settings.outlier_deviations,
  )


def _memory(
  config: Config,
  settings: Replaying,
  team: Sequence[runtime.Worker],
  *,
  start: int,
) -> Memory:
  env, obs = team[0].env, team[0].state.carry.obs
  action_shape, action_dtype = spaces.shape_and_dtype(env.action_space)
  if np.issubdtype(action_dtype, np.integer):
    action_dtype = np.dtype(np.int32)
  # Normalized observations cannot share frames: each position of a frame in a
  # stack has its own statistics.
  stack = 1 if config.normalize_obs else env.metadata.get('frame_stack', 1)
  shared = settings.replay == 'shared'
  steps = settings.replay_steps(config.t_max)
  workers = config.num_workers if shared else len(team)

  def of_capacity(capacity: int) -> Memory:
    return Memory(
      capacity=capacity,
      workers=workers,
      first_worker=0 if shared else team[0].index,
      num_envs=env.num_envs,
      shared=shared,
      obs_shape=obs.shape[1:],
      obs_dtype=obs.dtype,
      action_shape=action_shape[1:],
      action_dtype=action_dtype,
      stack=stack,
      steps=steps,
      priorities=(
        Priorities(settings.priority_alpha, _PRIORITY_EPSILON)
        if settings.prioritized
        else None
      ),
      persistent=settings.replay_checkpoint == 'exact',
    )

  # Each environment needs the rows of a segment, and of a window.
  rows = max(config.algorithm.segment_steps(config.t_max), stack + steps)
  least = rows * env.num_envs * (workers if shared else 1)
  if settings.replay_capacity < least:
    raise errors.UsageError(
      f'--replay_capacity={settings.replay_capacity}: too small for {rows} '
      f'transitions of each environment; allowed: at least {least}'
    )
  # A small one is enough to tell the size, but for what all transitions share.
  small = min(settings.replay_capacity, max(least, 1000))
  _check_size(settings, of_capacity(small).num_bytes / small)
  made = of_capacity(settings.replay_capacity)
  if start > made.most:
    raise errors.UsageError(
      f'--replay_capacity={settings.replay_capacity}: never holds the '
      f'{start:,} transitions of --replay_start_frames='
      f'{settings.replay_start_frames} that a minibatch may start with; '
      f'allowed: at least {settings.replay_capacity + start - made.most:,}'
    )
  _logger.info('replay: %s when full', _gigabytes(made.num_bytes))
  return made


def _check_size(settings: Replaying, bytes_each: float) -> None:
  """Raises UsageError if the machine has not so much memory left.

  Args:
    settings: of the run.
    bytes_each: for each transition of the capacity, of all threads together.
  """
  # Before it is made: the system may refuse that without such a message.
  needed, left = settings.replay_capacity * bytes_each, memory.available_bytes()
  if needed > left:
    raise errors.UsageError(
      f'--replay_capacity={settings.replay_capacity}: needs '
      f'{_gigabytes(needed)}, and {_gigabytes(left)} of memory are left; '
      f'allowed: at most {int(left / bytes_each):,}'
    )


def _gigabytes(count: float) -> str:
  return f'{count / 1e9:.1f} GB' if count >= 1e8 else f'{count / 1e6:.1f} MB'
