"""Finds TORCS and its compiled plugin on this machine."""

from __future__ import annotations

import hashlib
import pathlib
import subprocess
import sys

from a3c_jax.core import errors

VERSION = '1.3.7'
INSTALL = 'on Debian: apt-get install torcs g++ libegl-dev libgl-dev'
BUILD = 'python -m a3c_jax.envs.torcs.build'
DATA = pathlib.Path('/usr/share/games/torcs')
_HERE = pathlib.Path(__file__).parent
SOURCE = _HERE / 'plugin.cpp'
_HEADER = _HERE / f'torcs_{VERSION.replace(".", "_")}.h'


def check_installed() -> None:
  """Checks that TORCS is installed, in the version that the plugin needs.

  Raises:
    UsageError: naming what is missing, or both versions.
  """
  if sys.platform != 'linux':
    raise errors.UsageError(f'TORCS on {sys.platform}: allowed: linux')
  try:
    found = subprocess.run(
      ['dpkg-query', '--show', '--showformat=${Version}', 'torcs'],
      capture_output=True,
      text=True,
    )
    version = found.stdout.strip()
  except FileNotFoundError:
    version = ''
  if not version or not programs():
    raise errors.UsageError(f'TORCS is not installed; {INSTALL}')
  # Debian appends '+dfsg' and its own revision to the version.
  if version.split('+')[0].split('-')[0] != VERSION:
    raise errors.UsageError(
      f'TORCS {version} is installed; allowed: {VERSION}, whose memory layout '
      'the plugin uses'
    )


def programs() -> pathlib.Path | None:
  """The folder of TORCS' programs; None if there is none."""
  found = sorted(pathlib.Path('/usr/lib').glob('*/torcs/torcs-bin'))
  return found[0].parent if found else None


def plugin() -> pathlib.Path:
  """The path of the plugin compiled from the current sources.

  It need not exist.
  """
  digest = hashlib.sha256()
  for path in (SOURCE, _HEADER):
    digest.update(path.read_bytes())
  return _HERE / 'compiled' / f'{VERSION}-{digest.hexdigest()[:12]}.so'


def check_compiled() -> pathlib.Path:
  """The path of the compiled plugin.

  Raises:
    UsageError: as `check_installed`, or with the command that compiles it.
  """
  check_installed()
  path = plugin()
  if not path.exists():
    raise errors.UsageError(f'the plugin for TORCS is not compiled: {BUILD}')
  return path
