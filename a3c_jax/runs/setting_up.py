"""Guards for the time before training: signals end it, and hangs are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import pathlib
import shlex
import threading
import time

from a3c_jax.core import errors, paths, signals, threads
from a3c_jax.settings.common import Config

_PERIOD_SECONDS = 1.0
_BUSY = 10  # Computations may take so many times as long as all else.


def resume_command(workdir: str) -> str:
  """The line that tells the user how to resume a run."""
  return f'to resume: the same command with --workdir={shlex.quote(workdir)}'


@contextlib.contextmanager
def stoppable(config: Config, received: signals.Signals) -> Iterator[None]:
  """Ends a block before training when a signal arrives.

  Raises:
    StoppedError: if one does; says what is in the folder.
  """
  try:
    with received.raising():
      yield
  except signals.Interrupted:
    left = 'nothing was written'
    if (pathlib.Path(config.workdir) / 'config.json').exists():
      workdir = paths.as_given(config.workdir)
      left = f'the run in {workdir} is unchanged\n{resume_command(workdir)}'
    raise errors.StoppedError(
      f'stopped before training began; {left}'
    ) from None


@contextlib.contextmanager
def watched(
  seconds: float,
  on_hung: Callable[[str], None],
  *,
  period_seconds: float = _PERIOD_SECONDS,
) -> Iterator[Callable[..., None]]:
  """Watches this thread while it sets a run up.

  Args:
    seconds: without a sign of life, after which this thread hangs.
    on_hung: called in another thread with what hangs, in words, after the
      stacks of all threads were logged. Called once per stage. A thread cannot
      be stopped from outside, and only the caller may end the process.
    period_seconds: between two checks.

  Yields:
    A function to call at the start of each stage, with its name in words and
    whether it computes. JAX and the disk may take long, without a hang of an
    environment.
  """
  thread = threading.current_thread()
  stages = [('setting up', False)]
  done = threading.Event()

  def watch():
    idle = threads.Watchdog(seconds)
    # A thread that always computes hangs too, but a busy machine is only slow.
    busy = threads.Watchdog(_BUSY * seconds)
    reported = None
    while not done.wait(period_seconds):
      stage, computes = stages[-1]
      name = f'the main thread, {stage},'
      life = (len(stages), threads.beats(thread))
      cpu_seconds = round(time.process_time() - time.thread_time(), 2)
      for watchdog, value in (
        (idle, (*life, cpu_seconds)),
        (busy, (*life, cpu_seconds if computes else 0)),
      ):
        hung = watchdog.tick({name: value})
        if hung and life != reported:
          reported = life
          on_hung(threads.log_hung(hung, watchdog.seconds))

  threading.Thread(target=watch, name='watchdog', daemon=True).start()
  try:
    yield lambda stage, computes=False: stages.append((stage, computes))
  finally:
    done.set()
