import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.algorithms import value_based
from a3c_jax.core import types

NETWORK = networks.QNetwork(networks.MLPTorso(hidden=()), num_actions=3)
LEARNERS = {
  'one_step_q': value_based.one_step_q(NETWORK),
  'one_step_sarsa': value_based.one_step_sarsa(NETWORK),
  'nstep_q': value_based.nstep_q(NETWORK),
}
# How it acts does not depend on its loss.
ACTING = LEARNERS | {'dqn': value_based.dqn(NETWORK)}
KEY = jax.random.key(0)
NEVER, ALWAYS = np.float32(0), np.float32(1)
every_learner = pytest.mark.parametrize('name', LEARNERS)
each_that_acts = pytest.mark.parametrize('name', ACTING)


def make_segment(steps=4, num_envs=2, seed=0):
  """An episode ends in the middle (env 0) and with the last step (env 1)."""
  rng = np.random.default_rng(seed)
  discount_t = np.full([steps, num_envs], 0.9, np.float32)
  discount_t[steps // 2, 0] = discount_t[-1, -1] = 0.0
  is_first = np.zeros([steps + 1, num_envs], bool)
  is_first[1:] = discount_t == 0
  return types.Segment(
    obs=rng.normal(size=(steps + 1, num_envs, 2)).astype(np.float32),
    a=rng.integers(3, size=(steps + 1, num_envs), dtype=np.int32),
    r_t=rng.normal(size=(steps, num_envs)).astype(np.float32),
    discount_t=discount_t,
    is_first=is_first,
    state=(),
  )


def make_params(seed):
  obs = np.zeros([1, 2], np.float32)
  return jax.jit(NETWORK.init)(jax.random.key(seed), obs)


PARAMS, TARGET_PARAMS = make_params(1), make_params(2)


def plain_q(params, obs):
  bias, kernel = map(np.asarray, jax.tree.leaves(params))
  return obs @ kernel + bias


def plain_targets(name, segment):
  """The value that each step should have had, by the definitions."""
  target_q = plain_q(TARGET_PARAMS, segment.obs)
  steps, num_envs = segment.r_t.shape
  targets = np.zeros([steps, num_envs])
  for k in range(num_envs):
    return_t = np.max(target_q[steps, k])
    for t in reversed(range(steps)):
      following = {
        'one_step_q': np.max(target_q[t + 1, k]),
        'one_step_sarsa': target_q[t + 1, k, segment.a[t + 1, k]],
        'nstep_q': return_t,
      }[name]
      return_t = segment.r_t[t, k] + segment.discount_t[t, k] * following
      targets[t, k] = return_t
  return targets


def plain_errors(name, segment):
  q = plain_q(PARAMS, segment.obs[:-1])
  qa = np.take_along_axis(q, segment.a[:-1, :, None], axis=2)[..., 0]
  return plain_targets(name, segment) - qa


@every_learner
@pytest.mark.parametrize('steps', [1, 4])
def test_gradient_is_the_sum_over_steps_and_streams(name, steps):
  # dL/dbias = -Σ error·1_a and dL/dkernel = -Σ s ⊗ error·1_a.
  segment = make_segment(steps)
  weighted = -plain_errors(name, segment)[..., None] * np.eye(3)[segment.a[:-1]]
  expected_bias = np.sum(weighted, axis=(0, 1))
  expected_kernel = np.einsum('tko,tka->oa', segment.obs[:-1], weighted)
  grads, _ = LEARNERS[name].gradients(PARAMS, TARGET_PARAMS, segment)
  assert jax.tree.structure(grads) == jax.tree.structure(PARAMS)
  bias, kernel = jax.tree.leaves(grads)
  np.testing.assert_allclose(bias, expected_bias, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(kernel, expected_kernel, rtol=1e-4, atol=1e-5)


@every_learner
def test_stats_are_means(name):
  segment = make_segment()
  _, stats = LEARNERS[name].gradients(PARAMS, TARGET_PARAMS, segment)
  error = plain_errors(name, segment)
  mean_q = np.mean(plain_targets(name, segment) - error)
  assert set(stats) == {'loss', 'mean_q'}
  np.testing.assert_allclose(stats['loss'], np.mean(error**2) / 2, rtol=1e-5)
  np.testing.assert_allclose(stats['mean_q'], mean_q, rtol=1e-4)


@each_that_acts
def test_streams_add_up(name):
  gradients = ACTING[name].gradients
  segment = make_segment()
  together, _ = gradients(PARAMS, TARGET_PARAMS, segment)
  first, second = (
    gradients(
      PARAMS, TARGET_PARAMS, jax.tree.map(lambda x, k=k: x[:, k], segment)
    )[0]
    for k in ([0], [1])
  )
  jax.tree.map(
    lambda both, one, other: np.testing.assert_allclose(
      both, one + other, rtol=1e-4, atol=1e-5
    ),
    together,
    first,
    second,
  )


def test_one_step_of_nstep_q_is_one_step_q():
  segment = make_segment(steps=1)
  one, several = (
    ACTING[name].gradients(PARAMS, TARGET_PARAMS, segment)[0]
    for name in ('one_step_q', 'nstep_q')
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), one, several
  )


WITHOUT_TARGET = {
  'one_step_q': value_based.one_step_q(NETWORK, uses_target=False),
  'one_step_sarsa': value_based.one_step_sarsa(NETWORK, uses_target=False),
  'nstep_q': value_based.nstep_q(NETWORK, uses_target=False),
  'q_lambda': value_based.nstep_q(NETWORK, lambda_=0.5, uses_target=False),
  'dqn': value_based.dqn(NETWORK, uses_target=False),
}
WITH_TARGET = ACTING | {'q_lambda': value_based.nstep_q(NETWORK, lambda_=0.5)}


@pytest.mark.parametrize('name', WITHOUT_TARGET)
def test_without_a_target_network_the_newest_parameters_give_values(name):
  learner = WITHOUT_TARGET[name]
  assert not learner.uses_target
  segment = make_segment()
  found = learner.gradients(PARAMS, None, segment)
  expected = WITH_TARGET[name].gradients(PARAMS, PARAMS, segment)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    found,
    expected,
  )
  arguments = ((), segment.obs[-1], KEY, NEVER)
  value, _ = learner.bootstrap(PARAMS, None, *arguments)
  expected, _ = WITH_TARGET[name].bootstrap(PARAMS, PARAMS, *arguments)
  np.testing.assert_allclose(value, expected)


