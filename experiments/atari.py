"""Trains one of the four algorithms on an Atari game.

python experiments/atari.py --algo=nstep_q --game=breakout --threads=4
"""

import functools

from a3c_jax import agents, training
from a3c_jax.envs import atari
import a3c_jax.flags

_options = a3c_jax.flags.define_options(atari.Options)
_config = a3c_jax.flags.define('atari')


def main() -> None:
  options = _options()
  config = _config(atari.describe(options), action_repeat=options.action_repeat)
  result = training.run(
    config,
    agents.make_env(config),
    functools.partial(agents.make_learner, config),
    agents.make_env(config, protocol=config.eval_protocol),
  )
  print(training.describe(result))


if __name__ == '__main__':
  a3c_jax.flags.run(main)
