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
