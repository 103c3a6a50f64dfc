"""The scripts as their users run them: processes, exit codes and files."""

import json
import math
import os
import signal
import threading

from programs import (
  WAIT_SECONDS,
  finish,
  refused,
  run_code,
  start_script,
  succeeded,
)
import pytest
from results import read_record, read_rows, same_episodes
import script_runs
import settings

from a3c_jax.algorithms import registry
from a3c_jax.core import stopwatch


def run(command, *arguments, cwd):
  return finish(start_script(command, *arguments, cwd=cwd))


@pytest.mark.parametrize(
  'algo',
  [
    pytest.param(name, marks=pytest.mark.long if 'dueling' in name else ())
    for name in registry.names()
    # These three differ from dqn in what other tests compute.
    if name not in ('double_dqn', 'prioritized_dqn', 'gorila')
  ],
)
def test_pong(tmp_path, algo):
  pytest.importorskip('ale_py')
  of_replay = settings.of_replay(algo)
  out = succeeded(
    script_runs.run(
      f'atari.py --algo={algo} --frames=2e3 --threads=2 --eval_frames=0 '
      '--network=nips --workdir=results',
      *[f'--{name}={value}' for name, value in of_replay.items()],
      cwd=tmp_path,
    )
  )
  assert out.endswith('results in results\n')
  workdir = tmp_path / 'results'
  record = read_record(workdir)
  assert record['config']['algo'] == algo
  assert record['config']['environment']['game'] == 'pong'
  assert record['versions']['ale-py']
  assert list(workdir.glob('events.out.tfevents.*'))
  rows = read_rows(workdir / 'train.csv')
  expected = (
    'algo env seed frames seconds frames_per_second updates learning_rate lag '
    'lock_wait_ms episodes mean_return'
  )
  from_memory_alone = 'update_period' in registry.get(algo).settings
  kinds = ['replay_'] * bool(of_replay) + [''] * (not from_memory_alone)
  losses = {f'{kind}{name}' for kind in kinds for name in ('loss', 'grad_norm')}
  assert losses | set(expected.split()) <= set(rows[-1])
  assert rows[-1]['env'] == 'pong'
  # Segments of 5 steps of 4 frames, or of 4 steps: 2,000 frames, and up to one
  # segment more in each thread.
  frames, updates = (int(rows[-1][name]) for name in ('frames', 'updates'))
  assert frames in (2000, 2016 if from_memory_alone else 2020)
  if of_replay:
    assert all(math.isfinite(float(rows[-1][name])) for name in losses)
    assert updates > frames // 20
  else:
    assert updates == frames // 20
  header = (workdir / 'episodes.csv').read_text().splitlines()[0]
  assert header == (
    'algo,env,seed,frames,seconds,thread,episode_return,clipped_return,'
    'episode_frames'
  )


def figures_in(path):
  """Those of each measurement in a file of `benchmark.py --json`."""
  return json.loads(path.read_text())['repeats']


@pytest.mark.parametrize(
  'arguments', ['--threads=1', '--runtime=queues --agents=1']
)
def test_benchmark(tmp_path, arguments):
  pytest.importorskip('ale_py')
  command = f'benchmark.py --algo=a3c {arguments} --seconds=2'
  out = succeeded(run(f'{command} --json=figures.json', cwd=tmp_path))
  (figures,) = figures_in(tmp_path / 'figures.json')
  speeds = [
    'train_frames_per_second',
    'train_frames_per_cpu_second',
    'emulator_frames_per_second',
    'emulator_frames_per_cpu_second',
  ]
  learning = {
    'updates_per_second',
    'policy_lag',
    'policy_lag_p95',
    'policy_lag_max',
  }
  others = {'ratio', 'setup_seconds', 'ms_per_step'}
  assert set(figures) == {*speeds, *learning, *others}
  assert figures['updates_per_second'] > 0
  assert 0 <= figures['policy_lag'] <= figures['policy_lag_max']
  for name in speeds:
    assert figures[name] > 0
    assert f'{figures[name]:,.0f}' in out
  assert figures['ratio'] == pytest.approx(
    figures[speeds[1]] / figures[speeds[3]]
  )
  phases = figures['ms_per_step']
  assert set(phases) == {*stopwatch.PHASES}
  if 'queues' not in arguments:
    # The phases of the one thread are all of its time; a step is 4 frames.
    assert sum(phases.values()) == pytest.approx(
      4e3 / figures['train_frames_per_second'], rel=0.2
    )
  # Training itself leaves nothing behind.
  assert [path.name for path in tmp_path.iterdir()] == ['figures.json']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_in_good_order_and_it_resumes(tmp_path, number):
  command = 'catch.py --frames=20000 --threads=2 --workdir=results'
  process = start_script(command, '--log_seconds=0.1', cwd=tmp_path)
  watchdog = threading.Timer(WAIT_SECONDS, process.kill)
  watchdog.start()
  try:
    assert process.stdout.readline() == 'setting up 2 threads\n'
    assert process.stdout.readline().startswith('return ')
    process.send_signal(number)
    out = succeeded(finish(process))
  finally:
    watchdog.cancel()
    process.kill()
  assert 'stopping\n' in out
  assert out.endswith(
    'results in results\nto resume: the same command with --workdir=results\n'
  )
  rows = read_rows(tmp_path / 'results/train.csv')
  episodes = read_rows(tmp_path / 'results/episodes.csv')
  assert int(rows[-1]['episodes']) == len(episodes) > 0
  # The last row counts what the threads did before they stopped.
  assert f'{int(rows[-1]["frames"]):,} frames in' in out
  out = succeeded(script_runs.run(command, cwd=tmp_path))
  assert 'resuming at frame ' in out
  assert 'to resume' not in out
  assert int(read_rows(tmp_path / 'results/train.csv')[-1]['frames']) >= 20_000


