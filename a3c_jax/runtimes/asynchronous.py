"""Asynchronous workers: each one acts, learns and pushes independently."""

from __future__ import annotations

from collections.abc import Sequence
import threading

import jax
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import rollout
from a3c_jax.core import errors, events, stopwatch, types
from a3c_jax.core import workers as workers_lib
from a3c_jax.optim import factored
from a3c_jax.parameters.store import Contribution, WorkerState
from a3c_jax.runtimes.runtime import Job, Worker


def workers_of(team: Sequence[Worker], job: Job) -> workers_lib.Workers:
  """Makes one thread for each worker, and starts none.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4.
  """
  return workers_lib.Workers(
    lambda index, stop: work(team[index], job, stop),
    len(team),
    name='actor-learner',
  )


def work(worker: Worker, job: Job, stop: threading.Event) -> None:
  """Acts and learns until all workers together have done `job.frames`.

  An environment that raises is replaced, up to `job.max_env_restarts` times;
  its unfinished segment is lost. A gradient that is not finite is dropped, but
  its frames count.

  Args:
    worker: works in the calling thread.
    job: shared by all workers.
    stop: ends the worker early when it is set. On the step-by-step path that
      discards the unfinished segment: the worker's state is that before it.

  Raises:
    workers.Stopped: if `stop` was set within a segment.
    BadGradientError: after more than `job.max_bad_gradients` in a row.
    Exception: what the environment raised once too often, or the learner.
  """
  clock = worker.stopwatch = stopwatch.Stopwatch()
  frames = job.spec.steps * worker.env.num_envs * job.action_repeat
  bad_gradients = restarts = 0
  carry, key, seed = worker.state.carry, worker.state.carry.key, 0

  def end_if_stopped():
    if stop.is_set():
      raise workers_lib.Stopped

  actor = actor_lib.in_training(job.learner, job.store.read)
  while not stop.is_set() and job.store.read().frames < job.frames:
    try:
      if carry is None:  # Of a new environment.
        worker.start(job.learner, seed=seed, key=key)
        carry = worker.state.carry
      key = carry.key
      played = rollout.collect(
        worker.env,
        actor,
        carry,
        job.spec,
        epsilon=worker.exploration_epsilon,
        clock=clock,
        on_step=end_if_stopped,
      )
    except Exception as error:
      _check_restart(error, worker, job, stop, restarts=restarts)
      restarts += 1
      seed = worker.replace_env(job.make_env)
      carry = None
      continue
    carry = played.carry
    workers_lib.beat()
    clock.lap('other')
    newest = job.store.read()
    version = newest if job.learner.acting == 'newest' else played.version
    grads, values = job.gradients(
      version.params, newest.target_params, played.segment
    )
    values = np.asarray(values)
    clock.lap('gradients')
    workers_lib.beat()
    finite = np.isfinite(values[-1])
    bad_gradients = 0 if finite else bad_gradients + 1
    learning = (
      events.LearningStatistics(values)
      if finite
      else _dropped(grads, worker, job, bad_gradients)
    )
    receipt = job.store.push(
      Contribution(
        worker=worker.index,
        grads=grads if finite else None,
        frames=frames,
        read_version=version.updates,
        worker_state=WorkerState(carry, worker.env.action_log()),
        events=(learning, *played.episodes),
        statistics=played.statistics,
      )
    )
    clock.lap('update')
    clock.move('update', 'lock_wait', receipt.lock_wait_seconds)


def _check_restart(
  error: Exception,
  worker: Worker,
  job: Job,
  stop: threading.Event,
  *,
  restarts: int,
) -> None:
  """Raises unless the environment failed and may be replaced."""
  worker.env.check_failure(error, stop)
  if restarts == job.max_env_restarts:
    raise error
  job.incidents.add(
    events.Incident(
      'env_restarts',
      f'environment of thread {worker.index} raised {error!r}; replaced, '
      f'{restarts + 1} of at most {job.max_env_restarts} times',
    )
  )


def _dropped(
  grads: types.Params, worker: Worker, job: Job, bad_gradients: int
) -> events.Incident:
  """The incident of a gradient that is not finite.

  Raises:
    BadGradientError: if there are too many in a row.
  """
  first = _first_not_finite(grads)
  if bad_gradients > job.max_bad_gradients:
    raise errors.BadGradientError(
      f'{bad_gradients} gradients in a row are not finite; in the last, '
      f'{first} is the first'
    )
  return events.Incident(
    'bad_gradients',
    f'gradient of thread {worker.index} dropped: {first} is not finite',
  )


def _first_not_finite(grads: types.Params) -> str:
  for path, leaf in jax.tree_util.tree_leaves_with_path(factored.dense(grads)):
    if not np.isfinite(leaf).all():
      return jax.tree_util.keystr(path, simple=True, separator='/')
  return 'the global norm'
