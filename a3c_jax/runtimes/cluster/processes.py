"""What a process of the cluster needs before it can make its parts."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import ctypes
import pickle
import socket
import sys
from typing import NamedTuple

import cloudpickle

from a3c_jax.core import compiled, cpu, errors, packages
from a3c_jax.runtimes.runtime import Recipe

# Of another version, a machine may compute other gradients.
_PACKAGES = ('a3c_jax', 'jax', 'jaxlib', 'flax', 'optax')
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # Of malloc.h.


class Luggage(NamedTuple):
  """A recipe on its way to another process.

  It is opened there after the modules that it needs can be imported.
  """

  path: tuple[str, ...]  # folders of modules, where the machine has them
  modules: tuple[str, ...]  # that register domains, algorithms or runtimes
  recipe: bytes
  versions: dict[str, str]  # of packages that all machines must share

  @classmethod
  def packed(cls, recipe: Recipe) -> Luggage:
    """Packs a recipe, with functions of a script by value.

    Raises:
      UsageError: if a function in it cannot be pickled.
    """
    try:
      content = cloudpickle.dumps(recipe)
    except Exception as error:  # Whatever an object of the user raises.
      problem = errors.in_one_line(error) or type(error).__name__
      raise errors.UsageError(
        f'--runtime=cluster: cannot be sent to other processes, {problem}; '
        'allowed: functions and settings that cloudpickle can pickle'
      ) from error
    versions = packages.versions(_PACKAGES)
    return cls(tuple(sys.path), packages.loaded(), content, versions)

  def opened(self, who: str) -> Recipe:
    """Sets JAX up for this process, and returns the recipe.

    Args:
      who: this process, in words.

    Raises:
      UsageError: naming the process, its machine and the module, if one cannot
        be imported; or the package, if its version differs.
    """
    with naming(who):
      self._compare_versions()
      cpu.set_up()
      compiled.keep()
      _keep_freed_memory()
      sys.path.extend(each for each in self.path if each not in sys.path)
      for name in self.modules:
        packages.load_module(name, flag='import')
      return pickle.loads(self.recipe)

  def _compare_versions(self) -> None:
    here = packages.versions(self.versions)
    for name, version in self.versions.items():
      found = here.get(name, 'none')
      if found != version:
        raise errors.UsageError(
          f'--runtime=cluster: {name} has version {found} on a machine; '
          f'allowed: {version}, as where the run was started'
        )


def _keep_freed_memory() -> None:
  """Has the C library reuse large blocks instead of returning them.

  Each version and each gradient is a block of some megabytes. Otherwise the
  system clears every page of it, which takes a tenth of a node's time.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt:  # Not on macOS.
    mallopt(_M_MMAP_THRESHOLD, 2**26)
    mallopt(_M_TRIM_THRESHOLD, 2**28)


@contextlib.contextmanager
def naming(who: str) -> Iterator[None]:
  """Raises bad input of a block as a UsageError that names the process."""
  try:
    yield
  except (ImportError, errors.UsageError) as error:
    raise errors.UsageError(
      f'{error}; found by {who} on {socket.gethostname()}'
    ) from error
