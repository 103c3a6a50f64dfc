"""Runs and scripts of Labyrinth and TORCS, whose engines are processes."""

import os
import re
import signal

import gymnasium
from gymnasium.utils import env_checker
from marks import needs_labyrinth, needs_torcs
from processes import below, is_engine, wait_until
from programs import finish, start_script, succeeded
import pytest
from results import read_rows, size_of
from script_runs import run as run_script
import settings
import short_runs

from a3c_jax.algorithms import registry
from a3c_jax.envs.labyrinth import foraging
from a3c_jax.envs.torcs import racing

SHORT = {
  'labyrinth': {'maze_size': 5, 'apples': 2, 'episode_seconds': 2.0},
  'torcs': {'episode_seconds': 2.0},
}
ENVS = {'labyrinth': foraging.Labyrinth, 'torcs': racing.Torcs}
OPTIONS = {'labyrinth': foraging.Options, 'torcs': racing.Options}


def of_both(names, labyrinth, torcs):
  """Parametrizes a test by a case of each game, or by several."""
  each = [(labyrinth, needs_labyrinth), (torcs, needs_torcs)]
  return pytest.mark.parametrize(
    names,
    [
      pytest.param(*case, marks=mark)
      for cases, mark in each
      for case in (cases if isinstance(cases, list) else [cases])
    ],
  )


both_games = of_both('game', ('labyrinth',), ('torcs',))


def make_short(game):
  return lambda: ENVS[game](**SHORT[game])


def run(game, make_env, workdir, **given):
  environment = OPTIONS[game](**SHORT[game])
  return short_runs.run(game, environment, make_env, workdir, **given)


@of_both(
  ('name', 'actions'), ('a3c_jax/Labyrinth-v0', 8), ('a3c_jax/Torcs-v0', 7)
)
def test_gymnasiums_own_checks(close_later, name, actions):
  env = close_later(gymnasium.make(name, render_mode='rgb_array'))
  assert env.observation_space.shape == (84, 84, 3)
  assert env.action_space == gymnasium.spaces.Discrete(actions)
  env_checker.check_env(env.unwrapped)


@both_games
def test_a_stopped_run_ends_in_the_same_bits(tmp_path, monkeypatch, game):
  short_runs.check_resumes(
    lambda *args, **given: run(game, *args, **given),
    make_short(game),
    tmp_path,
    monkeypatch,
  )


class LosesItsEngine(foraging.Labyrinth):
  """The engine of the first environment that reaches step 30 is killed."""

  lost = 0

  def __init__(self):
    before = below()
    super().__init__(**SHORT['labyrinth'])
    (self._process,) = filter(is_engine, below() - before)
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == 30 and not LosesItsEngine.lost:
      LosesItsEngine.lost = self._process
      os.kill(self._process, signal.SIGKILL)
      wait_until(lambda: self._process not in below())
    return super().step(action)


class LosesItsGame(racing.Torcs):
  """The game of the first environment that reaches step 30 is killed."""

  lost = 0

  def __init__(self):
    super().__init__(**SHORT['torcs'])
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == 30 and not LosesItsGame.lost:
      LosesItsGame.lost = self.game.process
      os.kill(self.game.process, signal.SIGKILL)
    return super().step(action)


@of_both(
  ('game', 'loses', 'logged'),
  ('labyrinth', LosesItsEngine, 'ViZDoom'),
  ('torcs', LosesItsGame, 'TORCS ended: exit code -9'),
)
def test_an_engine_that_dies_is_replaced(
  tmp_path, monkeypatch, caplog, game, loses, logged
):
  monkeypatch.setattr(loses, 'lost', 0)
  before = below()
  assert run(game, loses, tmp_path, frames=1200).finished
  assert loses.lost
  assert logged in caplog.text
  assert read_rows(tmp_path / 'train.csv')[-1]['env_restarts'] == '1'
  wait_until(lambda: below() <= before)


@needs_labyrinth
def test_engines_that_die_again_end_the_run_with_a_checkpoint(tmp_path):
  before = below()
  with pytest.raises(Exception, match='exited unexpectedly|crash'):
    run('labyrinth', LosesItsEngine, tmp_path, frames=1200, max_env_restarts=0)
  assert list((tmp_path / 'checkpoints').iterdir())
  assert not set(filter(is_engine, below() - before))


@needs_torcs
@pytest.mark.parametrize('algo', registry.names())
def test_all_algorithms_race(tmp_path, algo):
  make_env = make_short('torcs')
  given = {'frames': 200, 'algo': algo} | settings.of_replay(algo)
  assert run('torcs', make_env, tmp_path, **given).finished


