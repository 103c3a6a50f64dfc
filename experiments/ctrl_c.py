"""Makes Ctrl-C print one word while a script imports its modules, for seconds.

Every script in this folder imports it first.
"""

import os
import sys

from a3c_jax import ctrl_c

_HERE = os.path.dirname(os.path.abspath(__file__))
# Only in a script's own process, and not if a test or multiprocessing's `spawn`
# imports the script.
_script = getattr(sys.modules['__main__'], '__file__', None) or ''
if os.path.abspath(_script).startswith(_HERE + os.sep):
  ctrl_c.install()