def test_ctrl_c_during_imports_prints_one_word(tmp_path, monkeypatch):
  # Python tells of each module when it has imported it.
  monkeypatch.setenv('PYTHONPROFILEIMPORTTIME', '1')
  process = start_script('catch.py', cwd=tmp_path)
  try:
    while not process.stderr.readline().endswith('| ctrl_c\n'):
      assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
  finally:
    process.kill()
  assert (code, out) == (130, '')
  told = [line for line in err.splitlines() if 'import time:' not in line]
  assert told == ['stopped']


def test_a_run_whose_output_is_lost_ends_as_it_would(tmp_path):
  # As `| head -1` does: its reader ends.
  process = start_script(
    'catch.py --threads=1 --frames=2000 --eval_frames=1000 '
    '--log_seconds=0.01 --workdir=results',
    cwd=tmp_path,
  )
  try:
    assert process.stdout.readline() == 'setting up 1 threads\n'
    process.stdout.close()
    _, err = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, err) == (0, '')
  finally:
    process.kill()
  assert '2000' in os.listdir(tmp_path / 'results/checkpoints')
  assert read_rows(tmp_path / 'results/eval.csv')[-1]['frames'] == '2000'


def final_digest(workdir):
  """Of every array that the newest checkpoint holds."""
  newest = max((workdir / 'checkpoints').iterdir(), key=lambda p: int(p.name))
  header = newest.read_bytes().splitlines()[0].split(b' ', 2)[2]
  return json.loads(header)['arrays_sha256']


KILLED = """
import os
import pathlib
import signal
import time
from a3c_jax.envs import catch

CHECKPOINT, KILL = map(int, os.environ.get('STEPS', '-1 -1').split())
before = set(pathlib.Path().glob('killed/checkpoints/*'))


class Killed(catch.Catch):
  steps = 0

  def step(self, action):
    self.steps += 1
    while self.steps == CHECKPOINT and before.issuperset(
      pathlib.Path().glob('killed/checkpoints/*')
    ):
      time.sleep(0.01)
    if self.steps == KILL:
      os.kill(os.getpid(), signal.SIGKILL)
    return super().step(action)
"""


def test_killed_again_and_again_a_run_ends_as_if_never_killed(
  tmp_path, monkeypatch
):
  (tmp_path / 'mine.py').write_text(KILLED)
  command = (
    'gym_env.py --env=mine:Killed --algo=one_step_sarsa --threads=1 '
    '--frames=4000 --checkpoint_frames=500'
  )
  # It is killed so many steps after it has written another checkpoint.
  for index, steps in enumerate((1, 200, 57)):
    checkpoint = 700 * (index + 1)
    with monkeypatch.context() as patch:
      patch.setenv('STEPS', f'{checkpoint} {checkpoint + steps}')
      code, _, _ = run(command, '--workdir=killed', cwd=tmp_path)
    assert code == -signal.SIGKILL
  out = succeeded(script_runs.run(command, '--workdir=killed', cwd=tmp_path))
  assert 'resuming at frame ' in out
  succeeded(script_runs.run(command, '--workdir=whole', cwd=tmp_path))
  same_episodes(tmp_path / 'killed', tmp_path / 'whole')
  digests = [final_digest(tmp_path / name) for name in ('killed', 'whole')]
  assert digests[0] == digests[1]


def test_a_thread_that_hangs_ends_the_run_with_its_stack(tmp_path):
  (tmp_path / 'mine.py').write_text(MODULE)
  code, _, err = run(
    'gym_env.py --env=mine:make_hanging --threads=2 '
    '--watchdog_seconds=1 --workdir=results',
    cwd=tmp_path,
  )
  assert code == 1
  assert 'error: no progress of actor-learner-' in err
  assert 'mine.py' in err
  assert 'wait_for_ever' in err
  frames = [
    int(path.name) for path in (tmp_path / 'results/checkpoints').iterdir()
  ]
  assert max(frames) > 0


