"""The scripts of experiments, from their first line on, in this process."""

import contextlib
import io
import resource
import runpy
import sys
from unittest import mock

from programs import ROOT, succeeded
import pytest
import script_flags

MODULE = """
from a3c_jax.envs import catch, domain


def make():
  return catch.Catch(rows=5, columns=3)
"""


def run(command, *arguments, cwd):
  """Runs a script of experiments/ as a process would, but much faster.

  Args:
    command: its name and, after spaces, flags.
    *arguments: more of them.
    cwd: its working directory.

  Returns:
    Exit code, stdout and stderr.
  """
  script, *flags = command.split()
  out, err = io.StringIO(), io.StringIO()
  try:
    with (
      script_flags.forgotten(),
      contextlib.chdir(cwd),
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      mock.patch.object(sys, 'argv', [script, *flags, *arguments]),
      mock.patch.object(sys, 'path', sys.path[:]),
      pytest.raises(SystemExit) as exit_,
    ):
      runpy.run_path(str(ROOT / 'experiments' / script), run_name='__main__')
  finally:
    sys.modules.pop('mine', None)
  return exit_.value.code or 0, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def largest_files(size):
  """No file can get larger than so many bytes, as on a disk that is full."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def train_catch(path):
  """Trains on Catch in a folder; returns the folder."""
  succeeded(
    run(
      'catch.py --frames=2000 --threads=2 --eval_frames=1000 --workdir=results',
      cwd=path,
    )
  )
  return path


def train_own(path):
  """Trains on an environment of the module `mine`; returns the folder."""
  (path / 'mine.py').write_text(MODULE)
  succeeded(
    run(
      'gym_env.py --env=mine:make --frames=200 --threads=1 '
      '--eval_frames=0 --workdir=results',
      cwd=path,
    )
  )
  return path


def evaluate_own(folder, *arguments):
  """Evaluates the run of `train_own`."""
  return run(
    'evaluate.py --workdir=results --env=mine:make --episodes=2 '
    '--threads=1 --csv=own.csv',
    *arguments,
    cwd=folder,
  )
