"""Runs in Labyrinth: they go on, survive their engine, and leave none."""

import functools
import os
import pathlib
import signal
import subprocess
import sys

from marks import needs_labyrinth
from processes import below, is_engine, wait_until
import pytest
from results import digest, read_rows

from a3c_jax import agents, config, training
from a3c_jax.envs import gym, labyrinth

pytestmark = needs_labyrinth

ROOT = pathlib.Path(__file__).parents[1]
SHORT = {'maze_size': 5, 'apples': 2, 'episode_seconds': 2.0}


def make_short():
  return labyrinth.Labyrinth(**SHORT)


def run(workdir, make_game=make_short, **given):
  settings = config.make(
    'labyrinth',
    workdir=str(workdir),
    environment=labyrinth.describe(labyrinth.Options(**SHORT)),
    **{
      'threads': 1,
      'envs_per_thread': 1,
      't_max': 5,
      'eval_frames': 0,
      'network': 'mlp',
    }
    | given,
  )
  return training.run(
    settings,
    gym.make(make_game, envs=settings.envs_per_thread),
    functools.partial(agents.make_learner, settings),
  )


class Stops(labyrinth.Labyrinth):
  """Ctrl-C, once, at a step of all of them."""

  left = 0

  def __init__(self):
    super().__init__(**SHORT)

  def step(self, action):
    Stops.left -= 1
    if not Stops.left:  # A second one would end the process.
      signal.raise_signal(signal.SIGINT)
    return super().step(action)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path, monkeypatch):
  monkeypatch.setattr(training, '_REFRESH_SECONDS', 0.01)
  given = {'frames': 1200, 'envs_per_thread': 2, 'checkpoint_frames': 200}
  whole = run(tmp_path / 'whole', **given)
  monkeypatch.setattr(Stops, 'left', 150)
  first = run(tmp_path / 'parts', Stops, **given)
  assert 0 < first.frames < 1200
  last = run(tmp_path / 'parts', **given)
  assert (last.finished, last.frames) == (True, whole.frames)
  assert digest(last.params) == digest(whole.params)
  scores = [
    [
      row['episode_return']
      for row in read_rows(tmp_path / name / 'episodes.csv')
    ]
    for name in ('whole', 'parts')
  ]
  assert scores[0] == scores[1] != []


class LosesItsEngine(labyrinth.Labyrinth):
  """The engine of the first one that comes to step 30 is killed."""

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


def test_an_engine_that_dies_is_started_anew(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(LosesItsEngine, 'lost', 0)
  before = below()
  assert run(tmp_path, LosesItsEngine, frames=1200).finished
  assert LosesItsEngine.lost
  told = capsys.readouterr().out
  assert 'ViZDoom' in told and 'made anew, 1 of at most 3 times' in told
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '1'
  assert not set(filter(is_engine, below() - before))


def test_engines_that_die_again_end_the_run_with_a_checkpoint(tmp_path):
  before = below()
  with pytest.raises(Exception, match='exited unexpectedly|crash'):
    run(tmp_path, LosesItsEngine, frames=1200, max_env_restarts=0)
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
    *('--threads=2', '--frames=1e9', '--log_seconds=0.5', '--eval_frames=2e3'),
    *('--eval_episodes=1', '--episode_seconds=3', '--envs_per_thread=1'),
    cwd=tmp_path,
  )
  try:
    said = []
    for line in process.stdout:
      said.append(line)
      if 'evaluation at frame' in line:  # Three games are played by then.
        engines = set(filter(is_engine, below(process.pid)))
        os.killpg(process.pid, signal.SIGINT)
        break
    rest, err = process.communicate(timeout=120)
  finally:
    process.kill()
  said = ''.join(said) + rest
  assert (process.returncode, err) == (0, '')
  assert len(engines) == 3
  assert 'raised' not in said
  assert 'to go on: the same command' in said
  wait_until(lambda: not any(map(is_engine, engines)))
  checkpoints = (tmp_path / 'results/checkpoints').iterdir()
  assert max(int(path.name) for path in checkpoints) > 0
