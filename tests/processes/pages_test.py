"""The code on the pages of the documentation runs as it is printed."""

import pathlib
import re
import subprocess

from catch_runs import run
import numpy as np
from programs import ROOT
import pytest

from a3c_jax.envs import domain, gym
from a3c_jax.runs import workdir

RESUME = (ROOT / 'docs/guides/resume.md').read_text()
PAGES = [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')]
BLOCKS = {
  path.relative_to(ROOT): re.findall(
    r'```python\n(.*?)```', path.read_text(), re.DOTALL
  )
  for path in PAGES
}
for name in ('CONTRIBUTING.md', 'docs/replay.md'):  # They have own tests.
  del BLOCKS[pathlib.Path(name)]


def block_with(text):
  """The only block of Python that contains a text."""
  (block,) = [
    block for blocks in BLOCKS.values() for block in blocks if text in block
  ]
  return block


def test_every_block_is_run_here():
  here = {str(path): len(blocks) for path, blocks in BLOCKS.items() if blocks}
  assert here == {
    'docs/start.md': 2,
    'docs/asynchrony.md': 1,
    'docs/guides/environments.md': 1,
    'docs/guides/evaluate.md': 2,
    'docs/guides/ideas.md': 1,
    'docs/guides/train.md': 1,
    'docs/guides/search.md': 1,
  }


def test_the_gradient_of_a_loss_is_that_of_the_page(capsys):
  exec(block_with('losses.nstep_q_loss'), {})
  # R = 0.9² (1 + 0.9 · 3), 0.9 (1 + 0.9 · 3) and 1 + 0.9 · 3, less Q.
  rows = [[0, 1 - 2.997], [0.5 - 3.33, 0], [1 - 3.7, 0]]
  printed = capsys.readouterr().out.translate(str.maketrans('[]', '  '))
  np.testing.assert_allclose(
    np.fromstring(printed, sep=' '), np.ravel(rows), rtol=1e-5
  )


def test_a_domain_of_ones_own_trains_as_printed(tmp_path, monkeypatch):
  monkeypatch.setattr(domain, '_registered', {})
  block = block_with('domain.register')
  assert block.endswith(
    "train('lake')  # python lake.py --size=5 --algo=nstep_q\n"
  )
  exec(block, {'__name__': 'lake'})
  options = domain.get('lake').options(size=5)
  run(
    tmp_path / 'results',
    domain='lake',
    environment=options,
    algo='nstep_q',
    frames=20,
  )
  assert workdir.read_config(tmp_path / 'results').environment == options


def test_the_research_example_runs_as_printed(tmp_path, monkeypatch, capsys):
  block = block_with('def double_q')
  assert len(block.splitlines()) <= 25
  assert block.count('frames=60_000') == 1
  monkeypatch.chdir(tmp_path)
  exec(block.replace('frames=60_000', 'frames=600'), {})
  assert 'results in runs/catch-one_step_q-seed1-' in capsys.readouterr().out
  assert len(list(tmp_path.glob('runs/*/train.csv'))) == 1


def test_a_notebook_shows_progress_and_ends(tmp_path, monkeypatch, capsys):
  block = block_with('ProgressLine')
  assert block.count('frames=20_000') == 1
  monkeypatch.chdir(tmp_path)
  names = {}
  exec(block.replace('frames=20_000', 'frames=600'), names)
  assert names['result'].finished
  assert ' frames ' in capsys.readouterr().out


def test_a_logger_prunes_trials_as_printed(tmp_path, monkeypatch):
  optuna = pytest.importorskip('optuna')
  monkeypatch.chdir(tmp_path)
  block = block_with('class Pruner')
  for number in ('frames=20_000', 'n_trials=8'):
    assert block.count(number) == 1
  small = block.replace('frames=20_000', 'frames=600')
  names = {}
  exec(small.replace('n_trials=8', 'n_trials=2'), names)
  assert [trial.state for trial in names['study'].trials] == [
    optuna.trial.TrialState.COMPLETE
  ] * 2
  monkeypatch.setattr(optuna.Trial, 'should_prune', lambda trial: True)
  names['study'].optimize(names['objective'], n_trials=1)
  assert names['study'].trials[-1].state == optuna.trial.TrialState.PRUNED


def test_a_logger_ends_a_run_as_printed(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  exec(block_with('class StopEarly'), {})
  out = capsys.readouterr().out.splitlines()
  assert out[-1] == 'good enough'
  assert len(out) > 1


def test_a_recorded_run_is_repeated_as_printed(tmp_path, monkeypatch, capsys):
  run(tmp_path / 'runs/recorded', algo='a3c', frames=100, record=True)
  monkeypatch.chdir(tmp_path)
  names = {}
  block = block_with('a3c_jax.rerun')
  assert block.count('until=1000') == 1
  exec(block.replace('until=1000', 'until=10'), names)
  assert capsys.readouterr().out.splitlines()[0] == '1 0 0'
  assert names['step'].after.updates == 10


def load_as_printed(text, folder):
  """The names of the block of a text, which loads the run in `results`."""
  block = block_with(text)
  printed = re.search(f"load\\('({folder}.*)'\\)", block)
  names = {}
  exec(block.replace(printed[1], 'results'), names)
  return names


def test_the_policy_of_a_run_plays_as_printed(tmp_path, monkeypatch):
  pytest.importorskip('ale_py')
  run(tmp_path / 'results', domain='atari', frames=20)
  monkeypatch.chdir(tmp_path)
  names = load_as_printed('atari', 'runs/pong-a3c-')
  assert names['policy'].frames == 20
  assert names['action'].shape == (1,)


def test_a_policy_in_an_environments_own_units_plays_as_printed(
  tmp_path, monkeypatch
):
  options = gym.Options(env='Pendulum-v1')
  run(tmp_path / 'results', domain='gym', environment=options, frames=20)
  monkeypatch.chdir(tmp_path)
  names = load_as_printed('Pendulum-v1', 'runs/Pendulum-v1-a3c-')
  assert names['env'].action_space.contains(names['actions'][0])
  assert names['envs'].action_space.shape == (4, 1)


@pytest.mark.parametrize(
  ('training_code', 'warned', 'requeued'),
  [(0, True, True), (1, True, False), (0, False, False), (1, False, False)],
)
def test_a_job_of_slurm_requeues_itself_as_printed(
  tmp_path, training_code, warned, requeued
):
  (script,) = re.findall(r'```bash\n(#!/bin/bash\n.*?)```', RESUME, re.DOTALL)
  (tmp_path / 'job').write_text(script)
  wait = 'for _ in {1..2000}; do sleep 0.01; done'
  signal = f'kill -USR1 $PPID; {wait}' if warned else ':'
  for name, text in (
    # Training, which SLURM warns by way of the script, or which just ends.
    ('python', f"trap 'exit {training_code}' USR1\n{signal}"),
    ('scontrol', f'echo "$@" > {tmp_path}/requeued'),
  ):
    path = tmp_path / name
    path.write_text(f'#!/bin/bash\n{text}\nexit {training_code}\n')
    path.chmod(0o755)
  done = subprocess.run(
    ['bash', str(tmp_path / 'job')],
    env={'PATH': f'{tmp_path}:/usr/bin:/bin', 'SLURM_JOB_ID': '7'},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert (done.returncode, done.stderr) == (training_code, '')
  told = tmp_path / 'requeued'
  assert (told.exists() and told.read_text()) == (requeued and 'requeue 7\n')
