"""Trains one of the four algorithms on an Atari game.

python experiments/atari.py --algo=nstep_q --game=breakout --threads=4
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import a3c_jax.flags

if __name__ == '__main__':
  a3c_jax.flags.train('atari')
