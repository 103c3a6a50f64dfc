"""`python -m a3c_jax`, and modules that `--import` names, in processes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from results import read_rows

from a3c_jax.envs import domain

ROOT = pathlib.Path(__file__).parents[1]
MODULE = """
import pathlib

from a3c_jax.algorithms import registry
from a3c_jax.envs import domain

pathlib.Path('imported').touch()
domain.register(domain.get('catch')._replace(name='own_catch'))
registry.register(registry.get('a3c')._replace(name='own_a3c'))
"""
MAIN = ('-m', 'a3c_jax')
EVALUATE = (str(ROOT / 'experiments/evaluate.py'), '--workdir=r')
PLOT = (str(ROOT / 'experiments/plot.py'), '--workdir=r')


@pytest.fixture
def run(tmp_path):
  """A function (arguments) -> exit code, stdout and stderr of Python."""
  (tmp_path / 'own_module.py').write_text(MODULE)
  paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])

  def run_python(*arguments):
    done = subprocess.run(
      [sys.executable, *arguments],
      env=os.environ | {'PYTHONPATH': paths},
      cwd=tmp_path,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    return done.returncode, done.stdout, done.stderr

  return run_python


def refused(result) -> str:
  """The one line on stderr of a script that refuses its arguments."""
  code, out, err = result
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  assert line.startswith('error: ')
  return line


def test_without_scripts_a_domain_is_trained(run, tmp_path):
  code, out, err = run(
    *MAIN, 'catch', '--threads=1', '--frames=90', '--rows=4', '--workdir=r'
  )
  assert (code, err) == (0, '')
  assert out.endswith('results in r\n')
  record = json.loads((tmp_path / 'r/config.json').read_text())['config']
  assert record['domain'] == 'catch'
  assert record['environment']['rows'] == 4
  assert read_rows(tmp_path / 'r/train.csv')[-1]['frames'] == '90'


def test_help_lists_the_domains_or_the_flags_of_one(run):
  code, out, err = run(*MAIN, '--help')
  assert (code, err) == (0, '')
  for name in domain.names():
    assert f' {name}' in out
  code, out, err = run(*MAIN, 'catch', '--help', '--algo=nstep_q')
  assert (code, err) == (0, '')
  assert '\n  --rows: ' in out and '\n  --exploration_ends: ' in out
  assert '--entropy_cost' not in out


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    ([], 'catch'),
    (['--algo=a3c'], 'catch'),
    (['chess'], 'domain chess: unknown; allowed: atari, '),
    (['catch', 'pong'], 'pong: unexpected'),
    (['catch', '--import=no_such_module'], '--import=no_such_module: '),
    (['catch', '--import=own_module:f'], '--import=own_module:f: '),
  ],
)
def test_bad_input_ends_in_one_line(run, arguments, hint):
  assert hint in refused(run(*MAIN, *arguments))


def test_imported_modules_register_domains_and_algorithms(run, tmp_path):
  own = '--import=own_module'
  train = (*MAIN, 'own_catch', '--algo=own_a3c', '--workdir=r', '--threads=1')
  assert 'own_catch' in run(*MAIN, '--help', own)[1]
  code, _, err = run(*train, own, '--frames=90', '--entropy_cost=0.5')
  assert (code, err) == (0, '')
  record = json.loads((tmp_path / 'r/config.json').read_text())['config']
  assert (record['domain'], record['algo']) == ('own_catch', 'own_a3c')
  assert record['algorithm']['entropy_cost'] == 0.5
  assert 'own_module' not in json.dumps(record)
  code, out, err = run(*EVALUATE, '--episodes=1', '--import', 'own_module')
  assert (code, err) == (0, '')
  assert 'parameters of frame 90' in out
  pytest.importorskip('matplotlib')
  code, _, err = run(*PLOT, own)
  assert (code, err) == (0, '')

  # The run itself never has them imported.
  (tmp_path / 'imported').unlink()
  for script in (EVALUATE, PLOT):
    line = refused(run(*script))
    assert 'own_a3c is not registered here' in line
    assert '--import' in line
  for name, value in (
    ('algo', 'a3c'),
    ('domain', 'own_module'),
    ('import', ['own_module']),
  ):
    path = tmp_path / 'r/config.json'
    content = json.loads(path.read_text())
    content['config'][name] = value
    path.write_text(json.dumps(content))
    assert '--workdir=r: ' in refused(run(*EVALUATE))
  assert not (tmp_path / 'imported').exists()