def test_a_constructor_that_hangs_ends_the_run_with_its_stack(tmp_path):
  (tmp_path / 'mine.py').write_text(MODULE)
  code, out, err = run(
    'gym_env.py --env=mine:make_stuck --watchdog_seconds=1 --workdir=results',
    cwd=tmp_path,
  )
  assert (code, out) == (1, '')
  assert err.startswith(
    'error: no progress of the main thread, making an environment, for 1 s; '
    'the stacks of all threads:\n'
  )
  assert 'in make_stuck' in err
  assert not (tmp_path / 'results').exists()


MODULE = """
import threading
import gymnasium
from gymnasium import spaces
import numpy as np
from a3c_jax.envs import catch


def make():
  return catch.Catch(rows=5, columns=3)


def make_wide():
  env = catch.Catch()
  env.action_space = spaces.Box(0, np.arange(40, dtype=np.float32))
  return env


def make_hanging():
  env = make()
  play, steps = env.step, []
  def wait_for_ever():
    threading.Event().wait()
  def step(action):
    steps.append(action)
    if len(steps) == 300:
      wait_for_ever()
    return play(action)
  env.step = step
  return env


def make_stuck():
  threading.Event().wait()


def make_broken():
  env = make()
  env.step = lambda action: {}['missing']
  return env
"""


def test_own_environment_in_the_users_folder(tmp_path):
  (tmp_path / 'mine.py').write_text(MODULE)
  command = 'gym_env.py --env=mine:make --frames=200 --threads=2'
  out = succeeded(script_runs.run(command, cwd=tmp_path))
  (workdir,) = (tmp_path / 'runs').iterdir()
  assert workdir.name.startswith('mine-make-a3c-')
  assert f'results in runs/{workdir.name}' in out
  (row,) = read_rows(workdir / 'train.csv')
  assert row['env'] == 'mine:make'


def test_broken_environment_shows_its_own_traceback(tmp_path):
  (tmp_path / 'mine.py').write_text(MODULE)
  code, _, err = run('gym_env.py --env=mine:make_broken', cwd=tmp_path)
  assert code == 1
  lines = err.splitlines()
  assert lines[-1].startswith('raised in thread actor-learner-')
  assert lines[-2] == "KeyError: 'missing'"
  assert 'mine.py' in err


@pytest.mark.parametrize(
  ('command', 'hint'),
  [
    ('gym_env.py --env=mine:make_wide', 'action space Box'),
    ('gym_env.py --env=CartPole-v1 --network=nips', 'needs images'),
    ('catch.py --algo=ppo --threads=2', 'one_step_q'),
  ],
)
def test_bad_input_ends_in_one_line(tmp_path, command, hint):
  (tmp_path / 'mine.py').write_text(MODULE)
  assert hint in refused(script_runs.run(command, cwd=tmp_path))


@pytest.mark.long
def test_benchmark_of_a_replay_memory(tmp_path):
  pytest.importorskip('ale_py')
  command = (
    'benchmark.py --algo=dqn --network=nips --replay_capacity=5000 '
    '--replay_start_frames=400 --seconds=2 --json=figures.json'
  )
  out = succeeded(run(command, cwd=tmp_path))
  (figures,) = figures_in(tmp_path / 'figures.json')
  assert 'policy_lag' not in figures
  assert 0 < figures['ms_per_sample'] < figures['ms_per_update']
  # A frame once, and what belongs to it.
  assert 84 * 84 < figures['replay_bytes_per_transition'] < 84 * 84 + 100
  assert f'{figures["ms_per_sample"]:.3f}' in out


def test_benchmark_that_fails_leaves_older_figures_alone(tmp_path):
  (tmp_path / 'old.json').write_text('{}')
  code, _, err = script_runs.run(
    'benchmark.py --json=old.json --workdir=. --seconds=1', cwd=tmp_path
  )
  assert (code, err.count('\n')) == (2, 1)
  assert '--workdir=.: holds files' in err
  assert (tmp_path / 'old.json').read_text() == '{}'


def test_help_lists_every_flag(tmp_path):
  out = succeeded(script_runs.run('atari.py --help', cwd=tmp_path))
  text = ' '.join(out.split())
  for name in ('learning_rate', 'frames', 'algo', 'game', 'sticky', 'workdir'):
    assert f'--{name}:' in text
  assert "Learning rate at frame 0, per unit of the optimizer's" in text
  assert 'Default: 0.0007 (authors); with --preset=quick 0.001 (' in text
  assert 'Default: 0.1 (authors); with --preset=quick 1e-05 (' in text
  assert '--[no]lstm' in text


def test_importing_the_library_leaves_the_process_alone(tmp_path):
  code = (
    'import os, sys\n'
    'before = dict(os.environ)\n'
    'import a3c_jax, a3c_jax.runs.training\n'
    'import jax\n'
    'from jax._src import xla_bridge\n'
    'assert not xla_bridge.backends_are_initialized()\n'
    "assert jax.config.read('jax_cpu_enable_async_dispatch')\n"
    "assert 'ale_py' not in sys.modules\n"
    'added = {name for name in os.environ if name not in before}\n'
    "assert not added & {'NPROC', 'JAX_PLATFORMS'}, added\n"
  )
  succeeded(run_code(code, tmp_path))
