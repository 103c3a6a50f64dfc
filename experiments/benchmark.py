"""Measures training throughput relative to that of the emulator alone.

  python experiments/benchmark.py --algo=a3c --threads=2 --seconds=20
  python experiments/benchmark.py --env=HalfCheetah-v5 --pixels --threads=2
  python experiments/benchmark.py --env=labyrinth --threads=2
  python experiments/benchmark.py --env=torcs --threads=2
  python experiments/benchmark.py --runtime=queues --agents=16
  python experiments/benchmark.py --repeats=5 --against=../before --json=FILE
  python experiments/benchmark.py --plot=FOLDER

The first example is Pong. Settings that are not given are the defaults of the
domain, which is continuous control for all names that are not a domain's.

The main metric is `ratio`: training throughput divided by that of the emulator
alone, both in frames per CPU-second. It depends little on the machine's speed
and its other work.

With --repeats or --against, each measurement has a process of its own. The
script prints the medians, with the smallest and largest values. --against=DIR
measures this checkout and that in DIR in turn, each with its own code. Both
need to know the flags, and the installed packages are the same.
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from collections.abc import Callable
import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

from absl import flags
import gymnasium
import numpy as np
import psutil

from a3c_jax import command_line
from a3c_jax.core import cpu, errors, paths
from a3c_jax.core import signals as signals_lib
from a3c_jax.core import threads as threads_lib
from a3c_jax.envs import control
from a3c_jax.envs import domain as domain_lib
from a3c_jax.reproduce import speed
from a3c_jax.runs import display, training
from a3c_jax.settings import build
from a3c_jax.settings import flags as flags_lib
from a3c_jax.settings.common import Config

_ENV = flags.DEFINE_string(
  'env',
  'pong',
  "Environment: 'pong', a domain such as 'labyrinth' or 'torcs' with its "
  'default options, or a task of continuous control.',
)
_PIXELS = flags.DEFINE_boolean(
  'pixels', False, 'Observe images of a task of continuous control.'
)
_options = flags_lib.define_options(speed.Options)
# That of the measurements: as it was before JAX is set up for this process.
_ENVIRONMENT = dict(os.environ)
_TEMPORARY = 'a temporary folder'
# Nearly all of the time is then spent with a memory that is learnt from.
_config = flags_lib.define(
  'atari', seconds=20.0, workdir=_TEMPORARY, replay_start_frames=400
)


def emulator_speed(
  make_env: Callable[[], gymnasium.vector.VectorEnv],
  *,
  threads: int,
  seconds: float,
) -> np.ndarray:
  """Measures a random policy in the environments of several threads.

  Args:
    make_env: makes the environment of one thread.
    threads: that step at the same time.
    seconds: duration of the measurement.

  Returns:
    [2] float64, agent steps per second and per CPU-second.
  """
  envs = [make_env() for _ in range(threads)]
  for seed, env in enumerate(envs):
    env.reset(seed=seed)
  steps = [0] * threads

  def play(thread, stop):
    env = envs[thread]
    rng = np.random.default_rng(thread)
    if isinstance(env.single_action_space, gymnasium.spaces.Box):
      actions = rng.uniform(-1, 1, size=(1024, *env.action_space.shape))
    else:
      choices = env.single_action_space.n
      actions = rng.integers(choices, size=(1024, env.num_envs))
    while not stop.is_set():
      env.step(actions[steps[thread] % len(actions)])
      steps[thread] += 1

  players = threads_lib.ThreadGroup.numbered(play, threads, name='player')
  began, cpu_began = time.perf_counter(), cpu.seconds()
  players.start()
  players.wait(seconds)
  players.stop(10.0)
  if players.error is not None:
    raise players.error
  took = time.perf_counter() - began, cpu.seconds() - cpu_began
  for env in envs:
    env.close()
  return sum(steps) * envs[0].num_envs / np.array(took)


def measure(config: Config) -> dict[str, Any]:
  """Measures the emulator, training, and the emulator again.

  Returns:
    Frames per second and per CPU-second, their ratio, seconds of set-up, and
    milliseconds per agent step by phase. With a replay memory also milliseconds
    per update and per minibatch drawn, of the threads together, and bytes.

  Raises:
    KeyboardInterrupt: if a signal ended training early.
  """
  imported = time.time() - psutil.Process().create_time()
  make_env = build.make_env(config)
  play = lambda: (
    config.action_repeat
    * emulator_speed(
      make_env, threads=config.num_workers, seconds=config.seconds / 4
    )
  )
  before = play()
  began = time.time()
  result = _train(config)
  # Written when all is compiled, just before the first step.
  record = pathlib.Path(result.workdir, 'config.json')
  prepared = record.stat().st_mtime - began
  per_second, emulator = ((before + play()) / 2).tolist()
  steps = result.frames / config.action_repeat
  per_cpu_second = result.frames / result.cpu_seconds
  return {
    'train_frames_per_second': result.frames / result.seconds,
    'train_frames_per_cpu_second': per_cpu_second,
    'emulator_frames_per_second': per_second,
    'emulator_frames_per_cpu_second': emulator,
    'ratio': per_cpu_second / emulator,
    'setup_seconds': imported + prepared,
    'updates_per_second': result.updates / result.seconds,
    **policy_lag(result.workdir),
    **_of_replay(config, result),
    'ms_per_step': {
      phase: 1e3 * seconds / steps for phase, seconds in result.phases.items()
    },
  }


def _train(config: Config) -> training.Result:
  signals = signals_lib.Signals()
  # A result would name a folder that is removed.
  result = command_line.run_training(
    config, signals=signals, shows_result=False
  )
  if signals.received:
    raise KeyboardInterrupt
  return result


def _of_replay(config: Config, result: training.Result) -> dict[str, float]:
  """Returns the figures of a replay memory; none if there is none."""
  if config.replay is None:
    return {}
  per_update = {
    phase: 1e3 * result.phases[phase] / result.updates
    for phase in ('sampling', 'gradients', 'update')
  }
  memories = 1 if config.replay.replay == 'shared' else config.num_workers
  capacity = memories * config.replay.replay_capacity
  return {
    'ms_per_update': sum(per_update.values()),
    'ms_per_sample': per_update['sampling'],
    'replay_bytes_per_transition': result.replay_bytes / capacity,
  }


def policy_lag(workdir: str) -> dict[str, float]:
  """Reads from train.csv how many updates lie between acting and learning.

  Returns:
    The mean over rows of their mean and of their 95th percentile, and the
    maximum. Nothing if a run learns from a replay memory alone.
  """
  with open(pathlib.Path(workdir, 'train.csv'), newline='') as file:
    rows = list(csv.DictReader(file))
  if not rows:
    raise errors.RunError(
      '--seconds: training made no update in that time; allowed: more seconds'
    )
  columns = {
    name: [float(row[name]) for row in rows]
    for name in ('policy_lag', 'policy_lag_p95', 'policy_lag_max')
  }
  if np.isnan(columns['policy_lag']).all():
    return {}
  means = {name: float(np.mean(values)) for name, values in columns.items()}
  return means | {'policy_lag_max': max(columns['policy_lag_max'])}


def _show(figures) -> None:
  for name in (
    'train_frames_per_second',
    'train_frames_per_cpu_second',
    'emulator_frames_per_second',
    'emulator_frames_per_cpu_second',
  ):
    print(f'{name:32}{figures[name]:10,.0f}')
  print(f'{"ratio":32}{figures["ratio"]:10.3f}')
  for name in (
    'setup_seconds',
    'updates_per_second',
    'policy_lag',
    'policy_lag_p95',
    'policy_lag_max',
    'ms_per_update',
    'ms_per_sample',
    'replay_bytes_per_transition',
  ):
    if name in figures:
      digits = 3 if name.startswith('ms_') else 1
      print(f'{name:32}{figures[name]:10.{digits}f}')
  print('milliseconds per agent step, wall clock of its thread')
  for phase, milliseconds in figures['ms_per_step'].items():
    print(f'  {phase:30}{milliseconds:10.3f}')


def _read_flags():
  name = 'atari' if _ENV.value == 'pong' else _ENV.value
  if name not in domain_lib.names():
    environment = control.Options(env=name, pixels=_PIXELS.value)
    return _config(environment, domain='control')
  if _PIXELS.value:
    raise errors.UsageError(
      f'--pixels with --env={_ENV.value}: allowed with tasks of continuous '
      'control'
    )
  return _config(domain=name)


def _measure_here(config: Config) -> dict[str, Any]:
  with contextlib.ExitStack() as stack:
    if paths.as_given(config.workdir) == _TEMPORARY:
      folder = stack.enter_context(tempfile.TemporaryDirectory())
      config = dataclasses.replace(config, workdir=folder)
    return measure(config)


def _measure_in_processes(
  checkouts: list[speed.Checkout], repeats: int
) -> dict[str, list[speed.Figures]]:
  with display.shown():
    return speed.measure(
      checkouts,
      speed.without(sys.argv[1:], {'repeats', 'against', 'json'}),
      repeats=repeats,
      environment=_ENVIRONMENT,
      show=print,
    )


def _plot(options: speed.Options) -> None:
  if options != speed.Options(plot=options.plot):
    raise errors.UsageError(
      '--plot: allowed without --repeats, --against and --json'
    )
  picture = speed.draw(speed.read_trend(options.plot))
  out = pathlib.Path(options.plot, 'ratio.png')
  with errors.naming(f'--plot={paths.as_given(options.plot)}'):
    picture.savefig(out, dpi=110)
  print(f'picture in {paths.as_given(out)}')


def main() -> None:
  options = _options()
  if options.plot:
    _plot(options)
    return
  config = _read_flags()
  if not config.seconds:
    raise errors.UsageError('--seconds=0: allowed: finite and > 0')
  checkouts = [
    speed.Checkout('this', pathlib.Path(__file__).resolve().parents[1])
  ]
  if options.against:
    checkouts.append(speed.Checkout.other(options.against))
  if options.json:
    paths.check_file(options.json, flag='json')
  if options.repeats > 1 or options.against:
    if paths.as_given(config.workdir) != _TEMPORARY:
      raise errors.UsageError(
        '--workdir: allowed without --repeats and --against'
      )
    measured = _measure_in_processes(checkouts, options.repeats)
    print(speed.table(measured))
  else:
    figures = _measure_here(config)
    _show(figures)
    measured = {'this': [figures]}
  if options.json:
    content = speed.record(sys.argv[1:], checkouts, measured)
    with errors.naming(f'--json={paths.as_given(options.json)}'):
      pathlib.Path(options.json).write_text(json.dumps(content, indent=2))


if __name__ == '__main__':
  command_line.run(main)
