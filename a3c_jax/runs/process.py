"""The end of a script's process. Only scripts call these."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time

from a3c_jax.core import output, workers


def end_now(code: int) -> None:
  """Ends the process at once; a thread that hangs cannot be joined."""
  output.leave_terminal()
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):  # There may be none.
      stream.flush()
  os._exit(code)


def end_after(seconds: float, code: int) -> None:
  """Ends the process so long after its main thread, if it has not ended.

  What an environment leaves behind, such as a process that Python waits for,
  must not keep a program from ending. Processes of `multiprocessing` that are
  left are ended too. Does nothing while the main thread runs.

  Args:
    seconds: that are enough to end in good order.
    code: exit code of the process.
  """

  def end():
    threading.main_thread().join()
    time.sleep(seconds)
    workers.log_hung(['the end of this process'], seconds, logging.WARNING)
    for process in multiprocessing.active_children():
      process.kill()
    end_now(code)

  threading.Thread(target=end, name='end', daemon=True).start()
