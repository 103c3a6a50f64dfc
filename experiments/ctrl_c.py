"""Makes Ctrl-C one word while a script imports its modules: that takes seconds.

The first import of every script in this folder. `command_line.run` takes over
from it.
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


# Only in a script's own process: not where one is imported, as a test does, or
# multiprocessing's `spawn`. A background job ignores Ctrl-C, and still does.
_script = getattr(sys.modules['__main__'], '__file__', None) or ''
if (
  os.path.abspath(_script).startswith(_HERE + os.sep)
  and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
  signal.signal(signal.SIGINT, _stop)
