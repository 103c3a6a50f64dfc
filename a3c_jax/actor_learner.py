"""One thread's life: snapshot, collect, gradients, apply."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

import gymnasium
import numpy as np

from a3c_jax import base, rollout, shared, telemetry


def run(
  thread: int,
  *,
  env: gymnasium.vector.VectorEnv,
  learner: base.Learner,
  gradients: Callable[..., tuple[base.Params, base.Stats]],
  carry: rollout.Carry,
  state: shared.SharedState,
  exploration_epsilon: Callable[[int], float],
  t_max: int,
  gamma: float,
  reward_clip: float | None,
  action_repeat: int,
  total_frames: int,
  reports: telemetry.Reports,
  phases: telemetry.Phases,
  stop: threading.Event,
  began: float,
) -> None:
  """Plays and learns until all threads together have seen enough frames.

  Args:
    thread: index of this thread.
    env: this thread's own games.
    learner: the algorithm.
    gradients: `learner.gradients`, with clipping.
    carry: where this thread's games stand.
    state: what all threads share.
    exploration_epsilon: this thread's ε as a function of global frames.
    t_max: steps per segment.
    gamma: discount per step.
    reward_clip: largest reward kept, in absolute value; None keeps all.
    action_repeat: emulator frames per step.
    total_frames: emulator frames of all threads at which to end.
    reports: where updates and episodes are reported.
    phases: where this thread's time is added up.
    stop: set when the thread should end early.
    began: `time.perf_counter()` when training began.
  """
  frames_per_segment = t_max * env.num_envs * action_repeat
  while not stop.is_set():
    snapshot = state.snapshot()
    if snapshot.frames >= total_frames:
      return
    newest = learner.acts_on == 'newest'
    epsilon = np.float32(exploration_epsilon(snapshot.frames))
    carry, segment, episodes = rollout.collect(
      env,
      learner,
      carry,
      t_max=t_max,
      gamma=gamma,
      reward_clip=reward_clip,
      snapshot=state.snapshot if newest else lambda fixed=snapshot: fixed,
      exploration_epsilon=epsilon,
      phases=phases,
    )
    if newest:
      snapshot = state.snapshot()
    phases.lap('other')
    grads, stats = gradients(snapshot.params, snapshot.target_params, segment)
    phases.lap('gradients')
    applied = state.apply(thread, grads, frames_per_segment)
    phases.lap('update')
    phases.move('update', 'lock_wait', applied.lock_wait)
    lag = applied.updates - 1 - snapshot.updates
    reports.update(telemetry.Update(stats, lag, applied.lock_wait))
    for episode in episodes:
      reports.episode(
        telemetry.Episode(
          frames=applied.frames,
          seconds=time.perf_counter() - began,
          thread=thread,
          episode_return=episode.raw_return,
          clipped_return=episode.clipped_return,
          episode_frames=episode.steps * action_repeat,
        )
      )
