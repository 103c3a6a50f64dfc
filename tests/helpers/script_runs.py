"""The scripts of experiments, from their first line on, in this process."""

import contextlib
import io
import pathlib
import resource
import runpy
import sys
from unittest import mock

from programs import ROOT, refused, succeeded
import pytest
import script_flags

from a3c_jax.algorithms import registry
from a3c_jax.envs import domain

MODULE = """
from a3c_jax.envs import catch, domain


def make():
  return catch.Catch(rows=5, columns=3)
"""


def run(command, *arguments, cwd):
  """Runs a script of experiments/ as a process would, but much faster.

  What it registers and imports from its working directory is forgotten.

  Args:
    command: its name, its path, or `-m` and the name of a package, and, after
      spaces, flags.
    *arguments: more of them.
    cwd: its working directory.

  Returns:
    Exit code, stdout and stderr.
  """
  script, *flags = command.split()
  if script == '-m':
    name, *flags = flags
    execute = lambda: runpy.run_module(name, run_name='__main__')
  else:
    path = str(ROOT / 'experiments' / script)
    execute = lambda: runpy.run_path(path, run_name='__main__')
  out, err = io.StringIO(), io.StringIO()
  before = set(sys.modules)
  try:
    with (
      script_flags.forgotten(),
      mock.patch.dict(domain._registered),
      mock.patch.dict(registry._algorithms),
      contextlib.chdir(cwd),
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      mock.patch.object(sys, 'argv', [script, *flags, *arguments]),
      mock.patch.object(sys, 'path', sys.path[:]),
      pytest.raises(SystemExit) as exit_,
    ):
      execute()
  finally:
    for name in set(sys.modules) - before:
      path = getattr(sys.modules[name], '__file__', None)
      if path and pathlib.Path(path).is_relative_to(
        pathlib.Path(cwd).resolve()
      ):
        del sys.modules[name]
  return exit_.value.code or 0, out.getvalue(), err.getvalue()


def refused_as_it_was(command, folder):
  """What a script says that refuses its input, and changes nothing there."""

  def state():
    return sorted(
      (str(path), path.stat().st_mtime_ns) for path in folder.rglob('*')
    )

  before = state()
  line = refused(run(command, cwd=folder))
  assert state() == before
  return line


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
