"""Do they learn? One thread and a fixed seed, so each run repeats exactly."""

import pytest

from a3c_jax import agents, config, training
from a3c_jax.envs import catch, gym

pytestmark = pytest.mark.learning


def run(domain, env, workdir, **given):
  name = env if isinstance(env, str) else env.__name__
  settings = config.make(
    domain,
    workdir=str(workdir),
    environment={'name': name},
    threads=1,
    **given,
  )
  return training.run(
    settings, gym.make(env), lambda env: agents.make_learner(settings, env)
  )


@pytest.mark.parametrize(
  'frames, given',
  [
    (40_000, {'algo': 'a3c'}),
    (60_000, {'algo': 'a3c', 'lstm': True}),
    (80_000, {'algo': 'nstep_q'}),
    (80_000, {'algo': 'one_step_q'}),
    (80_000, {'algo': 'one_step_sarsa'}),
  ],
  ids=['a3c', 'a3c-lstm', 'nstep_q', 'one_step_q', 'one_step_sarsa'],
)
def test_catch(tmp_path, frames, given):
  # Staying scores -0.6 on average, the best player 1.
  result = run(
    'catch',
    catch.Catch,
    tmp_path,
    frames=frames,
    anneal_frames=80_000,
    **given,
  )
  assert result.mean_return >= 0.8


def test_cartpole(tmp_path):
  # Random play keeps the pole up for about 22 steps; the limit is 500.
  result = run('gym', 'CartPole-v1', tmp_path, frames=400_000, algo='a3c')
  assert result.mean_return >= 400
