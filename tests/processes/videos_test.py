"""Videos of experiments/evaluate.py."""

import sys

from programs import refused, succeeded
import pytest
from results import read_rows, size_of
import script_runs
from script_runs import evaluate_own, run


def test_a_video_of_catch(trained):
  pytest.importorskip('moviepy')
  out = succeeded(
    run(
      'evaluate.py --workdir=results --episodes=3 --video=videos/here '
      '--video_episodes=2 --csv=own.csv',
      cwd=trained,
    )
  )
  videos = sorted((trained / 'videos/here').iterdir())
  names = ['episode-0.mp4', 'episode-1.mp4']
  assert [video.name[-13:] for video in videos] == names
  for video in videos:
    assert str(video.relative_to(trained)) in out
    size, seconds = size_of(video)
    assert tuple(size) == (80, 160)
    assert seconds == pytest.approx(9 / 4)  # Nine steps, four a second.
  assert len(read_rows(trained / 'own.csv')) == 1


def test_a_video_of_what_cannot_be_rendered_is_refused(own):
  line = refused(evaluate_own(own, '--video=videos'))
  assert line == (
    '--video of mine:make: it renders None; allowed: environments that '
    'render rgb_array'
  )


# What comes of each `render`, the first one for a look.
RENDERS = {
  'None': 'None',
  'gray': 'np.zeros((32, 32), np.uint8)',
  'floats': 'np.zeros((32, 32, 3))',
  'list': '[np.zeros((32, 32, 3), np.uint8)] * 2',
  'error': '{}["pixels"]',
}


FRAME = 'np.zeros((32, 32, 3), np.uint8)'


def write_renders(folder, first, later):
  (folder / 'mine.py').write_text(
    script_runs.MODULE
    + f"""

import numpy as np

class Renders(catch.Catch):
  frames = 0

  def __init__(self):
    super().__init__(rows=5, columns=3, render_mode='rgb_array')

  def render(self):
    Renders.frames += 1
    return {first} if Renders.frames <= 2 else {later}

make = Renders
"""
  )


@pytest.mark.parametrize('name', RENDERS)
def test_a_frame_that_is_no_image_is_refused_before_an_episode(own, name):
  write_renders(own, RENDERS[name], FRAME)
  line = refused(evaluate_own(own, '--video=videos'))
  assert line.startswith('--video')
  assert 'environments that render rgb_array' in line
  assert not (own / 'videos').exists()
  assert not (own / 'own.csv').exists()


@pytest.mark.parametrize('name', RENDERS)
def test_a_frame_that_fails_later_costs_its_video_alone(own, name):
  pytest.importorskip('moviepy')
  write_renders(own, FRAME, RENDERS[name])
  code, out, err = evaluate_own(own, '--video=videos', '--csv=later.csv')
  assert code == 0
  (warning,) = err.splitlines()
  assert warning.startswith('warning: no video of episode 0: ')
  assert '2 episodes, plain' in out
  assert len(read_rows(own / 'later.csv')) == 1
  assert list((own / 'videos').iterdir()) == []
  (own / 'later.csv').unlink()
  (own / 'videos').rmdir()


def break_encoder(monkeypatch, works):
  """Has moviepy fail after so many videos."""
  save_video = pytest.importorskip('gymnasium.utils.save_video')
  made, save = [], save_video.save_video

  def save_or_fail(*args, **kwargs):
    made.append(1)
    if len(made) > works:
      raise OSError(28, 'No space left on device\nffmpeg says so')
    save(*args, **kwargs)

  monkeypatch.setattr(save_video, 'save_video', save_or_fail)


def test_an_encoder_that_does_not_work_is_refused_before_an_episode(
  trained, monkeypatch
):
  break_encoder(monkeypatch, works=0)
  line = refused(
    run('evaluate.py --workdir=results --video=encoder', cwd=trained)
  )
  assert line.startswith('--video=encoder: OSError: [Errno 28] No space')
  assert list((trained / 'encoder').iterdir()) == []


def test_an_encoder_that_fails_later_costs_its_video_alone(
  trained, monkeypatch
):
  break_encoder(monkeypatch, works=2)  # The trial and episode 0.
  code, out, err = run(
    'evaluate.py --workdir=results --video=later --video_episodes=2 '
    '--episodes=2 --threads=1 --csv=later.csv',
    cwd=trained,
  )
  assert code == 0
  assert err == (
    'warning: no video of episode 1: OSError: [Errno 28] No space left on '
    'device ffmpeg says so\n'
  )
  (video,) = (trained / 'later').iterdir()
  assert video.name.endswith('-episode-0.mp4')
  assert len(read_rows(trained / 'later.csv')) == 1


def test_without_moviepy_no_episode_is_played(trained, monkeypatch):
  monkeypatch.delattr('gymnasium.utils.save_video', raising=False)
  monkeypatch.setitem(sys.modules, 'gymnasium.utils.save_video', None)
  line = refused(
    run('evaluate.py --workdir=results --video=missing', cwd=trained)
  )
  assert line == (
    "--video=missing: needs moviepy; pip install 'moviepy>=2.2,<3'"
  )
  assert not (trained / 'missing').exists()


def test_evaluate_pong_with_a_video(tmp_path):
  pytest.importorskip('ale_py')
  succeeded(
    run(
      'atari.py --algo=nstep_q --frames=100 --threads=1 --eval_episodes=1 '
      '--workdir=results',
      cwd=tmp_path,
    )
  )
  (row,) = read_rows(tmp_path / 'results/eval.csv')
  assert (row['protocol'], row['policy']) == ('noop30', 'epsilon-greedy 0.05')
  # On the scale from -20.7, random, to 14.6, human.
  percent = 100 * (float(row['mean_return']) + 20.7) / 35.3
  assert float(row['human_normalized']) == pytest.approx(percent)
  out = succeeded(
    run(
      'evaluate.py --workdir=results --episodes=1 --protocol=sticky '
      '--video=videos',
      cwd=tmp_path,
    )
  )
  assert 'no human scores with sticky actions exist' in out
  (row,) = read_rows(tmp_path / 'results/evaluations.csv')
  assert (row['protocol'], row['human_normalized']) == ('sticky', '')
  (video,) = (tmp_path / 'videos').iterdir()
  size, seconds = size_of(video)
  assert tuple(size) == (160, 210)
  assert seconds == pytest.approx(float(row['mean_steps']) / 15, abs=0.1)
