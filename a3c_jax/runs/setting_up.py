"""What comes before training: it may hang, and a signal may end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import pathlib
import shlex
import threading
import time

from a3c_jax.core import errors, paths, signals, workers
from a3c_jax.settings.common import Config

_PERIOD_SECONDS = 1.0
_BUSY = 10  # How many times as long something may take that computes.


def resume_command(workdir: str) -> str:
  """How to resume a run, in words."""
  return f'to resume: the same command with --workdir={shlex.quote(workdir)}'


@contextlib.contextmanager
def stoppable(config: Config, received: signals.Signals) -> Iterator[None]:
  """Ends what comes before training when a signal arrives.

  Raises:
    StoppedError: then.
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
    on_hung: called with what hangs, in words, in another thread, once the
      stacks of all threads are logged. Only the caller knows whether it may
      end the process: a thread cannot be stopped from outside.
    period_seconds: between two looks.

  Yields:
    A function that is called with what begins, in words, and whether JAX or the
    disk may take their time in it, which is no sign of an environment that
    hangs.
  """
  thread = threading.current_thread()
  stages = [('setting up', False)]
  done = threading.Event()

  def watch():
    idle = workers.Watchdog(seconds)
    # One that computes for ever hangs too, but a busy machine is only slow.
    busy = workers.Watchdog(_BUSY * seconds)
    reported = None
    while not done.wait(period_seconds):
      stage, computes = stages[-1]
      name = f'the main thread, {stage},'
      life = (len(stages), workers.beats(thread))
      cpu_seconds = round(time.process_time() - time.thread_time(), 2)
      for watchdog, value in (
        (idle, (*life, cpu_seconds)),
        (busy, (*life, cpu_seconds if computes else 0)),
      ):
        hung = watchdog.tick({name: value})
        if hung and life != reported:
          reported = life
          on_hung(workers.log_hung(hung, watchdog.seconds))

  threading.Thread(target=watch, name='watchdog', daemon=True).start()
  try:
    yield lambda stage, computes=False: stages.append((stage, computes))
  finally:
    done.set()
