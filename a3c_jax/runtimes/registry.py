"""The registry of runtimes that `--runtime` can name."""

from __future__ import annotations

from a3c_jax.core import errors, fields
from a3c_jax.runtimes import asynchronous, queues, synchronous
from a3c_jax.runtimes.cluster import cluster
from a3c_jax.runtimes.runtime import Runtime, Settings

_runtimes: dict[str, Runtime] = {}


def register(runtime: Runtime) -> None:
  """Makes a runtime known to flags and training.

  Raises:
    ValueError: as `fields.check_registered`, or if its settings have no
      `num_workers`.
  """
  fields.check_registered(
    'runtime',
    runtime.name,
    runtime.settings_type,
    taken=_runtimes,
    beside={name: each.settings_type for name, each in _runtimes.items()},
  )
  if runtime.settings_type.num_workers is Settings.num_workers:
    raise ValueError(f'runtime {runtime.name}: its settings need num_workers')
  _runtimes[runtime.name] = runtime


def names() -> tuple[str, ...]:
  """Returns the names of all runtimes; those of this package come first."""
  return tuple(_runtimes)


def get(name: str) -> Runtime:
  """Returns the runtime of a name.

  Raises:
    UsageError: naming `--runtime` and the allowed names, if there is no such
      one.
  """
  if name not in _runtimes:
    raise errors.UsageError(
      f'--runtime={errors.as_text(name)}: allowed: {", ".join(names())}'
    )
  return _runtimes[name]


for _runtime in (
  asynchronous.RUNTIME,
  synchronous.RUNTIME,
  queues.RUNTIME,
  cluster.RUNTIME,
):
  register(_runtime)
