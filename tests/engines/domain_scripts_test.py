"""Scripts of continuous control and Labyrinth, and what reads their runs."""

import re

from marks import needs_labyrinth, needs_pictures
from programs import refused, succeeded
import pytest
from results import read_rows, size_of
from script_runs import run


@pytest.fixture(scope='module')
def swung(tmp_path_factory):
  """The folder of a short run on a task of continuous control."""
  path = tmp_path_factory.mktemp('swung')
  succeeded(
    run(
      'continuous_control.py --env=InvertedPendulum-v5 --frames=400 '
      '--threads=2 --eval_episodes=1 --nolstm --workdir=results',
      cwd=path,
    )
  )
  return path


def test_evaluate_continuous_control_by_mean_and_samples(swung):
  (row,) = read_rows(swung / 'results/eval.csv')
  assert (row['policy'], row['protocol']) == ('sampled', 'plain')
  arguments = ('evaluate.py', '--workdir=results', '--episodes=3')
  for policy in ('mean', 'sample'):
    out = succeeded(run(*arguments, f'--policy={policy}', cwd=swung))
  assert 'actions: sampled; raw scores' in out
  rows = read_rows(swung / 'results/evaluations.csv')
  assert [row['policy'] for row in rows] == ['mean', 'sampled']
  assert rows[0]['mean_return'] != rows[1]['mean_return']
  line = refused(run(*arguments, '--policy=greedy', cwd=swung))
  assert line == (
    '--policy=greedy: allowed for InvertedPendulum-v5: sample, mean'
  )


@needs_pictures
def test_a_video_of_mujoco(swung):
  pytest.importorskip('moviepy')
  succeeded(
    run(
      'evaluate.py --workdir=results --episodes=2 --policy=mean --video=videos',
      cwd=swung,
    )
  )
  (video,) = (swung / 'videos').iterdir()
  size, _ = size_of(video)
  assert tuple(size) == (480, 480)


@needs_pictures
def test_a_run_from_pixels(tmp_path):
  succeeded(
    run(
      'continuous_control.py --env=InvertedPendulum-v5 --pixels '
      '--image_size=40 --action_repeat=4 --t_max=2 --envs_per_thread=1 '
      '--frames=80 --threads=2 --eval_frames=0 --workdir=results',
      cwd=tmp_path,
    )
  )
  (row,) = read_rows(tmp_path / 'results/train.csv')
  # Segments of 2 steps of 4 frames, and up to one more in the other thread.
  assert int(row['frames']) in (80, 88)


@needs_labyrinth
def test_a_run_in_labyrinth_is_evaluated_rendered_and_drawn(tmp_path):
  pytest.importorskip('moviepy')
  for script, *arguments in (
    (
      'labyrinth.py',
      *(
        '--threads=2',
        '--frames=2e3',
        '--eval_episodes=1',
        '--eval_frames=1e3',
      ),
      *('--episode_seconds=3', '--maze_size=7', '--workdir=results'),
      *('--envs_per_thread=1', '--network=mlp'),
    ),
    ('evaluate.py', '--workdir=results', '--episodes=1', '--video=videos'),
    ('plot.py', '--workdir=results', '--out=curves.png'),
  ):
    succeeded(run(script, *arguments, cwd=tmp_path))
  (row,) = read_rows(tmp_path / 'results/evaluations.csv')
  assert (row['protocol'], row['env']) == ('plain', 'labyrinth')
  (video,) = (tmp_path / 'videos').iterdir()
  size, seconds = size_of(video)
  assert tuple(size) == (672, 336)
  assert seconds == pytest.approx(3.0, abs=0.25)
  assert (tmp_path / 'curves.png').stat().st_size > 0


@needs_labyrinth
def test_benchmark_of_labyrinth(tmp_path):
  out = succeeded(
    run(
      'benchmark.py --env=labyrinth --threads=2 --seconds=1 --network=mlp '
      '--envs_per_thread=1 --nolstm',
      cwd=tmp_path,
    )
  )
  assert float(re.search(r'^ratio +([0-9.]+)$', out, re.MULTILINE)[1]) > 0
  assert list(tmp_path.iterdir()) == []


@needs_labyrinth
def test_scales_of_labyrinth(tmp_path):
  out = succeeded(
    run(
      'labyrinth_scales.py --episodes=2 --episode_seconds=20 --maze_size=7',
      cwd=tmp_path,
    )
  )
  means = re.findall(r'^(\S+) +mean +([0-9.]+), standard', out, re.MULTILINE)
  assert [name for name, _ in means] == ['random', 'path-finder']
  assert float(means[1][1]) > float(means[0][1])
  assert list(tmp_path.iterdir()) == []


@needs_labyrinth
@pytest.mark.parametrize(
  'script, arguments, line',
  [
    (
      'labyrinth.py',
      ['--maze_size=8'],
      '--maze_size=8: allowed: an odd whole number, 5 to 101',
    ),
    (
      'labyrinth.py',
      ['--maze_size=5', '--apples=8'],
      '--apples=8: no cell is left for the agent in a maze of --maze_size=5; '
      'allowed: fewer apples, larger mazes',
    ),
    (
      'labyrinth.py',
      ['--lstm', '--algo=nstep_q'],
      '--lstm: not a setting of --algo=nstep_q; allowed: '
      'target_period_frames, exploration_ends, exploration_probabilities, '
      'exploration_anneal_frames',
    ),
    (
      'labyrinth_scales.py',
      ['--episodes=1'],
      '--episodes=1: allowed: a whole number >= 2',
    ),
    (
      'labyrinth_scales.py',
      ['--action_repeat=9'],
      '--action_repeat=9: the scripted agent would turn too far in a step; '
      'allowed: 1 to 8',
    ),
    (
      'benchmark.py',
      ['--env=labyrinth', '--pixels'],
      '--pixels with --env=labyrinth: allowed with tasks of continuous control',
    ),
  ],
)
def test_bad_input_of_labyrinth(tmp_path, script, arguments, line):
  code, _, err = run(script, *arguments, cwd=tmp_path)
  assert (code, err) == (2, f'error: {line}\n')
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  'script, arguments, line',
  [
    (
      'continuous_control.py',
      ['--env=Pendulum-v1', '--algo=nstep_q'],
      '--algo=nstep_q: allowed with continuous actions: a3c',
    ),
    (
      'gym_env.py',
      ['--env=Pendulum-v1', '--algo=one_step_q'],
      '--algo=one_step_q: actions of Pendulum-v1 are continuous, Box of 1 '
      'numbers; allowed: a3c',
    ),
    (
      'continuous_control.py',
      ['--env=Pendulum-v1', '--pixels'],
      '--env=Pendulum-v1: no MuJoCo simulation, so no --pixels and no '
      '--camera; allowed: tasks such as InvertedPendulum-v5 or '
      'dm_control/walker-walk',
    ),
    (
      'continuous_control.py',
      ['--image_size=20'],
      '--image_size=20: allowed: a whole number, 36 to 480',
    ),
    (
      'benchmark.py',
      ['--pixels'],
      '--pixels with --env=pong: allowed with tasks of continuous control',
    ),
  ],
)
def test_bad_input_of_continuous_control(tmp_path, script, arguments, line):
  code, out, err = run(script, *arguments, cwd=tmp_path)
  assert (code, err.removeprefix('error: ')) == (2, line + '\n')
  assert list(tmp_path.iterdir()) == []
