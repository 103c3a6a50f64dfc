"""A whole run: set up, resume, train, report."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import logging
import threading
import time
from typing import NamedTuple

import gymnasium
import jax
import numpy as np

from a3c_jax import (
  agents,
  base,
  checkpoints,
  checks,
  evaluation,
  networks,
)
from a3c_jax import signals as signals_lib
from a3c_jax import workdir as workdir_lib
from a3c_jax import workers as workers_lib
from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import normalization, rollout
from a3c_jax.algorithms import registry
from a3c_jax.core import events, stopwatch
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import recorded
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.optim import clipping
from a3c_jax.parameters import locked
from a3c_jax.runs import evaluator as evaluator_lib
from a3c_jax.runs import log as log_lib
from a3c_jax.runs import (
  profiling,
  restoring,
  services,
  session,
  setting_up,
  supervise,
)
from a3c_jax.runtimes import asynchronous, runtime
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
MakeEnv = Callable[[], gymnasium.vector.VectorEnv]


class Result(NamedTuple):
  """The result of a run."""

  params: base.Params
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
  make_learner: Callable[[gymnasium.vector.VectorEnv], base.Learner]
  | None = None,
  make_eval_env: MakeEnv | None = None,
  *,
  on_progress: Callable[[log_lib.Progress], None] = lambda progress: None,
  on_result: Callable[[Result], None] = lambda result: None,
  on_hung: Callable[[list[str]], None] = lambda names: None,
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
      its name and stage. Nothing but the end of the process ends that.
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
      makers = _Makers.of(config, make_env, make_learner, make_eval_env)
      training = _Training.set_up(config, makers, stage, closing)
    signals.renew()
    try:
      restored = None
      if workdir.resumes:
        with setting_up.stoppable(config, signals):
          restored = training.restore(workdir.path)
      workdir.claim(
        training.job.store.read().frames,
        spaces_lib.to_records(spaces_lib.of(training.team[0].env)),
      )
      result, hung = training.run(
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
    except session.HungError:
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


class _Makers(NamedTuple):
  """What makes the parts of a run."""

  env: Callable[[], recorded.Recorded]
  eval_env: Callable[[], recorded.Recorded]
  learner: Callable[[gymnasium.vector.VectorEnv], base.Learner]

  @classmethod
  def of(cls, config, make_env, make_learner, make_eval_env) -> _Makers:
    making = threading.Lock()

    def recorded_by(make):
      def make_recorded():
        # Environments are made one after another.
        with making, recorded.without_exit():
          return recorded.Recorded(make())

      return make_recorded

    with recorded.without_exit():
      if make_eval_env is None:
        make_eval_env = make_env
        if make_env is None and config.eval_frames:
          make_eval_env = agents.make_env(
            config, domain_lib.EnvRequest(protocol=config.eval_protocol)
          )
      make_env = make_env or agents.make_env(config)

    def of_config(env):
      layout = agents.describe_layout(config, env.single_observation_space)
      if layout:
        _logger.info('%s', layout)
      return agents.make_learner(config, env)

    return cls(
      recorded_by(make_env),
      recorded_by(make_eval_env or make_env),
      make_learner or of_config,
    )


class _Training(NamedTuple):
  """A run that is set up: everything is made and compiled."""

  config: Config
  team: list[runtime.Worker]
  job: runtime.Job
  evaluator: evaluator_lib.Evaluator | None
  statistics: list[str]  # names of the scalars that updates report

  @classmethod
  def set_up(cls, config, makers, stage, closing) -> _Training:
    """Makes and compiles everything.

    Args:
      config: of the run.
      makers: of its parts.
      stage: told what begins.
      closing: told of every environment as soon as it is made.
    """
    incidents = events.EventQueue()
    team, seeds = [], []
    for index in range(config.threads):
      stage(f'making the environment of thread {index}')
      env = makers.env()
      rng = np.random.default_rng([config.seed, index])
      seeds.append(
        int(rng.integers(2**31 - env.num_envs)) % recorded.TRAINING_SEEDS
      )
      team.append(
        runtime.Worker(
          index, env, config.algorithm.exploration(rng, env.num_envs)
        )
      )
      closing.add(lambda worker=team[-1]: worker.env.close())
    stage('making the learner', computes=True)
    learner = makers.learner(team[0].env)
    _logger.info('setting up %d threads', config.threads)
    init_key, worker_key = jax.random.split(jax.random.PRNGKey(config.seed))
    for worker, seed in zip(team, seeds, strict=True):
      stage(f'resetting the environment of thread {worker.index}')
      key = jax.random.fold_in(worker_key, worker.index)
      worker.start(learner, seed=seed, key=key)
    evaluator = None
    if config.eval_frames:
      stage('making the environment of evaluations')
      evaluator = evaluator_lib.Evaluator(
        makers.eval_env,
        learner,
        episodes=config.eval_episodes,
        seed=config.seed,
        max_steps=evaluation.most_steps(
          config.max_eval_episode_frames, config.action_repeat
        ),
        max_env_restarts=config.max_env_restarts,
        incidents=incidents,
      )
      closing.add(evaluator.close)
    stage('compiling', computes=True)
    job = _job(config, learner, team, init_key, makers.env, incidents)
    statistics = _warm_up(job, team[0])
    if evaluator:
      evaluator.warm_up(job.store.read())
    return cls(config, team, job, evaluator, statistics)

  def restore(self, path) -> restoring.Restored | None:
    """Goes back to the newest checkpoint, if the run has one yet."""
    config, job = self.config, self.job
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
      self.team,
      restored.state.worker_states,
      learner=job.learner,
      make_env=job.make_env,
      incidents=job.incidents,
      watchdog_seconds=config.watchdog_seconds,
    )
    states = [worker.state for worker in self.team]
    job.store.restore(restored.state._replace(worker_states=states))
    return restored

  def run(
    self, path, restored, *, signals, on_progress, start, period_seconds
  ) -> tuple[Result, list[str]]:
    """Starts the workers, and ends with them.

    Returns:
      The result, and the names of threads that did not end.
    """
    config, job = self.config, self.job
    threads = start(self.team, job)
    signals.wake = threads.wake
    processor_time = services.ProcessorTime()
    with session.naming_the_folder(path):
      began = time.perf_counter()
      with self._log(path, began, restored) as log:
        current = self._session(path, began, restored, log)
        if restored is None:
          current.checkpoint(0.0)
        evaluations = []
        if self.evaluator:
          evaluations = [
            services.PeriodicEvaluations(
              current,
              self.evaluator,
              policy=registry.get(config.algo).describe_policy(
                exploration_epsilon=evaluation.EXPLORATION_EPSILON
              ),
              stop_request=signals,
            )
          ]
        outcome = supervise.supervise(
          threads,
          [
            processor_time,
            services.Rows(
              current,
              learning_rate=agents.learning_rate(config),
              on_progress=on_progress,
            ),
            profiling.Profile(config.profile),
            services.Deadline(config.seconds),
            services.StopRequests(signals),
            *evaluations,
            services.HangWatchdog(
              config.watchdog_seconds, self._progress_of(threads)
            ),
            services.PeriodicCheckpoints(current),
          ],
          read_tick=current.tick,
          period_seconds=period_seconds,
        )
        if outcome.error is not threads.error:
          raise outcome.error  # Of a service, which may name the folder.
    if outcome.error is not None:
      raise outcome.error
    if outcome.stop and outcome.stop.hung:
      raise session.HungError(outcome.stop.reason)
    hung = outcome.hung + [name for each in evaluations for name in each.hung]
    if hung:
      _logger.warning(
        'did not end within %g s: %s; what was unfinished there is lost',
        supervise.STOP_SECONDS,
        ', '.join(hung),
      )
    version = job.store.read()
    result = Result(
      params=version.params,
      frames=version.frames,
      updates=version.updates,
      episodes=log.episodes,
      mean_return=log.mean_return,
      seconds=outcome.ended.seconds,
      cpu_seconds=processor_time.seconds,
      phases={
        phase: sum(worker.stopwatch.seconds[phase] for worker in self.team)
        for phase in stopwatch.PHASES
      },
      workdir=str(path),
      finished=current.frames_are_done
      and (self.evaluator is None or current.evaluated == version.frames),
    )
    return result, hung

  def _log(self, path, began, restored) -> log_lib.RunLog:
    config = self.config
    return log_lib.RunLog(
      path,
      run={'algo': config.algo, 'env': config.env_name, 'seed': config.seed},
      statistics=self.statistics,
      total_frames=config.frames,
      action_repeat=config.action_repeat,
      began=began - (restored.seconds if restored else 0.0),
      position=restored.log_position if restored else None,
    )

  def _session(self, path, began, restored, log) -> session.Session:
    current = session.Session(
      self.config,
      path,
      store=self.job.store,
      log=log,
      checkpoints=checkpoints.Checkpoints(path, keep=self.config.keep),
      incidents=self.job.incidents,
      began=began - (restored.seconds if restored else 0.0),
      session_began=began,
    )
    if restored:
      current.evaluated, current.best = restored.evaluated, restored.best
    return current

  def _progress_of(self, threads) -> Callable[[], dict[str, int]]:
    def progress():
      evaluating = self.evaluator.progress if self.evaluator else {}
      return threads.alive() | evaluating

    return progress


def describe(result: Result) -> str:
  """What to tell the user at the end of a run."""
  score = 'no episode has ended'
  if result.episodes:
    newest = min(result.episodes, 100)
    score = f'mean return {result.mean_return:.2f} (newest {newest})'
  workdir = checks.as_given(result.workdir)
  text = (
    f'{result.frames:,} frames in {result.seconds:,.0f} s, '
    f'{result.episodes:,} episodes, {score}\n'
    f'results in {workdir}'
  )
  if not result.finished:
    text += f'\n{setting_up.resume_command(workdir)}'
  return text


def _job(config, learner, team, init_key, make_env, incidents) -> runtime.Job:
  obs = team[0].state.carry.obs
  store = locked.LockedStore(
    networks.scale_torso_kernels(learner.init(init_key, obs), config.init_gain),
    agents.make_update_rule(config),
    worker_states=[worker.state for worker in team],
    target_period_frames=(
      config.algorithm.target_period_frames if learner.uses_target else None
    ),
    statistics=(
      normalization.initial(obs.shape[1:]) if config.normalize_obs else None
    ),
  )
  return runtime.Job(
    learner=learner,
    gradients=clipping.of_learner(
      learner,
      config.max_grad_norm or None,
      accepts_factored=store.accepts_factored,
    ),
    store=store,
    spec=rollout.RolloutSpec(
      steps=config.t_max,
      gamma=config.gamma,
      reward_scale=config.reward_scale,
      reward_clip=config.reward_clip or None,
    ),
    frames=config.frames,
    action_repeat=config.action_repeat,
    make_env=make_env,
    incidents=incidents,
    max_env_restarts=config.max_env_restarts,
    max_bad_gradients=config.max_bad_gradients,
  )


def _warm_up(job: runtime.Job, worker: runtime.Worker) -> list[str]:
  """Compiles all that threads call; returns the names of the statistics."""
  carry, steps = worker.state.carry, job.spec.steps
  actor = actor_lib.in_training(job.learner, job.store.read)
  rollout.compile_for(worker.env, actor, carry, steps)
  segment = rollout.example_segment(actor, carry, steps)
  version = job.store.read()
  grads, _ = job.gradients(version.params, version.target_params, segment)
  job.store.warm_up(grads)
  return clipping.stat_names(
    job.learner,
    version.params,
    version.target_params,
    segment,
    accepts_factored=job.store.accepts_factored,
  )