@of_both(
  ('game', 'command'),
  (
    'labyrinth',
    'labyrinth.py --frames=2e3 --eval_frames=1e3 --maze_size=7 '
    '--envs_per_thread=1',
  ),
  (
    'torcs',
    'torcs_racing.py --frames=1e3 --eval_frames=5e2 --car=fast --opponents=2',
  ),
)
def test_a_run_is_evaluated_rendered_and_drawn(tmp_path, game, command):
  pytest.importorskip('moviepy')
  before = below()
  train = (
    f'{command} --threads=2 --eval_episodes=1 --episode_seconds=3 '
    '--network=mlp --workdir=results'
  )
  evaluate = 'evaluate.py --workdir=results --episodes=1 --video=videos'
  for script in (train, evaluate, 'plot.py --workdir=results --out=curves.png'):
    succeeded(run_script(script, cwd=tmp_path))
  (row,) = read_rows(tmp_path / 'results/evaluations.csv')
  assert (row['protocol'], row['env']) == ('plain', game)
  (video,) = (tmp_path / 'videos').iterdir()
  size, seconds = size_of(video)
  assert tuple(size) == (672, 336)
  assert seconds == pytest.approx(3.0, abs=0.25)
  assert (tmp_path / 'curves.png').stat().st_size > 0
  wait_until(lambda: below() <= before)


@of_both(
  'arguments',
  ('--env=labyrinth --envs_per_thread=1 --nolstm',),
  ('--env=torcs',),
)
def test_benchmark(tmp_path, arguments):
  command = 'benchmark.py --threads=2 --seconds=1 --network=mlp'
  out = succeeded(run_script(f'{command} {arguments}', cwd=tmp_path))
  ratio = float(re.search(r'^ratio +([0-9.]+)$', out, re.MULTILINE)[1])
  assert ratio > 0
  if 'torcs' in arguments:  # With the time of the game's processes.
    assert ratio < 1.5
  assert list(tmp_path.iterdir()) == []


@of_both(
  ('command', 'agents'),
  ('labyrinth_scales.py --maze_size=7', ['random', 'path-finder']),
  ('torcs_scales.py --car=fast', ['random', 'full throttle', 'driver']),
)
def test_scales(tmp_path, command, agents):
  out = succeeded(
    run_script(f'{command} --episodes=2 --episode_seconds=20', cwd=tmp_path)
  )
  means = re.findall(r'^(.*?) +mean +([0-9.]+), standard', out, re.MULTILINE)
  assert [name for name, _ in means] == agents
  scores = [float(mean) for _, mean in means]
  assert scores == sorted({*scores})
  if 'torcs' in command:
    assert scores[0] > 0
  assert list(tmp_path.iterdir()) == []


@of_both(
  ('command', 'hint'),
  [
    ('labyrinth.py --maze_size=8', '--maze_size=8: allowed: an odd whole'),
    ('labyrinth.py --maze_size=5 --apples=8', '--apples=8: no cell is left'),
    ('labyrinth.py --lstm --algo=nstep_q', '--lstm: not a setting of '),
    ('labyrinth_scales.py --episodes=1', '--episodes=1: allowed: '),
    ('labyrinth_scales.py --action_repeat=9', '--action_repeat=9: the script'),
    ('benchmark.py --env=labyrinth --pixels', '--pixels with --env=labyrinth'),
  ],
  [
    ('torcs_racing.py --track=g-track-9', '--track=g-track-9: allowed: '),
    ('torcs_racing.py --car=car', '--car=car: allowed: '),
    ('torcs_racing.py --opponents=11', '--opponents=11: allowed: a whole numb'),
    ('torcs_scales.py --episodes=1', '--episodes=1: allowed: a whole number'),
    ('benchmark.py --env=torcs --pixels', '--pixels with --env=torcs: allowed'),
  ],
)
def test_bad_input_ends_in_one_line(tmp_path, command, hint):
  code, _, err = run_script(command, cwd=tmp_path)
  assert (code, err.count('\n')) == (2, 1)
  assert err.startswith(f'error: {hint}')
  assert list(tmp_path.iterdir()) == []


@needs_labyrinth
def test_ctrl_c_goes_to_the_run_and_not_to_its_engines(tmp_path):
  process = start_script(
    'labyrinth.py --threads=2 --frames=1e9 --log_seconds=0.5 '
    '--eval_frames=2e3 --eval_episodes=1 --episode_seconds=3 '
    '--envs_per_thread=1 --workdir=results',
    cwd=tmp_path,
    start_new_session=True,  # As in a terminal.
  )
  try:
    lines = []
    for line in process.stdout:
      lines.append(line)
      if 'evaluation at frame' in line:  # By then there are three environments.
        engines = set(filter(is_engine, below(process.pid)))
        os.killpg(process.pid, signal.SIGINT)
        break
    output = ''.join(lines) + succeeded(finish(process))
  finally:
    process.kill()
  assert len(engines) == 3
  assert 'raised' not in output
  assert 'to resume: the same command' in output
  wait_until(lambda: not any(map(is_engine, engines)))
  checkpoints = (tmp_path / 'results/checkpoints').iterdir()
  assert max(int(path.name) for path in checkpoints) > 0
