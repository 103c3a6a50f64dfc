"""Keeps what XLA compiles on disk, for the next process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import warnings

import jax

# What JAX warns of. Another process may be in the middle of writing it, or was
# killed there, or the disk is full: then it is compiled.
WARNINGS = (
  'Error reading persistent compilation cache entry',
  'Error writing persistent compilation cache entry',
)
_FLAGS = b'\nflags'  # Of the first processor, as /proc/cpuinfo lists them.


def keep(
  base: pathlib.Path | None = None, root: pathlib.Path = pathlib.Path('/')
) -> None:
  """Has JAX keep what XLA compiles in a folder, and look there first.

  Does nothing if the folder cannot be made, if the system is not Linux on x86,
  and if JAX has such a folder already, as by JAX_COMPILATION_CACHE_DIR. JAX
  finds only what the same jaxlib compiled with the same flags. Whoever can
  write to the folder can run code as this user.

  Args:
    base: processors of each kind have a folder in it: what is compiled for one
      may not run on another. By default `a3c_jax` among this user's caches.
    root: the folder that contains /proc.
  """
  if jax.config.values['jax_compilation_cache_dir'] is not None:
    return
  with contextlib.suppress(OSError, RuntimeError):  # No home, no /proc.
    _, found, rest = (root / 'proc/cpuinfo').read_bytes().partition(_FLAGS)
    if not found:
      return
    kind = hashlib.sha256(rest.partition(b'\n')[0]).hexdigest()[:8]
    folder = (base or _default()) / f'xla-{kind}'
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  for message in WARNINGS:
    warnings.filterwarnings('ignore', message)


def _default() -> pathlib.Path:
  caches = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(caches, 'a3c_jax')
