"""Ends a script's process. Only scripts use it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time

from a3c_jax.core import output, threads


def end_now(code: int) -> None:
  """Ends the process at once: a thread that hangs cannot be joined."""
  output.leave_terminal()
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):  # There may be none.
      stream.flush()
  os._exit(code)


def end_without_teardown(code: int) -> None:
  """Ends the process after its exit functions, without deleting its objects."""
  atexit._run_exitfuncs()
  end_now(code)


def end_after(seconds: float, code: int) -> None:
  """Ends the process some seconds after its main thread has ended.

  An environment may leave a process that Python waits for. That must not keep a
  program from ending. Remaining processes of `multiprocessing` are ended too.
  Does nothing while the main thread runs.

  Args:
    seconds: enough to end in good order.
    code: exit code of the process.
  """

  def end():
    threading.main_thread().join()
    time.sleep(seconds)
    threads.log_hung(['the end of this process'], seconds, logging.WARNING)
    for process in multiprocessing.active_children():
      process.kill()
    end_now(code)

  threading.Thread(target=end, name='end', daemon=True).start()
