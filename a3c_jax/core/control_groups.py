"""The control groups of Linux that limit this process."""

from __future__ import annotations

from collections.abc import Iterator
import itertools
import pathlib


def folders(controller: str, root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the folders of this process's groups and of those above them.

  Not every folder exists, and the same one may come twice.

  Args:
    controller: 'cpu' or 'memory'.
    root: the folder that contains /proc and /sys.
  """
  for line in read(root / 'proc/self/cgroup').splitlines():
    _, _, line = line.partition(':')
    controllers, _, path = line.partition(':')
    # The line of a group of version 2 names no controllers.
    mounts = [controllers, controller] if controllers else ['']
    if controllers and controller not in controllers.split(','):
      continue
    parts = [part for part in path.split('/') if part not in ('', '..')]
    for mount, depth in itertools.product(mounts, range(len(parts) + 1)):
      # A container may see its own group as the root, whatever the path is.
      yield root.joinpath('sys/fs/cgroup', mount, *parts[:depth])


def read(path: pathlib.Path) -> str:
  """Returns the text of a file, '' if there is none."""
  try:
    return path.read_text().strip()
  except (OSError, ValueError):
    return ''
