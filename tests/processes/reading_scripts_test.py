"""The scripts that read runs, from their first line on, in this process."""

import json
import os
import pathlib
import re
import resource
import shutil
import sys

from marks import needs_labyrinth, needs_pictures
import pytest
from results import read_rows, size_of
from script_runs import run
import short_runs

from a3c_jax.envs import catch, domain

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The folder of a short run on Catch."""
  path = tmp_path_factory.mktemp('trained')
  code, _, err = run(
    'catch.py',
    '--frames=2000',
    '--threads=2',
    '--eval_frames=1000',
    '--workdir=results',
    cwd=path,
  )
  assert (code, err) == (0, '')
  return path


def test_training_evaluates_on_the_way_and_at_the_end(trained):
  rows = read_rows(trained / 'results/eval.csv')
  frames = int(read_rows(trained / 'results/train.csv')[-1]['frames'])
  assert int(rows[-1]['frames']) == frames
  for row in rows:
    assert (row['protocol'], row['policy']) == ('plain', 'sampled')
    assert row['episodes'] == '10'
    assert -1 <= float(row['mean_return']) <= 1
    assert row['human_normalized'] == ''
  best = max(rows, key=lambda row: float(row['mean_return']))
  (kept,) = (trained / 'results/best').iterdir()
  assert kept.name == best['frames']


def test_evaluate(trained):
  arguments = ('evaluate.py', '--workdir=results', '--episodes=5')
  code, out, err = run(*arguments, cwd=trained)
  assert (code, err) == (0, '')
  assert '5 episodes, plain: the environment as it is' in out
  assert out.endswith('row in results/evaluations.csv\n')
  assert run(*arguments, '--policy=greedy', '--threads=1', cwd=trained)[0] == 0
  rows = read_rows(trained / 'results/evaluations.csv')
  assert [row['policy'] for row in rows] == ['sampled', 'greedy']
  for row in rows:
    assert (row['algo'], row['env'], row['protocol']) == (
      'a3c',
      'catch',
      'plain',
    )
    assert (row['episodes'], row['mean_steps']) == ('5', '9.0')
    assert (
      row['frames'] == read_rows(trained / 'results/eval.csv')[-1]['frames']
    )


def test_episodes_are_truncated_at_the_frames_that_are_asked_for(trained):
  # Those of Catch have 9 steps, of a frame each.
  arguments = ('evaluate.py', '--workdir=results', '--episodes=4')
  for most, truncated in ((9, 0), (8, 4)):
    code, out, err = run(
      *arguments,
      *(f'--max_eval_episode_frames={most}', f'--csv={most}.csv'),
      cwd=trained,
    )
    assert (code, err) == (0, '')
    line = '4 of 4 episodes were truncated, at 8 frames'
    assert (line in out) == bool(truncated)
    (row,) = read_rows(trained / f'{most}.csv')
    assert row['truncated_episodes'] == str(truncated)
    assert row['mean_steps'] == f'{most}.0'


EARLIER = (
  'algo,env,seed,frames,protocol,policy,eval_seed,episodes,mean_return,'
  'median_return,standard_error,lowest_return,highest_return,mean_steps,'
  'human_normalized'
)


def test_a_table_of_an_earlier_version_keeps_its_columns(trained):
  path = trained / 'earlier.csv'
  path.write_text(f'{EARLIER}\r\n')
  code, _, err = run(
    *('evaluate.py', '--workdir=results', '--episodes=2', '--csv=earlier.csv'),
    cwd=trained,
  )
  assert (code, err) == (0, '')
  (row,) = read_rows(path)
  assert ','.join(row) == EARLIER
  assert (row['mean_steps'], row['human_normalized']) == ('9.0', '')


def test_a_score_is_kept_though_environments_cannot_be_closed(
  trained, monkeypatch
):
  def close(self):
    raise AttributeError('no viewer')

  monkeypatch.setattr(catch.Catch, 'close', close)
  code, out, err = run(
    *('evaluate.py', '--workdir=results', '--episodes=2', '--threads=2'),
    '--csv=closed.csv',
    cwd=trained,
  )
  assert code == 0
  assert out.endswith('row in closed.csv\n')
  assert err == (
    "warning: closing 2 of 2 environments raised AttributeError('no viewer')\n"
  )
  assert len(read_rows(trained / 'closed.csv')) == 1


def test_a_video_of_catch(trained):
  pytest.importorskip('moviepy')
  code, out, err = run(
    'evaluate.py',
    '--workdir=results',
    '--episodes=3',
    '--video=films/here',
    '--video_episodes=2',
    '--csv=own.csv',
    cwd=trained,
  )
  assert (code, err) == (0, '')
  films = sorted((trained / 'films/here').iterdir())
  assert [film.name[-13:] for film in films] == [
    'episode-0.mp4',
    'episode-1.mp4',
  ]
  for film in films:
    assert str(film.relative_to(trained)) in out
    size, seconds = size_of(film)
    assert tuple(size) == (80, 160)
    assert seconds == pytest.approx(9 / 4)  # Nine steps, four a second.
  assert len(read_rows(trained / 'own.csv')) == 1


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    ([], '--workdir=: allowed: a path'),
    (['--workdir=nowhere'], '--workdir=nowhere: config.json: No such file'),
    (
      ['--workdir=results', '--protocol=human'],
      '--protocol=human: allowed for catch: plain',
    ),
    (
      ['--workdir=results', '--protocol=noop30'],
      '--protocol=noop30: allowed for catch: plain',
    ),
    (['--workdir=results', '--checkpoint=1e3'], '--checkpoint=1e3: allowed'),
    (['--workdir=results', '--checkpoint=17'], '--checkpoint=17: there are'),
    (['--workdir=results', '--video=/dev/null/films'], '--video=/dev/null'),
    (['--workdir=results', '--csv=results'], '--csv=results: '),
    (
      ['--workdir=results', '--csv=' + 300 * 'x'],
      300 * 'x' + ': File name too long; allowed: a file',
    ),
    (['--workdir=results', '--csv=/dev/full'], '--csv=/dev/full: is no file'),
    (['--workdir=results', '--csv=nowhere/a.csv'], 'nowhere is not a folder'),
    (
      ['--workdir=results', '--checkpoint=' + 5000 * '9'],
      '9…: allowed: latest, best, or a count of frames',
    ),
    (
      ['--workdir=results', '--env=CartPole-v1'],
      '--env=CartPole-v1: the run has catch; allowed: that, or no --env',
    ),
    (['--workdir=results', '--network=nips'], '--network=nips: the run has'),
    (
      ['--workdir=results', '--csv=results/train.csv'],
      '--csv=results/train.csv: has other columns',
    ),
    (['--workdir=results', '--episodes=0'], '--episodes=0: allowed'),
    (
      ['--workdir=results', '--exploration_epsilon=0.5'],
      '--exploration_epsilon=0.5: allowed for value-based',
    ),
  ],
)
def test_evaluate_refuses_bad_input_in_one_line(trained, arguments, hint):
  def state():
    return sorted(
      (str(path), path.stat().st_mtime_ns) for path in trained.rglob('*')
    )

  before = state()
  code, out, err = run('evaluate.py', *arguments, cwd=trained)
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  assert line.startswith('error: ')
  assert hint in line
  assert state() == before


def test_plot_draws_several_runs(trained):
  pytest.importorskip('matplotlib')
  for seed in (1, 2):
    code, _, err = run(
      'catch.py',
      '--algo=nstep_q',
      '--frames=1000',
      f'--seed={seed}',
      f'--workdir=q{seed}',
      cwd=trained,
    )
    assert (code, err) == (0, '')
  code, out, err = run(
    'plot.py',
    '--workdir=results',
    'q1',
    'q2',
    '--out=curves.svg',
    '--points=7',
    cwd=trained,
  )
  assert (code, out, err) == (0, 'picture in curves.svg\n', '')
  picture = (trained / 'curves.svg').read_text()
  # Matplotlib writes the text that it draws as a comment beside it.
  for text in (
    'a3c',
    'nstep_q, 2 seeds',
    'frames',
    'hours of training',
    'entropy of the policy, nats',
    'mean Q of the actions taken',
    'norm of the gradient',
    'lag, updates of other threads',
    'frames per second',
    'means over 1/7 of the axis',
    'lowest to highest seed',
  ):
    assert text in picture


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    ([], '--workdir=: allowed: paths'),
    (['nowhere'], '--workdir=nowhere: config.json: No such file'),
    (['results', '--out=curves.doc'], '--out=curves.doc: allowed: a path'),
    (['results', '--out=nowhere/a.png'], '--out=nowhere/a.png: nowhere is no'),
    (['results', '--points=0'], '--points=0: allowed'),
    (['results', '--paper'], '--paper: the paper has no curve'),
  ],
)
def test_plot_refuses_bad_input_in_one_line(trained, arguments, hint):
  pytest.importorskip('matplotlib')
  code, out, err = run('plot.py', *arguments, cwd=trained)
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  assert line.startswith('error: ')
  assert hint in line


def test_plot_beside_the_paper(tmp_path):
  pytest.importorskip('ale_py')
  pytest.importorskip('matplotlib')
  code, _, err = run(
    'atari.py',
    '--algo=one_step_sarsa',
    '--frames=100',
    '--threads=2',
    '--eval_frames=0',
    '--workdir=results',
    cwd=tmp_path,
  )
  assert (code, err) == (0, '')
  arguments = ('plot.py', '--workdir=results', '--paper', '--out=curves.svg')
  code, _, err = run(*arguments, cwd=tmp_path)
  assert (code, err.count('\n')) == (2, 1)
  assert 'no episode of these runs has ended yet' in err
  with (tmp_path / 'results/episodes.csv').open('a') as file:
    for frames in (1_000_000, 20_000_000):
      seconds, score = frames / 4000, -21
      file.write(
        f'one_step_sarsa,pong,1,{frames},{seconds},0,{score},{score},4000\n'
      )
  code, _, err = run(*arguments, cwd=tmp_path)
  assert (code, err) == (0, '')
  picture = (tmp_path / 'curves.svg').read_text()
  assert 'paper, 1-step SARSA, 2 threads (Fig. S9)' in picture
  assert 'paper, 1-step SARSA, 2 threads (Fig. S10)' in picture


MODULE = """
from a3c_jax.envs import catch, domain


