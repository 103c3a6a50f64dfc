"""experiments/plot.py, of runs and beside the paper."""

import re

from programs import ROOT, refused, succeeded
import pytest
from script_runs import run

from a3c_jax import command_line


def test_plot_draws_several_runs(trained):
  pytest.importorskip('matplotlib')
  for seed in (1, 2):
    succeeded(
      run(
        f'catch.py --algo=nstep_q --frames=1000 --seed={seed} '
        f'--workdir=q{seed}',
        cwd=trained,
      )
    )
  code, out, err = run(
    'plot.py --workdir=results q1 q2 --out=curves.svg --points=7', cwd=trained
  )
  assert (code, err) == (0, '')
  assert re.fullmatch(
    r' +line  frames +score \[95% interval\]\n'
    r' +A3C +[\d,]+ +-?\d\.\d\d\n'
    r'n-step Q +1,0\d\d +-?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\] of 2 runs\n'
    r'picture in curves\.svg\n',
    out,
  )
  succeeded(run('plot.py --workdir=q1 q2 --seeds=2 --out=2.png', cwd=trained))
  line = refused(run('plot.py --workdir=q1 q2 --seeds=3', cwd=trained))
  assert '--seeds=3: n-step Q has runs with seeds 1, 2; allowed: 3 di' in line
  picture = (trained / 'curves.svg').read_text()
  # Matplotlib writes the text that it draws as a comment beside it.
  for text in (
    'A3C',
    'n-step Q, 2 seeds',
    'frames',
    'hours of training',
    'entropy of the policy, nats',
    'mean Q of the actions taken',
    'norm of the gradient',
    'policy lag, updates',
    'wait for the lock, ms per gradient',
    'share of all gradients',
    'frames per second',
    'means over 1/7 of the axis',
    'lowest to highest seed',
  ):
    assert text in picture


def test_plot_draws_what_is_learnt_from_a_replay_memory(tmp_path):
  pytest.importorskip('matplotlib')
  succeeded(
    run(
      'catch.py --algo=dqn --frames=2000 --eval_frames=0 --workdir=results',
      cwd=tmp_path,
    )
  )
  train = (tmp_path / 'results/train.csv').read_text()
  assert 'nan' in train  # It has no policy lag.
  described = (ROOT / 'docs/replay.md').read_text().split('## ')
  (described,) = [x for x in described if x.startswith('In the results')]
  columns = [x for x in train.split('\n')[0].split(',') if 'replay' in x]
  assert {*re.findall(r'`(replay_\w+)`', described)} == {*columns}
  succeeded(run('plot.py --workdir=results --out=curves.svg', cwd=tmp_path))
  picture = (tmp_path / 'curves.svg').read_text()
  for text in (
    'mean Q of replayed actions',
    'error |δ| of replayed actions',
    'norm of the gradient of minibatches',
    'age of replayed transitions',
  ):
    assert text in picture
  # Nor has a panel that would be empty.
  assert 'policy lag, updates' not in picture


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    ([], '--workdir=: allowed: paths'),
    (['nowhere'], '--workdir=nowhere: config.json: No such file'),
    (['results', '--out=curves.doc'], '--out=curves.doc: allowed: a path'),
    (['results', '--out=nowhere/a.png'], '--out=nowhere/a.png: nowhere is no'),
    (['results', '--points=0'], '--points=0: allowed'),
    (['results', '--seeds=-1'], '--seeds=-1: allowed: a whole number, 0 to 10'),
    (['results', '--seeds=1.5'], '--seeds=1.5'),
    (['results', '--paper'], '--paper: the paper has no curve'),
  ],
)
def test_plot_refuses_bad_input_in_one_line(trained, arguments, hint):
  pytest.importorskip('matplotlib')
  line = refused(run('plot.py', *arguments, cwd=trained))
  assert hint in line


def test_plot_beside_the_paper(tmp_path):
  pytest.importorskip('ale_py')
  pytest.importorskip('matplotlib')
  succeeded(
    run(
      'atari.py --algo=one_step_sarsa --frames=100 --threads=2 '
      '--eval_frames=0 --workdir=results',
      cwd=tmp_path,
    )
  )
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
  succeeded(run(*arguments, cwd=tmp_path))
  picture = (tmp_path / 'curves.svg').read_text()
  assert 'paper, 1-step SARSA, 2 threads (Fig. S9)' in picture
  assert 'paper, 1-step SARSA, 2 threads (Fig. S10)' in picture


def test_a_script_draws_its_run(tmp_path, monkeypatch):
  pytest.importorskip('matplotlib')
  command = 'catch.py --frames=200 --eval_frames=0 --workdir=results'
  succeeded(run(command, cwd=tmp_path))
  # A run of less than some seconds has hardly a curve.
  assert not (tmp_path / 'results/curve.png').exists()
  monkeypatch.setattr(command_line, '_PICTURE_SECONDS', 0.0)
  again = succeeded(run(command, cwd=tmp_path))
  assert 'results in results' in again
  png = (tmp_path / 'results/curve.png').read_bytes()
  assert png.startswith(b'\x89PNG')
