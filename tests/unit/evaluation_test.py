"""Whole episodes with fixed parameters, and what is said of them."""

import threading

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import events, types
from a3c_jax.envs import gym, replayable
from a3c_jax.runs import baselines, evaluation, evaluator
from a3c_jax.runs import policy as policy_lib

WAIT_SECONDS = 60.0


class Walk(gymnasium.Env):
  """Rewards are the actions; `length` steps, the last one is a truncation."""

  def __init__(self, length=4, cut=False, breaks=()):
    self.observation_space = spaces.Box(0.0, 9.0, (1,), np.float32)
    self.action_space = spaces.Discrete(3)
    self._length, self._cut = length, cut
    self._breaks = list(breaks)
    self.seeds = []
    self._taken = 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.seeds.append(seed)
    self._steps = 0
    return np.zeros(1, np.float32), {}

  def step(self, action):
    self._taken += 1
    if self._taken in self._breaks:
      raise OSError('the game broke')
    self._steps += 1
    over = self._steps == self._length
    obs = np.full(1, self._steps, np.float32)
    return obs, float(action), over and not self._cut, over and self._cut, {}


def make_env(**kwargs):
  return gym.make(lambda: Walk(**kwargs))()


def fixed_learner(actions=(0, 1, 2, 2)):
  """Takes the action that the observation's number stands for."""
  table = np.array(actions, np.int32)

  def act(params, state, obs, key, exploration_epsilon):
    del params, exploration_epsilon
    return table[obs[:, 0].astype(int)], state, key

  return types.Learner(
    init=None,
    initial_state=lambda num_envs: (),
    act=act,
    greedy=lambda params, state, obs: (np.ones(len(obs), np.int32), state),
    bootstrap=None,
    gradients=None,
    acting='snapshot',
  )


def version_of(params):
  return types.Version(params, None, frames=0, updates=0)


@pytest.mark.parametrize('cut', [False, True])
def test_an_episode_is_played_to_its_end(cut):
  env = make_env(cut=cut)
  policy = policy_lib.Policy(fixed_learner(), version_of(None))
  steps = []
  episode = evaluation.play(
    env, policy, seed=3, on_step=lambda: steps.append(1)
  )
  assert episode == (0 + 1 + 2 + 2, 4, False)
  assert len(steps) == 4
  assert env.envs[0].unwrapped.seeds[0] == 3
  greedy = policy_lib.Policy(fixed_learner(), version_of(None), greedy=True)
  assert evaluation.play(env, greedy, seed=3) == (4, 4, False)


@pytest.mark.parametrize(
  'length, max_steps, expected',
  [
    (10**9, 3, (0 + 1 + 2, 3, True)),
    (4, 3, (0 + 1 + 2, 3, True)),
    (3, 3, (0 + 1 + 2, 3, False)),  # It ends by itself in that step.
  ],
)
def test_an_episode_without_an_end_is_truncated(length, max_steps, expected):
  policy = policy_lib.Policy(fixed_learner([0, 1, 2]), version_of(None))
  env = make_env(length=length)
  assert expected == evaluation.play(env, policy, seed=3, max_steps=max_steps)
  (episode,) = evaluation.play_all(
    [env], policy, episodes=1, seed=3, max_steps=max_steps
  )
  assert episode == expected
  assert evaluation.summarize([episode]).truncated_episodes == expected[2]


@pytest.mark.parametrize(
  'frames, action_repeat, steps', [(108_000, 4, 27_000), (10, 4, 3), (1, 8, 1)]
)
def test_the_bound_of_an_episode_is_in_emulator_frames(
  frames, action_repeat, steps
):
  assert evaluation.most_steps(frames, action_repeat) == steps


def q_learner():
  return value_based.one_step_q(
    networks.QNetwork(networks.MLPTorso(obs_dims=1), 3)
  )


