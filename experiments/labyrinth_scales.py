"""Scores of chance, and of a scripted agent that knows the maze, in Labyrinth.

  python experiments/labyrinth_scales.py --maze_size=9 --episodes=100

They are what scores of learnt policies can be held against: both play the same
mazes, which are those of `--seed`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from a3c_jax import checks, evaluation
from a3c_jax.envs import labyrinth, pathfinder
import a3c_jax.flags

_MOST_TICS = 8  # Of a step; 45 degrees.


@dataclasses.dataclass(frozen=True)
class Options:
  """How long the agents play."""

  episodes: int = checks.count(
    'Episodes of each agent.', least=2, default=100, source='ours'
  )
  seed: int = checks.count(
    'Seed of the mazes and of chance.', least=0, default=1, source='ours'
  )


_mazes = a3c_jax.flags.define_options(labyrinth.Options)
_options = a3c_jax.flags.define_options(Options)


def play(env, act, *, seed: int) -> evaluation.Episode:
  """An episode of an agent, `act` from an environment to an action."""
  env.reset(seed=seed)
  total, steps, truncated = 0.0, 0, False
  while not truncated:
    _, reward, _, truncated, _ = env.step(act(env))
    total += reward
    steps += 1
  return evaluation.Episode(total, steps)


def main() -> None:
  mazes, options = _mazes(), _options()
  record = labyrinth.describe(mazes)
  checks.check_settings(options)
  if mazes.action_repeat > _MOST_TICS:
    raise checks.UsageError(
      f'--action_repeat={mazes.action_repeat}: the scripted agent would turn '
      f'too far in a step; allowed: 1 to {_MOST_TICS}'
    )
  print(*(f'{name}={value}' for name, value in record.items()))
  rng = np.random.default_rng(options.seed)
  env = labyrinth.Labyrinth(**dataclasses.asdict(mazes))
  try:
    for name, act in (
      ('random', lambda env: int(rng.integers(env.action_space.n))),
      ('path-finder', pathfinder.act),
    ):
      summary = evaluation.summarize(
        [
          play(env, act, seed=options.seed + episode)
          for episode in range(options.episodes)
        ]
      )
      print(
        f'{name:12} mean {summary.mean_return:6.2f}, '
        f'standard error {summary.standard_error:.2f}, '
        f'from {summary.lowest_return:.0f} to {summary.highest_return:.0f}, '
        f'{summary.episodes} episodes',
        flush=True,
      )
  finally:
    env.close()


if __name__ == '__main__':
  a3c_jax.flags.run(main)
