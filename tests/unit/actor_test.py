"""Which parameters each actor acts on, and that anyone may be an actor."""

import gymnasium
from gymnasium.vector import AutoresetMode
import jax
import numpy as np
import pytest

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.core import stopwatch, types
from a3c_jax.envs import catch


def version(number, statistics=None):
  """Parameters 100·n, target parameters n."""
  return types.Version(
    100 * number, number, 0, updates=number, statistics=statistics
  )


def versions():
  """A function that gives version 0, 1, 2, …"""
  numbers = iter(range(1000))
  return lambda: version(next(numbers))


def learner(acting='snapshot', *, caches=False):
  """Acts by parameters + key + ε; a bootstrap value adds both parameters."""

  def act(params, state, obs, key, epsilon):
    return np.full(len(obs), params + key + epsilon), state, key + 1

  def bootstrap(params, target_params, state, obs, key, epsilon):
    return np.full(len(obs), params + target_params), key + 10

  return types.Learner(
    init=None,
    initial_state=lambda num_envs: (),
    act=act,
    greedy=lambda params, state, obs: (np.full(len(obs), params), state),
    bootstrap=bootstrap,
    gradients=None,
    acting=acting,
    act_and_keep=(lambda *inputs: (*act(*inputs), 'cached'))
    if caches
    else None,
  )


OBS = np.zeros((1, 1), np.float32)


def act(actor, key=5, epsilon=0.25):
  return actor.act(OBS, (), key, epsilon)


def bootstrap(actor):
  value, key = actor.bootstrap(OBS, (), 5, 0.25)
  assert key == 15
  return value


def test_fixed_acts_on_one_version():
  actor = actor_lib.FixedActor(learner(caches=True), version(3))
  assert actor.begin_segment() is actor.version
  for _ in range(2):
    assert act(actor) == actor_lib.Decision([305.25], (), 6, ())
    assert bootstrap(actor) == [303]
  assert not actor.decides_on_arrival


def test_greedy_takes_no_chance():
  actor = actor_lib.FixedActor(learner(), version(3), greedy=True)
  assert act(actor) == actor_lib.Decision([300], (), 5, ())


@pytest.mark.parametrize(('caches', 'cached'), [(True, 'cached'), (False, ())])
def test_snapshot_acts_on_one_version_in_each_segment(caches, cached):
  actor = actor_lib.in_training(learner(caches=caches), versions())
  for number in range(3):
    begun = actor.begin_segment()
    assert begun.updates == number
    for _ in range(2):
      decision = act(actor)
      assert decision == actor_lib.Decision(
        [100 * number + 5.25], (), 6, cached
      )
      assert bootstrap(actor) == [101 * number]
    assert actor.version is begun


def test_newest_acts_on_another_version_at_each_step():
  actor = actor_lib.in_training(learner('newest'), versions())
  assert actor.begin_segment().updates == 0
  assert act(actor).action == [105.25]
  assert act(actor).action == [205.25]
  assert bootstrap(actor) == [303]
  assert actor.version.updates == 3
  assert actor.begin_segment().updates == 4
  assert actor.decides_on_arrival


def test_on_arrival_a_segment_has_one_version():
  actor = actor_lib.in_training(learner('arrival', caches=True), versions())
  begun = actor.begin_segment()
  for _ in range(2):
    assert act(actor) == actor_lib.Decision([5.25], (), 6, 'cached')
  assert actor.version is begun
  assert actor.begin_segment().updates == 1
  assert actor.decides_on_arrival


@pytest.mark.parametrize('acting', ['snapshot', 'newest', 'arrival'])
def test_a_segment_is_normalised_by_the_version_that_it_began_with(acting):
  means = iter([3.0, 4.0, 5.0, 6.0])
  read = lambda: version(
    0,
    types.RunningStatistics(
      np.array([next(means)]), np.array([1.0]), np.array(9.0)
    ),
  )
  actor = actor_lib.in_training(learner(acting), read)
  actor.begin_segment()
  assert actor.normalize(OBS) == -3.0
  act(actor)
  assert actor.normalize(OBS) == -3.0
  actor.begin_segment()
  assert actor.normalize(OBS) == (-5.0 if acting == 'newest' else -4.0)


def test_a_learner_that_acts_otherwise_is_refused():
  with pytest.raises(ValueError, match='acting.*snapshot, newest, arrival'):
    actor_lib.in_training(learner('oldest'), versions())


class Random:
  """An actor that has no learner."""

  version = types.Version(None, None, frames=7, updates=0)
  decides_on_arrival = False
  pure_act = None

  def initial_state(self, num_envs):
    return ()

  def begin_segment(self):
    return self.version

  def normalize(self, obs):
    return obs

  def act(self, obs, state, key, epsilon):
    key, subkey = jax.random.split(key)
    action = jax.random.randint(subkey, [len(obs)], 0, 3)
    return actor_lib.Decision(np.asarray(action), state, key)

  def bootstrap(self, final_obs, state, key, epsilon):
    return np.zeros(len(final_obs)), key


def test_anyone_can_act():
  env = gymnasium.vector.SyncVectorEnv(
    [catch.Catch] * 2, autoreset_mode=AutoresetMode.SAME_STEP
  )
  actor = Random()
  played = rollout.collect(
    env,
    actor,
    carry_lib.start(env, learner(), seed=1, key=jax.random.PRNGKey(0)),
    rollout.RolloutSpec(steps=90, gamma=0.99),
    epsilon=lambda frames: np.float32(0),
    clock=stopwatch.Stopwatch(),
  )
  assert played.version is actor.version
  assert len(played.episodes) == 20
  assert {episode.steps for episode in played.episodes} == {9}
  assert {episode.raw_return for episode in played.episodes} == {-1.0, 1.0}
  assert set(played.segment.a[:-1].flat) == {0, 1, 2}
