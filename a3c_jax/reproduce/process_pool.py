"""Runs scripts in processes, several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import logging
import math
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from typing import BinaryIO, NamedTuple, Protocol

from a3c_jax.core import files, paths
from a3c_jax.core import signals as signals_lib

REFUSALS = 3  # So many jobs that refuse their flags stop a pool.
_REFUSED = 2  # The exit code of a script that refuses its flags.
_POLL_SECONDS = 0.1
_logger = logging.getLogger(__name__)


class Job(NamedTuple):
  """The work of one process."""

  name: str  # of its folder, and of its log
  command: tuple[str, ...]  # arguments of Python: a script and its flags
  text: str  # printed when it starts


class Process(Protocol):
  """A process that a launcher has started; `subprocess.Popen` is one."""

  def poll(self) -> int | None:
    """Returns the exit code, the negative number of a signal, or None.

    Raises:
      OSError: if a file of the job cannot be written.
    """
    ...

  def send_signal(self, sig: int, /) -> None:
    """Sends a signal, unless the process has ended."""
    ...

  def wait(self) -> int:
    """Returns the exit code once the process has ended."""
    ...


class Launcher(Protocol):
  """Starts processes somewhere."""

  def start(
    self, command: Sequence[str], workdir: pathlib.Path, log: BinaryIO
  ) -> Process:
    """Starts `python COMMAND --workdir=WORKDIR`.

    Args:
      command: a script and its flags.
      workdir: of the job; need not exist.
      log: open for appending, and locked. What the process prints goes there.
        The lock must last as long as the process, after this program has closed
        the file and also after it was killed.

    Raises:
      OSError: if the process cannot start.
    """
    ...


class LocalLauncher:
  """Starts processes on this machine; a `Launcher`."""

  def __init__(self, environment: Mapping[str, str]):
    """Starts nothing yet.

    Args:
      environment: environment variables of the processes.
    """
    self._environment = environment

  def start(
    self, command: Sequence[str], workdir: pathlib.Path, log: BinaryIO
  ) -> Process:
    """Starts a process, which inherits the lock; see `Launcher`."""
    return subprocess.Popen(
      [sys.executable, *command, f'--workdir={paths.as_given(workdir)}'],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=self._environment,
      process_group=0,  # Ctrl-C of a terminal would be a second signal.
    )


class ProcessPool:
  """Runs jobs in their order, a limited number at once.

  Job 'one' runs `python COMMAND --workdir=FOLDER/one` and prints into
  FOLDER/one.log. Its command is in FOLDER/one.command. A process of an earlier
  pool may still run if that pool was killed. Its job does not start again
  before the process has ended.

  Attributes:
    refused: whether the pool stopped because every job so far had refused its
      flags: its script seems to refuse those of any job.
    stopped: names of the jobs that `to_stop` stopped.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    jobs: Sequence[Job],
    *,
    parallel: int,
    launcher: Launcher,
    on_exit: Callable[[Job, int], None],
    tick: Callable[[], None] = lambda: None,
    prepare: Callable[[Job], Job] = lambda job: job,
    to_stop: Callable[[Sequence[str]], Sequence[str]] = lambda running: (),
    is_done: Callable[[Job], bool] = lambda job: False,
    refusals: int | None = REFUSALS,
  ):
    """Starts nothing yet.

    Args:
      folder: existing; of all jobs.
      jobs: in the order in which they start.
      parallel: how many run at once.
      launcher: starts their processes.
      on_exit: called with a job and its exit code. Not called once the pool
        was told to stop: such a job might not have failed otherwise.
      tick: called about every tenth of a second.
      prepare: called with a job that is about to start; returns it with its
        command and text.
      to_stop: called likewise with the names of jobs that run; returns those
        that are to stop early.
      is_done: asked before a job starts, since another pool may have run it.
      refusals: stop when the first so many jobs have refused their flags; None
        never stops.
    """
    self._folder = folder
    self._todo = list(jobs)
    self._parallel = parallel
    self._launcher = launcher
    self._on_exit = on_exit
    self._tick = tick
    self._prepare = prepare
    self._to_stop = to_stop
    self.stopped: set[str] = set()
    self._is_done = is_done
    self._refusals = math.inf if refusals is None else min(refusals, len(jobs))
    self._running: dict[Process, Job] = {}
    self._left_running: set[str] = set()
    self._stopping = False
    self._codes: dict[str, int] = {}
    self.refused = False

  @property
  def failed(self) -> dict[str, int]:
    """Exit codes other than 0, by the names of jobs."""
    return {name: code for name, code in self._codes.items() if code}

  def run(self) -> None:
    """Runs all jobs. A signal of `signals.Signals` stops them, a second kills.

    Raises:
      OSError: if a file cannot be written or a process cannot start. All
        processes have ended by then.
    """
    again: list[int] = []
    try:
      with signals_lib.Signals(again.append, notice='') as signals:
        signalled = False
        while self._todo or self._running:
          self._start()
          time.sleep(_POLL_SECONDS)
          self._tick()
          self._stop_some()
          if signals.received and not signalled:
            signalled = True
            _logger.info('stopping %d runs', len(self._running))
            self._stop(signal.SIGTERM)
          elif again:
            again.clear()
            _logger.info('killing %d runs', len(self._running))
            self._stop(signal.SIGKILL)
          self._drain()
    finally:
      self._stop(signal.SIGTERM)
      for process in self._running:
        process.wait()

  def _start(self) -> None:
    """Starts as many jobs as there is room for."""
    left_running = 0
    for job in self._todo[:]:
      if len(self._running) + left_running >= self._parallel:
        return
      with (self._folder / f'{job.name}.log').open('ab') as log:
        try:
          # The lock lasts as long as the process: see `Launcher`.
          files.lock(log, folder=paths.as_given(self._folder))
        except BlockingIOError:
          left_running += 1
          if job.name not in self._left_running:
            _logger.info('%s runs already; waiting for its end', job.name)
          self._left_running.add(job.name)
          continue
        self._todo.remove(job)
        if self._is_done(job):
          self._push(job, 0)
          continue
        job = self._prepare(job)
        self._running[self._process(job, log)] = job
      _logger.info('%s starts: %s', job.name, job.text)

  def _process(self, job, log) -> Process:
    files.replace(
      _command_file(self._folder, job.name),
      os.fsencode(f'{shlex.join(job.command)}\n'),
    )
    workdir = self._folder / job.name
    return self._launcher.start(job.command, workdir, log)

  def _stop_some(self) -> None:
    """Stops jobs that need not go on."""
    running = {
      job.name: process
      for process, job in self._running.items()
      if job.name not in self.stopped
    }
    for name in self._to_stop([*running]):
      self.stopped.add(name)
      running[name].send_signal(signal.SIGTERM)

  def _stop(self, number) -> None:
    self._stopping = True
    self._todo.clear()
    for process in self._running:
      process.send_signal(number)

  def _drain(self) -> None:
    """Removes the processes that have ended."""
    codes = {process: process.poll() for process in self._running}
    for process, code in codes.items():
      if code is not None:
        job = self._running.pop(process)
        if not self._stopping:
          self._push(job, code)

  def _push(self, job, code) -> None:
    self._codes[job.name] = code
    self._on_exit(job, code)
    only_refusals = {*self._codes.values()} == {_REFUSED}
    if only_refusals and len(self._codes) >= self._refusals:
      self.refused = True
      self._stop(signal.SIGTERM)


def _command_file(folder, name):
  return folder / f'{name}.command'


def last_command(folder: pathlib.Path, name: str) -> list[str]:
  """The script and flags that a job last started with; empty without any."""
  try:
    content = _command_file(folder, name).read_bytes()
    return shlex.split(os.fsdecode(content))
  except (OSError, ValueError):
    return []


def last_line(folder: pathlib.Path, name: str) -> str:
  """The last line of a job's log that is not empty."""
  try:
    text = (folder / f'{name}.log').read_text(errors='replace')
  except OSError:
    return ''
  return next(filter(str.strip, reversed(text.split('\n'))), '')
