"""Trains A3C with a Gaussian policy on a task with continuous actions.

  python experiments/continuous_control.py --env=HalfCheetah-v5

For the tasks of MuJoCo and dm_control: pip install -e '.[mujoco]'
"""

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import training
from a3c_jax.envs import control
import a3c_jax.flags

_options = a3c_jax.flags.define_options(control.Options, domain='control')
_config = a3c_jax.flags.define('control')


def main() -> None:
  options = _options()
  config = _config(
    control.describe(options), action_repeat=options.action_repeat
  )
  training.train(config)


if __name__ == '__main__':
  a3c_jax.flags.run(main)
