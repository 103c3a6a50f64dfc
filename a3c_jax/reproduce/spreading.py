"""Spreads processes over the machines of a cluster of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import queue
import secrets
import signal
import threading
import time
from typing import Any, BinaryIO

from a3c_jax.core import errors, fields, files, paths
from a3c_jax.reproduce import machine, process_pool, transfer
from a3c_jax.runtimes.cluster import engine

_POLL_SECONDS = 0.2
_LOG_SECONDS = 1.0  # Between two looks for new lines of a log.
_BRING_SECONDS = 60.0  # Between two times that a folder is brought back.
_REFUSED = 2  # The exit code of a script whose machine lacks something.
_LOST = -signal.SIGKILL  # That of a run whose machine has ended.
_PIECE = 4 * 2**20  # Bytes of a log that are brought at once.
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
  """Where the processes run."""

  address: str = fields.setting(
    'Spreads the runs over machines. local: a Ray of its own, on this machine. '
    'HOST:PORT: a cluster of Ray that runs there. Each machine needs this '
    "package for Ray's Python, and the script at the same path. A run writes "
    'to its folder if its machine sees that; otherwise the folder is sent '
    'there, and brought back every minute and in the end.',
    engine.ALLOWED,
    lambda value: not value or engine.is_address(value),
    default='',
    source='ours: processes of this machine, without Ray',
  )
  cpus_per_run: int = fields.count(
    'CPUs that each run reserves, with --address. Ray starts no more runs on a '
    'machine than its CPUs suffice for; more wait. Give it the threads of a '
    'run.',
    most=1000,
    default=1,
    source='ours',
  )

  def __post_init__(self):
    """Raises UsageError if a CPU is reserved on no cluster."""
    if self.cpus_per_run != 1 and not self.address:
      raise errors.UsageError(
        f'--cpus_per_run={self.cpus_per_run}: allowed: with --address'
      )


@contextlib.contextmanager
def opened(
  options: Options,
  *,
  parallel: int,
  environment: Mapping[str, str],
  scripts: Iterable[str],
) -> Iterator[process_pool.Launcher]:
  """Opens the place where processes run.

  Args:
    options: say which.
    parallel: how many run at once.
    environment: environment variables of the processes. On another machine,
      some such as PATH are its own: see `machine.environment_of`.
    scripts: that will run.

  Yields:
    What starts the processes.

  Raises:
    UsageError: naming the flag, if Ray is not installed, nothing answers, no
      machine has so many CPUs, or one lacks this package or a script.
    RunError: if Ray does not start.
  """
  if not options.address:
    yield process_pool.LocalLauncher(environment)
    return
  with engine.connected(
    options.address,
    # A cluster may have less room for the moment: then runs wait.
    parts=parallel if options.address == engine.LOCAL else 1,
    cpus=options.cpus_per_run,
    parts_are='runs',
    fewer='a lower --cpus_per_run',
  ):
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(machine)
    try:
      _check_machines(
        options,
        [*{os.path.abspath(script) for script in scripts}],
        environment,
      )
      yield SpreadingLauncher(options.cpus_per_run, environment)
    finally:
      cloudpickle.unregister_pickle_by_value(machine)


def _check_machines(options, scripts, environment) -> None:
  """Raises UsageError if a machine lacks what runs need."""
  import ray
  from ray import exceptions
  from ray.util import scheduling_strategies

  looks = [
    ray.remote(machine.look)
    .options(
      num_cpus=0,
      max_retries=0,
      scheduling_strategy=scheduling_strategies.NodeAffinitySchedulingStrategy(
        each['NodeID'], soft=False
      ),
    )
    .remote(scripts, environment)
    for each in ray.nodes()
    if each['Alive'] and each['Resources'].get('CPU', 0) >= options.cpus_per_run
  ]
  for each in looks:
    try:
      problem = ray.get(each)
    except exceptions.RayError:
      continue  # It has ended since: no run will get there.
    if problem:
      raise errors.UsageError(
        f'--address={options.address}: {problem}; allowed: machines that have '
        'this package, and the script at the same path'
      )


class SpreadingLauncher:
  """Starts each process on a machine of the cluster; a `Launcher`."""

  def __init__(self, cpus: int, environment: Mapping[str, str]):
    """Starts nothing yet.

    Args:
      cpus: that each process reserves.
      environment: environment variables of the processes.
    """
    self._cpus = cpus
    self._environment = environment

  def start(
    self, command: Sequence[str], workdir: pathlib.Path, log: BinaryIO
  ) -> SpreadProcess:
    """Starts a process once a machine has room; see `Launcher`."""
    script, *rest = command
    return SpreadProcess(
      [os.path.abspath(script), *rest],
      workdir,
      log,
      cpus=self._cpus,
      environment=self._environment,
    )


class _Stopped(Exception):
  """A signal came before the process had started."""


class SpreadProcess:
  """A process on some machine; a `Process`.

  A thread drives it: nothing else here waits for the machine.
  """

  def __init__(
    self,
    command: Sequence[str],
    workdir: pathlib.Path,
    log: BinaryIO,
    *,
    cpus: int,
    environment: Mapping[str, str],
  ):
    """Starts the thread; see `Launcher.start`."""
    self._command = command
    self._workdir = workdir
    self._log_path = workdir.with_name(f'{workdir.name}.log')
    # It shares the lock, which lasts until both are closed.
    self._log = os.fdopen(os.dup(log.fileno()), 'ab', buffering=0)
    self._cpus = cpus
    self._environment = environment
    self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    self._started = False
    self._host = ''
    self._named = False
    self._code: int | None = None
    self._error: Exception | None = None
    self._thread = threading.Thread(
      target=self._main, name=f'run-{workdir.name}', daemon=True
    )
    self._thread.start()

  def poll(self) -> int | None:
    """Returns the exit code, or None before all files are here; `Process`."""
    if self._host and not self._named:
      self._named = True
      _logger.info('%s runs on %s', self._workdir.name, self._host)
    if self._thread.is_alive():
      return None
    if self._error is not None:
      raise self._error
    return self._code

  def send_signal(self, sig: int, /) -> None:
    """Sends a signal; the process ends at once if it has not started."""
    self._signals.put(sig)

  def wait(self) -> int:
    """Returns the exit code once all files are here."""
    self._thread.join()
    return 1 if self._code is None else self._code

  def _main(self) -> None:
    try:
      with self._log:
        self._code = self._run()
    except Exception as error:  # `poll` raises it.
      self._error = error

  def _run(self) -> int:
    import ray
    from ray import exceptions

    actor: Any = (
      ray.remote(machine.Machine)
      .options(
        num_cpus=self._cpus,
        max_restarts=0,  # Nothing runs twice at once.
        max_task_retries=0,
        max_concurrency=4,  # One thread waits for the end.
        scheduling_strategy='SPREAD',
      )
      .remote()
    )
    try:
      return self._run_with(actor)
    except _Stopped as stopped:
      return -stopped.args[0]
    except exceptions.RayTaskError as error:
      cause = error.cause
      if isinstance(cause, OSError):
        problem = cause.strerror or cause
        self._say(f'error: {problem}, on {self._host or "another machine"}')
        return 1
      raise
    except exceptions.RayError as error:
      where = self._host or 'the machine'
      kind = type(error).__name__
      self._say(f'error: {where} or its process of Ray has ended, {kind}')
      return _LOST
    finally:
      ray.kill(actor)

  def _run_with(self, actor: Any) -> int:
    ask = functools.partial(self._ask, actor)
    self._host = ask('host')
    problem = ask('look', self._command[:1], self._environment)
    if problem:
      self._say(f'error: {problem}')
      return _REFUSED
    shared = self._is_seen(ask)
    scratch = pathlib.Path(ask('open', self._environment))
    if shared:
      self._log.close()  # The process locks it on its machine.
      code = self._follow(actor, self._workdir, self._log_path)
    else:
      code = self._follow_copy(actor, scratch)
    ask('close')  # Otherwise Ray would be gone before the folder is.
    return code

  def _is_seen(self, ask: Callable[..., Any]) -> bool:
    """Whether the machine can use the folder of this run at the same path."""
    marker = self._workdir.with_name(f'{self._workdir.name}.marker')
    content = secrets.token_hex().encode()
    try:
      marker.write_bytes(content)
      return ask('sees', str(marker), content, str(self._log_path))
    finally:
      marker.unlink(missing_ok=True)

  def _follow(
    self,
    actor: Any,
    workdir: pathlib.Path,
    log: pathlib.Path,
    tick: Callable[[], None] = lambda: None,
  ) -> int:
    """Starts the process, and returns its exit code."""
    import ray

    self._ask(
      actor, 'start', self._command, str(workdir), str(log), os.getcwd()
    )
    self._started = True
    end = actor.wait.remote()
    while not self._is_ready(actor, end):
      tick()
    return ray.get(end)

  def _follow_copy(self, actor: Any, scratch: pathlib.Path) -> int:
    """Does so in a copy of the folder, which it brings back."""
    ask = functools.partial(self._ask, actor)
    copy = transfer.Copy(self._workdir, _Files(ask))
    copy.send()
    log = _Tail(self._log_path.name, self._log, ask)
    log_at = folder_at = time.monotonic()

    def bring():
      nonlocal log_at, folder_at
      now = time.monotonic()
      if now - log_at >= _LOG_SECONDS:
        log_at = now
        log.bring()
      if now - folder_at >= _BRING_SECONDS:
        folder_at = now
        copy.bring()

    code = self._follow(
      actor, scratch / self._workdir.name, scratch / self._log_path.name, bring
    )
    log.bring()
    copy.bring()
    if not code:  # Otherwise the last line says what went wrong.
      self._say(f'brought back to {paths.as_given(self._workdir)}')
    return code

  def _ask(self, actor: Any, method: str, *arguments: Any) -> Any:
    """Calls a method of the actor.

    Raises:
      _Stopped: if a signal comes before the process has started.
      RayError: if the machine is lost.
    """
    import ray

    answer = getattr(actor, method).remote(*arguments)
    while not self._is_ready(actor, answer):
      pass
    return ray.get(answer)

  def _is_ready(self, actor: Any, answer: Any) -> bool:
    """Waits a moment for an answer, and passes signals on."""
    import ray

    with contextlib.suppress(queue.Empty):
      number = self._signals.get_nowait()
      if not self._started:
        raise _Stopped(number)
      actor.send_signal.remote(number)
    ready, _ = ray.wait([answer], timeout=_POLL_SECONDS, fetch_local=False)
    return bool(ready)

  def _say(self, line: str) -> None:
    """Ends the log with a line."""
    with self._log_path.open('ab', buffering=0) as log:
      log.write(os.fsencode(f'{line}\n'))


class _Files:
  """The files of an actor; `transfer.Files`."""

  def __init__(self, ask: Callable[..., Any]):
    self._ask = ask

  def listing(self, below: str) -> machine.Listing:
    return self._ask('listing', below)

  def read(self, path: str, offset: int, size: int) -> bytes | None:
    return self._ask('read', path, offset, size)

  def write(self, path: str, offset: int, content: bytes) -> None:
    self._ask('write', path, offset, content)


class _Tail:
  """A log of which new bytes are appended to a file here."""

  def __init__(self, path: str, to: BinaryIO, ask: Callable[..., Any]):
    self._path = path
    self._to = to
    self._ask = ask
    self._offset = 0

  def bring(self) -> None:
    """Appends what is new.

    Raises:
      OSError: if it cannot be written.
    """
    while piece := self._ask('read', self._path, self._offset, _PIECE):
      files.write_all(self._to, piece)
      self._offset += len(piece)
