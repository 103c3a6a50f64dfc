"""Trains one of the four algorithms on Catch, in about a minute.

python experiments/catch.py --algo=one_step_sarsa
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from a3c_jax import command_line

if __name__ == '__main__':
  command_line.train('catch')
