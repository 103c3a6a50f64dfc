"""Trains one of the four algorithms on a Gymnasium environment.

python experiments/gym_env.py --env=CartPole-v1 --algo=a3c
python experiments/gym_env.py --env=my_module:make_env --env_args=level=3
python experiments/gym_env.py --env=my_package:MyEnv-v0
"""

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
from a3c_jax import command_line

if __name__ == '__main__':
  command_line.train('gym')
