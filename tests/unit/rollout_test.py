"""The rollout core, against episodes written out by hand."""

import threading

import gymnasium
from gymnasium.vector import AutoresetMode
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import normalization, rollout
from a3c_jax.core import events, stopwatch, types

WAIT_SECONDS = 60.0


class Scripted(gymnasium.Env):
  """Observation 10·e + s at step s of episode e; rewards and ends from a list.

  Each entry is (reward, how), how being '', 'terminated', 'truncated', 'both',
  'life_loss' or 'life_loss and truncated'. After the list nothing happens any
  more.
  """

  action_space = gymnasium.spaces.Discrete(1000)

  def __init__(self, script, shape=(1,), dtype=np.float64):
    self.observation_space = gymnasium.spaces.Box(0, 255, shape, dtype)
    self._script = iter(script)
    self._episode = 0
    self.actions = []

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._episode += 1
    self._step = 0
    return self._observation(), {}

  def step(self, action):
    self.actions.append(int(action))
    self._step += 1
    reward, how = next(self._script, (0.0, ''))
    info = {'life_loss': True} if 'life_loss' in how else {}
    terminated = how in ('terminated', 'both')
    truncated = how in ('truncated', 'both', 'life_loss and truncated')
    return self._observation(), reward, terminated, truncated, info

  def _observation(self):
    space = self.observation_space
    value = 10 * self._episode + self._step
    return np.full(space.shape, value, space.dtype)


def vector_env(*scripts, **kwargs):
  return gymnasium.vector.SyncVectorEnv(
    [lambda script=script: Scripted(script, **kwargs) for script in scripts],
    autoreset_mode=AutoresetMode.SAME_STEP,
  )


def actions_sent(env):
  return [one.unwrapped.actions for one in env.envs]


def counting_learner(acting='snapshot'):
  """Its parts are sums, so that each array can be written down.

  The key counts draws. An action is parameters + key, the state adds up the
  observations acted on (there is none on 'newest'), and a value estimate is the
  observation, plus the state before it, plus the target parameters.
  """
  recurrent = acting == 'snapshot'

  def act(params, state, obs, key, exploration_epsilon):
    del exploration_epsilon
    action = np.full(len(obs), params + key, np.int32)
    return action, state + obs if recurrent else state, key + 1

  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    del params, exploration_epsilon
    value = obs + state if recurrent else obs
    return value[:, 0] + target_params, key + 10

  return types.Learner(
    init=None,
    initial_state=lambda num_envs: (
      np.zeros((num_envs, 1), np.float32) if recurrent else ()
    ),
    act=act,
    greedy=None,
    bootstrap=bootstrap,
    gradients=None,
    acting=acting,
    uses_target=True,
  )


def fixed_version(params=0, target_params=0, statistics=None):
  return lambda: types.Version(
    params, target_params, frames=0, updates=0, statistics=statistics
  )


VERSION_0 = fixed_version()


def start(env, learner, key=0):
  return carry_lib.start(env, learner, seed=1, key=key)


def collect(env, learner, carry, **changes):
  """The carry, the segment and the episodes alone."""
  played = collect_all(env, learner, carry, **changes)
  return played.carry, played.segment, [*played.episodes]


def collect_all(
  env,
  learner,
  carry,
  *,
  read=VERSION_0,
  on_step=lambda: None,
  **changes,
):
  spec = {'steps': 4, 'gamma': 0.5, 'reward_clip': 1.0} | changes
  return rollout.collect(
    env,
    actor_lib.in_training(learner, read),
    carry,
    rollout.RolloutSpec(**spec),
    epsilon=lambda frames: np.float32(0.5),
    clock=stopwatch.Stopwatch(),
    on_step=on_step,
  )


