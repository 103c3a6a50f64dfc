"""Writes the trained policy of a run as a model, a folder to give to others.

python experiments/export.py --workdir=runs/pong-a3c-... --out=models/pong
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import commands

if __name__ == '__main__':
  commands.export()
