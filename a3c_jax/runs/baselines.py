"""Scores of agents that do not learn, to compare learned ones with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import gymnasium

from a3c_jax.core import fields
from a3c_jax.runs import evaluation
from a3c_jax.settings.common import MAX_EVAL_EPISODE_FRAMES

Act = Callable[[Any], int]  # From an environment to an action.


@dataclasses.dataclass(frozen=True)
class Options:
  """Options of the evaluation of baselines."""

  episodes: int = fields.count(
    'Episodes of each agent.', least=2, default=100, source='ours'
  )
  seed: int = fields.count(
    'Seed of the episodes and of chance.', least=0, default=1, source='ours'
  )
  max_eval_episode_frames: int = fields.count(
    'Emulator frames after which an episode is truncated.',
    default=MAX_EVAL_EPISODE_FRAMES,
    source='that of training',
  )


def play(
  env: gymnasium.Env, act: Act, *, seed: int, max_steps: int
) -> evaluation.Episode:
  """Plays one episode from a seeded reset to its end, or for `max_steps`."""
  env.reset(seed=seed)

  def step():
    _, reward, terminated, truncated, _ = env.step(act(env))
    return reward, terminated, truncated

  return evaluation.play_steps(step, max_steps=max_steps)


def report(
  env: gymnasium.Env,
  agents: Mapping[str, Act],
  options: Options,
  *,
  action_repeat: int,
) -> None:
  """Prints a line for each agent; all play the same episodes."""
  max_steps = evaluation.most_steps(
    options.max_eval_episode_frames, action_repeat
  )
  for name, act in agents.items():
    summary = evaluation.summarize(
      [
        play(
          env,
          act,
          seed=evaluation.episode_seed(options.seed, episode),
          max_steps=max_steps,
        )
        for episode in range(options.episodes)
      ]
    )
    truncated = ''
    if summary.truncated_episodes:
      truncated = f', {summary.truncated_episodes} of them truncated'
    print(
      f'{name:15} mean {summary.mean_return:9.2f}, '
      f'standard error {summary.standard_error:.2f}, '
      f'from {summary.lowest_return:.0f} to {summary.highest_return:.0f}, '
      f'{summary.episodes} episodes{truncated}',
      flush=True,
    )
