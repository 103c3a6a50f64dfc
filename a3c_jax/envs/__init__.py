"""Environments: each module makes a `gymnasium.vector.VectorEnv`."""

import gymnasium

gymnasium.register(
  'a3c_jax/Labyrinth-v0',
  entry_point='a3c_jax.envs.labyrinth.foraging:Labyrinth',
)
gymnasium.register(
  'a3c_jax/Torcs-v0', entry_point='a3c_jax.envs.torcs.racing:Torcs'
)
