"""Runs in Labyrinth resume, survive the end of an engine, and leave none."""

import os
import pathlib
import signal
import subprocess
import sys

from marks import needs_labyrinth
from processes import below, is_engine, wait_until
import pytest
from results import read_rows
import short_runs

from a3c_jax.envs.labyrinth import foraging

pytestmark = needs_labyrinth

ROOT = pathlib.Path(__file__).parents[2]
SHORT = {'maze_size': 5, 'apples': 2, 'episode_seconds': 2.0}


def make_short():
  return foraging.Labyrinth(**SHORT)


def run(make_game, workdir, **given):
  environment = foraging.Options(**SHORT)
  return short_runs.run('labyrinth', environment, make_game, workdir, **given)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path, monkeypatch):
  short_runs.check_resumes(run, make_short, tmp_path, monkeypatch)


class LosesItsEngine(foraging.Labyrinth):
  """The engine of the first environment that reaches step 30 is killed."""

  lost = 0

  def __init__(self):
    before = below()
    super().__init__(**SHORT)
    (self._process,) = filter(is_engine, below() - before)
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == 30 and not LosesItsEngine.lost:
      LosesItsEngine.lost = self._process
      os.kill(self._process, signal.SIGKILL)
      wait_until(lambda: self._process not in below())
    return super().step(action)


def test_an_engine_that_dies_is_replaced(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(LosesItsEngine, 'lost', 0)
  before = below()
  assert run(LosesItsEngine, tmp_path, frames=1200).finished
  assert LosesItsEngine.lost
  assert 'ViZDoom' in caplog.text
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '1'
  assert not set(filter(is_engine, below() - before))


def test_engines_that_die_again_end_the_run_with_a_checkpoint(tmp_path):
  before = below()
  with pytest.raises(Exception, match='exited unexpectedly|crash'):
    run(LosesItsEngine, tmp_path, frames=1200, max_env_restarts=0)
  assert list((tmp_path / 'checkpoints').iterdir())
  assert not set(filter(is_engine, below() - before))


def start(*arguments, cwd):
  """The script in a process and a session of its own, as in a terminal."""
  path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  script = ROOT / 'experiments/labyrinth.py'
  return subprocess.Popen(
    [sys.executable, str(script), '--workdir=results', *arguments],
    cwd=cwd,
    env=os.environ | {'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )


def test_ctrl_c_goes_to_the_run_and_not_to_its_engines(tmp_path):
  process = start(
    '--threads=2 --frames=1e9 --log_seconds=0.5 --eval_frames=2e3 '
    '--eval_episodes=1 --episode_seconds=3 --envs_per_thread=1',
    cwd=tmp_path,
  )
  try:
    lines = []
    for line in process.stdout:
      lines.append(line)
      if 'evaluation at frame' in line:  # By then there are three environments.
        engines = set(filter(is_engine, below(process.pid)))
        os.killpg(process.pid, signal.SIGINT)
        break
    rest, err = process.communicate(timeout=120)
  finally:
    process.kill()
  output = ''.join(lines) + rest
  assert (process.returncode, err) == (0, '')
  assert len(engines) == 3
  assert 'raised' not in output
  assert 'to resume: the same command' in output
  wait_until(lambda: not any(map(is_engine, engines)))
  checkpoints = (tmp_path / 'results/checkpoints').iterdir()
  assert max(int(path.name) for path in checkpoints) > 0
