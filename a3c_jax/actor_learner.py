"""One worker's life: read, collect, gradients, push."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import NamedTuple

import jax
import numpy as np

from a3c_jax import base, normalization, rollout, telemetry, workers
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.config import Config
from a3c_jax.core import events
from a3c_jax.envs import recorded
from a3c_jax.optim import clipping, factored
from a3c_jax.parameters.store import Contribution, ParameterStore


class BadGradientError(FloatingPointError):
  """Too many gradients in a row were not finite."""


class Worker(NamedTuple):
  """What one worker starts with, and has for itself alone.

  Attributes:
    index: of this worker, in its store.
    env: what it plays first.
    replace_env: closes an environment that failed, and makes another one.
    carry: where it starts, between two segments.
    exploration_epsilon: ε of its environments, [K], as a function of global
      frames.
    phases: where its time is added up.
  """

  index: int
  env: recorded.Recorded
  replace_env: Callable[[recorded.Recorded], recorded.Recorded]
  carry: rollout.Carry
  exploration_epsilon: Callable[[int], np.ndarray]
  phases: telemetry.Phases


def run(
  worker: Worker,
  stop: threading.Event,
  *,
  config: Config,
  learner: base.Learner,
  gradients: clipping.ClippedGradients,
  store: ParameterStore,
  incidents: events.EventQueue,
) -> None:
  """Plays and learns until all workers together have seen enough frames.

  An environment that raises is replaced, up to `config.max_env_restarts`
  times; its unfinished segment is lost. A gradient that is not finite is
  dropped, its frames count.

  Args:
    worker: what this worker has for itself.
    stop: set when the worker should end early, even within a segment that is
      played step by step, which is lost then: the worker's state is that
      before it.
    config: settings of the run.
    learner: the algorithm.
    gradients: from `clipping.of_learner`, in a form that the store accepts.
    store: where versions come from and contributions go.
    incidents: where it is told that an environment was replaced.

  Raises:
    workers.Stopped: if it was told to end within a segment.
    BadGradientError: after more than `config.max_bad_gradients` in a row.
    Exception: what the environment raised once too often, or anything else.
  """
  env, carry, phases = worker.env, worker.carry, worker.phases
  frames_per_segment = config.t_max * env.num_envs * config.action_repeat
  newest = learner.acts_on == 'newest'
  restarts = bad_gradients = 0
  seed, key = None, carry.key  # Of the episode that an environment begins with.

  while not stop.is_set():
    version = store.read()
    if version.frames >= config.frames:
      return

    def current(version=version):
      if stop.is_set():
        raise workers.Stopped
      return store.read() if newest else version

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
        exploration_epsilon=worker.exploration_epsilon(version.frames).astype(
          np.float32
        ),
        phases=phases,
        moments=version.statistics,
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
      restarted = f'{restarts} of at most {config.max_env_restarts} times'
      incidents.add(_replaced(worker.index, error, restarted))
      seed = recorded.next_seed(int(env.past().seeds[0]))
      env = worker.replace_env(env)
      carry = None
      continue
    statistics = None
    if version.statistics is not None:
      statistics = normalization.of(seen.reshape(-1, *seen.shape[2:]))
    workers.beat()
    latest = store.read()
    if newest:
      version = latest
    phases.lap('other')
    grads, stats = gradients(version.params, latest.target_params, segment)
    stats = np.asarray(stats)
    finite = bool(np.isfinite(stats[-1]))
    phases.lap('gradients')
    workers.beat()
    if finite:
      bad_gradients = 0
      learning = events.LearningStatistics(stats)
    else:
      bad_gradients += 1
      problem = _first_bad(grads)
      if bad_gradients > config.max_bad_gradients:
        raise BadGradientError(
          f'{bad_gradients} gradients in a row are not finite; in the last, '
          f'{problem} is the first'
        )
      grads, learning = None, _dropped(worker.index, problem)
    receipt = store.push(
      Contribution(
        worker=worker.index,
        grads=grads,
        frames=frames_per_segment,
        read_version=version.updates,
        worker_state=WorkerState(carry, env.past()),
        events=(
          learning,
          *(events.EpisodeEnded(*episode) for episode in episodes),
        ),
        statistics=statistics,
      )
    )
    phases.lap('update')
    phases.move('update', 'lock_wait', receipt.lock_wait_seconds)


def _replaced(worker, error, restarted) -> events.Incident:
  return events.Incident(
    'env_restarts',
    f'environment of thread {worker} raised {error!r}; made anew, {restarted}',
  )


def _dropped(worker, problem) -> events.Incident:
  return events.Incident(
    'bad_gradients',
    f'gradient of thread {worker} dropped: {problem} is not finite',
  )


def _first_bad(grads) -> str:
  grads = factored.dense(grads)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    if not np.isfinite(leaf).all():
      return jax.tree_util.keystr(path, simple=True, separator='/')
  return 'the global norm'
