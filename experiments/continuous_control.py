"""Trains A3C with a Gaussian policy on a task with continuous actions.

  python experiments/continuous_control.py --env=HalfCheetah-v5

For the tasks of MuJoCo and dm_control: pip install -e '.[mujoco]'
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from a3c_jax import command_line

if __name__ == '__main__':
  command_line.train('control')