def test_q_lambda_of_a_segment():
  # Backwards by the definition; an episode ends within the segment.
  segment = make_segment()
  best = np.max(plain_q(TARGET_PARAMS, segment.obs[1:]), axis=2)
  return_t, targets = best[-1], []
  for t in reversed(range(len(segment.r_t))):
    mixed = 0.5 * best[t] + 0.5 * return_t
    return_t = segment.r_t[t] + segment.discount_t[t] * mixed
    targets.append(return_t)
  q = plain_q(PARAMS, segment.obs[:-1])
  qa = np.take_along_axis(q, segment.a[:-1, :, None], axis=2)[..., 0]
  error = np.array(targets[::-1]) - qa
  _, stats = WITH_TARGET['q_lambda'].gradients(PARAMS, TARGET_PARAMS, segment)
  np.testing.assert_allclose(stats['loss'], np.mean(error**2) / 2, rtol=1e-5)


def test_only_sarsa_reads_the_action_after_the_segment():
  segment = make_segment()
  other_a = segment.a.copy()
  other_a[-1] = (other_a[-1] + 1) % 3
  for name, learner in LEARNERS.items():
    grads, other = (
      jax.tree.leaves(learner.gradients(PARAMS, TARGET_PARAMS, segment)[0])
      for segment in (segment, segment._replace(a=other_a))
    )
    same = all(np.array_equal(x, y) for x, y in zip(grads, other, strict=True))
    assert same == (name != 'one_step_sarsa')


@pytest.mark.parametrize('name', ['one_step_q', 'nstep_q'])
def test_bootstrap_is_the_best_target_q(name):
  obs = make_segment(num_envs=5).obs[0]
  value, key = ACTING[name].bootstrap(
    PARAMS, TARGET_PARAMS, (), obs, KEY, ALWAYS
  )
  expected = np.max(plain_q(TARGET_PARAMS, obs), axis=1)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert jnp.array_equal(key, KEY)  # Nothing was drawn.


def test_sarsa_bootstraps_from_the_action_it_would_take():
  # The action is chosen by the online parameters and valued by the target's.
  obs = make_segment(num_envs=50).obs[0]
  greedy = np.argmax(plain_q(PARAMS, obs), axis=1)
  target_q = plain_q(TARGET_PARAMS, obs)
  assert np.any(greedy != np.argmax(target_q, axis=1))
  value, key = LEARNERS['one_step_sarsa'].bootstrap(
    PARAMS, TARGET_PARAMS, (), obs, KEY, NEVER
  )
  np.testing.assert_allclose(value, target_q[range(50), greedy], rtol=1e-4)
  assert not jnp.array_equal(key, KEY)


