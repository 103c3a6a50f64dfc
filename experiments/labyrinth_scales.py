"""Scores of chance, and of a scripted agent that knows the maze, in Labyrinth.

  python experiments/labyrinth_scales.py --maze_size=9 --episodes=100

They are what scores of learnt policies can be held against: both play the same
mazes, which are those of `--seed`.
"""

import dataclasses

from absl import flags
import numpy as np

from a3c_jax import checks
from a3c_jax.envs import labyrinth, pathfinder
import a3c_jax.flags

_EPISODES = flags.DEFINE_integer('episodes', 100, 'Episodes of each agent.')
_SEED = flags.DEFINE_integer('seed', 1, 'Seed of the mazes and of chance.')
_options = a3c_jax.flags.define_options(labyrinth.Options)


def scores(env, act, *, episodes: int, seed: int) -> np.ndarray:
  """Returns [episodes] of an agent, `act` from an environment to an action."""
  totals = np.zeros(episodes)
  for episode in range(episodes):
    env.reset(seed=seed + episode)
    truncated = False
    while not truncated:
      _, reward, _, truncated, _ = env.step(act(env))
      totals[episode] += reward
  return totals


def main() -> None:
  options = _options()
  record = labyrinth.describe(options)
  if _EPISODES.value < 2:
    raise checks.UsageError(
      f'--episodes={_EPISODES.value}: allowed: a whole number >= 2'
    )
  if _SEED.value < 0:
    raise checks.UsageError(f'--seed={_SEED.value}: allowed: >= 0')
  print(*(f'{name}={value}' for name, value in record.items()))
  rng = np.random.default_rng(_SEED.value)
  env = labyrinth.Labyrinth(**dataclasses.asdict(options))
  try:
    for name, act in (
      ('random', lambda env: int(rng.integers(env.action_space.n))),
      ('path-finder', pathfinder.act),
    ):
      totals = scores(env, act, episodes=_EPISODES.value, seed=_SEED.value)
      error = totals.std(ddof=1) / np.sqrt(len(totals))
      print(
        f'{name:12} mean {totals.mean():6.2f}, standard error {error:.2f}, '
        f'from {totals.min():.0f} to {totals.max():.0f}, '
        f'{len(totals)} episodes',
        flush=True,
      )
  finally:
    env.close()


if __name__ == '__main__':
  a3c_jax.flags.run(main)
