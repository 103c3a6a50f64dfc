"""A whole run: start threads, report, stop, and tell what went wrong."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import queue
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
  checks,
  optimizers,
  rollout,
  schedules,
  shared,
  telemetry,
)
from a3c_jax.config import Config

_REFRESH_SECONDS = 1.0
_STOP_SECONDS = 10.0

_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'gymnasium',
  'numpy',
  'absl-py',
  'ale-py',
)


class Result(NamedTuple):
  """What a run came to."""

  params: base.Params
  frames: int  # emulator frames of all threads
  updates: int
  episodes: int
  mean_return: float  # raw, newest 100 episodes
  seconds: float  # of training, without compilation
  cpu_seconds: float  # of the process, likewise
  phases: dict[str, float]  # seconds by phase, of all threads
  workdir: str


def run(
  config: Config,
  make_env: Callable[[], gymnasium.vector.VectorEnv],
  make_learner: Callable[[gymnasium.vector.VectorEnv], base.Learner],
) -> Result:
  """Trains until `config.frames`, and leaves the results in `config.workdir`.

  KeyboardInterrupt ends the run early, in good order. With one thread, the same
  config gives bit-identical parameters.

  Args:
    config: everything that the run depends on.
    make_env: called once per thread, in this thread.
    make_learner: called once with the first environment.

  Returns:
    What the run came to.

  Raises:
    UsageError: if the folder for the results cannot be used.
    Exception: whatever a thread raised first, with a note naming the thread;
      the other threads are stopped before.
  """
  workdir = _new_workdir(config)
  envs = [make_env() for _ in range(config.threads)]
  try:
    return _train(config, workdir, envs, make_learner(envs[0]))
  finally:
    for env in envs:
      env.close()


def _train(config, workdir, envs, learner) -> Result:
  init_key, thread_key = jax.random.split(jax.random.PRNGKey(config.seed))
  rngs = [
    np.random.default_rng([config.seed, thread])
    for thread in range(config.threads)
  ]
  carries = [
    rollout.start(
      env,
      learner,
      seed=int(rng.integers(2**31 - env.num_envs)),
      key=jax.random.fold_in(thread_key, thread),
    )
    for thread, (env, rng) in enumerate(zip(envs, rngs, strict=True))
  ]
  learning_rate = functools.partial(
    schedules.linear,
    start=config.learning_rate,
    end=0.0,
    over=config.anneal_frames,
  )
  state = shared.SharedState(
    learner.init(init_key, carries[0].obs),
    agents.make_optimizer(config),
    threads=config.threads,
    learning_rate=learning_rate,
    target_period_frames=(
      config.target_period_frames if learner.uses_target else None
    ),
  )
  gradients = optimizers.clipped(
    learner.gradients, config.max_grad_norm or None
  )
  stats = _warm_up(config, learner, gradients, state, carries[0])
  _write_config(config, workdir)
  reports = telemetry.Reports()
  phases = [telemetry.Phases() for _ in envs]
  stop = threading.Event()
  endings: queue.SimpleQueue = queue.SimpleQueue()
  began, cpu_began = time.perf_counter(), time.process_time()

  def body(thread: int, exploration_end: float) -> None:
    try:
      actor_learner.run(
        thread,
        env=envs[thread],
        learner=learner,
        gradients=gradients,
        carry=carries[thread],
        state=state,
        exploration_epsilon=functools.partial(
          schedules.linear,
          start=1.0,
          end=exploration_end,
          over=config.exploration_anneal_frames,
        ),
        t_max=config.t_max,
        gamma=config.gamma,
        reward_clip=config.reward_clip or None,
        action_repeat=config.action_repeat,
        total_frames=config.frames,
        reports=reports,
        phases=phases[thread],
        stop=stop,
        began=began,
      )
    except BaseException as error:
      error.add_note(f'raised in actor-learner thread {thread}')
      endings.put(error)
    else:
      endings.put(None)

  # Daemons: a hung thread must not keep the process from ending.
  threads = [
    threading.Thread(
      target=body,
      args=(
        thread,
        schedules.draw_exploration_end(
          rng, config.exploration_ends, config.exploration_probabilities
        ),
      ),
      name=f'actor-learner-{thread}',
      daemon=True,
    )
    for thread, rng in enumerate(rngs)
  ]
  run_columns = {
    'algo': config.algo,
    'env': config.environment['name'],
    'seed': config.seed,
  }
  with telemetry.Log(
    workdir, run=run_columns, stats=stats, total_frames=config.frames
  ) as log:

    def write_row():
      snapshot = state.snapshot()
      log.take(reports)
      log.write_row(
        frames=snapshot.frames,
        seconds=time.perf_counter() - began,
        updates=snapshot.updates,
        learning_rate=learning_rate(snapshot.frames),
      )

    error = None
    for thread in threads:
      thread.start()
    try:
      error = _watch(config, endings, state, log, reports, write_row, began)
    except KeyboardInterrupt:
      print('\nstopping', flush=True)
    stop.set()
    hung = _join(threads)
    seconds = time.perf_counter() - began
    cpu_seconds = time.process_time() - cpu_began
    write_row()
  if error is not None:
    raise error
  if hung:
    raise RuntimeError(
      f'threads did not end within {_STOP_SECONDS} s: {", ".join(hung)}'
    )
  snapshot = state.snapshot()
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
    workdir=str(workdir),
  )


def _watch(config, endings, state, log, reports, write_row, began):
  """Reports until all threads have ended; returns the first one's error."""
  running = config.threads
  last_row = began
  while running:
    try:
      error = endings.get(timeout=_REFRESH_SECONDS)
      if error is not None:
        return error
      running -= 1
    except queue.Empty:
      pass
    now = time.perf_counter()
    log.take(reports)
    log.show(frames=state.snapshot().frames, seconds=now - began)
    if now - last_row >= config.log_seconds:
      write_row()
      last_row = now
    if config.seconds and now - began >= config.seconds:
      return None
  return None


