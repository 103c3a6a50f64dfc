"""A whole run: set up, resume, train, report."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import logging
import pathlib
from typing import NamedTuple

import gymnasium

from a3c_jax.core import paths, stopwatch, types
from a3c_jax.core import signals as signals_lib
from a3c_jax.core import workers as workers_lib
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.runs import (
  assembly,
  checkpoints,
  profiling,
  restoring,
  services,
  setting_up,
  supervise,
)
from a3c_jax.runs import log as log_lib
from a3c_jax.runs import session as session_lib
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.runtimes import asynchronous, runtime
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
MakeEnv = Callable[[], gymnasium.vector.VectorEnv]


class Result(NamedTuple):
  """The result of a run."""

  params: types.Params
  frames: int  # emulator frames of all threads
  updates: int
  episodes: int
  mean_return: float  # raw, newest 100 episodes
  seconds: float  # of training, without compilation and pauses
  cpu_seconds: float  # of this process and those it started, likewise
  phases: dict[str, float]  # seconds by phase, of all threads
  workdir: str  # absolute
  finished: bool  # all frames are done, and evaluated


def run(
  config: Config,
  make_env: MakeEnv | None = None,
  make_learner: Callable[[gymnasium.vector.VectorEnv], types.Learner]
  | None = None,
  make_eval_env: MakeEnv | None = None,
  *,
  on_progress: Callable[[log_lib.Progress], None] = lambda progress: None,
  on_result: Callable[[Result], None] = lambda result: None,
  on_hung: Callable[[str], None] = lambda reason: None,
  signals: signals_lib.Signals | None = None,
  start: runtime.Runtime = asynchronous.workers_of,
  period_seconds: float = 1.0,
) -> Result:
  """Trains until `config.frames`, and leaves the results in `config.workdir`.

  If the folder holds a run already, that run is resumed from its newest
  checkpoint. A KeyboardInterrupt ends a run early and in good order, with a
  checkpoint, and is raised then. With one thread, the same config gives
  bit-identical parameters, however often the run was stopped in between.

  Prints nothing: messages go to the logger 'a3c_jax'. Neither handles signals
  nor ends the process, unless the caller hands over what does.

  Args:
    config: everything that the run depends on.
    make_env: called once per thread, in this thread, and again to replace an
      environment that failed. That of `config` unless given.
    make_learner: called once with the first environment. That of `config`
      unless given.
    make_eval_env: makes the environment of evaluations, of which the first one
      counts; `make_env`, or that of `config`, unless given.
    on_progress: called about once a second, in this thread.
    on_result: called with the result before environments are closed, which
      may take its time.
    on_hung: called in another thread if this one hangs before training, with
      the stage at which it does. Nothing but the end of the process ends that.
    signals: entered by the caller; a signal ends the run early and in good
      order, and the result is returned.
    start: arranges the workers.
    period_seconds: between two looks at the run.

  Returns:
    The result of the run.

  Raises:
    UsageError: if the folder for the results cannot be used, or the run in it
      has other settings or another network.
    RunError: if the results cannot be written.
    HungError: if a thread makes no progress for `config.watchdog_seconds`; a
      checkpoint is written before if possible.
    StoppedError: if a signal came before training began.
    Exception: whatever a thread raised first, with a note naming the thread;
      the other threads are stopped before, and a checkpoint is written.
  """
  signals = signals or signals_lib.Signals()  # That never receives one.
  with contextlib.ExitStack() as stack:
    workdir = stack.enter_context(workdir_lib.Workdir(config))
    closing = stack.enter_context(_Closing(config.watchdog_seconds, signals))
    with (
      setting_up.watched(
        config.watchdog_seconds, on_hung, period_seconds=period_seconds
      ) as stage,
      setting_up.stoppable(config, signals),
    ):
      stage('making an environment')
      makers = assembly.Makers.of(config, make_env, make_learner, make_eval_env)
      parts = assembly.Parts.assemble(config, makers, stage, closing.add)
    signals.renew()
    try:
      restored = None
      if workdir.resumes:
        with setting_up.stoppable(config, signals):
          restored = _restore(parts, workdir.path)
      workdir.claim(
        parts.job.store.read().frames,
        spaces_lib.to_records(spaces_lib.of(parts.team[0].env)),
      )
      result, hung = _train(
        parts,
        workdir.path,
        restored,
        signals=signals,
        on_progress=on_progress,
        start=start,
        period_seconds=period_seconds,
      )
      closing.leaves_open |= bool(hung)
      on_result(result)
      return result
    except supervise.HungError:
      closing.leaves_open = True
      raise


class _Closing(contextlib.AbstractContextManager):
  """Closes environments at the end, unless a thread that hangs uses them."""

  def __init__(self, seconds, signals):
    self.leaves_open = False
    self._closes = []
    self._seconds = seconds
    self._signals = signals

  def add(self, close: Callable[[], None]) -> None:
    self._closes.append(close)

  def __exit__(self, kind, *_):
    if not self.leaves_open:
      workers_lib.close(
        self._closes,
        seconds=self._seconds,
        hurry=lambda: kind is not None or self._signals.received,
      )


def describe(result: Result) -> str:
  """What to tell the user at the end of a run."""
  score = 'no episode has ended'
  if result.episodes:
    newest = min(result.episodes, 100)
    score = f'mean return {result.mean_return:.2f} (newest {newest})'
  workdir = paths.as_given(result.workdir)
  text = (
    f'{result.frames:,} frames in {result.seconds:,.0f} s, '
    f'{result.episodes:,} episodes, {score}\n'
    f'results in {workdir}'
  )
  if not result.finished:
    text += f'\n{setting_up.resume_command(workdir)}'
  return text


def _restore(
  parts: assembly.Parts, path: pathlib.Path
) -> restoring.Restored | None:
  """Goes back to the newest checkpoint, if the run has one yet."""
  config, job = parts.config, parts.job
  state, _ = job.store.capture()
  restored = restoring.read(
    path,
    checkpoints.Checkpoints(path, keep=config.keep),
    checkpoints.RunState(state, {}),
  )
  if restored is None:
    return None
  _logger.info(
    'resuming at frame %s; replaying the actions of unfinished episodes',
    f'{restored.state.version.frames:,}',
  )
  restoring.replay(
    parts.team,
    restored.state.worker_states,
    learner=job.learner,
    make_env=job.make_env,
    incidents=job.incidents,
    watchdog_seconds=config.watchdog_seconds,
  )
  states = [worker.state for worker in parts.team]
  job.store.restore(restored.state._replace(worker_states=states))
  return restored


def _train(
  parts: assembly.Parts,
  path: pathlib.Path,
  restored: restoring.Restored | None,
  *,
  signals: signals_lib.Signals,
  on_progress: Callable[[log_lib.Progress], None],
  start: runtime.Runtime,
  period_seconds: float,
) -> tuple[Result, list[str]]:
  """Starts the workers, and ends with them.

  Returns:
    The result, and the names of threads that did not end.
  """
  threads = start(parts.team, parts.job)
  signals.wake = threads.wake
  processor_time = services.ProcessorTime()
  with session_lib.opened(parts, path, restored) as session:
    if restored is None:
      session.checkpoint(0.0)
    evaluations = services.PeriodicEvaluations(
      session, parts.evaluator, stop_request=signals
    )
    outcome = supervise.supervise(
      threads,
      [
        processor_time,
        services.Rows(session, on_progress),
        profiling.Profile(parts.config.profile),
        services.Deadline(parts.config.seconds),
        services.StopRequests(signals),
        evaluations,
        services.HangWatchdog(
          parts.config.watchdog_seconds,
          lambda: threads.alive() | evaluations.progress,
        ),
        services.PeriodicCheckpoints(session),
      ],
      read_tick=session.tick,
      period_seconds=period_seconds,
    )
  if outcome.error is not None:
    raise outcome.error
  if outcome.stop and outcome.stop.hung:
    raise supervise.HungError(outcome.stop.reason)
  hung = outcome.hung + evaluations.hung
  if hung:
    _logger.warning(
      'did not end within %g s: %s; what was unfinished there is lost',
      supervise.STOP_SECONDS,
      ', '.join(hung),
    )
  version = session.store.read()
  result = Result(
    params=version.params,
    frames=version.frames,
    updates=version.updates,
    episodes=session.log.episodes,
    mean_return=session.log.mean_return,
    seconds=outcome.ended.seconds,
    cpu_seconds=processor_time.seconds,
    phases={
      phase: sum(worker.stopwatch.seconds[phase] for worker in parts.team)
      for phase in stopwatch.PHASES
    },
    workdir=str(path),
    finished=session.frames_are_done and not evaluations.are_due,
  )
  return result, hung