def test_epsilon_is_that_which_was_asked_for():
  # With ε = 1, actions are uniform; with 0 they are those of the best Q.
  learner = q_learner()
  obs = np.ones((3000, 1), np.float32)
  params = jax.jit(learner.init)(jax.random.PRNGKey(0), obs)
  greedy = policy_lib.Policy(learner, version_of(params), greedy=True)
  best, _ = greedy(obs, greedy.initial_state(num_envs=3000))
  assert len(set(best.tolist())) == 1
  for epsilon, share in [(0.0, 1.0), (0.6, 0.6), (1.0, 1 / 3)]:
    policy = policy_lib.Policy(
      learner, version_of(params), exploration_epsilon=epsilon
    )
    action, _ = policy(obs, policy.initial_state(1, num_envs=3000))
    # Four standard deviations of 3000 draws.
    assert np.mean(action == best) == pytest.approx(share, abs=0.037)
  usual = policy_lib.Policy(learner, version_of(params))
  action, _ = usual(obs, usual.initial_state(1, num_envs=3000))
  assert np.mean(action == best) == pytest.approx(1 - 0.05 * 2 / 3, abs=0.014)


def test_a3c_samples_and_carries_its_state():
  network = networks.ActorCritic(
    networks.MLPTorso(obs_dims=1), 3, networks.LSTMCore()
  )
  learner = policy_based.a3c(network, entropy_cost=0.0, value_cost=0.5)
  obs = np.ones((500, 1), np.float32)
  params = jax.jit(learner.init)(jax.random.PRNGKey(0), obs)
  policy = policy_lib.Policy(learner, version_of(params))
  state = policy.initial_state(7, num_envs=500)
  action, after = policy(obs, state)
  assert set(action.tolist()) == {0, 1, 2}
  assert action.dtype == np.int32
  same, _ = policy(obs, policy.initial_state(7, num_envs=500))
  np.testing.assert_array_equal(action, same)
  other, _ = policy(obs, policy.initial_state(8, num_envs=500))
  assert np.any(other != action)
  moved = jax.tree.map(lambda one, two: np.any(one != two), state, after)
  assert all(jax.tree.leaves(moved))
  greedy = policy_lib.Policy(learner, version_of(params), greedy=True)
  best, after = greedy(obs, state)
  logits = jax.jit(network.apply)(
    params, obs[None], state.recurrent, np.zeros((1, 500), bool)
  )[0].logits[0]
  np.testing.assert_array_equal(best, jnp.argmax(logits, axis=1))
  assert all(
    jax.tree.leaves(
      jax.tree.map(lambda one, two: np.any(one != two), state[0], after[0])
    )
  )


def test_the_number_of_threads_changes_nothing():
  learner = q_learner()
  params = learner.init(jax.random.PRNGKey(0), np.ones((1, 1), np.float32))
  policy = policy_lib.Policy(
    learner, version_of(params), exploration_epsilon=1.0
  )

  def play_all(threads, seed=5):
    ended = []
    episodes = evaluation.play_all(
      [make_env(length=6) for _ in range(threads)],
      policy,
      episodes=7,
      seed=seed,
      on_episode=lambda index, episode: ended.append(index),
    )
    assert sorted(ended) == list(range(7))
    return episodes

  one = play_all(1)
  assert one == play_all(3) == play_all(8)
  assert len({episode.raw_return for episode in one}) > 1
  assert one != play_all(1, seed=6)


def test_seeds_of_training_stay_below_those_of_evaluations():
  assert replayable.next_seed(7) < replayable.TRAINING_SEEDS
  for seed in range(50):
    for index in range(20):
      found = evaluation.episode_seed(seed, index)
      assert 2**30 + 2**20 <= found < 2**31 - 2**20
  assert len({evaluation.episode_seed(1, index) for index in range(99)}) == 99


def test_scales_play_episodes_of_evaluations():
  env = Walk()
  options = baselines.Options(episodes=2, seed=1)
  baselines.report(env, {'rests': lambda env: 0}, options, action_repeat=1)
  assert env.seeds == [evaluation.episode_seed(1, i) for i in range(2)]


