"""The scripts of examples/, alone in a folder."""

import shutil

from programs import ROOT, run, succeeded
import pytest


def run_example(name, folder):
  """Runs a copy of a script, where no other file of the repository is."""
  shutil.copy(ROOT / 'examples' / name, folder)
  return succeeded(run(name, cwd=folder))


def test_a_loss_by_hand(tmp_path):
  out = run_example('loss_by_hand.py', tmp_path)
  assert 'of four streams (4, 3)' in out


def test_training_and_its_curve(tmp_path):
  pytest.importorskip('matplotlib')
  out = run_example('train_and_plot.py', tmp_path)
  last = out.strip().splitlines()[-1]
  assert float(last.split()[-1]) > 0.7
  assert (tmp_path / 'catch.png').read_bytes().startswith(b'\x89PNG')


def test_an_environment_and_a_network_of_ones_own(tmp_path):
  out = run_example('own_environment.py', tmp_path)
  assert float(out.split()[-1]) > 3.3


@pytest.mark.long
def test_a_policy_is_loaded_and_filmed(tmp_path):
  pytest.importorskip('moviepy')
  out = run_example('load_and_film.py', tmp_path)
  assert float(out.split()[-1]) > 0
  (film,) = (tmp_path / 'films').iterdir()
  assert film.suffix == '.mp4'


def test_each_example_is_run_here():
  assert sorted(path.name for path in (ROOT / 'examples').iterdir()) == [
    'load_and_film.py',
    'loss_by_hand.py',
    'own_environment.py',
    'train_and_plot.py',
  ]
