"""A whole run: start threads, report, stop, and tell what went wrong."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from typing import Any, NamedTuple

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
from a3c_jax import workers as workers_lib
from a3c_jax.config import Config

_REFRESH_SECONDS = 1.0
_STOP_SECONDS = 10.0

_PACKAGES = (
  'a3c_jax',
  'absl-py',
  'ale-py',
  'flax',
  'gymnasium',
  'jax',
  'jaxlib',
  'numpy',
  'optax',
  'rich',
  'tensorboardX',
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
  workdir = pathlib.Path(config.workdir)
  _check_workdir(workdir)
  envs = []
  try:
    for _ in range(config.threads):
      envs.append(make_env())
    learner = make_learner(envs[0])
    print(f'setting up {config.threads} threads', flush=True)
    rngs = [
      np.random.default_rng([config.seed, thread])
      for thread in range(config.threads)
    ]
    init_key, thread_key = jax.random.split(jax.random.PRNGKey(config.seed))
    carries = [
      rollout.start(
        env,
        learner,
        seed=int(rng.integers(2**31 - env.num_envs)),
        key=jax.random.fold_in(thread_key, thread),
      )
      for thread, (env, rng) in enumerate(zip(envs, rngs, strict=True))
    ]
    explorations = [_exploration(config, rng) for rng in rngs]
    state = _shared_state(config, learner, init_key, carries[0])
    return _train(config, workdir, envs, learner, carries, explorations, state)
  finally:
    for env in envs:
      env.close()


def describe(result: Result) -> str:
  """What to tell the user at the end of a run."""
  score = 'no episode has ended'
  if result.episodes:
    newest = min(result.episodes, 100)
    score = f'mean return {result.mean_return:.2f} (newest {newest})'
  return (
    f'{result.frames:,} frames in {result.seconds:,.0f} s, '
    f'{result.episodes:,} episodes, {score}\n'
    f'results in {result.workdir}'
  )


def _exploration(config, rng) -> Callable[[int], float]:
  return functools.partial(
    schedules.linear,
    start=1.0,
    end=schedules.draw_exploration_end(
      rng, config.exploration_ends, config.exploration_probabilities
    ),
    over=config.exploration_anneal_frames,
  )


def _learning_rate(config) -> Callable[[int], float]:
  return functools.partial(
    schedules.linear,
    start=config.learning_rate,
    end=0.0,
    over=config.anneal_frames,
  )


def _shared_state(config, learner, key, carry) -> shared.SharedState:
  return shared.SharedState(
    learner.init(key, carry.obs),
    agents.make_optimizer(config),
    threads=config.threads,
    learning_rate=_learning_rate(config),
    target_period_frames=(
      config.target_period_frames if learner.uses_target else None
    ),
  )


def _train(config, workdir, envs, learner, carries, explorations, state):
  gradients = optimizers.clipped(
    learner.gradients, config.max_grad_norm or None
  )
  stats = _warm_up(config, learner, gradients, state, carries[0])
  _claim_workdir(config, workdir)
  reports = telemetry.Reports()
  phases = [telemetry.Phases() for _ in envs]
  began, cpu_began = time.perf_counter(), time.process_time()

  def body(thread, stop):
    actor_learner.run(
      thread,
      stop,
      config=config,
      env=envs[thread],
      learner=learner,
      gradients=gradients,
      carry=carries[thread],
      state=state,
      exploration_epsilon=explorations[thread],
      reports=reports,
      phases=phases[thread],
      began=began,
    )

  workers = workers_lib.Workers(body, config.threads, name='actor-learner')
  with telemetry.Log(
    workdir,
    run={
      'algo': config.algo,
      'env': config.environment['name'],
      'seed': config.seed,
    },
    stats=stats,
    total_frames=config.frames,
  ) as log:
    try:
      workers.start()
      _watch(config, workers, state, log, reports, began)
    except KeyboardInterrupt:
      print('\nstopping', flush=True)
    finally:
      hung = workers.stop(_STOP_SECONDS)
    seconds = time.perf_counter() - began
    cpu_seconds = time.process_time() - cpu_began
    log.take(reports)
    _write_row(config, log, state.snapshot(), seconds)
  if workers.error is not None:
    raise workers.error
  if hung:
    raise RuntimeError(
      f'did not end within {_STOP_SECONDS} s: {", ".join(hung)}'
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


def _watch(config, workers, state, log, reports, began) -> None:
  """Reports until the threads have ended, one failed, or time is up."""
  next_row = config.log_seconds
  while workers.wait(_REFRESH_SECONDS):
    seconds = time.perf_counter() - began
    snapshot = state.snapshot()
    log.take(reports)
    log.show(frames=snapshot.frames, seconds=seconds)
    if seconds >= next_row:
      _write_row(config, log, snapshot, seconds)
      next_row = seconds + config.log_seconds
    if config.seconds and seconds >= config.seconds:
      return


def _write_row(config, log, snapshot, seconds) -> None:
  log.write_row(
    frames=snapshot.frames,
    seconds=seconds,
    updates=snapshot.updates,
    learning_rate=_learning_rate(config)(snapshot.frames),
  )


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
  gradients(params, target_params, segment)
  state.warm_up()
  return optimizers.stat_names(
    learner.gradients, params, target_params, segment
  )


def _check_workdir(workdir: pathlib.Path) -> None:
  """Says early what `_claim_workdir` would say late; changes nothing."""
  try:
    existing = next(
      path for path in [workdir, *workdir.parents] if path.exists()
    )
    if not existing.is_dir():
      _refuse(workdir, f'{existing} is a file')
    if not os.access(existing, os.W_OK | os.X_OK):
      _refuse(workdir, f'no permission to write to {existing}')
    if existing == workdir and any(workdir.iterdir()):
      _refuse(workdir, 'is not empty')
  except OSError as error:
    _refuse(workdir, error.strerror)


def _claim_workdir(config, workdir: pathlib.Path) -> None:
  """Writes config.json, which only one run can do in one folder."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / 'config.json').open('x') as file:
      json.dump(_record(config), file, indent=2)
      file.write('\n')
  except FileExistsError:
    _refuse(workdir, 'is not empty')
  except OSError as error:
    _refuse(workdir, error.strerror)


def _refuse(workdir: pathlib.Path, problem: str):
  raise checks.UsageError(
    f'--workdir={workdir}: {problem}; '
    'allowed: a new or empty folder that can be written to'
  )


def _record(config) -> dict[str, Any]:
  versions = {'python': platform.python_version()}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  return {
    'config': dataclasses.asdict(config),
    'versions': versions,
    'platform': platform.platform(),
    'evaluation_protocol': (
      'training episodes: actions as explored, raw undiscounted return of '
      'whole games, mean of the newest 100'
    ),
  }