@pytest.mark.parametrize(
  ('length', 'truncated'), [(10**9, True), (4, True), (3, False), (2, False)]
)
def test_scales_truncate_as_evaluations_do(length, truncated):
  episode = baselines.play(
    Walk(length=length), lambda env: 2, seed=3, max_steps=3
  )
  steps = min(length, 3)
  assert episode == (2.0 * steps, steps, truncated)


def test_an_error_in_an_evaluation_is_raised():
  envs = [make_env(), make_env(breaks=[6])]
  policy = policy_lib.Policy(fixed_learner(), version_of(None))
  with pytest.raises(OSError, match='the game broke') as error:
    evaluation.play_all(envs, policy, episodes=10, seed=1)
  assert error.value.__notes__ == ['raised in thread evaluation-1']


def test_a_summary_by_hand():
  # Returns 1, 2, 6: mean 3, median 2, variance (4 + 1 + 9) / 2 = 7.
  episodes = [evaluation.Episode(r, s) for r, s in [(1, 5), (6, 6), (2, 7)]]
  found = evaluation.summarize(episodes)
  assert found == (3, 3.0, 2.0, pytest.approx(np.sqrt(7 / 3)), 1.0, 6.0, 6.0, 0)
  assert np.isnan(evaluation.summarize(episodes[:1]).standard_error)


def make_evaluator(make_walk, **given):
  incidents = events.EventQueue()
  defaults = {
    'episodes': 3,
    'seed': 1,
    'max_steps': 1000,
    'max_env_restarts': 1,
  }

  def make_env():
    env = gymnasium.vector.SyncVectorEnv(
      [make_walk], autoreset_mode=AutoresetMode.SAME_STEP
    )
    return replayable.Recorded(env)

  return evaluator.Evaluator(
    make_env,
    fixed_learner(),
    incidents=incidents,
    **defaults | given,
  ), incidents


def wait_for(one):
  """What the evaluation came to; an error of its thread ends the wait too."""
  for _ in range(100):
    found = one.drain(WAIT_SECONDS / 100)
    if found or one.error:
      return found
  raise AssertionError('the evaluation does not end')


def test_an_evaluator_evaluates_one_version_after_another():
  one, _ = make_evaluator(Walk)
  for frames in (10, 20):
    version = types.Version(None, None, frames, 0)
    assert not one.busy
    one.start(version)
    assert one.busy
    found = wait_for(one)
    assert found.version is version
    assert found.summary[:3] == (3, 5.0, 5.0)
    assert one.drain() is None
  assert one.stop(0.0) == []


def test_a_broken_environment_of_an_evaluation_is_replaced():
  # 3 episodes of 4 steps: the first environment breaks in the second one, its
  # successor at once, in the same episode.
  breaks = [[7], [2], []]
  one, incidents = make_evaluator(
    lambda: Walk(breaks=breaks.pop(0)), max_env_restarts=2
  )
  one.start(types.Version(None, None, 10, 0))
  assert wait_for(one).summary[:3] == (3, 5.0, 5.0)
  assert breaks == []
  found = incidents.drain()
  assert [incident.kind for incident in found] == ['env_restarts'] * 2
  assert 'the game broke' in found[0].text


def test_one_that_breaks_too_often_ends_the_evaluation():
  breaks = [[7], [2]]
  one, _ = make_evaluator(lambda: Walk(breaks=breaks.pop(0)))
  one.start(types.Version(None, None, 10, 0))
  assert wait_for(one) is None
  assert isinstance(one.error, OSError)
  assert one.error.__notes__ == ['raised in thread evaluation']


def test_an_evaluation_can_be_stopped():
  playing, release = threading.Event(), threading.Event()

  class Waits(Walk):
    def step(self, action):
      playing.set()
      assert release.wait(WAIT_SECONDS)
      return super().step(action)

  one, _ = make_evaluator(lambda: Waits(length=10**9))
  one.start(types.Version(None, None, 10, 0))
  assert playing.wait(WAIT_SECONDS)
  assert one.stop(0.01) == ['evaluation']
  release.set()
  assert one.stop(WAIT_SECONDS) == []
  assert one.error is None
  assert one.drain() is None
