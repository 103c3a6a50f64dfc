"""Trains to race in TORCS from pixels: the paper's section 5.2.

  python experiments/torcs_racing.py --algo=a3c --car=slow
  python experiments/torcs_racing.py --algo=a3c --car=slow --opponents=5
  python experiments/torcs_racing.py --algo=a3c --car=fast
  python experiments/torcs_racing.py --algo=a3c --car=fast --opponents=5

Needs the game: apt-get install torcs g++ libegl-dev libgl-dev, and then once
python -m a3c_jax.envs.torcs.build.
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from a3c_jax import command_line

if __name__ == '__main__':
  command_line.train('torcs')
