"""Restores a run from a checkpoint: parameters, log, environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import logging
import pathlib
import threading
from typing import Any, NamedTuple

import numpy as np

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, events, observations, paths, threads, types
from a3c_jax.envs import replayable
from a3c_jax.parameters import store as store_lib
from a3c_jax.runs import checkpoints, csv_files, supervise
from a3c_jax.runtimes import runtime

_logger = logging.getLogger(__name__)
_PERIOD_SECONDS = 1.0


class Restored(NamedTuple):
  """The state that a run resumes from."""

  state: store_lib.StoreState
  seconds: float  # of training so far
  log_position: dict[str, Any]
  evaluated_frames: int  # emulator frames at the newest evaluation
  best: dict[str, Any] | None  # 'frames' and 'score'
  trace_position: dict[str, int] | None  # None if the run was not recorded
  # Workers whose environments do not repeat their unfinished episodes.
  restarted: tuple[int, ...] = ()
  lost_memory: bool = False  # whether the replay memory starts empty


def read(
  path: pathlib.Path,
  saved: checkpoints.Checkpoints,
  template: checkpoints.RunState,
) -> Restored | None:
  """Reads the newest checkpoint; None if the run has written nothing yet.

  Args:
    path: of the run.
    saved: its checkpoints.
    template: a state of the same run, for its structure.

  Raises:
    UsageError: if the checkpoint does not fit, or there are results without
      one.
  """
  shown = paths.as_given(path)
  try:
    run_state, problems = saved.restore(template)
    restored = None
    if run_state is not None:
      record = run_state.record
      best = record['best']
      restored = Restored(
        run_state.store,
        seconds=record['seconds'],
        log_position=record['log'],
        evaluated_frames=record['evaluated'],
        best=best if best and saved.has_best(best['frames']) else None,
        trace_position=record.get('trace'),
      )
  except (checkpoints.MismatchError, KeyError) as error:
    raise errors.UsageError(
      f'--workdir={shown}: its checkpoint does not fit, {error}; allowed: the '
      'run of the same network and optimizer'
    ) from error
  for problem in problems:
    _logger.warning('%s', problem)
  if restored is None and (problems or csv_files.has_rows(path)):
    raise errors.UsageError(
      f'--workdir={shown}: holds results, but no checkpoint to resume from; '
      'allowed: another folder'
    )
  return restored


def replay(
  team: Sequence[runtime.Worker],
  saved: Sequence[WorkerState],
  *,
  learner: types.Learner,
  make_env: Callable[[], replayable.Recorded],
  incidents: events.EventQueue,
  watchdog_seconds: float,
  on_threads: Callable[[Callable[[], Mapping[str, int]]], None],
) -> None:
  """Replays the actions of unfinished episodes, each worker's in a thread.

  An environment that fails, or does not repeat what it did, starts a new
  episode. So do all, if the workers had other numbers of environments.

  Args:
    team: whose environments and states are set.
    saved: the state of each worker of the run, in their order. Workers beyond
      them stay as they are.
    learner: that of the run.
    make_env: replaces an environment that fails; one call at a time.
    incidents: where a failure is reported.
    watchdog_seconds: without a sign of life, after which a thread hangs.
    on_threads: called before threads start, with a function that returns the
      names of those that still run.

  Raises:
    HungError: if an environment hangs.
    Exception: what another thread raised first.
  """
  strangers = []
  count = min(len(saved), len(team))

  def body(index, stop):
    worker, state = team[index], saved[index]
    fits = len(state.action_log.seeds) == worker.env.num_envs
    if not fits or not _repeats(
      worker, state, stop, make_env=make_env, incidents=incidents
    ):
      strangers.append(index)
      worker.start(
        learner,
        seed=replayable.next_seed(int(state.action_log.seeds[0])),
        key=state.carry.key,
      )

  group = threads.ThreadGroup.numbered(body, count, name='replay')
  watchdog = threads.Watchdog(watchdog_seconds)
  on_threads(group.alive)
  try:
    group.start()
    while group.wait(_PERIOD_SECONDS):
      watchdog.check(group.alive())
  finally:
    group.stop(supervise.STOP_SECONDS)
  if group.error is not None:
    raise group.error
  if strangers:
    _logger.warning(
      '%d of %d environments do not repeat what they did: these start a new '
      'episode',
      len(strangers),
      count,
    )


def _repeats(
  worker: runtime.Worker,
  state: WorkerState,
  stop: threading.Event,
  *,
  make_env: Callable[[], replayable.Recorded],
  incidents: events.EventQueue,
) -> bool:
  """Replays a worker's actions, and sets its state.

  Returns:
    Whether its environments repeat what they did. If not, no state is set.
  """

  def on_step():
    if stop.is_set():
      raise threads.Stopped

  try:
    obs = worker.env.replay(state.action_log, on_step)
  except Exception as error:
    worker.env.check_failure(error, stop)
    incidents.add(
      events.Incident(
        'env_restarts',
        f'environment of thread {worker.index} raised {error!r}; it was '
        'replaced',
      )
    )
    worker.replace_env(make_env)
    return False
  if not np.array_equal(observations.as_network_input(obs), state.carry.obs):
    return False
  worker.state = state
  return True
