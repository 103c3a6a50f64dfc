"""Repeats a recorded asynchronous run in one thread, bit for bit.

python experiments/rerun.py --workdir=runs/pong-a3c-... --until=1000
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import commands

if __name__ == '__main__':
  commands.rerun()
