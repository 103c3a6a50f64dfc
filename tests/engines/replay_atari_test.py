"""Frames of the real emulator, and observations rebuilt from them."""

import jax
from jobs import IDLE
import numpy as np
import pytest

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.core import stopwatch, types
from a3c_jax.envs import atari, domain, replayable
from a3c_jax.replay import minibatch as minibatch_lib
from a3c_jax.replay.memory import Memory

pytest.importorskip('ale_py')

SEGMENT, STEPS, STACK, ENVS = 5, 3, 4, 2
SPEC = rollout.RolloutSpec(SEGMENT, gamma=0.5, reward_clip=1.0)


class Observed:
  """Environments, and all that they have given, in order."""

  def __init__(self, game):
    request = domain.EnvRequest(num_envs=ENVS)
    self.env = atari.make(atari.Options(game=game), request)()
    self.obs, self.a, self.r, self.discount, self.done = [], [], [], [], []
    self._step = self.env.step
    self.env.step = self._observed

  def _observed(self, action):
    obs, reward, terminated, truncated, info = self._step(action)
    done = terminated | truncated
    self.obs.append(obs.copy())
    self.a.append(np.array(action))
    self.r.append(np.clip(reward, -1, 1))
    self.discount.append(np.where(done | info['life_loss'], 0, 0.5))
    self.done.append(done)
    return obs, reward, terminated, truncated, info

  @property
  def lives_lost(self):
    """How often a life was lost that was not the last."""
    return sum(
      int(np.sum((discount == 0) & ~done))
      for discount, done in zip(self.discount, self.done, strict=True)
    )


def play(game, *, rows, episodes):
  """Plays at random until each environment has ended so many episodes."""
  observed = Observed(game)
  num_actions = observed.env.single_action_space.n
  rng = np.random.default_rng(0)

  def act(params, state, obs, key, epsilon):
    return rng.integers(num_actions, size=ENVS, dtype=np.int32), state, key

  learner = IDLE._replace(act=act)
  env = replayable.Recorded(observed.env)
  carry = carry_lib.start(env, learner, seed=3, key=None)
  observed.obs.append(carry.obs.copy())
  memory = Memory(
    capacity=rows * ENVS,
    workers=1,
    num_envs=ENVS,
    shared=True,
    obs_shape=(STACK, 84, 84),
    obs_dtype=np.dtype(np.uint8),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    stack=STACK,
    steps=STEPS,
  )
  actor = actor_lib.in_training(
    learner, lambda: types.Version(None, None, frames=0, updates=0)
  )
  while np.sum(observed.done or [np.zeros(ENVS)], axis=0).min() < episodes:
    segment = rollout.collect(
      env,
      actor,
      carry,
      SPEC,
      epsilon=lambda frames: np.zeros(ENVS),
      clock=stopwatch.Stopwatch(),
    )
    memory.extend(0, segment.transitions)
    carry = segment.carry
  env.close()
  return observed, memory


@pytest.mark.parametrize(
  ('game', 'rows', 'episodes'), [('pong', 1200, 2), ('breakout', 700, 5)]
)
def test_a_memory_gives_what_the_emulator_gave(game, rows, episodes):
  observed, memory = play(game, rows=rows, episodes=episodes)
  assert observed.env.metadata['frame_stack'] == STACK
  assert len(observed.r) > rows  # The oldest are overwritten.
  of_segment = jax.jit(
    lambda minibatch: minibatch_lib.segment_of(minibatch, stack=STACK)
  )
  rng = np.random.default_rng(1)
  firsts, deaths = 0, 0
  for _ in range(20):
    minibatch = memory.sample(0, 100, rng)
    segment = of_segment(minibatch._replace(where=(), age=()))
    where = minibatch.where.tolist()
    for t in range(STEPS + 1):
      expected = np.stack([observed.obs[i + t][env] for env, i in where])
      np.testing.assert_array_equal(segment.obs[t], expected)
    for name, given in (
      ('a', observed.a),
      ('r_t', observed.r),
      ('discount_t', observed.discount),
    ):
      found = np.asarray(getattr(segment, name))[:STEPS]
      for t in range(STEPS):
        expected = np.stack([given[i + t][env] for env, i in where])
        np.testing.assert_array_equal(found[t], expected)
    firsts += np.sum(minibatch.is_first)
    deaths += np.sum(np.asarray(segment.discount_t) == 0)
  # Windows with the beginning of an episode, or the loss of a life, are among
  # them.
  assert firsts > 0 and deaths > 0
  if game == 'breakout':
    assert observed.lives_lost >= 4 * (episodes - 1)
