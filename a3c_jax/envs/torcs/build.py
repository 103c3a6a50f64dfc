"""Compiles the plugin for TORCS, once for each version of either.

  python -m a3c_jax.envs.torcs.build

needs the game, g++, and headers of EGL and OpenGL, as BUILD.md lists under
"TORCS".
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

from a3c_jax.core import errors
from a3c_jax.envs.torcs import installed

_FLAGS = ('-std=c++17', '-O2', '-Wall', '-Wextra', '-shared', '-fPIC')
_LIBRARIES = ('-lEGL', '-lGL', '-ldl', '-pthread')


def compile_plugin() -> pathlib.Path:
  """The path of the plugin, which is compiled unless it exists.

  Raises:
    UsageError: as `check_installed`; if there is no compiler; or if the folder
      of this package cannot be written.
    RunError: if it does not compile, with the compiler's message.
  """
  installed.check_installed()
  path = installed.plugin()
  if path.exists():
    return path
  try:
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
      unfinished = pathlib.Path(folder) / path.name
      _run_compiler(unfinished)
      os.replace(unfinished, path)  # Atomic.
  except OSError as error:
    raise errors.UsageError(
      f'{path.parent}: {error.strerror}; allowed: a writable folder'
    ) from error
  return path


def _run_compiler(path):
  command = ['g++', *_FLAGS, '-o', str(path), str(installed.SOURCE)]
  try:
    done = subprocess.run(
      [*command, *_LIBRARIES], capture_output=True, text=True
    )
  except FileNotFoundError as error:
    raise errors.UsageError(
      f'g++ is not installed; {installed.INSTALL}'
    ) from error
  if done.returncode:
    raise errors.RunError(
      f'the plugin does not compile; {installed.INSTALL}; '
      f'g++ printed: {done.stderr.strip()}'
    )


def main() -> None:
  """Compiles the plugin and prints its path, or an error."""
  try:
    print(compile_plugin())
  except (errors.UsageError, errors.RunError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2 if isinstance(error, errors.UsageError) else 1)


if __name__ == '__main__':
  main()
