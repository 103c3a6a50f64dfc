"""Trains one of the four algorithms on Catch, in about a minute.

python experiments/catch.py --algo=one_step_sarsa
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import a3c_jax.flags

if __name__ == '__main__':
  a3c_jax.flags.train('catch')
