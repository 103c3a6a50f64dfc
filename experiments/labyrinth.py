"""Trains A3C with an LSTM core in random 3D mazes, seen in first person.

  python experiments/labyrinth.py --maze_size=9

Needs its engine: pip install -e '.[labyrinth]', with Python 3.11 or 3.12.
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from a3c_jax import command_line

if __name__ == '__main__':
  command_line.train('labyrinth')