def test_segments_over_terminal_and_truncation_by_hand():
  env = vector_env(
    [
      (1.0, ''),
      (5.0, ''),
      (2.0, 'terminated'),
      (0.5, ''),
      # Segment 2 begins here.
      (-3.0, 'truncated'),
      (0.25, ''),
    ]
  )
  learner = counting_learner()
  carry, segment, episodes = collect(env, learner, start(env, learner))

  # Observation 13 ends episode 1 and is never acted on.
  np.testing.assert_array_equal(segment.obs[:, 0, 0], [10, 11, 12, 20, 21])
  np.testing.assert_array_equal(segment.a[:, 0], [0, 1, 2, 3, 0])
  np.testing.assert_array_equal(segment.r_t[:, 0], [1, 1, 1, 0.5])
  np.testing.assert_array_equal(segment.discount_t[:, 0], [0.5, 0.5, 0, 0.5])
  np.testing.assert_array_equal(segment.is_first[:, 0], [1, 0, 0, 1, 0])
  np.testing.assert_array_equal(segment.state, [[0]])
  assert episodes == [events.EpisodeEnded(8.0, 3.0, 3)]

  carry, segment, episodes = collect(env, learner, carry)
  np.testing.assert_array_equal(segment.obs[:, 0, 0], [21, 30, 31, 32, 33])
  # The bootstrap at the truncation moved the key from 5 to 15.
  np.testing.assert_array_equal(segment.a[:, 0], [4, 15, 16, 17, 0])
  # The state adds up 20 and 21 before the final observation 22, so its
  # value is 22 + 41, and the clipped reward becomes -1 + ½·63.
  np.testing.assert_array_equal(segment.r_t[:, 0], [30.5, 0.25, 0, 0])
  np.testing.assert_array_equal(segment.discount_t[:, 0], [0, 0.5, 0.5, 0.5])
  np.testing.assert_array_equal(segment.is_first[:, 0], [0, 1, 0, 0, 0])
  np.testing.assert_array_equal(segment.state, [[20]])
  assert episodes == [events.EpisodeEnded(-2.5, -0.5, 2)]
  assert actions_sent(env) == [[0, 1, 2, 3, 4, 15, 16, 17]]
  np.testing.assert_array_equal(carry.state, [[30 + 31 + 32]])
  assert carry.key == 18


def test_environments_end_and_bootstrap_each_by_itself():
  # Environment 0 is truncated at step 1, environment 1 ends at step 2.
  env = vector_env(
    [(1.0, 'truncated'), (1.0, '')], [(-2.0, ''), (4.0, 'terminated')]
  )
  learner = counting_learner()
  carry, segment, episodes = collect(
    env,
    learner,
    start(env, learner),
    steps=3,
    reward_clip=None,
    read=fixed_version(params=7, target_params=100),
  )
  np.testing.assert_array_equal(
    segment.obs[..., 0], [[10, 10], [20, 11], [21, 20], [22, 21]]
  )
  # Environment 0: 1 + ½·(11 + 10 + 100); environment 1 gets nothing of that.
  np.testing.assert_array_equal(segment.r_t, [[61.5, -2], [1, 4], [0, 0]])
  np.testing.assert_array_equal(
    segment.discount_t, [[0, 0.5], [0.5, 0], [0.5, 0.5]]
  )
  np.testing.assert_array_equal(
    segment.is_first, [[True, True], [True, False], [False, True], [False] * 2]
  )
  assert episodes == [
    events.EpisodeEnded(1, 1, 1),
    events.EpisodeEnded(2, 2, 2),
  ]
  # State: environment 0 forgot at 20, environment 1 at its own 20.
  np.testing.assert_array_equal(carry.state, [[20 + 21], [20]])
  assert actions_sent(env) == [[7, 18, 19], [7, 18, 19]]


def test_both_streams_truncated_at_once():
  env = vector_env([(0.0, 'truncated')], [(0.0, ''), (0.0, 'truncated')])
  learner = counting_learner()
  _, segment, _ = collect(env, learner, start(env, learner), steps=2)
  # ½·(11 + 10) in environment 0, ½·(12 + 10 + 11) in environment 1.
  np.testing.assert_array_equal(segment.r_t, [[10.5, 0], [0, 16.5]])
  env = vector_env([(0.0, 'truncated')], [(0.0, 'truncated')])
  _, segment, episodes = collect(env, learner, start(env, learner), steps=1)
  np.testing.assert_array_equal(segment.r_t, [[10.5, 10.5]])
  assert len(episodes) == 2


