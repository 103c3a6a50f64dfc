"""Many runs of scripts, some at once, each a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
import math
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

from a3c_jax.core import files, paths
from a3c_jax.core import signals as signals_lib

REFUSED = 3  # Jobs; a script that takes the flags of none takes no other's.
_POLL_SECONDS = 0.1


class Job(NamedTuple):
  """What one process is to do."""

  name: str  # of its folder, and its log
  command: tuple[str, ...]  # of Python: a script and its flags
  text: str  # what to tell of it when it begins


class Batch:
  """Runs jobs, in their order, so many at once.

  Job 'one' is `python COMMAND --workdir=FOLDER/one` and prints into
  FOLDER/one.log; its command is in FOLDER/one.command. While a process of an
  earlier batch still runs, which it can if that batch was killed, its job is
  not begun a second time.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    jobs: Sequence[Job],
    *,
    parallel: int,
    environment: Mapping[str, str],
    ended: Callable[[Job, int], None],
    look: Callable[[], None] = lambda: None,
    is_done: Callable[[Job], bool] = lambda job: False,
  ):
    """Runs nothing yet.

    Args:
      folder: existing; of all jobs.
      jobs: what is to be done.
      parallel: how many at once.
      environment: environment variables of the processes.
      ended: called with a job and its exit code; not where the batch was told
        to end before, since nobody knows then whether it would have failed.
      look: called about every tenth of a second.
      is_done: asked before a job begins: another batch may just have done it.
    """
    self._folder = folder
    self._todo = list(jobs)
    self._parallel = parallel
    self._environment = environment
    self._ended = ended
    self._look = look
    self._is_done = is_done
    self._running: dict[subprocess.Popen, Job] = {}
    self._left_behind: set[str] = set()
    self._ends_early = False

  def run(self) -> None:
    """Runs all. `signals.Signals` stop the runs, a second one kills them.

    Raises:
      OSError: if a file cannot be written or a process not be started; the
        runs are stopped before.
    """
    again: list[int] = []
    try:
      with signals_lib.Signals(again.append, notice='') as signals:
        stopping = False
        while self._todo or self._running:
          self._start()
          time.sleep(_POLL_SECONDS)
          self._look()
          if signals.received and not stopping:
            stopping = True
            print(f'stopping {len(self._running)} runs', flush=True)
            self._end(signal.SIGTERM)
          elif again:
            again.clear()
            print(f'killing {len(self._running)} runs', flush=True)
            self._end(signal.SIGKILL)
          self._take_ended()
    finally:
      self.end()
      for process in self._running:
        process.wait()

  def end(self) -> None:
    """Stops what runs, and begins no other."""
    self._end(signal.SIGTERM)

  def _start(self) -> None:
    """Starts as many jobs as there is room for."""
    left_behind = 0
    for job in self._todo[:]:
      if len(self._running) + left_behind >= self._parallel:
        return
      with (self._folder / f'{job.name}.log').open('ab') as log:
        try:
          # The process inherits the lock, so it lasts as long as the process.
          files.lock(log, folder=paths.as_given(self._folder))
        except BlockingIOError:
          left_behind += 1
          if job.name not in self._left_behind:
            print(f'{job.name} runs already; waiting for its end', flush=True)
          self._left_behind.add(job.name)
          continue
        self._todo.remove(job)
        if self._is_done(job):
          self._ended(job, 0)
          continue
        files.replace(
          _command_file(self._folder, job.name),
          os.fsencode(f'{shlex.join(job.command)}\n'),
        )
        workdir = f'--workdir={paths.as_given(self._folder / job.name)}'
        process = subprocess.Popen(
          [sys.executable, *job.command, workdir],
          stdin=subprocess.DEVNULL,
          stdout=log,
          stderr=subprocess.STDOUT,
          env=self._environment,
          process_group=0,  # Ctrl-C of a terminal would be a second signal.
        )
      self._running[process] = job
      print(f'{job.name} begins: {job.text}', flush=True)

  def _end(self, number) -> None:
    self._ends_early = True
    self._todo.clear()
    for process in self._running:
      process.send_signal(number)

  def _take_ended(self) -> None:
    for process in [p for p in self._running if p.poll() is not None]:
      job = self._running.pop(process)
      if not self._ends_early:
        self._ended(job, process.returncode)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
  """A number drawn from LogUniform(low, high), to 4 digits, within these."""
  exact = math.exp(rng.uniform(math.log(low), math.log(high)))
  return min(max(float(f'{exact:.4g}'), low), high)


def are_refused(failed: Mapping[str, int], finished: Collection[str]) -> bool:
  """Whether a script seems to refuse its flags, whatever the job.

  Args:
    failed: exit codes, by the names of jobs.
    finished: names of jobs.
  """
  return not finished and {*failed.values()} == {2}


def _command_file(folder, name):
  return folder / f'{name}.command'


def last_command(folder: pathlib.Path, name: str) -> list[str]:
  """The script and flags that a job was last begun with; none if never."""
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
