"""Do they learn? A run ends when it has, or has failed after many frames."""

import goals
import pytest
from short_runs import run_config

from a3c_jax.envs import catch, gym
from a3c_jax.settings import build, config


def learns(domain, env, workdir, mean_return, **given):
  """Whether the newest episodes of a run once have such a mean return."""
  goal = goals.Goal(mean_return)
  settings = config.make(
    domain,
    workdir=str(workdir),
    eval_frames=0,
    **given,
  )
  run_config(
    settings,
    gym.make(env, num_envs=settings.envs_per_thread),
    lambda env: build.make_learner(settings, env),
    loggers=[goal],
  )
  return goal.reached


# ε reaches its end within the run.
EXPLORES_SOON = {'exploration_anneal_frames': 10_000}


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'a3c', 'threads': 1},
    {'algo': 'a3c', 'lstm': True, 'threads': 1},
    {'algo': 'a3c'},
    {'algo': 'nstep_q', **EXPLORES_SOON},
    {'algo': 'one_step_q', **EXPLORES_SOON},
    {'algo': 'one_step_sarsa', **EXPLORES_SOON},
    {'algo': 'one_step_sarsa', 'acting': 'snapshot', **EXPLORES_SOON},
  ],
  ids=lambda given: '-'.join(map(str, given.values())),
)
def test_catch(tmp_path, given):
  # Staying scores -0.6 on average, the best player 1.
  given = {'threads': 2, 'frames': 80_000, 'anneal_frames': 160_000} | given
  assert learns('catch', catch.Catch, tmp_path, 0.8, **given)


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'dqn'},
    {'algo': 'dueling_dqn'},
    {'algo': 'prioritized_dqn'},
    # Two threads, each with its own memory.
    {'algo': 'gorila', 'threads': 2, 'frames': 90_000},
    {'algo': 'pgql', 'anneal_frames': 80_000},
    {'algo': 'nstep_q', 'replay': 'shared', 'anneal_frames': 80_000},
    {'algo': 'one_step_q', 'replay': 'per_thread', 'anneal_frames': 80_000},
    {'algo': 'dqn', 'runtime': 'synchronous', 'threads': 2, 'replay_batch': 16},
  ],
  ids=lambda given: '-'.join(map(str, given.values())),
)
def test_catch_with_a_replay_memory(tmp_path, given):
  if given['algo'] != 'pgql':
    given = given | {'exploration_ends': (0.01,)}
    given.setdefault('exploration_anneal_frames', 5_000)
  given = {'threads': 1, 'frames': 40_000} | given
  assert learns('catch', catch.Catch, tmp_path, 0.9, **given)


@pytest.mark.parametrize(
  'given',
  [
    {'runtime': 'synchronous', 'threads': 2},
    {'runtime': 'queues', 'agents': 4, 'lag_correction': 'vtrace'},
  ],
)
def test_other_runtimes_on_catch(tmp_path, given):
  given = {'frames': 100_000, 'anneal_frames': 200_000} | given
  assert learns('catch', catch.Catch, tmp_path, 0.8, **given)


def test_cartpole(tmp_path):
  # Random play keeps the pole up for about 22 steps; the limit is 500.
  given = {'threads': 1, 'envs_per_thread': 4, 'frames': 200_000}
  assert learns('gym', 'CartPole-v1', tmp_path, 300, algo='a3c', **given)


@pytest.mark.long
def test_cartpole_with_dqn(tmp_path):
  given = {'threads': 1, 'frames': 50_000}
  assert learns('gym', 'CartPole-v1', tmp_path, 150, algo='dqn', **given)


@pytest.mark.long
def test_pendulum(tmp_path):
  # Random play scores about -1,200, the best player about -150.
  given = {
    'threads': 1,
    'frames': 200_000,
    'anneal_frames': 400_000,
    'learning_rate': 1e-3,
    'gamma': 0.95,
    'reward_scale': 0.1,
  }
  assert learns('control', 'Pendulum-v1', tmp_path, -400, **given)
