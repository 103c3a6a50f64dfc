"""JAX on the CPU, processor time and cores."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import pathlib
import platform
import sys

import jax
import psutil

from a3c_jax.core import control_groups


def set_up() -> None:
  """Makes JAX compute on the CPU, in the calling thread.

  XLA's thread pool would compete with the actor-learners. It gets one thread
  and no work. Only a program's entry point may call this, before the first
  computation, since JAX ignores it later. The library never calls it.
  """
  os.environ['NPROC'] = '1'
  flags = ['--xla_cpu_enable_concurrency_optimized_scheduler=false']
  if jax.__version_info__ >= (0, 11):
    # From that version on, XLA gives the pool each product that YNNPACK
    # computes while another operation is ready.
    flags.append('--xla_cpu_experimental_ynn_fusion_type=')
  # A process that inherits a flag must not repeat it: programs that JAX kept on
  # disk are found only with the very same flags.
  given = os.environ.get('XLA_FLAGS', '').split()
  missing = [each for each in flags if each not in given]
  os.environ['XLA_FLAGS'] = ' '.join([*missing, *given])
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  # The default generator has many loops. In a program of many steps, XLA would
  # run half of them on that thread.
  jax.config.update('jax_default_prng_impl', 'unsafe_rbg')
  jax.config.update('jax_platforms', 'cpu')


def seconds() -> float:
  """Returns the processor time of this process and its children, in seconds.

  Unlike `os.times`, it includes children that still run: the engine of an
  environment may be one.
  """
  processes = [psutil.Process()]
  processes += processes[0].children(recursive=True)
  total = 0.0
  for process in processes:
    with contextlib.suppress(psutil.NoSuchProcess):  # It has just ended.
      # Also of children that it has waited for.
      total += sum(process.cpu_times()[:4])
  return total


def name(root: pathlib.Path = pathlib.Path('/')) -> str:
  """Returns the model name of the processor.

  Args:
    root: the folder that contains /proc.
  """
  return _info(root).get('model name', platform.processor())


def model(root: pathlib.Path = pathlib.Path('/')) -> str:
  """Returns the name of the processor, and a digest of what it can do.

  Args:
    root: the folder that contains /proc.
  """
  info = _info(root)
  able = sorted(f'{info.get("flags", "")} {info.get("Features", "")}'.split())
  digest = hashlib.sha256(' '.join(able).encode()).hexdigest()
  return f'{info.get("model name", platform.machine())}, {digest[:8]}'


def _info(root: pathlib.Path) -> dict[str, str]:
  """Returns what Linux says of the first processor; {} on other systems."""
  try:
    first, *_ = (root / 'proc/cpuinfo').read_text().split('\n\n')
  except OSError:
    return {}
  # Of several lines with one title, the first counts.
  pairs = [line.partition(':') for line in reversed(first.splitlines())]
  return {title.strip(): value.strip() for title, _, value in pairs}


def cores(root: pathlib.Path = pathlib.Path('/')) -> int:
  """Returns the cores that the affinity and the container's quota allow.

  Args:
    root: the folder that contains /proc and /sys.
  """
  if not hasattr(os, 'sched_getaffinity'):  # Not on Linux.
    return os.cpu_count() or 1
  return max(1, min(len(os.sched_getaffinity(0)), *_quotas(root)))


def _quotas(root: pathlib.Path) -> list[int]:
  """Returns the CPU quota, rounded up, of each of its control groups."""
  quotas = [sys.maxsize]
  for group in control_groups.folders('cpu', root):
    limit = control_groups.read(group / 'cpu.max') or ' '.join(
      control_groups.read(group / f'cpu.cfs_{name}_us')
      for name in ('quota', 'period')
    )
    with contextlib.suppress(ValueError, ZeroDivisionError):
      quota, period = map(int, limit.split())
      if quota > 0:
        quotas.append(math.ceil(quota / period))
  return quotas
