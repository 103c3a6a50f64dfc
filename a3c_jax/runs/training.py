"""A whole run: set it up, resume it, train, and return the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import logging
import pathlib
from typing import NamedTuple

import gymnasium

from a3c_jax.core import errors, paths, types
from a3c_jax.core import signals as signals_lib
from a3c_jax.core import threads as threads_lib
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.parameters import store as store_lib
from a3c_jax.replay.memory import MemoryState
from a3c_jax.runs import (
  assembly,
  checkpoints,
  image_moments,
  logger,
  profiling,
  restoring,
  services,
  setting_up,
  supervise,
  tracking,
)
from a3c_jax.runs import replay as replay_lib
from a3c_jax.runs import session as session_lib
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.runtimes import runtime
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
MakeEnv = assembly.MakeEnv
# Gives the names of the threads that still use environments.
Alive = Callable[[], Mapping[str, int]]


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
  replay_bytes: int  # of the replay memory when it is full; 0 without one
  workdir: str  # absolute
  finished: bool  # all frames are done, and evaluated


def run(
  config: Config,
  make_env: MakeEnv | None = None,
  make_learner: Callable[[gymnasium.vector.VectorEnv], types.Learner]
  | None = None,
  make_eval_env: MakeEnv | None = None,
  *,
  loggers: Sequence[logger.Logger] = (),
  on_result: Callable[[Result], None] = lambda result: None,
  on_hung: Callable[[str], None] = lambda reason: None,
  signals: signals_lib.Signals | None = None,
  make_store: store_lib.MakeStore | None = None,
  period_seconds: float = 1.0,
) -> Result:
  """Trains until `config.frames`, and leaves the results in `config.workdir`.

  If the folder holds a run already, that run is resumed from its newest
  checkpoint. A KeyboardInterrupt ends a run early: a checkpoint is written, and
  the KeyboardInterrupt is raised. With one thread, or with synchronous ones,
  the same config gives bit-identical parameters, however often the run was
  stopped and resumed.

  Prints nothing: messages go to the logger 'a3c_jax'. Handles no signals, and
  never ends the process.

  Args:
    config: all settings of the run.
    make_env: makes the environments of one worker. Called once per worker, in
      this thread, and again to replace an environment that failed: then in the
      thread of a worker, a replay or an evaluation, one call at a time. The
      environments are reset and stepped in other threads. By default it makes
      that of `config`.
    make_learner: called once, with the environments of the first worker. By
      default it makes that of `config`.
    make_eval_env: makes the environments of evaluations, of which the first one
      counts. By default `make_env`, or that of `config`.
    loggers: receive rows, evaluations and checkpoints, in this thread. They are
      closed at the end, also if training raises.
    on_result: called with the result before environments are closed, since
      closing may take long.
    on_hung: called in another thread if this one hangs before training, with
      the stage in words. A thread cannot be stopped from outside: the caller
      may end the process.
    signals: entered by the caller. A signal ends the run early and in good
      order, and the result is returned.
    make_store: makes the store of the parameters, once. By default it makes
      that of `config`.
    period_seconds: between two ticks of the run's services, above 0.

  Returns:
    The result of the run.

  Raises:
    ValueError: if `period_seconds` is not above 0.
    UsageError: if the folder for the results cannot be used, or the run in it
      has other settings or another network.
    RunError: if the results cannot be written.
    LostError: if a process of the run has ended once too often.
    HungError: if a thread makes no progress for `config.watchdog_seconds`; a
      checkpoint is written before if possible.
    StoppedError: if a signal came before training began.
    Exception: what a thread raised first, with a note that names the thread;
      the other threads are stopped before, and a checkpoint is written.
  """
  if not period_seconds > 0:  # Also for NaN.
    raise ValueError(f'period_seconds must be above 0, not {period_seconds}')
  signals = signals or signals_lib.Signals()  # That never receives one.
  recipe = assembly.Recipe(
    config, make_env, make_learner, make_store or config.arrangement.make_store
  )
  losses = 0
  tracker = tracking.make(config)
  if tracker is not None:
    loggers = [*loggers, tracker]
  with _closing(loggers):
    while True:
      try:
        return _run_once(
          config,
          recipe,
          make_eval_env,
          loggers=loggers,
          on_result=on_result,
          on_hung=on_hung,
          signals=signals,
          period_seconds=period_seconds,
        )
      except errors.LostError as error:
        if signals.received or losses == config.arrangement.max_losses:
          raise
        losses += 1
        _logger.warning(
          '%s; the run resumes from its newest checkpoint, %d of at most %d '
          'times',
          error,
          losses,
          config.arrangement.max_losses,
        )


@contextlib.contextmanager
def _closing(loggers: Sequence[logger.Logger]) -> Iterator[None]:
  """Closes loggers after a block, whatever one of them raises."""
  failure = None
  try:
    yield
  except BaseException as error:
    failure = error
    raise
  finally:
    for each in loggers:
      try:
        each.close()
      except Exception as error:
        text = f'closing a logger failed: {error!r}'
        if failure is None:
          _logger.warning('%s', text)
        else:
          failure.add_note(text)


def _run_once(
  config: Config,
  recipe: assembly.Recipe,
  make_eval_env: MakeEnv | None,
  *,
  loggers: Sequence[logger.Logger],
  on_result: Callable[[Result], None],
  on_hung: Callable[[str], None],
  signals: signals_lib.Signals,
  period_seconds: float,
) -> Result:
  """Trains until the end of a run, or until it loses a process."""
  with contextlib.ExitStack() as stack:
    workdir = stack.enter_context(workdir_lib.Workdir(config))
    closing = stack.enter_context(_Closing(config.watchdog_seconds, signals))
    with (
      setting_up.watched(
        config.watchdog_seconds, on_hung, period_seconds=period_seconds
      ) as stage,
      setting_up.stoppable(config, signals),
    ):
      stage(f'opening the runtime {config.runtime}', computes=True)
      site = stack.enter_context(
        runtimes.get(config.runtime).opened(config.arrangement, recipe)
      )
      stage('making an environment')
      makers = recipe.makers(make_eval_env)
      parts = assembly.Parts.assemble(
        config,
        makers,
        site,
        stage,
        on_made=closing.add,
        on_threads=closing.add_users,
      )
      profile = profiling.Profile(config.profile)
    signals.renew()
    restored = None
    if workdir.resumes:
      with setting_up.stoppable(config, signals):
        restored = _restore(parts, workdir.path, closing.add_users)
    if config.normalize_images and restored is None:
      with (
        setting_up.watched(
          config.watchdog_seconds, on_hung, period_seconds=period_seconds
        ) as stage,
        setting_up.stoppable(config, signals),
      ):
        stage('measuring images in random play')
        _logger.info('measuring images in random play')

        def make_env():
          env = makers.env()
          signals.renew()
          return env

        image_moments.prepare(
          parts.job.store,
          make_env,
          config.seed,
          max_env_restarts=config.max_env_restarts,
        )
    workdir.claim(
      parts.job.store.read().frames,
      spaces_lib.to_records(spaces_lib.of(parts.team[0].env)),
    )
    threads = parts.arrangement.threads()
    closing.add_users(threads.alive)
    if parts.evaluator:
      evaluator = parts.evaluator
      closing.add_users(lambda: evaluator.progress)
    result = _train(
      parts,
      threads,
      workdir.path,
      restored,
      profile=profile,
      signals=signals,
      loggers=loggers,
      period_seconds=period_seconds,
    )
    on_result(result)
    return result


class _Closing(contextlib.AbstractContextManager):
  """Closes environments at the end, unless a thread still uses them."""

  def __init__(self, seconds: float, signals: signals_lib.Signals):
    self._closes: list[Callable[[], None]] = []
    self._users: list[Alive] = []
    self._seconds = seconds
    self._signals = signals

  def add(self, close: Callable[[], None]) -> None:
    self._closes.append(close)

  def add_users(self, alive: Alive) -> None:
    self._users.append(alive)

  def __exit__(self, kind, *_):
    # Of a thread that hangs: closing what it is in may crash the process.
    if not any(alive() for alive in self._users):
      threads_lib.close(
        self._closes,
        seconds=self._seconds,
        hurry=lambda: kind is not None or self._signals.received,
      )


def describe(result: Result) -> str:
  """Describes a result for the user: score, folder, and how to resume."""
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
  parts: assembly.Parts,
  path: pathlib.Path,
  on_threads: Callable[[Alive], None],
) -> restoring.Restored | None:
  """Restores the newest checkpoint; None if the run has none yet."""
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
  memory = _memory_of(restored.state, job)
  saved = restored.state.worker_states
  if memory is None:  # There is nothing to draw yet.
    saved = [state._replace(minibatches_due=0) for state in saved]
  states = parts.arrangement.resume(
    saved,
    lambda team, saved: restoring.replay(
      team,
      saved,
      learner=job.learner,
      make_env=job.make_env,
      incidents=job.incidents,
      watchdog_seconds=config.watchdog_seconds,
      on_threads=on_threads,
    ),
  )
  job.store.restore(
    restored.state._replace(worker_states=states, memory=memory)
  )
  if job.replay and memory:  # What was read is on the disk.
    job.replay.memory.saved([chunk.name for chunk in memory.chunks])
  restarted = [
    worker
    for worker, (before, after) in enumerate(zip(saved, states, strict=False))
    if after is not before
  ]
  return restored._replace(
    restarted=tuple(restarted),
    lost_memory=job.replay is not None and memory is None,
  )


def _memory_of(
  state: store_lib.StoreState, job: runtime.Job
) -> MemoryState | None:
  """Returns the replay memory to resume with; None for an empty one."""
  if job.replay is None:
    return None
  problem = 'the checkpoint has none, or no intact one'
  if not job.replay.memory.persistent:
    problem = '--replay_checkpoint=empty, or each node has its own'
  elif state.memory is not None:
    problem = job.replay.memory.why_not(state.memory)
    problem = problem and f'that of the checkpoint has {problem}'
  if problem:
    _logger.warning('the replay memory starts empty: %s', problem)
    return None
  return state.memory


def _train(
  parts: assembly.Parts,
  threads: threads_lib.ThreadGroup,
  path: pathlib.Path,
  restored: restoring.Restored | None,
  *,
  profile: profiling.Profile,
  signals: signals_lib.Signals,
  loggers: Sequence[logger.Logger],
  period_seconds: float,
) -> Result:
  """Starts the workers, and returns after they have ended."""
  config = parts.config
  signals.wake = threads.wake
  processor_time = services.ProcessorTime()
  with session_lib.opened(parts, path, restored, loggers) as session:
    if restored is None:
      session.checkpoint(0.0)
    evaluations = services.PeriodicEvaluations(
      session, parts.evaluator, stop_request=signals
    )
    outcome = supervise.supervise(
      threads,
      [
        processor_time,
        profile,
        # Before rows: what it reports at the end belongs to the last one.
        evaluations,
        services.Rows(session),
        services.Deadline(config.seconds),
        services.StopRequests(signals),
        services.HangWatchdog(
          config.watchdog_seconds,
          lambda: threads.alive() | evaluations.progress,
        ),
        *_of_memory(parts),
        services.PeriodicCheckpoints(session),
      ],
      read_tick=session.tick,
      period_seconds=period_seconds,
    )
    if outcome.error is not None:
      raise outcome.error
    if outcome.stop is None and not session.frames_are_done:
      raise RuntimeError(
        f'all threads ended at frame {outcome.ended.version.frames:,} of '
        f'{config.frames:,}'
      )
  hung = outcome.hung + evaluations.hung
  if hung:
    _logger.warning(
      'did not end within %g s: %s; their unfinished segments or evaluations '
      'are lost',
      supervise.STOP_SECONDS,
      ', '.join(hung),
    )
  return _result(
    parts,
    session,
    seconds=outcome.ended.seconds,
    cpu_seconds=processor_time.seconds,
    evaluations_done=not evaluations.are_due,
  )


def _of_memory(parts: assembly.Parts) -> list[supervise.Service]:
  """Returns the services of the replay memory, if there is one."""
  replay, settings = parts.job.replay, parts.config.replay
  if not (replay and settings):
    return []
  watch = replay_lib.WatchStart(
    replay,
    start_frames=settings.replay_start_frames,
    frames=parts.job.store.read().frames,
  )
  if not replay.memory.persistent:
    return [watch]
  return [watch, replay_lib.SealMemory(replay.memory)]


def _result(
  parts: assembly.Parts,
  session: session_lib.Session,
  *,
  seconds: float,
  cpu_seconds: float,
  evaluations_done: bool,
) -> Result:
  version = session.store.read()
  return Result(
    params=version.params,
    frames=version.frames,
    updates=version.updates,
    episodes=session.log.episodes,
    mean_return=session.log.mean_return,
    seconds=seconds,
    cpu_seconds=cpu_seconds,
    phases=parts.arrangement.phases(),
    replay_bytes=session.memory.num_bytes if session.memory else 0,
    workdir=str(session.path),
    finished=session.frames_are_done and evaluations_done,
  )