def make():
  return catch.Catch(rows=5, columns=3)
"""


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  """The folder of a short run on an environment of one's own, `mine`."""
  path = tmp_path_factory.mktemp('own')
  (path / 'mine.py').write_text(MODULE)
  code, _, err = run(
    'gym_env.py',
    *('--env=mine:make', '--frames=200', '--threads=1', '--eval_frames=0'),
    '--workdir=results',
    cwd=path,
  )
  assert (code, err) == (0, '')
  return path


def evaluate_own(folder, *arguments):
  return run(
    'evaluate.py',
    *('--workdir=results', '--env=mine:make', '--episodes=2', '--threads=1'),
    *('--csv=own.csv', *arguments),
    cwd=folder,
  )


def test_a_video_of_what_cannot_be_filmed_is_refused(own):
  code, out, err = evaluate_own(own, '--video=films')
  assert (code, out) == (2, '')
  assert err == (
    'error: --video of mine:make: it renders None; allowed: environments that '
    'render rgb_array\n'
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


def write_films(folder, first, later):
  (folder / 'mine.py').write_text(
    MODULE
    + f"""

import numpy as np

class Films(catch.Catch):
  frames = 0

  def __init__(self):
    super().__init__(rows=5, columns=3, render_mode='rgb_array')

  def render(self):
    Films.frames += 1
    return {first} if Films.frames <= 2 else {later}

make = Films
"""
  )


@pytest.mark.parametrize('name', RENDERS)
def test_a_frame_that_is_no_picture_is_told_before_an_episode(own, name):
  write_films(own, RENDERS[name], FRAME)
  code, out, err = evaluate_own(own, '--video=films')
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  assert line.startswith('error: --video')
  assert 'environments that render rgb_array' in line
  assert not (own / 'films').exists()
  assert not (own / 'own.csv').exists()


@pytest.mark.parametrize('name', RENDERS)
def test_a_frame_that_fails_later_costs_its_video_alone(own, name):
  pytest.importorskip('moviepy')
  write_films(own, FRAME, RENDERS[name])
  code, out, err = evaluate_own(own, '--video=films', '--csv=later.csv')
  assert code == 0
  (warning,) = err.splitlines()
  assert warning.startswith('warning: no video of episode 0: ')
  assert '2 episodes, plain' in out
  assert len(read_rows(own / 'later.csv')) == 1
  assert list((own / 'films').iterdir()) == []
  (own / 'later.csv').unlink()
  (own / 'films').rmdir()


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


def test_an_encoder_that_does_not_work_is_told_before_an_episode(
  trained, monkeypatch
):
  break_encoder(monkeypatch, works=0)
  code, out, err = run(
    'evaluate.py', '--workdir=results', '--video=encoder', cwd=trained
  )
  assert (code, out, err.count('\n')) == (2, '', 1)
  assert err.startswith('error: --video=encoder: OSError: [Errno 28] No space')
  assert list((trained / 'encoder').iterdir()) == []


def test_an_encoder_that_fails_later_costs_its_video_alone(
  trained, monkeypatch
):
  break_encoder(monkeypatch, works=2)  # The trial and episode 0.
  code, out, err = run(
    'evaluate.py',
    *('--workdir=results', '--video=later', '--video_episodes=2'),
    *('--episodes=2', '--threads=1', '--csv=later.csv'),
    cwd=trained,
  )
  assert code == 0
  assert err == (
    'warning: no video of episode 1: OSError: [Errno 28] No space left on '
    'device ffmpeg says so\n'
  )
  (film,) = (trained / 'later').iterdir()
  assert film.name.endswith('-episode-0.mp4')
  assert len(read_rows(trained / 'later.csv')) == 1


def test_without_moviepy_no_episode_is_played(trained, monkeypatch):
  monkeypatch.delattr('gymnasium.utils.save_video', raising=False)
  monkeypatch.setitem(sys.modules, 'gymnasium.utils.save_video', None)
  code, out, err = run(
    'evaluate.py', '--workdir=results', '--video=missing', cwd=trained
  )
  assert (code, out) == (2, '')
  assert err == (
    "error: --video=missing: needs moviepy; pip install 'moviepy>=2.2,<3'\n"
  )
  assert not (trained / 'missing').exists()


def test_a_full_disk_costs_the_row_and_not_the_result(trained):
  arguments = (
    'evaluate.py',
    *('--workdir=results', '--episodes=2', '--threads=1', '--csv=full.csv'),
  )
  assert run(*arguments, cwd=trained)[0] == 0
  path = trained / 'full.csv'
  path.write_text(path.read_text() + '0,' * 2**16 + '\n')
  before = path.read_bytes()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
  try:
    code, out, err = run(*arguments, cwd=trained)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert code == 1
  assert '2 episodes, plain' in out
  assert 'mean ' in out
  assert err == (
    'error: --csv=full.csv: File too large; the result is printed above, but '
    'has no row\n'
  )
  assert path.read_bytes() == before


@pytest.fixture
def copied(trained, tmp_path):
  """A folder with a copy of the run on Catch, without evaluations."""
  shutil.copytree(trained / 'results', tmp_path / 'results')
  (tmp_path / 'results/evaluations.csv').unlink(missing_ok=True)
  return tmp_path


@pytest.mark.parametrize('there', [True, False])
def test_evaluations_are_not_written_through_a_link(copied, there):
  # A row that was never finished stays one for itself.
  before = f'{EARLIER}\r\na3c,cat'
  if there:
    (copied / 'mine').write_text(before)
  (copied / 'results/evaluations.csv').symlink_to('../mine')
  arguments = ('evaluate.py', '--workdir=results', '--episodes=1')
  code, out, err = run(*arguments, cwd=copied)
  assert (code, out) == (2, '')
  assert err.startswith('error: --csv=results/evaluations.csv: is a link')
  assert err.count('\n') == 1
  if there:
    assert (copied / 'mine').read_bytes() == before.encode()
    # The user's own link is the user's own word.
    (copied / 'link.csv').symlink_to('mine')
    assert run(*arguments, '--csv=link.csv', cwd=copied)[0] == 0
    unfinished, row = read_rows(copied / 'mine')
    assert (unfinished['env'], unfinished['seed']) == ('cat', None)
    assert (row['env'], row['episodes']) == ('catch', '1')
  else:
    assert not (copied / 'mine').exists()


def test_evaluations_do_not_wait_for_a_pipe(copied):
  os.mkfifo(copied / 'results/evaluations.csv')
  code, out, err = run('evaluate.py', '--workdir=results', cwd=copied)
  assert (code, out) == (2, '')
  assert err.startswith(
    'error: --csv=results/evaluations.csv: is no file; allowed: '
  )


def change_config(folder, **changes):
  path = folder / 'results/config.json'
  record = json.loads(path.read_text())
  record['config'] |= changes
  path.write_text(json.dumps(record))


STRANGER = """
import pathlib
pathlib.Path(__file__).with_name('imported').touch()
"""


@pytest.mark.parametrize(
  ('changes', 'named'),
  [
    ({'network': 'mine:run'}, '--network=mine:run'),
    (
      {'domain': 'gym', 'environment': {'env': 'mine:run'}},
      '--env=mine:run',
    ),
    (
      {'domain': 'control', 'environment': {'env': 'mine:Game-v0'}},
      '--env=mine:Game-v0',
    ),
    (
      {
        'domain': 'gym',
        'environment': {'env': 'mine:run'},
        'network': 'os:abort',
      },
      '--env=mine:run --network=os:abort',
    ),
    ({'network': 'mine:\x1b]0;title\x07'}, '--network=mine:?]0;title?'),
  ],
)
def test_evaluate_imports_nothing_that_a_workdir_names(copied, changes, named):
  (copied / 'mine.py').write_text(STRANGER)
  change_config(copied, **changes)
  code, out, err = run('evaluate.py', '--workdir=results', cwd=copied)
  assert (code, out) == (2, '')
  assert err == (
    'error: --workdir=results: its config.json names code that would be '
    f'imported and called: {named}; allowed: --env and --network as the run '
    'has them, or --trust_workdir (in Python: trust=True), if you trust where '
    'it comes from'
    '\n'
  )
  for script in ('plot.py', 'evaluate.py'):
    run(script, '--workdir=results', cwd=copied)
  assert not (copied / 'imported').exists()


def test_evaluate_runs_what_the_user_names_or_trusts(own):
  (own / 'mine.py').write_text(MODULE)
  arguments = ('evaluate.py', '--workdir=results', '--episodes=1')
  for flag in ('--env=mine:make', '--trust_workdir'):
    code, out, err = run(*arguments, flag, cwd=own)
    assert (code, err) == (0, '')
  for flag, hint in (
    ('--network=auto', 'called: --env=mine:make; allowed'),
    ('--env=mine:other', '--env=mine:other: the run has mine:make; allowed'),
  ):
    code, out, err = run(*arguments, flag, cwd=own)
    assert (code, out) == (2, '')
    assert hint in err


def test_an_environment_that_has_changed_is_told_in_one_line(own):
  changed = MODULE.replace('columns=3', 'columns=4')
  (own / 'mine.py').write_text(changed)
  code, out, err = evaluate_own(own)
  assert (code, out, err.count('\n')) == (2, '', 1)
  assert err.startswith(
    'error: --workdir=results: the observation space of mine:make is Box('
  )


def test_reading_a_workdir_from_within_imports_nothing_from_it(copied):
  for name in ('moviepy', 'PIL', 'matplotlib', 'ale_py'):
    (copied / 'results' / f'{name}.py').write_text(STRANGER)
  script = (
    'import runpy, sys\n'
    'sys.argv = ["", "--workdir=.", "--episodes=1", "--video=films"]\n'
    f'sys.path[0] = {str(ROOT / "experiments")!r}\n'
    f'runpy.run_path({str(ROOT / "experiments/evaluate.py")!r}, '
    'run_name="__main__")\n'
  )
  result = short_runs.run_python(script, copied / 'results')
  assert (result.returncode, result.stderr) == (0, '')
  assert not (copied / 'results/imported').exists()


def test_text_of_a_run_is_no_formula_in_its_evaluations(copied, monkeypatch):
  monkeypatch.setattr(domain, '_registered', {})
  domain.register(
    catch.DOMAIN._replace(name='formula', env_name=lambda options: '=1+1')
  )
  change_config(copied, domain='formula')
  code, _, err = run(
    'evaluate.py', '--workdir=results', '--episodes=1', cwd=copied
  )
  assert (code, err) == (0, '')
  (row,) = read_rows(copied / 'results/evaluations.csv')
  assert (row['env'], row['algo']) == ("'=1+1", 'a3c')
  assert float(row['mean_return']) in (-1, 1)


def test_evaluate_pong_with_a_video(tmp_path):
  pytest.importorskip('ale_py')
  assert (
    run(
      'atari.py',
      '--algo=nstep_q',
      '--frames=100',
      '--threads=1',
      '--eval_episodes=1',
      '--workdir=results',
      cwd=tmp_path,
    )[0]
    == 0
  )
  (row,) = read_rows(tmp_path / 'results/eval.csv')
  assert (row['protocol'], row['policy']) == ('noop30', 'epsilon-greedy 0.05')
  # On the scale from -20.7, random, to 14.6, human.
  percent = 100 * (float(row['mean_return']) + 20.7) / 35.3
  assert float(row['human_normalized']) == pytest.approx(percent)
  code, out, err = run(
    'evaluate.py',
    '--workdir=results',
    '--episodes=1',
    '--protocol=sticky',
    '--video=films',
    cwd=tmp_path,
  )
  assert (code, err) == (0, '')
  assert 'no human scores with sticky actions exist' in out
  (row,) = read_rows(tmp_path / 'results/evaluations.csv')
  assert (row['protocol'], row['human_normalized']) == ('sticky', '')
  (film,) = (tmp_path / 'films').iterdir()
  size, seconds = size_of(film)
  assert tuple(size) == (160, 210)
  assert seconds == pytest.approx(float(row['mean_steps']) / 15, abs=0.1)


@pytest.fixture(scope='module')
def swung(tmp_path_factory):
  """The folder of a short run on a task of continuous control."""
  path = tmp_path_factory.mktemp('swung')
  code, _, err = run(
    'continuous_control.py',
    '--env=InvertedPendulum-v5',
    '--frames=400',
    '--threads=2',
    '--eval_episodes=1',
    '--nolstm',
    '--workdir=results',
    cwd=path,
  )
  assert (code, err) == (0, '')
  return path


def test_evaluate_continuous_control_by_mean_and_samples(swung):
  (row,) = read_rows(swung / 'results/eval.csv')
  assert (row['policy'], row['protocol']) == ('sampled', 'plain')
  arguments = ('evaluate.py', '--workdir=results', '--episodes=3')
  for policy in ('mean', 'sample'):
    code, out, err = run(*arguments, f'--policy={policy}', cwd=swung)
    assert (code, err) == (0, '')
  assert 'actions: sampled; raw scores' in out
  rows = read_rows(swung / 'results/evaluations.csv')
  assert [row['policy'] for row in rows] == ['mean', 'sampled']
  assert rows[0]['mean_return'] != rows[1]['mean_return']
  code, out, err = run(*arguments, '--policy=greedy', cwd=swung)
  assert (code, out) == (2, '')
  assert err == (
    'error: --policy=greedy: allowed for InvertedPendulum-v5: sample, mean\n'
  )


def test_mean_of_a_policy_over_discrete_actions(trained):
  code, out, err = run(
    'evaluate.py', '--workdir=results', '--policy=mean', cwd=trained
  )
  assert (code, out) == (2, '')
  assert err == 'error: --policy=mean: allowed for catch: sample, greedy\n'


@needs_pictures
def test_a_video_of_mujoco(swung):
  pytest.importorskip('moviepy')
  code, out, err = run(
    'evaluate.py',
    '--workdir=results',
    '--episodes=2',
    '--policy=mean',
    '--video=films',
    cwd=swung,
  )
  assert (code, err) == (0, '')
  (film,) = (swung / 'films').iterdir()
  size, _ = size_of(film)
  assert tuple(size) == (480, 480)


@needs_pictures
def test_a_run_from_pixels(tmp_path):
  code, out, err = run(
    'continuous_control.py',
    '--env=InvertedPendulum-v5',
    '--pixels',
    '--image_size=40',
    '--action_repeat=4',
    '--t_max=2',
    '--envs_per_thread=1',
    '--frames=80',
    '--threads=2',
    '--eval_frames=0',
    '--workdir=results',
    cwd=tmp_path,
  )
  assert (code, err) == (0, '')
  (row,) = read_rows(tmp_path / 'results/train.csv')
  # Segments of 2 steps of 4 frames, and up to one more in the other thread.
  assert int(row['frames']) in (80, 88)


@needs_labyrinth
def test_a_run_in_labyrinth_is_evaluated_filmed_and_drawn(tmp_path):
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
    ('evaluate.py', '--workdir=results', '--episodes=1', '--video=films'),
    ('plot.py', '--workdir=results', '--out=curves.png'),
  ):
    code, _, err = run(script, *arguments, cwd=tmp_path)
    assert (code, err) == (0, '')
  (row,) = read_rows(tmp_path / 'results/evaluations.csv')
  assert (row['protocol'], row['env']) == ('plain', 'labyrinth')
  (film,) = (tmp_path / 'films').iterdir()
  size, seconds = size_of(film)
  assert tuple(size) == (672, 336)
  assert seconds == pytest.approx(3.0, abs=0.25)
  assert (tmp_path / 'curves.png').stat().st_size > 0


@needs_labyrinth
def test_benchmark_of_labyrinth(tmp_path):
  code, out, err = run(
    'benchmark.py',
    *('--env=labyrinth', '--threads=2', '--seconds=1', '--network=mlp'),
    *('--envs_per_thread=1', '--nolstm'),
    cwd=tmp_path,
  )
  assert (code, err) == (0, '')
  assert float(re.search(r'^ratio +([0-9.]+)$', out, re.MULTILINE)[1]) > 0
  assert list(tmp_path.iterdir()) == []


@needs_labyrinth
def test_scales_of_labyrinth(tmp_path):
  code, out, err = run(
    'labyrinth_scales.py',
    *('--episodes=2', '--episode_seconds=20', '--maze_size=7'),
    cwd=tmp_path,
  )
  assert (code, err) == (0, '')
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
