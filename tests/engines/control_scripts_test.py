"""The script of continuous control, and what reads its runs."""

from marks import needs_pictures
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


@pytest.mark.parametrize(
  ('command', 'hint'),
  [
    (
      'continuous_control.py --env=Pendulum-v1 --algo=nstep_q',
      '--algo=nstep_q: allowed with continuous actions: a3c',
    ),
    (
      'gym_env.py --env=Pendulum-v1 --algo=one_step_q',
      '--algo=one_step_q: actions of Pendulum-v1 are continuous, Box of 1 ',
    ),
    (
      'continuous_control.py --env=Pendulum-v1 --pixels',
      '--env=Pendulum-v1: no MuJoCo simulation, so no --pixels and no ',
    ),
    (
      'continuous_control.py --image_size=20',
      '--image_size=20: allowed: a whole number, 36 to 480',
    ),
    (
      'benchmark.py --pixels',
      '--pixels with --env=pong: allowed with tasks of continuous control',
    ),
  ],
)
def test_bad_input_ends_in_one_line(tmp_path, command, hint):
  assert refused(run(command, cwd=tmp_path)).startswith(hint)
  assert list(tmp_path.iterdir()) == []