def test_terminal_state_at_the_time_limit_has_no_bootstrap_value():
  # Gymnasium's TimeLimit sets both when the last step is terminal too.
  env = vector_env([(1.0, 'both')])
  learner = counting_learner()
  _, segment, episodes = collect(env, learner, start(env, learner), steps=1)
  np.testing.assert_array_equal(segment.r_t, [[1.0]])
  np.testing.assert_array_equal(segment.discount_t, [[0.0]])
  assert len(episodes) == 1


def test_life_loss_only_cuts_the_discount():
  env = vector_env([(1.0, ''), (2.0, 'life_loss')], [(1.0, 'life_loss')])
  learner = counting_learner()
  carry, segment, episodes = collect(
    env, learner, start(env, learner), steps=3, reward_clip=None
  )
  np.testing.assert_array_equal(
    segment.discount_t, [[0.5, 0], [0, 0.5], [0.5, 0.5]]
  )
  np.testing.assert_array_equal(segment.r_t, [[1, 1], [2, 0], [0, 0]])
  np.testing.assert_array_equal(segment.is_first.sum(0), [1, 1])
  np.testing.assert_array_equal(segment.obs[:, 1, 0], [10, 11, 12, 13])
  np.testing.assert_array_equal(carry.state, [[33], [33]])
  np.testing.assert_array_equal(carry.episode_return, [3, 1])
  assert episodes == []


def test_a_life_lost_in_a_truncated_step_has_no_bootstrap():
  env = vector_env(
    [(1.0, 'life_loss and truncated')], [(1.0, 'truncated')], [(1.0, 'both')]
  )
  learner = counting_learner()
  _, segment, episodes = collect(env, learner, start(env, learner), steps=1)
  # ½·(11 + 10) in environment 1 alone.
  np.testing.assert_array_equal(segment.r_t, [[1, 11.5, 1]])
  np.testing.assert_array_equal(segment.discount_t, [[0, 0, 0]])
  assert len(episodes) == 3


def test_newest_learner_asks_for_parameters_at_each_step_and_keeps_its_action():
  env = vector_env([])
  learner = counting_learner(acting='newest')
  versions = iter(range(0, 1000, 100))
  read = lambda: fixed_version(params=next(versions))()
  played = collect_all(env, learner, start(env, learner), steps=2, read=read)
  # Version + key; version 0 is that of the beginning, which gives ε alone. The
  # third was drawn for obs[T] and not yet executed.
  np.testing.assert_array_equal(played.segment.a[:, 0], [100, 201, 302])
  assert actions_sent(env) == [[100, 201]]
  np.testing.assert_array_equal(played.carry.action, [302])
  assert played.version.params == 300

  played = collect_all(env, learner, played.carry, steps=2, read=read)
  np.testing.assert_array_equal(played.segment.a[:, 0], [302, 503, 604])
  assert actions_sent(env) == [[100, 201, 302, 503]]
  assert played.version.params == 600


def test_on_arrival_what_is_kept_is_of_the_segments_own_parameters():
  env = vector_env([])
  plain = counting_learner(acting='arrival')
  learner = plain._replace(
    act_and_keep=lambda params, *inputs: (
      *plain.act(params, *inputs),
      np.array([params]),
    )
  )
  read = lambda params: fixed_version(params=params)
  played = collect_all(env, learner, start(env, learner), steps=2, read=read(0))
  np.testing.assert_array_equal(played.segment.a[:, 0], [0, 1, 2])
  np.testing.assert_array_equal(played.segment.kept, [0, 0])
  played = collect_all(env, learner, played.carry, steps=2, read=read(100))
  # The draw for the first observation is not used, nor is its key.
  np.testing.assert_array_equal(played.segment.a[:, 0], [2, 103, 104])
  np.testing.assert_array_equal(played.segment.kept, [100, 100])


