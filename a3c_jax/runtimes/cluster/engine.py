"""Starts Ray for one program, or connects to a cluster; ends its own alone."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import tempfile
import threading
import warnings

import psutil

from a3c_jax.core import errors, memory, packages, signals

LOCAL = 'local'
ALLOWED = 'local, or HOST:PORT of a running cluster'
_ATTEMPTS = 3  # To start Ray: on a busy machine it gives up after 30 s.
_ANSWER_SECONDS = 10.0
_OBJECT_BYTES = 4 * 2**30  # At most, of versions and gradients in transit.
_LONGEST_FOLDER = 40  # Of a socket's path, which has at most 107 characters.
_LEAST_OBJECT_BYTES = 80 * 2**20  # Ray refuses less.
_PREFIX = 'a3c-ray-'
SYSTEM_CONFIG = {  # Of a Ray of one's own.
  # Nobody looks at what it counts.
  'enable_metrics_collection': False,
  'event_stats': False,
  'task_events_report_interval_ms': 0,
  'worker_niceness': 0,  # Otherwise all of it runs at nice 15.
  # A push, not much larger, goes in the call itself.
  'max_direct_call_object_size': 2**20,
  # Otherwise it starts a Python for each CPU at once.
  'enable_worker_prestart': False,
  'prestart_worker_first_driver': False,
}
_logger = logging.getLogger(__name__)


def is_address(value: str) -> bool:
  """Returns whether a value is 'local' or of the form HOST:PORT."""
  if value == LOCAL:
    return True
  return bool(re.fullmatch(r'[^\s:]+:[0-9]{1,5}', value))


@contextlib.contextmanager
def connected(
  address: str,
  *,
  parts: int,
  cpus: int,
  parts_are: str = 'processes',
  fewer: str = 'fewer --nodes or --threads',
) -> Iterator[None]:
  """Connects this process to Ray within a block.

  With 'local' it starts a Ray of its own, whatever else runs on the machine,
  and ends it with the block: nothing of it stays in the temporary folder.
  Otherwise it connects to a cluster, and leaves it as it is.

  Args:
    address: 'local' or HOST:PORT.
    parts: processes that compute at the same time.
    cpus: of each. A Ray of its own has so many; a cluster must have them, those
      of a process on one machine.
    parts_are: the word for these processes.
    fewer: the flags that a cluster with less room needs, in words.

  Raises:
    UsageError: naming `--address`, if Ray is not installed or in use already,
      nothing answers, or the cluster has another version or too few CPUs.
    RunError: if Ray does not start.
  """
  packages.check_installed(f'--address={address}', 'ray', extra='cluster')
  # Ray reads these when it is imported.
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
  os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
  if address == LOCAL:
    # Otherwise it would write a token into the home, and ask for it later.
    os.environ.setdefault('RAY_AUTH_MODE', 'disabled')
  import ray

  if ray.is_initialized():
    raise errors.UsageError(
      f'--address={address}: this process uses Ray already; allowed: after '
      'ray.shutdown()'
    )
  opened = _own(parts * cpus) if address == LOCAL else _attached(address)
  with opened:
    _check_room(address, parts, cpus, parts_are=parts_are, fewer=fewer)
    yield


@contextlib.contextmanager
def _own(cpus: int) -> Iterator[None]:
  import ray

  folder = _make_folder()
  try:
    for attempt in range(1, _ATTEMPTS + 1):
      try:
        with _quiet(), _keeping_handler():
          ray.init(
            address='local',
            num_cpus=cpus,
            num_gpus=0,
            object_store_memory=_object_bytes(),
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            _temp_dir=str(folder),
            _system_config=SYSTEM_CONFIG.copy(),  # Ray adds to it.
          )
        break
      except Exception as error:
        ray.shutdown()
        if attempt == _ATTEMPTS:
          problem = errors.in_one_line(error)[:200]
          raise errors.RunError(f'Ray does not start: {problem}') from error
        _logger.warning('Ray did not start; trying again')
    yield
  finally:
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _object_bytes() -> int:
  """Returns the most that messages may take; they take what they need."""
  room = memory.available_bytes() // 4
  shared = pathlib.Path('/dev/shm')  # If it is too small, Ray takes the disk.
  if shared.is_dir():
    room = min(room, shutil.disk_usage(shared).free * 9 // 10)
  return max(_LEAST_OBJECT_BYTES, min(_OBJECT_BYTES, room))


def _make_folder() -> pathlib.Path:
  """Makes a folder for Ray's sockets and logs.

  Removes those that killed processes of this user have left.
  """
  parent = pathlib.Path(tempfile.gettempdir())
  if len(str(parent)) > _LONGEST_FOLDER:
    parent = pathlib.Path('/tmp')
  for old in parent.glob(f'{_PREFIX}*-*'):
    pid = old.name.removeprefix(_PREFIX).partition('-')[0]
    if pid.isdigit() and not psutil.pid_exists(int(pid)):
      shutil.rmtree(old, ignore_errors=True)
  return pathlib.Path(
    tempfile.mkdtemp(prefix=f'{_PREFIX}{os.getpid()}-', dir=parent)
  )


@contextlib.contextmanager
def _attached(address: str) -> Iterator[None]:
  import ray

  _check_answers(address)
  try:
    with _quiet(), _keeping_handler():
      ray.init(
        address=address,
        configure_logging=False,
        log_to_driver=False,
      )
  except Exception as error:  # Of another version, for example.
    ray.shutdown()
    problem = errors.in_one_line(error)[:400]
    raise errors.UsageError(
      f'--address={address}: {problem}; allowed: {ALLOWED}, with the same Ray '
      'and Python as here'
    ) from error
  try:
    yield
  finally:
    ray.shutdown()


def _check_room(
  address: str, parts: int, cpus: int, *, parts_are: str, fewer: str
) -> None:
  """Raises UsageError if a cluster has no room for so many processes."""
  import ray

  machines = [
    int(each['Resources'].get('CPU', 0))
    for each in ray.nodes()
    if each['Alive']
  ]
  room = sum(machine // cpus for machine in machines)
  if room < parts:
    has = ', '.join(map(str, machines))
    raise errors.UsageError(
      f'--address={address}: there is room for {room} of {parts} {parts_are} '
      f'with {cpus} CPUs each, since its machines have so many: {has}; '
      f'allowed: {fewer}'
    )


def _check_answers(address: str) -> None:
  """Raises UsageError unless a cluster of Ray answers at an address."""
  from ray._raylet import GcsClient  # pyright: ignore

  host, _, port = address.rpartition(':')
  failures: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

  def ask():
    try:
      with socket.create_connection((host, int(port)), _ANSWER_SECONDS):
        pass
      client = GcsClient(address=address)
      client.internal_kv_exists(b'', None, timeout=_ANSWER_SECONDS)
    except Exception as error:
      failures.put(error)
    else:
      failures.put(None)

  # In a thread: if something else answers, Ray asks for most of a minute.
  threading.Thread(target=ask, name='ask-address', daemon=True).start()
  problem, error = f'not within {_ANSWER_SECONDS:g} s', None
  with contextlib.suppress(queue.Empty):
    error = failures.get(timeout=_ANSWER_SECONDS)
    if error is None:
      return
    problem = getattr(error, 'strerror', None) or type(error).__name__
  raise errors.UsageError(
    f'--address={address}: no cluster of Ray answers, {problem}; allowed: '
    f'{ALLOWED}'
  ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Suppresses what Ray says at its start, and later of ended processes.

  That takes many lines. Whoever needs a process says so in one.
  """
  from ray._private import worker

  listen = worker.listen_error_messages
  worker.listen_error_messages = lambda *_: None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    worker.listen_error_messages = listen


@contextlib.contextmanager
def _keeping_handler() -> Iterator[None]:
  """Keeps this program's handler of SIGTERM, if it has one.

  Ray sets its own, which exits, and below it one that prints its stack.
  """
  from ray._private import utils

  handler = signal.getsignal(signal.SIGTERM)
  if threading.current_thread() is not threading.main_thread() or not callable(
    handler
  ):
    yield
    return
  set_handler = utils.set_sigterm_handler
  utils.set_sigterm_handler = lambda _: None
  try:
    with signals.keeping(signal.SIGTERM):
      yield
  finally:
    utils.set_sigterm_handler = set_handler
