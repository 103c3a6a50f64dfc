"""Programs in Python that tests start, and how programs end."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
WAIT_SECONDS = 180.0
# What the tests themselves have set, or their terminal.
NOT_OF_THE_USER = ('JAX_PLATFORMS', 'NPROC', 'FORCE_COLOR', 'TTY_COMPATIBLE')


def start(*arguments, cwd, env=None, **given):
  """Starts Python as a user does; its output comes line by line.

  Args:
    *arguments: of Python, such as '-c' and code, or a script and its flags.
    cwd: its working directory.
    env: more variables of its environment.
    **given: for subprocess.Popen.
  """
  variables = {
    name: text
    for name, text in os.environ.items()
    if name not in NOT_OF_THE_USER
  }
  # Without an empty path, which would be that of the working directory.
  paths = [ROOT, ROOT / 'tests/helpers', variables.get('PYTHONPATH', '')]
  variables['PYTHONPATH'] = os.pathsep.join(filter(None, map(str, paths)))
  variables['PYTHONUNBUFFERED'] = '1'
  return subprocess.Popen(
    [sys.executable, *map(str, arguments)],
    cwd=cwd,
    env=variables | (env or {}),
    text=True,
    **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE} | given,
  )


def start_script(command, *arguments, cwd, **given):
  """Starts a script of experiments/: its name, and flags after spaces."""
  script, *flags = command.split()
  path = ROOT / 'experiments' / script
  return start(path, *flags, *arguments, cwd=cwd, **given)


def finish(process):
  """Exit code, stdout and stderr of a process that comes to its end."""
  try:
    out, err = process.communicate(timeout=WAIT_SECONDS)
  finally:
    process.kill()
  return process.returncode, out, err


def run(*arguments, cwd, env=None):
  """Exit code, stdout and stderr of Python: see `start`."""
  return finish(start(*arguments, cwd=cwd, env=env))


def run_code(code, folder):
  """Runs code in a folder, which is that of temporary files too."""
  return run('-c', code, cwd=folder, env={'TMPDIR': str(folder)})


def succeeded(result):
  """Stdout of a program that has ended well, and warned of nothing."""
  code, out, err = result
  assert (code, err) == (0, ''), result
  return out


def refused(result):
  """What a program says that refuses its input: one line, without `error: `."""
  code, out, err = result
  assert (code, out, err.count('\n')) == (2, '', 1), result
  assert err.startswith('error: ') and err.endswith('\n'), result
  return err[len('error: ') : -1]
