"""Keeps what XLA compiles on disk, for the next process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import stat
import warnings

import jax

# What JAX warns of. Another process may be in the middle of writing it, or was
# killed there, or the disk is full: then it is compiled.
WARNINGS = (
  'Error reading persistent compilation cache entry',
  'Error writing persistent compilation cache entry',
)
_FLAGS = b'\nflags'  # Of the first processor, as /proc/cpuinfo lists them.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def keep(
  base: pathlib.Path | None = None, root: pathlib.Path = pathlib.Path('/')
) -> None:
  """Has JAX keep what XLA compiles in a folder, and look there first.

  Does nothing if the system is not Linux on x86, if the folder cannot be made
  or others can write to it, and if JAX has such a folder already, as by
  JAX_COMPILATION_CACHE_DIR, or wants none. JAX finds only what the same jaxlib
  compiled with the same flags.

  Args:
    base: processors of each kind have a folder in it: what is compiled for one
      may not run on another. By default `a3c_jax` among this user's caches.
    root: the folder that contains /proc.
  """
  given = jax.config.values
  if (
    given['jax_compilation_cache_dir'] is not None
    or not given['jax_enable_compilation_cache']
  ):
    return
  # No home, no /proc, or a name that JAX cannot take.
  with contextlib.suppress(OSError, RuntimeError, UnicodeError):
    _, found, rest = (root / 'proc/cpuinfo').read_bytes().partition(_FLAGS)
    if not found:
      return
    kind = hashlib.sha256(rest.partition(b'\n')[0]).hexdigest()[:8]
    folder = (base or _default()) / f'xla-{kind}'
    str(folder).encode()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whoever can write there can run code as this user.
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
      return
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    for message in WARNINGS:
      warnings.filterwarnings('ignore', message)


def _default() -> pathlib.Path:
  """Returns the folder by the XDG specification, which ignores relative ones.

  Raises:
    RuntimeError: if the user has no home.
  """
  caches = pathlib.Path(os.environ.get('XDG_CACHE_HOME', ''))
  if not caches.is_absolute():
    caches = pathlib.Path.home() / '.cache'
  return caches / 'a3c_jax'
