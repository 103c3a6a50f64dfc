"""The replay memory gives back the observations of the real emulator."""

import numpy as np
import pytest

from a3c_jax import replay
from a3c_jax.envs import atari, domain

pytest.importorskip('ale_py')

STEPS = 25
NUM_ENVS = 2


@pytest.mark.parametrize('game', ['breakout', 'seaquest'])
def test_memory_gives_back_the_stacks_of_the_emulator(game):
  request = domain.EnvRequest(num_envs=NUM_ENVS)
  env = atari.make(atari.Options(game=game), request)()
  memory = replay.Memory(
    capacity=1000,
    workers=1,
    num_envs=NUM_ENVS,
    shared=True,
    obs_shape=env.single_observation_space.shape,
    obs_dtype=np.dtype(np.uint8),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    stack=4,
  )
  rng = np.random.default_rng(0)
  obs = [np.array(env.reset(seed=1)[0])]
  is_first = [np.ones(NUM_ENVS, bool)]
  zeros = np.zeros((STEPS, NUM_ENVS), np.float32)
  for _ in range(24):
    for _ in range(STEPS):
      step = env.step(rng.integers(env.single_action_space.n, size=NUM_ENVS))
      obs.append(np.array(step[0]))
      is_first.append(step[2] | step[3])
    memory.extend(
      0,
      replay.Transitions(
        obs=np.stack(obs[-STEPS - 1 :]),
        a=zeros.astype(np.int32),
        r_t=zeros,
        discount_t=zeros,
        is_first=np.stack(is_first[-STEPS - 1 :]),
        truncated=zeros.astype(bool),
      ),
    )
  env.close()
  assert np.sum(is_first) > NUM_ENVS  # Episodes ended.
  drawn = memory.sample(0, 2000, rng)
  segment = replay.segment_of(drawn, stack=4)
  stream, index = drawn.where.T
  all_obs = np.stack(obs)
  np.testing.assert_array_equal(segment.obs[0], all_obs[index, stream])
  np.testing.assert_array_equal(segment.obs[1], all_obs[index + 1, stream])
