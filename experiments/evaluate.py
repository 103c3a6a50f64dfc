"""Evaluates the trained policy of a run; learns nothing.

python experiments/evaluate.py --workdir=runs/pong-a3c-... --episodes=30
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import commands

if __name__ == '__main__':
  commands.evaluate()
