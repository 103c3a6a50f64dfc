"""Makes Ctrl-C print one word while a script imports its modules, for seconds.

Every script in this folder imports it first. `command_line.run` then restores
Python's own handler.
"""

import os
import signal
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _stop(number, frame):
  del number, frame
  # At once: an exception might be caught by what is being imported.
  os.write(2, b'stopped\n')
  os._exit(130)


# Only in a script's own process, and not if a test or multiprocessing's `spawn`
# imports the script. A background job keeps ignoring Ctrl-C.
_script = getattr(sys.modules['__main__'], '__file__', None) or ''
if (
  os.path.abspath(_script).startswith(_HERE + os.sep)
  and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
  signal.signal(signal.SIGINT, _stop)