def test_newest_learner_draws_anew_after_an_episode_ends():
  # The truncation's own draw (key 1 to 11) is used and discarded.
  env = vector_env([(0.0, 'truncated'), (0.0, 'terminated')])
  learner = counting_learner(acting='newest')
  carry, segment, _ = collect(env, learner, start(env, learner), steps=2)
  np.testing.assert_array_equal(segment.a[:, 0], [0, 11, 12])
  np.testing.assert_array_equal(segment.obs[:, 0, 0], [10, 20, 30])
  np.testing.assert_array_equal(segment.is_first[:, 0], [True, True, True])
  _, segment, _ = collect(env, learner, carry, steps=1)
  np.testing.assert_array_equal(segment.a[:, 0], [12, 13])
  assert actions_sent(env) == [[0, 11, 12]]


def test_newest_learner_bootstraps_from_the_newest_target():
  env = vector_env([(0.0, ''), (0.0, 'truncated')])
  learner = counting_learner(acting='newest')
  versions = iter([0, 0, 0, 1000, 0])
  read = lambda: fixed_version(target_params=next(versions))()
  _, segment, _ = collect(env, learner, start(env, learner), steps=2, read=read)
  # ½·(12 + 1000): the version after those of the beginning and two actions.
  np.testing.assert_array_equal(segment.r_t[:, 0], [0, 506])


def test_a_recurrent_state_with_actions_drawn_on_arrival_is_refused():
  learner = counting_learner()._replace(acting='newest')
  with pytest.raises(ValueError, match='recurrent'):
    start(vector_env([]), learner)


@pytest.mark.parametrize('mark, discount', [(0, 0.5), (1, 0.0)])
def test_life_loss_may_be_a_number(mark, discount):
  class Marked(Scripted):
    def step(self, action):
      return *super().step(action)[:4], {'life_loss': mark}

  env = gymnasium.vector.SyncVectorEnv(
    [lambda: Marked([])], autoreset_mode=AutoresetMode.SAME_STEP
  )
  learner = counting_learner()
  _, segment, _ = collect(env, learner, start(env, learner), steps=3)
  np.testing.assert_array_equal(segment.discount_t[:, 0], [discount] * 3)


def test_snapshot_learner_acts_on_the_version_of_its_segment():
  env = vector_env([])
  learner = counting_learner(acting='snapshot')
  carry, segment, _ = collect(env, learner, start(env, learner), steps=2)
  assert segment.a[2, 0] == 0
  assert carry.action is None
  _, segment, _ = collect(
    env, learner, carry, steps=2, read=fixed_version(params=500)
  )
  np.testing.assert_array_equal(segment.a[:, 0], [502, 503, 0])
  assert actions_sent(env) == [[0, 1, 502, 503]]


def test_returns_and_lengths_add_up_over_segments():
  env = vector_env([(2.0, '')] * 6 + [(3.0, 'terminated')] + [(1.0, '')])
  learner = counting_learner()
  carry = start(env, learner)
  ended = []
  for _ in range(4):
    carry, _, episodes = collect(env, learner, carry, steps=2)
    ended.append(episodes)
  assert ended == [[], [], [], [events.EpisodeEnded(15.0, 7.0, 7)]]
  # The eighth step belongs to the next episode.
  np.testing.assert_array_equal(carry.episode_return, [1])
  np.testing.assert_array_equal(carry.episode_steps, [1])


def test_collect_leaves_the_carry_as_it_was():
  env = vector_env([(2.0, 'terminated'), (3.0, '')])
  learner = counting_learner()
  carry = start(env, learner)
  before = jax.tree.map(np.copy, carry)
  collect(env, learner, carry)
  jax.tree.map(np.testing.assert_array_equal, carry, before)


@pytest.mark.parametrize('clip, largest', [(None, 3.0), (1.0, 1.0), (2.5, 2.5)])
def test_reward_clipping_is_symmetric(clip, largest):
  env = vector_env([(3.0, ''), (-3.0, ''), (0.5, 'terminated')])
  learner = counting_learner()
  _, segment, episodes = collect(
    env, learner, start(env, learner), steps=3, reward_clip=clip
  )
  np.testing.assert_array_equal(segment.r_t[:, 0], [largest, -largest, 0.5])
  assert episodes == [events.EpisodeEnded(0.5, 0.5, 3)]