def _join(threads) -> list[str]:
  """Waits for threads that were told to stop; returns those that did not."""
  deadline = time.perf_counter() + _STOP_SECONDS
  for thread in threads:
    thread.join(max(0.0, deadline - time.perf_counter()))
  return [thread.name for thread in threads if thread.is_alive()]


def _warm_up(config, learner, gradients, state, carry) -> list[str]:
  """Compiles everything before threads start; returns the names of stats."""
  streams = len(carry.obs)
  params, target_params, *_ = state.snapshot()
  epsilon = np.float32(1)
  learner.act(params, carry.state, carry.obs, carry.key, epsilon)
  learner.bootstrap(
    params, target_params, carry.state, carry.obs, carry.key, epsilon
  )
  steps = config.t_max
  segment = base.Segment(
    obs=np.zeros((steps + 1, *carry.obs.shape), carry.obs.dtype),
    a=np.zeros((steps + 1, streams), np.int32),
    r_t=np.zeros((steps, streams), np.float32),
    discount_t=np.zeros((steps, streams), np.float32),
    is_first=np.zeros((steps + 1, streams), bool),
    state=carry.state,
  )
  _, stats = gradients(params, target_params, segment)
  state.warm_up()
  return list(stats)


def _new_workdir(config) -> pathlib.Path:
  workdir = pathlib.Path(config.workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if any(workdir.iterdir()):
      raise checks.UsageError(
        f'--workdir={workdir}: is not empty; allowed: a new or empty folder'
      )
    if not os.access(workdir, os.W_OK | os.X_OK):
      raise PermissionError('no permission to write')
  except OSError as error:
    raise checks.UsageError(
      f'--workdir={workdir}: {error.strerror or error}; '
      'allowed: a folder that can be written to'
    ) from error
  return workdir


def _write_config(config, workdir) -> None:
  versions = {'python': platform.python_version()}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  record = {
    'config': dataclasses.asdict(config),
    'versions': versions,
    'evaluation_protocol': (
      'training episodes: actions as explored, raw undiscounted return of '
      'whole games, mean of the newest 100'
    ),
  }
  text = json.dumps(record, indent=2) + '\n'
  (workdir / 'config.json').write_text(text)


def describe(result: Result) -> str:
  """What to tell the user at the end of a run."""
  return (
    f'{result.frames:,} frames in {result.seconds:,.0f} s, '
    f'{result.episodes:,} episodes, '
    f'mean return {result.mean_return:.2f} (newest 100)\n'
    f'results in {result.workdir}'
  )
