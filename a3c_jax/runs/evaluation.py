"""Plays whole episodes with a fixed policy, and summarizes their returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
import queue
from typing import NamedTuple, SupportsFloat

import gymnasium
import numpy as np

from a3c_jax.core import threads
from a3c_jax.envs import replayable
from a3c_jax.runs.policy import Policy
from a3c_jax.settings.common import MAX_EVAL_EPISODE_FRAMES


class Episode(NamedTuple):
  """One episode from its start to its end."""

  raw_return: float  # undiscounted sum of raw rewards
  steps: int  # agent decisions
  truncated: bool = False  # by the limit of evaluations


def most_steps(max_eval_episode_frames: int, action_repeat: int) -> int:
  """The most agent decisions of an episode, which is truncated then."""
  return math.ceil(max_eval_episode_frames / action_repeat)


def play_steps(
  step: Callable[[], tuple[SupportsFloat, bool, bool]], *, max_steps: int
) -> Episode:
  """Plays an episode from after its reset to its end.

  Args:
    step: takes one step; returns its reward, terminated and truncated.
    max_steps: agent decisions after which the episode is truncated.
  """
  total, steps = 0.0, 0
  while True:
    reward, terminated, truncated = step()
    total += float(reward)
    steps += 1
    bounded = steps >= max_steps and not terminated
    if terminated or truncated or bounded:
      return Episode(total, steps, truncated=bool(bounded))


def play(
  env: gymnasium.vector.VectorEnv,
  policy: Policy,
  *,
  seed: int,
  max_steps: int = MAX_EVAL_EPISODE_FRAMES,
  on_step: Callable[[], None] = lambda: None,
) -> Episode:
  """Plays one episode from a seeded reset to its end.

  Args:
    env: only its first environment counts.
    policy: chooses the actions.
    seed: of the environment and of the actions.
    max_steps: agent decisions after which the episode is truncated.
    on_step: called before every step.
  """
  obs, _ = env.reset(seed=seed)
  state = policy.initial_state(seed, num_envs=env.num_envs)

  def step():
    nonlocal obs, state
    on_step()
    action, state = policy(obs, state)
    obs, reward, terminated, truncated, _ = env.step(action)
    return reward[0], terminated[0], truncated[0]

  return play_steps(step, max_steps=max_steps)


def episode_seed(seed: int, episode: int) -> int:
  """The seed of one episode of an evaluation. No training episode has it."""
  rng = np.random.default_rng([seed, episode])
  # With room on both sides for the K environments, whose seeds are seed + k.
  return int(rng.integers(replayable.TRAINING_SEEDS + 2**20, 2**31 - 2**20))


def play_all(
  envs: Sequence[gymnasium.vector.VectorEnv],
  policy: Policy,
  *,
  episodes: int,
  seed: int,
  max_steps: int = MAX_EVAL_EPISODE_FRAMES,
  on_step: Callable[[int, gymnasium.vector.VectorEnv], None] = (
    lambda index, env: None
  ),
  on_episode: Callable[[int, Episode], None] = lambda index, episode: None,
) -> list[Episode]:
  """Plays episodes, each vector environment in a thread of its own.

  Each episode has its own seed, so the result does not depend on the number of
  threads.

  Args:
    envs: only the first environment of each counts.
    policy: chooses the actions.
    episodes: number of episodes.
    seed: of the whole evaluation.
    max_steps: agent decisions after which an episode is truncated.
    on_step: called before every step with the number of the episode and its
      environment, in the thread that plays it.
    on_episode: called in this thread with the number of an episode and the
      episode, in the order in which they end.

  Raises:
    Exception: what a thread raised first.
  """
  done: queue.SimpleQueue[tuple[int, Episode]] = queue.SimpleQueue()
  played: dict[int, Episode] = {}

  def body(thread, stop):
    env = envs[thread]
    for index in range(thread, episodes, len(envs)):

      def before_step(index=index):
        if stop.is_set():
          raise threads.Stopped
        on_step(index, env)

      episode = play(
        env,
        policy,
        seed=episode_seed(seed, index),
        max_steps=max_steps,
        on_step=before_step,
      )
      done.put((index, episode))

  def drain():
    while not done.empty():
      index, episode = done.get()
      played[index] = episode
      on_episode(index, episode)

  players = threads.ThreadGroup.numbered(body, len(envs), name='evaluation')
  players.start()
  try:
    while players.wait(0.1):
      drain()
  finally:
    players.stop(10.0)
  drain()
  if players.error is not None:
    raise players.error
  return [played[index] for index in range(episodes)]


class Summary(NamedTuple):
  """The result of an evaluation."""

  episodes: int
  mean_return: float
  median_return: float
  standard_error: float  # of the mean; NaN for one episode
  lowest_return: float
  highest_return: float
  mean_steps: float  # agent decisions
  truncated_episodes: int  # by the limit of evaluations


def summarize(episodes: Sequence[Episode]) -> Summary:
  """Mean, median and standard error of raw returns."""
  returns = np.array([episode.raw_return for episode in episodes])
  count = len(returns)
  error = returns.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
  return Summary(
    episodes=count,
    mean_return=float(returns.mean()),
    median_return=float(np.median(returns)),
    standard_error=float(error),
    lowest_return=float(returns.min()),
    highest_return=float(returns.max()),
    mean_steps=float(np.mean([episode.steps for episode in episodes])),
    truncated_episodes=sum(episode.truncated for episode in episodes),
  )
