"""Makes Ctrl-C print one word while a program imports its modules, for seconds.

`command_line.run` then restores Python's own handler.
"""

import os
import signal


def stop(number, frame):
  """Ends the process at once: an exception might be caught by an import."""
  del number, frame
  os.write(2, b'stopped\n')
  os._exit(130)


def install() -> None:
  """Installs the handler. A background job keeps ignoring Ctrl-C."""
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stop)
