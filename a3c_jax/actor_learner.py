"""One thread's life: snapshot, collect, gradients, apply."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

import gymnasium
import jax
import numpy as np

from a3c_jax import base, rollout, shared, telemetry
from a3c_jax.config import Config


def run(
  thread: int,
  stop: threading.Event,
  *,
  config: Config,
  env: gymnasium.vector.VectorEnv,
  learner: base.Learner,
  gradients: Callable[..., tuple[base.Params, jax.Array]],
  carry: rollout.Carry,
  state: shared.SharedState,
  exploration_epsilon: Callable[[int], float],
  reports: telemetry.Reports,
  phases: telemetry.Phases,
  began: float,
) -> None:
  """Plays and learns until all threads together have seen enough frames.

  Args:
    thread: index of this thread.
    stop: set when the thread should end early.
    config: settings of the run.
    env: this thread's own games.
    learner: the algorithm.
    gradients: from `optimizers.clipped`.
    carry: where this thread's games stand.
    state: what all threads share.
    exploration_epsilon: this thread's ε as a function of global frames.
    reports: where updates and episodes are reported.
    phases: where this thread's time is added up.
    began: `time.perf_counter()` when training began.
  """
  frames_per_segment = config.t_max * env.num_envs * config.action_repeat
  newest = learner.acts_on == 'newest'
  while not stop.is_set():
    snapshot = state.snapshot()
    if snapshot.frames >= config.frames:
      return
    carry, segment, episodes = rollout.collect(
      env,
      learner,
      carry,
      t_max=config.t_max,
      gamma=config.gamma,
      reward_clip=config.reward_clip or None,
      snapshot=state.snapshot if newest else lambda fixed=snapshot: fixed,
      exploration_epsilon=np.float32(exploration_epsilon(snapshot.frames)),
      phases=phases,
    )
    latest = state.snapshot()
    if newest:
      snapshot = latest
    phases.lap('other')
    grads, stats = gradients(snapshot.params, latest.target_params, segment)
    phases.lap('gradients')
    applied = state.apply(thread, grads, frames_per_segment)
    phases.lap('update')
    phases.move('update', 'lock_wait', applied.lock_wait)
    lag = applied.updates - 1 - snapshot.updates
    reports.update(telemetry.Update(stats, lag, applied.lock_wait))
    for episode in episodes:
      reports.episode(
        telemetry.EpisodeRow(
          frames=applied.frames,
          seconds=time.perf_counter() - began,
          thread=thread,
          episode_return=episode.raw_return,
          clipped_return=episode.clipped_return,
          episode_frames=episode.steps * config.action_repeat,
        )
      )
