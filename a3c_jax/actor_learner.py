"""One thread's life: snapshot, collect, gradients, apply."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

import jax
import numpy as np

from a3c_jax import (
  activations,
  base,
  checkpoints,
  rollout,
  shared,
  telemetry,
  workers,
)
from a3c_jax.envs import recorded
from a3c_jax.settings.common import Config


class BadGradientError(FloatingPointError):
  """Too many gradients in a row were not finite."""


def run(
  thread: int,
  stop: threading.Event,
  *,
  config: Config,
  envs: list[recorded.Recorded],
  make_env: Callable[[], recorded.Recorded],
  learner: base.Learner,
  gradients: Callable[..., tuple[base.Params, jax.Array]],
  points: list[checkpoints.Point],
  state: shared.SharedState,
  exploration_epsilon: Callable[[int], np.ndarray],
  reports: telemetry.Reports,
  phases: telemetry.Phases,
  began: float,
) -> None:
  """Plays and learns until all threads together have seen enough frames.

  An environment that raises is made anew, up to `config.max_env_restarts`
  times; its unfinished segment is lost. A gradient that is not finite is
  dropped, its frames count.

  Args:
    thread: index of this thread.
    stop: set when the thread should end early, even within a segment that is
      played step by step, which is lost then: the thread's point is that
      before it.
    config: settings of the run.
    envs: of all threads; this one plays and replaces its own.
    make_env: makes a new one; one call at a time.
    learner: the algorithm.
    gradients: from `optimizers.clipped`.
    points: where each thread stands; this one sets its own, under the lock of
      `state`.
    state: what all threads share.
    exploration_epsilon: ε of this thread's games, [K], as a function of global
      frames.
    reports: where updates and episodes are reported.
    phases: where this thread's time is added up.
    began: `time.perf_counter()` when training began.

  Raises:
    workers.Stopped: if it was told to end within a segment.
    BadGradientError: after more than `config.max_bad_gradients` in a row.
    Exception: what the environment raised once too often, or anything else.
  """
  env = envs[thread]
  carry = points[thread].carry
  frames_per_segment = config.t_max * env.num_envs * config.action_repeat
  newest = learner.acts_on == 'newest'
  restarts = bad_gradients = 0
  seed, key = None, carry.key  # Of the episode that an environment begins with.

  def hand_over(grads, stats, episodes, point, updates, seen):
    def note(applied):
      points[thread] = point
      if grads is not None:
        lag = applied.updates - 1 - updates
        reports.add(telemetry.Update(stats, lag, applied.lock_wait))
      for episode in episodes:
        reports.add(
          telemetry.EpisodeRow(
            frames=applied.frames,
            seconds=time.perf_counter() - began,
            thread=thread,
            episode_return=episode.raw_return,
            clipped_return=episode.clipped_return,
            episode_frames=episode.steps * config.action_repeat,
          )
        )

    applied = state.apply(thread, grads, frames_per_segment, note, seen=seen)
    phases.lap('update')
    phases.move('update', 'lock_wait', applied.lock_wait)

  while not stop.is_set():
    snapshot = state.snapshot()
    if snapshot.frames >= config.frames:
      return

    def current(snapshot=snapshot):
      if stop.is_set():
        raise workers.Stopped
      return state.snapshot() if newest else snapshot

    try:
      if carry is None:
        carry = rollout.start(env, learner, seed=seed, key=key)
      key = carry.key
      carry, segment, episodes, seen = rollout.collect(
        env,
        learner,
        carry,
        t_max=config.t_max,
        gamma=config.gamma,
        reward_scale=config.reward_scale,
        reward_clip=config.reward_clip or None,
        snapshot=current,
        exploration_epsilon=exploration_epsilon(snapshot.frames).astype(
          np.float32
        ),
        phases=phases,
        moments=snapshot.moments,
      )
    except Exception as error:
      if error is not env.failure:
        raise
      # A signal may have reached the environment's own processes too.
      if stop.wait(workers.SIGNAL_SECONDS):
        raise workers.Stopped from error
      if restarts == config.max_env_restarts:
        raise
      restarts += 1
      reports.add(
        telemetry.Trouble(
          'env_restarts',
          f'environment of thread {thread} raised {error!r}; made anew, '
          f'{restarts} of at most {config.max_env_restarts} times',
        )
      )
      env.abandon()
      seed = recorded.next_seed(int(env.past().seeds[0]))
      env = envs[thread] = make_env()
      carry = None
      continue
    workers.beat()
    latest = state.snapshot()
    if newest:
      snapshot = latest
    phases.lap('other')
    grads, stats = gradients(snapshot.params, latest.target_params, segment)
    finite = bool(np.isfinite(np.asarray(stats)[-1]))
    phases.lap('gradients')
    workers.beat()
    if finite:
      bad_gradients = 0
    else:
      bad_gradients += 1
      problem = _first_bad(grads)
      if bad_gradients > config.max_bad_gradients:
        raise BadGradientError(
          f'{bad_gradients} gradients in a row are not finite; in the last, '
          f'{problem} is the first'
        )
      reports.add(
        telemetry.Trouble(
          'bad_gradients',
          f'gradient of thread {thread} dropped: {problem} is not finite',
        )
      )
    hand_over(
      grads if finite else None,
      stats,
      episodes,
      checkpoints.Point(carry, env.past()),
      snapshot.updates,
      seen.reshape(-1, *seen.shape[2:]),
    )


def _first_bad(grads) -> str:
  grads = activations.multiplied_out(grads)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    if not np.isfinite(leaf).all():
      return jax.tree_util.keystr(path, simple=True, separator='/')
  return 'the global norm'