def test_sarsa_explores_in_its_bootstrap():
  # 3,000 times the same state: each third has the target-Q of another action.
  obs = np.tile(make_segment().obs[0, :1], (3000, 1))
  value, _ = LEARNERS['one_step_sarsa'].bootstrap(
    PARAMS, TARGET_PARAMS, (), obs, KEY, ALWAYS
  )
  distance = np.abs(value[:, None] - plain_q(TARGET_PARAMS, obs))
  assert np.max(np.min(distance, axis=1)) < 1e-5
  shares = np.bincount(np.argmin(distance, axis=1), minlength=3) / 3000
  np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


@each_that_acts
def test_act_is_greedy_without_exploration(name):
  obs = make_segment(num_envs=50).obs[0]
  action, state, key = ACTING[name].act(PARAMS, (), obs, KEY, NEVER)
  np.testing.assert_array_equal(action, np.argmax(plain_q(PARAMS, obs), axis=1))
  assert action.dtype == jnp.int32
  assert state == ()
  assert not jnp.array_equal(key, KEY)


@each_that_acts
def test_act_repeats_with_its_key_and_goes_on_with_the_next(name):
  act = ACTING[name].act
  obs = make_segment(num_envs=50).obs[0]
  first, _, key = act(PARAMS, (), obs, KEY, ALWAYS)
  again, _, same_key = act(PARAMS, (), obs, KEY, ALWAYS)
  following, _, _ = act(PARAMS, (), obs, key, ALWAYS)
  np.testing.assert_array_equal(first, again)
  assert jnp.array_equal(key, same_key)
  assert np.mean(first != following) > 0.4  # Two of three, if independent.


@each_that_acts
def test_each_function_compiles_once(name):
  traces = []

  class Counted(networks.QNetwork):
    def apply(self, *args, **kwargs):
      traces.append(None)
      return super().apply(*args, **kwargs)

  learner = getattr(value_based, name)(Counted(NETWORK.torso, 3))
  counts = []
  for seed in range(3):
    segment = make_segment(seed=seed)
    epsilon = np.float32(seed / 3)
    params, target_params = make_params(seed), make_params(seed + 1)
    _, state, key = learner.act(
      params, (), segment.obs[0], jax.random.key(seed), epsilon
    )
    learner.bootstrap(
      params, target_params, state, segment.obs[0], key, epsilon
    )
    learner.gradients(params, target_params, segment)
    counts.append(len(traces))
  assert 0 < counts[0] == counts[2]


def test_what_the_rollout_needs_to_know():
  acting = {name: learner.acting for name, learner in LEARNERS.items()}
  assert acting == {
    'one_step_q': 'newest',
    'one_step_sarsa': 'newest',
    'nstep_q': 'snapshot',
  }
  for learner in LEARNERS.values():
    assert learner.uses_target
    assert learner.initial_state(2) == ()
    params = learner.init(KEY, np.zeros([1, 2], np.float32))
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)


def frequencies(exploration_epsilon, draws=30_000):
  q = np.tile(np.float32([0, 2, 1]), (draws, 1))
  action = value_based.epsilon_greedy(q, KEY, exploration_epsilon)
  assert action.shape == (draws,)
  return np.bincount(action, minlength=3)


def test_epsilon_zero_takes_the_first_of_the_best():
  q = np.float32([[1, 3, 2], [5, 5, 4], [0, 0, 0]])
  epsilon_greedy = jax.jit(value_based.epsilon_greedy)
  for seed in range(20):
    action = epsilon_greedy(q, jax.random.key(seed), NEVER)
    np.testing.assert_array_equal(action, [1, 0, 0])


@pytest.mark.parametrize(
  ('exploration_epsilon', 'shares'),
  [(1.0, [1 / 3, 1 / 3, 1 / 3]), (0.3, [0.1, 0.8, 0.1])],
)
def test_epsilon_is_the_share_of_uniform_actions(exploration_epsilon, shares):
  # The best action is drawn by chance too: 0.7 + 0.3/3 = 0.8. χ² with two
  # degrees of freedom exceeds 13.8 once in a thousand keys.
  expected = 30_000 * np.array(shares)
  found = frequencies(np.float32(exploration_epsilon))
  assert np.sum((found - expected) ** 2 / expected) < 13.8


def test_each_game_has_an_epsilon_of_its_own():
  q = np.tile(np.float32([0, 2, 1]), (300, 1))
  epsilon = np.repeat(np.float32([0, 1, 0]), 100)
  action = np.asarray(value_based.epsilon_greedy(q, KEY, epsilon))
  assert (action[:100] == 1).all() and (action[200:] == 1).all()
  assert set(action[100:200]) == {0, 1, 2}