@pytest.mark.parametrize(
  'given, expected',
  [(np.float64, np.float32), (np.uint8, np.uint8), (np.int64, np.float32)],
)
def test_types_of_a_segment(given, expected):
  env = vector_env([], [], dtype=given, shape=(2, 3))
  learner = counting_learner()
  learner = learner._replace(
    act=lambda params, state, obs, key, epsilon: (
      np.zeros(len(obs), np.int32),
      state,
      key,
    )
  )
  carry, segment, _ = collect(env, learner, start(env, learner))
  assert segment.obs.dtype == expected and segment.obs.shape == (5, 2, 2, 3)
  assert segment.a.dtype == np.int32 and segment.a.shape == (5, 2)
  assert segment.r_t.dtype == np.float32 and segment.r_t.shape == (4, 2)
  assert segment.discount_t.dtype == np.float32
  assert segment.is_first.dtype == bool and segment.is_first.shape == (5, 2)
  assert carry.obs.dtype == expected


def test_consecutive_segments_share_no_memory():
  env = vector_env([(1.0, 'terminated')] * 9)
  learner = counting_learner(acting='newest')
  carry, first, _ = collect(env, learner, start(env, learner))
  copy = jax.tree.map(np.copy, first)
  carry, second, _ = collect(env, learner, carry)
  for one in jax.tree.leaves(first):
    for other in jax.tree.leaves(second):
      assert not np.shares_memory(one, other)
  collect(env, learner, carry)
  jax.tree.map(np.testing.assert_array_equal, first, copy)


@pytest.mark.parametrize('shape', [(1,), (3,), (7, 5), (84, 84, 4)])
def test_observations_are_aligned_so_that_jax_uses_them_in_place(shape):
  # Chance alone gives one address in four; five segments, by chance in 1024.
  env = vector_env([], shape=shape, dtype=np.uint8)
  learner = counting_learner()
  learner = learner._replace(
    act=lambda params, state, obs, key, epsilon: (
      np.zeros(len(obs), np.int32),
      state,
      key,
    )
  )
  carry = start(env, learner)
  kept = []
  for _ in range(5):
    carry, segment, _ = collect(env, learner, carry)
    kept.append(segment)
  assert [segment.obs.ctypes.data % 64 for segment in kept] == [0] * 5


def test_collecting_on_does_not_disturb_a_jitted_call_in_flight():
  env = vector_env([(1.0, 'terminated')] * 100, shape=(84, 84, 4))
  learner = counting_learner()
  learner = learner._replace(
    act=lambda params, state, obs, key, epsilon: (
      np.zeros(len(obs), np.int32),
      state,
      key,
    )
  )
  entered, collected = threading.Event(), threading.Event()

  def wait():
    entered.set()
    assert collected.wait(WAIT_SECONDS)
    return np.float32(1)

  @jax.jit
  def summed_late(segment):
    # Everything waits for the factor, so for the segments to come.
    factor = jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.float32))
    means = [jnp.mean(factor * leaf) for leaf in segment[:4]]
    return jnp.stack(means)

  carry, segment, _ = collect(env, learner, start(env, learner), steps=20)
  expected = [np.mean(leaf, dtype=np.float64) for leaf in segment[:4]]
  results = []
  worker = threading.Thread(
    target=lambda: results.append(np.asarray(summed_late(segment))), daemon=True
  )
  worker.start()
  assert entered.wait(WAIT_SECONDS)
  for _ in range(3):
    carry, _, _ = collect(env, learner, carry, steps=20)
  collected.set()
  worker.join(WAIT_SECONDS)
  np.testing.assert_allclose(results[0], expected, rtol=1e-4)


