"""The scripts of experiments, from their first line on, in this process."""

import contextlib
import io
import pathlib
import runpy
import sys
from unittest import mock

import pytest
import script_flags

ROOT = pathlib.Path(__file__).parents[2]
MODULE = """
from a3c_jax.envs import catch, domain


def make():
  return catch.Catch(rows=5, columns=3)
"""


def run(script, *arguments, cwd):
  """Exit code, stdout and stderr; like a process, but much faster."""
  out, err = io.StringIO(), io.StringIO()
  try:
    with (
      script_flags.forgotten(),
      contextlib.chdir(cwd),
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      mock.patch.object(sys, 'argv', [script, *arguments]),
      mock.patch.object(sys, 'path', sys.path[:]),
      pytest.raises(SystemExit) as exit_,
    ):
      runpy.run_path(str(ROOT / 'experiments' / script), run_name='__main__')
  finally:
    sys.modules.pop('mine', None)
  return exit_.value.code or 0, out.getvalue(), err.getvalue()


def train_catch(path):
  """Trains on Catch in a folder; returns the folder."""
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


def train_own(path):
  """Trains on an environment of the module `mine`; returns the folder."""
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
  """Evaluates the run of `train_own`."""
  return run(
    'evaluate.py',
    *('--workdir=results', '--env=mine:make', '--episodes=2', '--threads=1'),
    *('--csv=own.csv', *arguments),
    cwd=folder,
  )
