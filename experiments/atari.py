"""Trains one of the four algorithms on an Atari game.

python experiments/atari.py --algo=nstep_q --game=breakout --threads=4
"""

import dataclasses

from absl import flags

from a3c_jax import agents, training
from a3c_jax.envs import atari
import a3c_jax.flags

_GAME = flags.DEFINE_string('game', 'pong', 'ALE game, snake_case.')
_STICKY = flags.DEFINE_float(
  'sticky',
  0.0,
  'Probability per emulator frame of repeating the last action. Default: 0.0 '
  '(paper, section 8, where there is none).',
)
_FULL_ACTION_SPACE = flags.DEFINE_boolean(
  'full_action_space',
  False,
  'All 18 actions instead of those the game uses. Default: False '
  '(reproductions of the paper).',
)
_LIFE_LOSS_TERMINAL = flags.DEFINE_boolean(
  'life_loss_terminal',
  True,
  'In training, nothing counts beyond the loss of a life. Default: True '
  '(reproductions of the paper).',
)
_config = a3c_jax.flags.define('atari')


def main() -> None:
  options = atari.Options(
    game=_GAME.value,
    sticky=_STICKY.value,
    full_action_space=_FULL_ACTION_SPACE.value,
    life_loss_terminal=_LIFE_LOSS_TERMINAL.value,
  )
  make_env = atari.make(options)
  config = _config({'name': options.game, **dataclasses.asdict(options)})
  result = training.run(
    config,
    make_env,
    lambda env: agents.make_learner(config, env, stacked_first=True),
  )
  print(training.describe(result))


if __name__ == '__main__':
  a3c_jax.flags.run(main)