def test_what_acting_kept_is_joined_in_the_order_of_steps():
  env = vector_env([(1.0, 'terminated')] * 9, [])
  learner = counting_learner()
  learner = learner._replace(
    act_and_keep=lambda params, state, obs, *rest: (
      *learner.act(params, state, obs, *rest),
      {'obs': jnp.array(obs), 'nothing': {}},
    )
  )
  _, segment, _ = collect(env, learner, start(env, learner), steps=3)
  kept = segment.kept['obs']
  np.testing.assert_array_equal(kept, segment.obs[:-1].reshape(6, 1))
  assert kept.ctypes.data % 64 == 0
  learner = learner._replace(act_and_keep=None)
  _, segment, _ = collect(env, learner, start(env, learner), steps=3)
  assert segment.kept == ()


def test_the_learner_sees_normalised_observations():
  # Observations 10, 11, 12 | 20, 21: in units of 2 from 11.
  statistics = types.RunningStatistics(
    np.array([11.0]), np.array([4.0]), np.array(5.0)
  )
  env = vector_env([(0.0, ''), (0.0, ''), (1.0, 'truncated'), (0.0, '')])
  learner = counting_learner()
  played = collect_all(
    env,
    learner,
    start(env, learner),
    read=fixed_version(statistics=statistics),
    reward_clip=None,
  )
  np.testing.assert_allclose(
    played.segment.obs[:, 0, 0], [-0.5, 0.0, 0.5, 4.5, 5.0], atol=1e-6
  )
  # The bootstrap value of the final observation 13 is itself, normalised, and
  # the state, which is the sum of what was acted on.
  np.testing.assert_allclose(
    played.segment.r_t[2], 1 + 0.5 * (1.0 + 0.0), atol=1e-6
  )
  np.testing.assert_array_equal(played.carry.obs, [[21.0]])
  # The statistics are those of 10, 11, 12 and 20, as the environment gave them.
  mean, variance, count = played.statistics
  assert (mean, variance, count) == (13.25, 62.75 / 4, 4)
  # The next segment begins with the same observation, by its own statistics.
  later = statistics._replace(mean=np.array([21.0]))
  played = collect_all(
    env, learner, played.carry, read=fixed_version(statistics=later)
  )
  np.testing.assert_array_equal(played.segment.obs[0], [[0.0]])
  np.testing.assert_array_equal(played.statistics.mean, [21 + 1.5])


def test_statistics_are_of_all_environments():
  statistics = normalization.initial((2, 3))
  env = vector_env([], [(0.0, 'terminated')], shape=(2, 3), dtype=np.uint8)
  learner = counting_learner()
  learner = learner._replace(
    act=lambda params, state, obs, key, epsilon: (
      np.zeros(len(obs), np.int32),
      state,
      key,
    )
  )
  played = collect_all(
    env,
    learner,
    start(env, learner),
    steps=2,
    read=fixed_version(statistics=statistics),
  )
  # 10 and 11 in the one, 10 and 20 in the other.
  assert played.statistics.count == 4
  np.testing.assert_array_equal(
    played.statistics.mean, np.full((2, 3), (10 + 11 + 10 + 20) / 4)
  )


@pytest.mark.parametrize('acting', ['snapshot', 'newest'])
def test_without_normalisation_there_are_no_statistics_and_no_copies(acting):
  env = vector_env([])
  learner = counting_learner(acting)
  played = collect_all(env, learner, start(env, learner))
  assert played.statistics is None
  assert np.shares_memory(played.segment.obs, played.carry.obs)


@pytest.mark.parametrize('acting', ['snapshot', 'newest'])
def test_exploration_is_that_of_the_version_that_was_begun_with(acting):
  frames = iter(range(100, 1000, 100))
  given = []

  def act(params, state, obs, key, epsilon):
    given.append((float(epsilon), epsilon.dtype))
    return np.zeros(len(obs), np.int32), state, key

  env = vector_env([])
  learner = counting_learner(acting)._replace(act=act)
  rollout.collect(
    env,
    actor_lib.in_training(
      learner, lambda: types.Version(0, 0, next(frames), updates=0)
    ),
    start(env, learner),
    rollout.RolloutSpec(steps=2, gamma=0.5),
    epsilon=lambda frames: np.float64(frames) / 1000,
    clock=stopwatch.Stopwatch(),
  )
  assert {*given} == {(float(np.float32(0.1)), np.dtype(np.float32))}


