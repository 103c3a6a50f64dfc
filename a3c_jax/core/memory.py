"""Memory that this process may still use."""

from __future__ import annotations

import contextlib
import pathlib

import psutil

from a3c_jax.core import control_groups


def available_bytes(root: pathlib.Path = pathlib.Path('/')) -> int:
  """Returns the bytes that the machine and the container have left.

  It is the smallest of what the kernel estimates for the machine, without
  swapping, and what each control group of this process has below its limit.
  Page cache of files counts as available, since the kernel drops it first.

  Args:
    root: the folder that contains /proc and /sys.
  """
  left = [psutil.virtual_memory().available]
  for group in control_groups.folders('memory', root):
    left += _left(group)
  return max(0, min(left))


def _left(group: pathlib.Path) -> list[int]:
  """Returns limit - use for each limit of one group."""
  # First the names of version 2. `memory.high` only slows a process down, but
  # to a crawl.
  for limits, usage, prefix in (
    (('memory.max', 'memory.high'), 'memory.current', ''),
    (('memory.limit_in_bytes',), 'memory.usage_in_bytes', 'total_'),
  ):
    with contextlib.suppress(ValueError):  # Of a file that is not there.
      used = int(control_groups.read(group / usage))
      used = max(0, used - _page_cache(group, prefix))
      texts = [control_groups.read(group / name) for name in limits]
      return [int(text) - used for text in texts if text.isdecimal()]
  return []


def _page_cache(group: pathlib.Path, prefix: str) -> int:
  """Returns the bytes that the group has in the page cache of files.

  Memory in tmpfs is not among them: it cannot be dropped.
  """
  lines = control_groups.read(group / 'memory.stat').splitlines()
  stat = dict(line.split(' ', 1) for line in lines if ' ' in line)
  names = [f'{prefix}{name}_file' for name in ('active', 'inactive')]
  return sum(int(stat.get(name, 0)) for name in names)
