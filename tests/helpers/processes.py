"""The processes that a test has started, and waiting for them."""

import os
import pathlib
import time

WAIT_SECONDS = 60.0
# How a program may end whose engines have to end with it.
ENDS = (
  'os.kill(os.getpid(), signal.SIGKILL)',
  'os.kill(os.getpid(), signal.SIGTERM)',
  'raise RuntimeError',
  'os._exit(3)',
)


def below(parent=None):
  """Ids of the processes below one, or below this one."""
  parents = {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    its_parent = parent_of(path.parent.name)
    if its_parent is not None:
      parents[int(path.parent.name)] = its_parent
  ours, found = {parent or os.getpid()}, set()
  while ours:
    ours = {child for child, parent in parents.items() if parent in ours}
    found |= ours
  return found


def parent_of(number):
  """Id of the parent of a process, or None if it has ended."""
  try:
    stat = pathlib.Path(f'/proc/{number}/stat').read_text()
  except (FileNotFoundError, ProcessLookupError):
    return None
  state, parent = stat.rsplit(') ', 1)[1].split()[:2]
  return None if state == 'Z' else int(parent)


def command_of(number):
  """The command of a process, or '' if it has ended."""
  try:
    return pathlib.Path(f'/proc/{number}/cmdline').read_text(errors='replace')
  except (FileNotFoundError, ProcessLookupError):
    return ''


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
    time.sleep(0.01)
