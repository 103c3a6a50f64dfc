"""Runs in TORCS resume, survive the end of their game, and are evaluated."""

import os
import re
import signal

from marks import needs_torcs
from processes import below, wait_until
from programs import succeeded
import pytest
from results import read_rows, size_of
from script_runs import run as run_script
import short_runs

from a3c_jax.algorithms import registry
from a3c_jax.envs.torcs import racing

pytestmark = needs_torcs

SHORT = {'episode_seconds': 2.0}


def make_short():
  return racing.Torcs(**SHORT)


def run(make_game, workdir, **given):
  environment = racing.Options(**SHORT)
  return short_runs.run('torcs', environment, make_game, workdir, **given)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path, monkeypatch):
  short_runs.check_resumes(run, make_short, tmp_path, monkeypatch)


class LosesItsGame(racing.Torcs):
  """The game of the first environment that reaches step 30 is killed."""

  lost = 0

  def __init__(self):
    super().__init__(**SHORT)
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == 30 and not LosesItsGame.lost:
      LosesItsGame.lost = self.game.process
      os.kill(self.game.process, signal.SIGKILL)
    return super().step(action)


def test_a_game_that_dies_is_replaced(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(LosesItsGame, 'lost', 0)
  before = below()
  assert run(LosesItsGame, tmp_path, frames=600).finished
  assert LosesItsGame.lost
  assert 'TORCS ended: exit code -9' in caplog.text
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '1'
  wait_until(lambda: below() <= before)


@pytest.mark.parametrize('algo', registry.names())
def test_all_algorithms_race(tmp_path, algo):
  assert run(make_short, tmp_path, frames=200, algo=algo).finished


def test_a_run_is_evaluated_recorded_and_plotted(tmp_path):
  pytest.importorskip('moviepy')
  before = below()
  for script, *arguments in (
    (
      'torcs_racing.py',
      *('--threads=2', '--frames=1e3', '--eval_episodes=1'),
      *('--eval_frames=5e2', '--episode_seconds=3', '--car=fast'),
      *('--opponents=2', '--workdir=results', '--network=mlp'),
    ),
    ('evaluate.py', '--workdir=results', '--episodes=1', '--video=films'),
    ('plot.py', '--workdir=results', '--out=curves.png'),
  ):
    succeeded(run_script(script, *arguments, cwd=tmp_path))
  (row,) = read_rows(tmp_path / 'results/evaluations.csv')
  assert (row['protocol'], row['env']) == ('plain', 'torcs')
  (film,) = (tmp_path / 'films').iterdir()
  size, seconds = size_of(film)
  assert tuple(size) == (672, 336)
  assert seconds == pytest.approx(3.0, abs=0.25)
  assert (tmp_path / 'curves.png').stat().st_size > 0
  wait_until(lambda: below() <= before)


def test_benchmark(tmp_path):
  out = succeeded(
    run_script(
      'benchmark.py --env=torcs --threads=2 --seconds=1 --network=mlp',
      cwd=tmp_path,
    )
  )
  # With the time of the game's processes.
  assert 0 < float(re.search(r'^ratio +([0-9.]+)$', out, re.MULTILINE)[1]) < 1.5
  assert list(tmp_path.iterdir()) == []


def test_scales(tmp_path):
  out = succeeded(
    run_script(
      'torcs_scales.py --episodes=2 --episode_seconds=20 --car=fast',
      cwd=tmp_path,
    )
  )
  means = re.findall(r'^(.*?) +mean +([0-9.]+), standard', out, re.MULTILINE)
  assert [name for name, _ in means] == ['random', 'full throttle', 'driver']
  scores = [float(mean) for _, mean in means]
  assert 0 < scores[0] < scores[1] < scores[2]
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  'script, arguments, line',
  [
    ('torcs_racing.py', ['--track=g-track-9'], '--track=g-track-9: allowed: '),
    ('torcs_racing.py', ['--car=car'], '--car=car: allowed: '),
    (
      'torcs_racing.py',
      ['--opponents=11'],
      '--opponents=11: allowed: a whole number, 0 to 10',
    ),
    (
      'torcs_scales.py',
      ['--episodes=1'],
      '--episodes=1: allowed: a whole number >= 2',
    ),
    (
      'benchmark.py',
      ['--env=torcs', '--pixels'],
      '--pixels with --env=torcs: allowed with tasks of continuous control',
    ),
  ],
)
def test_bad_input(tmp_path, script, arguments, line):
  code, _, err = run_script(script, *arguments, cwd=tmp_path)
  assert code == 2
  assert err.startswith(f'error: {line}') and err.count('\n') == 1
  assert list(tmp_path.iterdir()) == []
