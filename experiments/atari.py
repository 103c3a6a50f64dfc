"""Trains one of the four algorithms on an Atari game.

python experiments/atari.py --algo=nstep_q --game=breakout --threads=4
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from a3c_jax import command_line

if __name__ == '__main__':
  command_line.train('atari')
