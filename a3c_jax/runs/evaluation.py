"""Whole episodes with fixed parameters; learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
import queue
from typing import NamedTuple

import gymnasium
import jax
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import observations, types, workers
from a3c_jax.envs import replayable
from a3c_jax.settings.common import MAX_EVAL_EPISODE_FRAMES

POLICIES = ('sample', 'greedy', 'mean')
EXPLORATION_EPSILON = 0.05


class PolicyState(NamedTuple):
  """What a policy keeps from one step of an episode to the next."""

  recurrent: types.State
  key: jax.Array


class Policy:
  """A learner with fixed parameters: `policy(obs, state) -> action, state`.

  Attributes:
    params: of the learner's network.
    frames: emulator frames of training at which they were the run's.
  """

  def __init__(
    self,
    learner: types.Learner,
    version: types.Version,
    *,
    greedy: bool = False,
    exploration_epsilon: float = EXPLORATION_EPSILON,
  ):
    """Fixes how actions are chosen.

    Args:
      learner: the algorithm.
      version: parameters of its network, and the statistics that observations
        are normalised by, if they are.
      greedy: take the best action, without any chance; of a Gaussian policy
        the mean.
      exploration_epsilon: of a value-based learner that is not greedy; a
        policy-based one samples from its policy.
    """
    self.params = version.params
    self.frames = version.frames
    self._actor = actor_lib.FixedActor(learner, version, greedy=greedy)
    self._exploration_epsilon = np.float32(exploration_epsilon)

  def initial_state(self, seed: int = 0, *, num_envs: int = 1) -> PolicyState:
    """The state at the start of an episode.

    Args:
      seed: of the actions that are drawn in the episode.
      num_envs: K, the number of environments that are played at once.
    """
    return PolicyState(
      self._actor.initial_state(num_envs), jax.random.PRNGKey(seed)
    )

  def __call__(
    self, obs: np.ndarray, state: PolicyState
  ) -> tuple[np.ndarray, PolicyState]:
    """What to do.

    Args:
      obs: [K, ...], as a vector environment of K games gives it.
      state: from `initial_state` or from the step before.

    Returns:
      [K] int32 or [K, D] float32 actions, and the state for the next step.
    """
    decision = self._actor.act(
      self._actor.normalize(observations.as_network_input(np.asarray(obs))),
      state.recurrent,
      state.key,
      self._exploration_epsilon,
    )
    return decision.action, PolicyState(decision.state, decision.key)


class Episode(NamedTuple):
  """One episode from its start to its end."""

  raw_return: float  # undiscounted sum of raw rewards
  steps: int  # agent decisions
  truncated: bool = False  # at the most steps that an episode may have


def most_steps(max_eval_episode_frames: int, action_repeat: int) -> int:
  """The agent decisions after which an episode is truncated."""
  return math.ceil(max_eval_episode_frames / action_repeat)


def play_steps(
  step: Callable[[], tuple[float, bool, bool]], *, max_steps: int
) -> Episode:
  """Plays an episode that has begun, to its end.

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
    env: of which the first game counts.
    policy: what plays.
    seed: of the game and of the actions.
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
  """The seed of one episode of an evaluation, which no training game has."""
  rng = np.random.default_rng([seed, episode])
  # To both sides the K games of a vector environment have room: seed + k.
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
  """Plays episodes, as many at once as there are environments.

  Each has a seed of its own, so the result does not depend on how many are
  played at once.

  Args:
    envs: of which the first games count.
    policy: what plays.
    episodes: how many.
    seed: of the whole evaluation.
    max_steps: agent decisions after which an episode is truncated.
    on_step: called before every step with the number of the episode and its
      environment, in the thread that plays it.
    on_episode: called in this thread with the number and the outcome of each,
      in the order in which they end.

  Raises:
    Exception: whatever a thread raised first.
  """
  done: queue.SimpleQueue[tuple[int, Episode]] = queue.SimpleQueue()
  played: dict[int, Episode] = {}

  def body(thread, stop):
    env = envs[thread]
    for index in range(thread, episodes, len(envs)):

      def before_step(index=index):
        if stop.is_set():
          raise workers.Stopped
        on_step(index, env)

      episode = play(
        env,
        policy,
        seed=episode_seed(seed, index),
        max_steps=max_steps,
        on_step=before_step,
      )
      done.put((index, episode))

  def take():
    while not done.empty():
      index, episode = done.get()
      played[index] = episode
      on_episode(index, episode)

  players = workers.Workers(body, len(envs), name='evaluation')
  players.start()
  try:
    while players.wait(0.1):
      take()
  finally:
    players.stop(10.0)
  take()
  if players.error is not None:
    raise players.error
  return [played[index] for index in range(episodes)]


class Summary(NamedTuple):
  """What an evaluation came to."""

  episodes: int
  mean_return: float
  median_return: float
  standard_error: float  # of the mean; NaN for one episode
  lowest_return: float
  highest_return: float
  mean_steps: float  # agent decisions
  truncated_episodes: int  # at the most frames that an episode may have


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
