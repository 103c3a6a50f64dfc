"""A whole run: start threads, report, stop, go on, tell what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import os
import pathlib
import shlex
import sys
import threading
import time
from typing import NamedTuple

import gymnasium
import jax
import numpy as np

from a3c_jax import (
  actor_learner,
  agents,
  base,
  checkpoints,
  checks,
  cpu,
  evaluation,
  networks,
  normalization,
  optimizers,
  output,
  profiling,
  published,
  rollout,
  schedules,
  shared,
  telemetry,
)
from a3c_jax import signals as signals_lib
from a3c_jax import workdir as workdir_lib
from a3c_jax import workers as workers_lib
from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import ValueBased
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import recorded
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.settings.common import Config

_REFRESH_SECONDS = 1.0
_STOP_SECONDS = 5.0
_BUSY = 10  # How many times as long something may take that computes.


class Result(NamedTuple):
  """What a run came to."""

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
  make_env: Callable[[], gymnasium.vector.VectorEnv],
  make_learner: Callable[[gymnasium.vector.VectorEnv], base.Learner],
  make_eval_env: Callable[[], gymnasium.vector.VectorEnv] | None = None,
  on_result: Callable[[Result], None] = lambda result: None,
) -> Result:
  """Trains until `config.frames`, and leaves the results in `config.workdir`.

  Where the folder holds a run already, that one goes on from its newest
  checkpoint. SIGINT, SIGTERM, SIGHUP and SIGUSR1 end a run early, in good
  order; a second SIGINT or SIGTERM ends the process at once. With one thread,
  the same config gives bit-identical parameters, however often the run was
  stopped in between. What cannot be printed is lost, and the run continues.

  Args:
    config: everything that the run depends on.
    make_env: called once per thread, in this thread, and again where an
      environment failed.
    make_learner: called once with the first environment.
    make_eval_env: makes the environment of evaluations, of which the first game
      counts; `make_env` unless given.
    on_result: called with the result before environments are closed, which
      may take its time.

  Returns:
    What the run came to.

  Raises:
    UsageError: if the folder for the results cannot be used, or the run in it
      has other settings or another network.
    RunError: if the results cannot be written.
    StoppedError: if a signal came before training began.
    Exception: whatever a thread raised first, with a note naming the thread;
      the other threads are stopped before, and a checkpoint is written.
  """
  with contextlib.ExitStack() as stack:
    stack.enter_context(output.losable())
    signals = stack.enter_context(signals_lib.Signals())
    workdir = stack.enter_context(workdir_lib.Workdir(config))
    closes: list[Callable[[], None]] = []
    envs = []
    closes_unless_hung = stack.enter_context(contextlib.ExitStack())
    closes_unless_hung.push(
      lambda kind, *_: workers_lib.close(
        [*(env.close for env in envs), *closes],
        seconds=config.watchdog_seconds,
        hurry=lambda: kind is not None or signals.received,
      )
    )
    making = threading.Lock()

    def recorder(make):
      def make_recorded():
        # Emulators are made one after another.
        with making, recorded.without_exit():
          return recorded.Recorded(make())

      return make_recorded

    make_recorded = recorder(make_env)
    with _setting_up(config, signals) as stage:
      for thread in range(config.threads):
        stage(f'making the environment of thread {thread}')
        envs.append(make_recorded())
      stage('making the learner', computes=True)
      learner = make_learner(envs[0])
      print(f'setting up {config.threads} threads', flush=True)
      rngs = [
        np.random.default_rng([config.seed, thread])
        for thread in range(config.threads)
      ]
      init_key, thread_key = jax.random.split(jax.random.PRNGKey(config.seed))
      points = []
      for thread, (env, rng) in enumerate(zip(envs, rngs, strict=True)):
        stage(f'resetting the environment of thread {thread}')
        carry = rollout.start(
          env,
          learner,
          seed=int(rng.integers(2**31 - env.num_envs))
          % recorded.TRAINING_SEEDS,
          key=jax.random.fold_in(thread_key, thread),
        )
        points.append(checkpoints.Point(carry, env.past()))
      reports = telemetry.Reports()
      background = None
      if config.eval_frames:
        stage('making the environment of evaluations')
        background = evaluation.Background(
          recorder(make_eval_env or make_env),
          learner,
          episodes=config.eval_episodes,
          seed=config.seed,
          max_steps=evaluation.most_steps(
            config.max_eval_episode_frames, config.action_repeat
          ),
          max_env_restarts=config.max_env_restarts,
          reports=reports,
        )
        closes.append(background.close)
      stage('compiling', computes=True)
      trainer = _Trainer(
        config,
        workdir.path,
        envs,
        make_recorded,
        learner,
        points,
        [
          _exploration(config, rng, env.num_envs)
          for rng, env in zip(rngs, envs, strict=True)
        ],
        _shared_state(config, learner, init_key, points[0].carry),
        background,
        reports,
      )
      trainer.set_up()
    signals.renew()
    try:
      if workdir.goes_on:
        with _stoppable(config, signals):
          trainer.restore()
      workdir.claim(
        trainer.state.snapshot().frames,
        spaces_lib.to_records(spaces_lib.of(envs[0])),
      )
      result = trainer.train(signals)
      on_result(result)
      return result
    finally:
      if trainer.hung:
        closes_unless_hung.pop_all()  # They may still be in use.


def train(config: Config) -> None:
  """`run` with the environments and learner of a Config; prints the result."""
  with (
    output.losable(),
    signals_lib.Signals() as signals,
    _setting_up(config, signals) as stage,
    recorded.without_exit(),
  ):
    stage('making an environment')
    make_env = agents.make_env(config)
    make_eval_env = None
    if config.eval_frames:
      make_eval_env = agents.make_env(
        config, domain_lib.EnvRequest(protocol=config.eval_protocol)
      )

  def make_learner(env):
    layout = agents.describe_layout(config, env.single_observation_space)
    if layout:
      print(layout, flush=True)
    return agents.make_learner(config, env)

  run(
    config,
    make_env,
    make_learner,
    make_eval_env,
    on_result=lambda result: print(describe(result), flush=True),
  )


@contextlib.contextmanager
def _stoppable(config, signals) -> Iterator[None]:
  """Ends what comes before training when a signal comes.

  Raises:
    StoppedError: then.
  """
  try:
    with signals.raising():
      yield
  except signals_lib.Interrupted:
    begun = 'nothing was written'
    if (pathlib.Path(config.workdir) / 'config.json').exists():
      workdir = checks.as_given(config.workdir)
      begun = f'the run in {workdir} is as it was\n{_how_to_go_on(workdir)}'
    raise checks.StoppedError(
      f'stopped before training began; {begun}'
    ) from None


@contextlib.contextmanager
def _setting_up(config, signals) -> Iterator[Callable[..., None]]:
  """Watches this thread, and ends what it does when a signal comes.

  Yields:
    A function that is told what begins, in words, and whether JAX or the disk
    may take their time in it, which is no sign of an environment that hangs.
  """
  thread = threading.current_thread()
  stages = [('setting up', False)]
  done = threading.Event()

  def watch():
    idle = workers_lib.Watchdog(config.watchdog_seconds)
    # One that computes for ever hangs too, but a busy machine is only slow.
    busy = workers_lib.Watchdog(_BUSY * config.watchdog_seconds)
    while not done.wait(_REFRESH_SECONDS):
      stage, computes = stages[-1]
      name = f'the main thread, {stage},'
      life = (len(stages), workers_lib.beats(thread))
      cpu_seconds = round(time.process_time() - time.thread_time(), 2)
      for watchdog, value in (
        (idle, (*life, cpu_seconds)),
        (busy, (*life, cpu_seconds if computes else 0)),
      ):
        if watchdog.look({name: value}):
          _end_process([name], watchdog.seconds)

  threading.Thread(target=watch, name='watchdog', daemon=True).start()
  try:
    with _stoppable(config, signals):
      yield lambda stage, computes=False: stages.append((stage, computes))
  finally:
    done.set()


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
    text += f'\n{_how_to_go_on(workdir)}'
  return text


def _how_to_go_on(workdir) -> str:
  return f'to go on: the same command with --workdir={shlex.quote(workdir)}'


def _exploration(config, rng, games) -> Callable[[int], np.ndarray]:
  settings = config.algorithm
  if not isinstance(settings, ValueBased):
    return lambda frames: np.zeros(games)  # The policy explores by itself.
  return functools.partial(
    schedules.linear,
    start=1.0,
    end=schedules.draw_exploration_ends(
      rng,
      settings.exploration_ends,
      settings.exploration_probabilities,
      games=games,
    ),
    over=settings.exploration_anneal_frames,
  )


def _learning_rate(config) -> Callable[[int], float]:
  return functools.partial(
    schedules.linear,
    start=config.learning_rate,
    end=0.0,
    over=config.anneal_frames,
  )


def _target_period_frames(config, learner) -> int | None:
  if not learner.uses_target:
    return None
  if not isinstance(config.algorithm, ValueBased):
    raise checks.UsageError(
      f'--algo={config.algo}: has no --target_period_frames, but the learner '
      'has target parameters; allowed: an algorithm that is ValueBased'
    )
  return config.algorithm.target_period_frames


def _shared_state(config, learner, key, carry) -> shared.SharedState:
  return shared.SharedState(
    networks.widen(learner.init(key, carry.obs), config.init_gain),
    agents.make_optimizer(config),
    threads=config.threads,
    learning_rate=_learning_rate(config),
    target_period_frames=_target_period_frames(config, learner),
    moments=(
      normalization.initial(carry.obs.shape[1:])
      if config.normalize_obs
      else None
    ),
  )


class _Trainer:
  """What the main thread does."""

  def __init__(
    self,
    config,
    path,
    envs,
    make_env,
    learner,
    points,
    explorations,
    state,
    background,
    reports,
  ):
    self.state = state
    self._background: evaluation.Background | None = background
    self.hung: list[str] = []  # Names of threads that did not end.
    self._eval_began = 0.0
    self._evaluated = 0  # Frames at the newest evaluation.
    self._best = None  # Frames and score of the best one.
    self._config = config
    self._path: pathlib.Path = path
    self._envs = envs
    self._make_env = make_env
    self._learner = learner
    self._points = points
    self._explorations = explorations
    self._gradients = optimizers.clipped(
      learner.gradients, config.max_grad_norm or None
    )
    self._reports = reports
    self._profile = profiling.Profile(config.profile)
    self._seconds_before = 0.0
    self._place = None  # Of the log, where the run goes on.

  def set_up(self) -> None:
    """Compiles everything before threads start."""
    self._stats = _warm_up(
      self._config,
      self._envs[0],
      self._learner,
      self._gradients,
      self.state,
      self._points[0].carry,
    )
    if self._background:
      self._background.set_up(self.state.snapshot())

  def _store(self):
    return checkpoints.Checkpoints(self._path, keep=self._config.keep)

  def restore(self) -> None:
    """Goes on from the newest checkpoint, if there is one yet."""
    like = checkpoints.Moment(self.state.capture()[0], self._points, {})
    store = self._store()
    try:
      moment, problems = store.restore(like)
      if moment is not None:
        of_run = moment.record
        self._seconds_before, self._place = of_run['seconds'], of_run['log']
        self._evaluated, best = of_run['evaluated'], of_run['best']
    except (checkpoints.MismatchError, KeyError) as error:
      raise checks.UsageError(
        f'--workdir={checks.as_given(self._path)}: its checkpoint does not '
        f'fit, {error}; allowed: the run of the same network and optimizer'
      ) from error
    for problem in problems:
      print(problem, flush=True)
    if moment is None:
      if problems or telemetry.has_rows(self._path):
        raise checks.UsageError(
          f'--workdir={checks.as_given(self._path)}: holds results, but no '
          'checkpoint to go on from; allowed: another folder'
        )
      return
    self.state.restore(moment.captured)
    if best and store.has_best(best['frames']):
      self._best = best
    print(
      f'going on at frame {moment.captured.snapshot.frames:,}; '
      'bringing the games to where they were',
      flush=True,
    )
    self._replay(moment.points)

  def _replay(self, saved: list[checkpoints.Point]) -> None:
    strangers = []
    count = min(len(saved), len(self._envs))

    def body(thread, stop):
      env, point = self._envs[thread], saved[thread]

      def on_step():
        if stop.is_set():
          raise workers_lib.Stopped

      try:
        obs = rollout.as_network_input(env.replay(point.past, on_step))
        if np.array_equal(obs, point.carry.obs):
          self._points[thread] = point
          return
      except Exception as error:
        if error is not env.failure or isinstance(error, workers_lib.Stopped):
          raise
        if stop.is_set():
          raise workers_lib.Stopped from error
        self._reports.add(
          telemetry.Trouble(
            'env_restarts',
            f'environment of thread {thread} raised {error!r}; made anew',
          )
        )
        env.abandon()
        self._envs[thread] = env = self._make_env()
      strangers.append(thread)
      seed = recorded.next_seed(int(point.past.seeds[0]))
      carry = rollout.start(env, self._learner, seed=seed, key=point.carry.key)
      self._points[thread] = checkpoints.Point(carry, env.past())

    workers = workers_lib.Workers(body, count, name='replay')
    watchdog = workers_lib.Watchdog(self._config.watchdog_seconds)
    workers.start()
    try:
      while workers.wait(_REFRESH_SECONDS):
        hung = watchdog.look(workers.alive())
        if hung:
          _end_process(hung, watchdog.seconds)
    finally:
      self.hung = workers.stop(_STOP_SECONDS)
    if workers.error is not None:
      raise workers.error
    if strangers:
      print(
        f'{len(strangers)} of {count} environments do not repeat what they '
        'did: these begin a new episode',
        flush=True,
      )

  def train(self, signals: signals_lib.Signals) -> Result:
    """Starts the threads, and ends with them."""
    config = self._config
    phases = [telemetry.Phases() for _ in self._envs]
    began = time.perf_counter() - self._seconds_before
    cpu_began = cpu.seconds()

    def body(thread, stop):
      actor_learner.run(
        thread,
        stop,
        config=config,
        envs=self._envs,
        make_env=self._make_env,
        learner=self._learner,
        gradients=self._gradients,
        points=self._points,
        state=self.state,
        exploration_epsilon=self._explorations[thread],
        reports=self._reports,
        phases=phases[thread],
        began=began,
      )

    workers = workers_lib.Workers(body, config.threads, name='actor-learner')
    error = None
    try:
      with _clear_errors(self._path):
        store = self._store()
        with (
          telemetry.Log(
            self._path,
            run={
              'algo': config.algo,
              'env': config.env_name,
              'seed': config.seed,
            },
            stats=self._stats,
            total_frames=config.frames,
            place=self._place,
          ) as log,
          self._profile,
        ):
          if self._place is None:
            self._checkpoint(store, log, 0.0)
          try:
            workers.start()
            self._watch(workers, store, log, signals, began)
          except BaseException:
            self._stop(workers)
            raise
          try:
            self.hung = workers.stop(_STOP_SECONDS)
            seconds = time.perf_counter() - began
            cpu_seconds = cpu.seconds() - cpu_began
            error = workers.error or self._evaluation_error()
            if self._frames_are_done() and not (self.hung or error):
              self._checkpoint(store, log, seconds)
              self._evaluate_at_the_end(store, log, signals, seconds)
          finally:
            self._stop(workers)
          error = workers.error or self._evaluation_error()
          self._finish(error, store, log, seconds)
    except checks.RunError as problem:
      if error is None:
        raise
      error.add_note(f'and there is no checkpoint of it: {problem}')
    if error is not None:
      raise error
    if self.hung:
      print(
        f'did not end within {_STOP_SECONDS:g} s: {", ".join(self.hung)}; '
        'what was unfinished there is lost',
        flush=True,
      )
    snapshot = self.state.snapshot()
    return Result(
      params=snapshot.params,
      frames=snapshot.frames,
      updates=snapshot.updates,
      episodes=log.episodes,
      mean_return=log.mean_return,
      seconds=seconds,
      cpu_seconds=cpu_seconds,
      phases={
        phase: sum(thread.seconds[phase] for thread in phases)
        for phase in telemetry.PHASES
      },
      workdir=str(self._path),
      finished=self._frames_are_done()
      and (self._background is None or self._evaluated == snapshot.frames),
    )

  def _frames_are_done(self) -> bool:
    return self.state.snapshot().frames >= self._config.frames

  def _watch(self, workers, store, log, signals, began) -> None:
    """Reports until the threads have ended, one failed, or time is up."""
    config = self._config
    watchdog = workers_lib.Watchdog(config.watchdog_seconds)
    signals.wake = workers.wake
    session_began = time.perf_counter()
    first = session_began - began
    next_row = first + config.log_seconds
    frames = self.state.snapshot().frames
    next_checkpoint = _next_multiple(frames, config.checkpoint_frames)
    while workers.wait(_REFRESH_SECONDS):
      seconds = time.perf_counter() - began
      log.take(self._reports.take())
      frames = self.state.snapshot().frames
      log.show(frames=frames, seconds=seconds)
      self._profile.look(seconds - first)
      if seconds >= next_row:
        self._write_row(log, seconds)
        next_row = seconds + config.log_seconds
      if frames >= next_checkpoint:
        self._checkpoint(store, log, seconds)
        next_checkpoint = _next_multiple(frames, config.checkpoint_frames)
      if signals.received:
        return
      if config.seconds and seconds - first >= config.seconds:
        return
      self._evaluate(store, log, seconds)
      if self._evaluation_error():
        return
      hung = watchdog.look(workers.alive() | self._evaluation_progress())
      if hung:
        _end_process(
          hung, watchdog.seconds, self._last_words(store, log, seconds)
        )

  def _evaluate(self, store, log, seconds) -> None:
    """Notes an evaluation that has ended, and begins the next that is due."""
    if self._background is None:
      return
    self._note(self._background.take(), store, log)
    snapshot = self.state.snapshot()
    due = _next_multiple(self._evaluated, self._config.eval_frames)
    if not self._background.busy and snapshot.frames >= due:
      self._begin_evaluation(snapshot, seconds)

  def _begin_evaluation(self, snapshot, seconds):
    self._eval_began = seconds
    self._background.start(snapshot)

  def _evaluate_at_the_end(self, store, log, signals, seconds) -> None:
    """Waits for the evaluation of the parameters at the end."""
    if self._background is None:
      return
    snapshot = self.state.snapshot()
    watchdog = workers_lib.Watchdog(self._config.watchdog_seconds)
    signals.wake = self._background.wake
    if self._evaluated < snapshot.frames and not signals.received:
      print('evaluating the parameters at the end', flush=True)
    while self._evaluated < snapshot.frames and not signals.received:
      if not self._background.busy:
        self._begin_evaluation(snapshot, seconds)
      self._note(self._background.take(_REFRESH_SECONDS), store, log)
      if self._evaluation_error():
        return
      hung = watchdog.look(self._evaluation_progress())
      if hung:
        _end_process(
          hung, watchdog.seconds, self._last_words(store, log, seconds)
        )

  def _note(self, evaluated, store, log) -> None:
    if evaluated is None:
      return
    snapshot, summary = evaluated
    config = self._config
    reference = published.reference(config.env_name, config.eval_protocol)
    score = summary.mean_return
    best = bool(np.isfinite(score)) and (
      self._best is None or score > self._best['score']
    )
    row = telemetry.EvalRow(
      frames=snapshot.frames,
      seconds=self._eval_began,
      protocol=config.eval_protocol,
      policy=registry.get(config.algo).describe_policy(
        exploration_epsilon=evaluation.EXPLORATION_EPSILON
      ),
      human_normalized=reference
      and published.human_normalized(score, reference),
      best=best,
      **summary._asdict(),
    )
    log.evaluated(row)
    self._evaluated = snapshot.frames
    if best:
      self._best = {'frames': snapshot.frames, 'score': score}
      with self._telling_of_the_disk(snapshot.frames):
        store.save_best(snapshot, row._asdict())

  def _evaluation_error(self):
    return self._background.error if self._background else None

  def _evaluation_progress(self):
    return self._background.progress if self._background else {}

  def _stop(self, workers) -> None:
    """Ends all threads, or learns which of them hang."""
    self.hung = workers.stop(_STOP_SECONDS)
    if self._background:
      self.hung += self._background.stop(_STOP_SECONDS)

  def _checkpoint(self, store, log, seconds, *, wait=None) -> None:
    """Writes what a later process needs to go on from this moment."""
    if wait is None:
      wait = self._config.watchdog_seconds
    try:
      captured, (points, reports) = self.state.capture(
        lambda: (list(self._points), self._reports.take()),
        seconds=min(wait, threading.TIMEOUT_MAX),
      )
    except TimeoutError:
      _end_process(['the thread that holds the lock'], wait)
    log.take(reports)
    if not all(
      np.isfinite(leaf).all()
      for leaf in jax.tree.leaves(base.trained(captured.snapshot.params))
    ):  # The last good one is worth more.
      print('no checkpoint: parameters are not finite', flush=True)
      return
    record = {
      # No row to come may have fewer seconds than one that is kept.
      'seconds': max(seconds, log.seconds),
      'log': log.place(captured.snapshot.frames),
      'evaluated': self._evaluated,
      'best': self._best,
    }
    with self._telling_of_the_disk(captured.snapshot.frames):
      store.save(
        checkpoints.Moment(captured, points, record),
        best=self._best and self._best['frames'],
      )

  @contextlib.contextmanager
  def _telling_of_the_disk(self, frames):
    try:
      yield
    except OSError as error:
      raise checks.RunError(
        f'--workdir={checks.as_given(self._path)}: the checkpoint of frame '
        f'{frames} cannot be written, the ones before it are intact: '
        + ' '.join(str(getattr(error, 'strerror', None) or error).split())[:200]
      ) from error

  def _last_words(self, store, log, seconds) -> Callable[[], None]:
    return functools.partial(
      self._checkpoint, store, log, seconds, wait=_STOP_SECONDS
    )

  def _write_row(self, log, seconds) -> None:
    snapshot = self.state.snapshot()
    log.write_row(
      frames=snapshot.frames,
      seconds=seconds,
      updates=snapshot.updates,
      learning_rate=_learning_rate(self._config)(snapshot.frames),
    )

  def _finish(self, error, store, log, seconds) -> None:
    try:
      if self._background and error is None:  # One may just have ended.
        self._note(self._background.take(), store, log)
      log.take(self._reports.take())
      self._write_row(log, seconds)
      if not isinstance(error, actor_learner.BadGradientError):
        self._last_words(store, log, seconds)()
    except Exception as problem:
      if error is None:
        raise
      error.add_note(f'and there is no checkpoint of it: {problem}')


def _end_process(
  hung: Sequence[str],
  seconds: float,
  last_words: Callable[[], None] = lambda: None,
) -> None:
  """Leaves all that can be left; a thread that hangs cannot be joined."""
  workers_lib.tell_of_hung(hung, seconds, 'error')
  try:
    last_words()
  except Exception as error:
    print(f'error: {error}', file=sys.stderr)
  finally:
    output.leave_terminal()
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(Exception):  # There may be none.
        stream.flush()
    os._exit(1)


@contextlib.contextmanager
def _clear_errors(path):
  try:
    yield
  except OSError as error:
    if path.is_dir():
      rest = (
        'what was written before is intact, and the same command goes on from '
        'its last checkpoint'
      )
    else:
      rest = 'the folder is not there any more'
    raise checks.RunError(
      f'--workdir={checks.as_given(path)}: {error.strerror or error}; {rest}'
    ) from error


def _next_multiple(count, step):
  return (count // step + 1) * step


def _warm_up(config, env, learner, gradients, state, carry) -> list[str]:
  """Compiles everything before threads start; returns the names of stats."""
  streams = len(carry.obs)
  params, target_params, *_, moments = state.snapshot()
  obs = normalization.normalizer(moments)(carry.obs)
  epsilon = np.ones(streams, np.float32)
  act = learner.act_and_keep or learner.act
  action, _, _, *kept = act(params, carry.state, obs, carry.key, epsilon)
  learner.bootstrap(params, target_params, carry.state, obs, carry.key, epsilon)
  steps = config.t_max
  rollout.compile_program(env, learner, carry, t_max=steps, params=params)
  segment = base.Segment(
    obs=np.zeros((steps + 1, *obs.shape), obs.dtype),
    a=np.zeros((steps + 1, *action.shape), action.dtype),
    r_t=np.zeros((steps, streams), np.float32),
    discount_t=np.zeros((steps, streams), np.float32),
    is_first=np.zeros((steps + 1, streams), bool),
    state=carry.state,
    activations=rollout.joined(kept * steps),
  )
  grads, _ = gradients(params, target_params, segment)
  state.warm_up(grads)
  return optimizers.stat_names(
    learner.gradients, params, target_params, segment
  )