@pytest.mark.parametrize('acting', ['snapshot', 'newest'])
def test_every_step_can_end_the_segment(acting):
  class StopError(Exception):
    pass

  left = [None, None, StopError]

  def on_step():
    error = left.pop(0)
    if error:
      raise error

  env = vector_env([])
  learner = counting_learner(acting)
  with pytest.raises(StopError):
    collect_all(env, learner, start(env, learner), on_step=on_step)
  assert actions_sent(env) == [[0, 1]]


@pytest.mark.parametrize('dtype', [np.uint8, np.float64])
@pytest.mark.parametrize('acting', ['snapshot', 'newest'])
@pytest.mark.parametrize('statistics', [None, normalization.initial((1,))])
@pytest.mark.parametrize('keeps', [False, True])
def test_an_example_is_like_a_segment(dtype, acting, statistics, keeps):
  env = vector_env([], [], dtype=dtype)
  learner = counting_learner(acting)
  if keeps:
    learner = learner._replace(
      act_and_keep=lambda params, state, obs, *rest: (
        *learner.act(params, state, obs, *rest),
        {'torso': {'output': np.ones((len(obs), 7), np.float32)}},
      )
    )
  read = fixed_version(statistics=statistics)
  carry = start(env, learner)
  example = rollout.example_segment(
    actor_lib.in_training(learner, read), carry, 3
  )
  assert actions_sent(env) == [[], []]
  segment = collect_all(env, learner, carry, read=read, steps=3).segment
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(example) == shapes(segment)


def test_rewards_are_scaled_and_then_clipped():
  env = vector_env([(1.0, ''), (-2.0, ''), (8.0, 'terminated')])
  learner = counting_learner()
  _, segment, episodes = collect(
    env, learner, start(env, learner), reward_scale=0.25, reward_clip=1.0
  )
  np.testing.assert_array_equal(segment.r_t[:, 0], [0.25, -0.5, 1.0, 0.0])
  assert episodes == [events.EpisodeEnded(7.0, 0.75, 3)]


class Continuous(Scripted):
  """Takes two numbers, and remembers them."""

  action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

  def step(self, action):
    self.actions.append(action.tolist())
    return self._observation(), 0.0, False, False, {}


@pytest.mark.parametrize('acting', ['snapshot', 'newest'])
def test_actions_of_several_numbers(acting):
  env = gymnasium.vector.SyncVectorEnv(
    [lambda: Continuous([])] * 3, autoreset_mode=AutoresetMode.SAME_STEP
  )

  def act(params, state, obs, key, exploration_epsilon):
    del params, exploration_epsilon
    action = np.arange(6, dtype=np.float32).reshape(3, 2) + key / 4
    return action, state, key + 1

  learner = counting_learner(acting)._replace(act=act)
  carry, segment, _ = collect(env, learner, start(env, learner), steps=2)
  assert segment.a.shape == (3, 3, 2) and segment.a.dtype == np.float32
  np.testing.assert_array_equal(segment.a[1, 2], [4.25, 5.25])
  assert actions_sent(env)[2] == [[4.0, 5.0], [4.25, 5.25]]
  last = {'snapshot': [0.0, 0.0], 'newest': [4.5, 5.5]}[acting]
  np.testing.assert_array_equal(segment.a[2, 2], last)
  assert (carry.action is None) == (acting == 'snapshot')


def test_a_program_gives_no_normalised_observations():
  class WithProgram(gymnasium.vector.VectorWrapper):
    def program(self, steps):
      raise AssertionError('asked for')

  env = WithProgram(vector_env([]))
  learner = counting_learner()._replace(
    act_and_keep=lambda *inputs: (*counting_learner().act(*inputs), ())
  )
  statistics = types.RunningStatistics(
    np.array([11.0]), np.array([4.0]), np.array(5.0)
  )
  carry = start(env, learner)
  collect(env, learner, carry, read=fixed_version(statistics=statistics))
  with pytest.raises(AssertionError, match='asked for'):
    collect(env, learner, carry)
