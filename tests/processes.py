"""The processes that a test has started, and waiting for them."""

import os
import pathlib
import time

WAIT_SECONDS = 60.0


def below(parent=None):
  """Ids of the processes below one, or below this one."""
  parents = {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      number, rest = path.read_text().split(' (', 1)
    except (FileNotFoundError, ProcessLookupError):
      continue
    state, its_parent = rest.rsplit(') ', 1)[1].split()[:2]
    if state != 'Z':
      parents[int(number)] = int(its_parent)
  ours, found = {parent or os.getpid()}, set()
  while ours:
    ours = {child for child, parent in parents.items() if parent in ours}
    found |= ours
  return found


def is_engine(number):
  try:
    name = pathlib.Path(f'/proc/{number}/comm').read_text()
  except (FileNotFoundError, ProcessLookupError):
    return False
  return name == 'vizdoom\n'


def shared_memory(numbers):
  """Files in memory of the engines among some processes."""
  found = []
  for number in filter(is_engine, numbers):
    arguments = (
      pathlib.Path(f'/proc/{number}/cmdline').read_bytes().split(b'\0')
    )
    instance = arguments[arguments.index(b'+viz_instance_id') + 1].decode()
    found += pathlib.Path('/dev/shm').glob(f'*{instance}')
  return found


def wait_until(condition):
  end = time.monotonic() + WAIT_SECONDS
  while not condition():
    assert time.monotonic() < end
    os.sched_yield()
