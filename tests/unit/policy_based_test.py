import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.algorithms import policy_based
from a3c_jax.core import types

COSTS = {'entropy_cost': 0.1, 'value_cost': 0.5}
LINEAR = networks.ActorCritic(networks.MLPTorso(hidden=()), 3)
RECURRENT = networks.ActorCritic(
  networks.MLPTorso(hidden=()), 3, networks.LSTMCore(cells=4)
)
LEARNERS = {
  'linear': policy_based.a3c(LINEAR, **COSTS),
  'recurrent': policy_based.a3c(RECURRENT, **COSTS),
}
NETWORKS = {'linear': LINEAR, 'recurrent': RECURRENT}
KEY = jax.random.key(0)
EPSILON = np.float32(0)


class Params(dict):
  """Initial parameters by the learner's name, made when they are asked for."""

  def __missing__(self, name):
    init = jax.jit(LEARNERS[name].init)
    self[name] = init(jax.random.key(1), np.zeros([2, 2], np.float32))
    return self[name]


PARAMS = Params()
both = pytest.mark.parametrize('name', LEARNERS)


def make_segment(name, steps=4, num_envs=2, seed=0):
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
    state=jax.tree.map(
      lambda zeros: rng.normal(size=zeros.shape).astype(np.float32),
      LEARNERS[name].initial_state(num_envs),
    ),
  )


def plain_heads(params, obs):
  """Logits and values of the linear network."""
  (policy_bias, policy), (value_bias, value) = (
    map(np.asarray, jax.tree.leaves(params['params'][name]))
    for name in ('Linear_0', 'Linear_1')
  )
  return obs @ policy + policy_bias, (obs @ value + value_bias)[..., 0]


def plain_returns(segment, v_bootstrap):
  return_t, returns = v_bootstrap, []
  for r_t, discount_t in zip(
    segment.r_t[::-1], segment.discount_t[::-1], strict=True
  ):
    return_t = r_t + discount_t * return_t
    returns.insert(0, return_t)
  return np.stack(returns)


def reset(state, is_first):
  return jax.tree.map(
    lambda x: np.where(is_first[:, None], np.float32(0), x), state
  )


def assert_close(tree, expected):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    tree,
    expected,
  )


@pytest.mark.parametrize('steps', [1, 4])
def test_gradient_is_the_sum_over_steps_and_streams(steps):
  # dL/dlogits = A (π - 1_a) + β π (log π + H) and dL/dV = -c A; a layer's
  # gradients are Σ s ⊗ that and Σ of that.
  segment = make_segment('linear', steps)
  logits, v = plain_heads(PARAMS['linear'], segment.obs)
  advantage = plain_returns(segment, v[-1]) - v[:-1]
  pi = np.exp(logits[:-1]) / np.sum(np.exp(logits[:-1]), axis=2, keepdims=True)
  entropy = -np.sum(pi * np.log(pi), axis=2, keepdims=True)
  taken = np.eye(3)[segment.a[:-1]]
  by_logits = advantage[..., None] * (pi - taken)
  by_logits += 0.1 * pi * (np.log(pi) + entropy)
  by_v = -0.5 * advantage[..., None]

  grads, stats = LEARNERS['linear'].gradients(PARAMS['linear'], None, segment)
  for name, cotangent in (('Linear_0', by_logits), ('Linear_1', by_v)):
    bias, kernel = jax.tree.leaves(grads['params'][name])
    assert_close(bias, np.sum(cotangent, axis=(0, 1)))
    expected = np.einsum('tko,tkf->of', segment.obs[:-1], cotangent)
    assert_close(kernel, expected)

  log_pi = np.sum(np.log(pi) * taken, axis=2)
  expected_stats = {
    'policy_loss': np.mean(-log_pi * advantage),
    'value_loss': np.mean(advantage**2) / 2,
    'entropy': np.mean(entropy),
    'mean_v': np.mean(v[:-1]),
  }
  expected_stats['loss'] = (
    expected_stats['policy_loss']
    + 0.5 * expected_stats['value_loss']
    - 0.1 * expected_stats['entropy']
  )
  assert_close(stats, expected_stats)


def plain_loss(network, segment, log_pi_and_entropy):
  """The loss in plain loops, as a function of the parameters.

  `log_pi_and_entropy(output, t, k)` gives those of the action of one step.
  """
  steps, num_envs = segment.r_t.shape

  def loss_of(params):
    state, outputs = segment.state, []
    for t in range(steps + 1):
      state = jax.tree.map(
        lambda x, t=t: x * (1.0 - segment.is_first[t][:, None]), state
      )
      output, state = network.apply(
        params, segment.obs[t : t + 1], state, np.zeros([1, num_envs], bool)
      )
      outputs.append(output)
    loss = 0.0
    return_t = jax.lax.stop_gradient(outputs[-1].v[0])
    for t in reversed(range(steps)):
      return_t = segment.r_t[t] + segment.discount_t[t] * return_t
      error = return_t - outputs[t].v[0]
      for k in range(num_envs):
        log_pi, entropy = log_pi_and_entropy(outputs[t], t, k)
        loss += -log_pi * jax.lax.stop_gradient(error[k])
        loss += 0.5 * 0.5 * error[k] ** 2 - 0.1 * entropy
    return loss

  return loss_of


def plain_gradient(loss):
  """The gradient, by a program that is compiled fast and runs slowly."""
  return jax.jit(
    jax.grad(loss), compiler_options={'xla_backend_optimization_level': 0}
  )


def test_recurrent_gradient_is_that_of_a_plain_loop():
  segment = make_segment('recurrent')

  def log_pi_and_entropy(output, t, k):
    log_pi = jax.nn.log_softmax(output.logits[0, k])
    return log_pi[segment.a[t, k]], -jnp.sum(jnp.exp(log_pi) * log_pi)

  params = PARAMS['recurrent']
  grads, _ = LEARNERS['recurrent'].gradients(params, None, segment)
  expected = plain_loss(RECURRENT, segment, log_pi_and_entropy)
  assert_close(grads, plain_gradient(expected)(params))
  assert all(np.any(grad != 0) for grad in jax.tree.leaves(grads))


@both
def test_streams_add_up(name):
  gradients = LEARNERS[name].gradients
  segment = make_segment(name)
  together, _ = gradients(PARAMS[name], None, segment)
  parts = []
  for k in ([0], [1]):
    state = jax.tree.map(lambda x, k=k: x[k], segment.state)
    part = jax.tree.map(
      lambda x, k=k: x[:, k], segment._replace(state=())
    )._replace(state=state)
    parts.append(gradients(PARAMS[name], None, part)[0])
  assert_close(together, jax.tree.map(jnp.add, *parts))


def test_the_action_after_the_segment_and_the_target_do_not_matter():
  segment = make_segment('linear')
  other_a = segment.a.copy()
  other_a[-1] = (other_a[-1] + 1) % 3
  gradients = LEARNERS['linear'].gradients
  params = PARAMS['linear']
  grads, _ = gradients(params, None, segment)
  other, _ = gradients(
    params, jax.tree.map(jnp.ones_like, params), segment._replace(a=other_a)
  )
  jax.tree.map(np.testing.assert_array_equal, grads, other)


def test_state_matters_unless_an_episode_begins():
  gradients = LEARNERS['recurrent'].gradients
  params = PARAMS['recurrent']
  segment = make_segment('recurrent')
  other = segment._replace(state=jax.tree.map(lambda x: x + 1, segment.state))

  def same(segment, other):
    return all(
      np.array_equal(x, y)
      for x, y in zip(
        jax.tree.leaves(gradients(params, None, segment)[0]),
        jax.tree.leaves(gradients(params, None, other)[0]),
        strict=True,
      )
    )

  assert not same(segment, other)
  is_first = segment.is_first.copy()
  is_first[0] = True
  assert same(
    segment._replace(is_first=is_first), other._replace(is_first=is_first)
  )


@both
def test_acting_with_carried_state_is_the_unroll(name):
  # `bootstrap` shows the value, so the state, that acting has at each step.
  learner, params = LEARNERS[name], PARAMS[name]
  segment = make_segment(name)
  output, _ = jax.jit(NETWORKS[name].apply)(
    params, segment.obs, segment.state, segment.is_first
  )
  state, key = segment.state, KEY
  for obs, is_first, v in zip(
    segment.obs, segment.is_first, output.v, strict=True
  ):
    state = reset(state, is_first)  # As the rollout does.
    value, same_key = learner.bootstrap(params, None, state, obs, key, EPSILON)
    np.testing.assert_allclose(value, v, rtol=1e-5, atol=1e-6)
    assert jnp.array_equal(key, same_key)
    _, state, key = learner.act(params, state, obs, key, EPSILON)


def test_bootstrap_is_the_threads_own_value():
  params = PARAMS['linear']
  obs = make_segment('linear', num_envs=5).obs[0]
  _, expected = plain_heads(params, obs)
  zeros = jax.tree.map(jnp.zeros_like, params)
  value, _ = LEARNERS['linear'].bootstrap(params, zeros, (), obs, KEY, EPSILON)
  assert value.shape == (5,)
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_actions_are_drawn_from_the_policy():
  # χ² with two degrees of freedom exceeds 13.8 once in a thousand keys.
  params = PARAMS['linear']
  obs = np.tile(np.float32([[2, -1]]), (30_000, 1))
  logits, _ = plain_heads(params, obs[0])
  expected = 30_000 * np.exp(logits) / np.sum(np.exp(logits))
  assert np.ptp(expected) > 1_000  # Far from uniform.
  for exploration_epsilon in (0, 1):  # Without effect.
    action, state, _ = LEARNERS['linear'].act(
      params, (), obs, KEY, np.float32(exploration_epsilon)
    )
    assert action.dtype == jnp.int32
    assert state == ()
    found = np.bincount(action, minlength=3)
    assert np.sum((found - expected) ** 2 / expected) < 13.8


def test_act_repeats_with_its_key_and_goes_on_with_the_next():
  act, params = LEARNERS['linear'].act, PARAMS['linear']
  obs = make_segment('linear', num_envs=50).obs[0]
  first, _, key = act(params, (), obs, KEY, EPSILON)
  again, _, same_key = act(params, (), obs, KEY, EPSILON)
  following, _, _ = act(params, (), obs, key, EPSILON)
  np.testing.assert_array_equal(first, again)
  assert jnp.array_equal(key, same_key)
  assert not jnp.array_equal(key, KEY)
  assert np.mean(first != following) > 0.3


@both
def test_each_function_compiles_once(name):
  traces = []

  class Counted(networks.ActorCritic):
    def apply(self, *args, **kwargs):
      traces.append(None)
      return super().apply(*args, **kwargs)

  network = NETWORKS[name]
  learner = policy_based.a3c(Counted(network.torso, 3, network.core), **COSTS)
  counts = []
  for seed in range(3):
    segment = make_segment(name, seed=seed)
    params = jax.tree.map(lambda x, seed=seed: x + seed, PARAMS[name])
    # At the start of an episode, and with the state that acting gave.
    state = learner.initial_state(2)
    key = jax.random.key(seed)
    for obs in segment.obs[:2]:
      learner.bootstrap(params, None, state, obs, key, EPSILON)
      _, state, key = learner.act(params, state, obs, key, EPSILON)
    learner.gradients(params, None, segment)
    counts.append(len(traces))
  # Gradients apply it to the segment and to its end.
  assert counts == [4, 4, 4]


def test_what_the_rollout_needs_to_know():
  for learner in LEARNERS.values():
    assert learner.acting == 'snapshot'
    assert not learner.uses_target
  assert LEARNERS['linear'].initial_state(2) == ()
  for zeros in LEARNERS['recurrent'].initial_state(2):
    np.testing.assert_array_equal(zeros, np.zeros([2, 4]))


def make_gaussian(cells=None):
  cores = [cells and networks.LSTMCore(cells=cells) for _ in range(2)]
  return networks.GaussianActorCritic(
    networks.MLPTorso(hidden=()), networks.MLPTorso(hidden=()), 2, *cores
  )


GAUSSIAN = make_gaussian()


def make_continuous_segment(learner, seed=0):
  segment = make_segment('linear', seed=seed)
  rng = np.random.default_rng(seed)
  steps, num_envs = segment.r_t.shape
  return segment._replace(
    a=rng.normal(size=(steps + 1, num_envs, 2)).astype(np.float32),
    state=jax.tree.map(
      lambda zeros: rng.normal(size=zeros.shape).astype(np.float32),
      learner.initial_state(num_envs),
    ),
  )


def init_gaussian(learner):
  return jax.jit(learner.init)(jax.random.key(1), np.zeros([2, 2], np.float32))


def test_gaussian_gradient_by_hand():
  # With μ = linear(s), σ² = softplus(linear(s)), D = 2 and advantage A:
  # dL/dμ = -A (a - μ) / σ²,
  # dL/dσ² = -A (|a - μ|² / 2σ⁴ - D / 2σ²) - β D / 2σ², and dL/dV = -c A.
  learner = policy_based.gaussian_a3c(GAUSSIAN, **COSTS)
  params = init_gaussian(learner)
  segment = make_continuous_segment(learner)

  def head(index):
    bias, kernel = map(
      np.asarray, jax.tree.leaves(params['params'][f'Linear_{index}'])
    )
    return segment.obs @ kernel + bias

  mean, raw = head(0)[:-1], head(1)[:-1]
  variance = np.log1p(np.exp(raw))
  v = head(2)[..., 0]
  advantage = (plain_returns(segment, v[-1]) - v[:-1])[..., None]
  difference = segment.a[:-1] - mean
  squared = np.sum(difference**2, axis=2, keepdims=True)
  by_mean = -advantage * difference / variance
  by_variance = -advantage * (squared / variance**2 / 2 - 1 / variance)
  by_variance -= 0.1 / variance
  by_raw = by_variance / (1 + np.exp(-raw))
  by_v = -0.5 * advantage

  grads, stats = learner.gradients(params, None, segment)
  for index, cotangent in enumerate((by_mean, by_raw, by_v)):
    bias, kernel = jax.tree.leaves(grads['params'][f'Linear_{index}'])
    assert_close(bias, np.sum(cotangent, axis=(0, 1)))
    expected = np.einsum('tko,tkf->of', segment.obs[:-1], cotangent)
    assert_close(kernel, expected)

  log_2pi_variance = np.log(2 * np.pi * variance)
  log_pi = -squared / variance / 2 - log_2pi_variance
  expected_stats = {
    'policy_loss': np.mean(-log_pi * advantage),
    'value_loss': np.mean(advantage**2) / 2,
    'entropy': np.mean(log_2pi_variance + 1),
    'mean_v': np.mean(v[:-1]),
  }
  expected_stats['loss'] = (
    expected_stats['policy_loss']
    + 0.5 * expected_stats['value_loss']
    - 0.1 * expected_stats['entropy']
  )
  assert_close(stats, expected_stats)


def test_gaussian_actions_have_its_mean_and_variance():
  learner = policy_based.gaussian_a3c(GAUSSIAN, **COSTS)
  params = init_gaussian(learner)
  obs = np.tile(np.array([0.7, -1.3], np.float32), (20_000, 1))
  output, _ = GAUSSIAN.apply(params, obs[None, :1], (), np.zeros([1, 1], bool))
  best, _ = learner.greedy(params, (), obs)
  assert_close(best[5], output.mean[0, 0])
  action, _, key = learner.act(params, (), obs, KEY, EPSILON)
  assert action.shape == (20_000, 2) and action.dtype == np.float32
  assert not np.array_equal(jax.random.key_data(key), jax.random.key_data(KEY))
  np.testing.assert_allclose(action.mean(axis=0), best[0], atol=0.03)
  np.testing.assert_allclose(
    action.var(axis=0), [output.variance[0, 0]] * 2, rtol=0.05
  )
  # Both numbers of an action have noise of their own.
  assert abs(np.corrcoef(action.T)[0, 1]) < 0.05


def test_recurrent_gaussian_gradient_is_that_of_a_plain_loop():
  network = make_gaussian(cells=3)
  learner = policy_based.gaussian_a3c(network, **COSTS)
  params = init_gaussian(learner)
  segment = make_continuous_segment(learner)

  def log_pi_and_entropy(output, t, k):
    mean, variance = output.mean[0, k], output.variance[0, k]
    log_pi = jax.scipy.stats.norm.logpdf(
      segment.a[t, k], mean, jnp.sqrt(variance)
    )
    return jnp.sum(log_pi), jnp.log(2 * jnp.pi * jnp.e * variance)

  grads, _ = learner.gradients(params, None, segment)
  expected = plain_loss(network, segment, log_pi_and_entropy)
  assert_close(grads, plain_gradient(expected)(params))
  assert all(np.any(grad != 0) for grad in jax.tree.leaves(grads))
  # Acting step by step gives the states of the loop.
  num_envs = segment.r_t.shape[1]
  state = learner.initial_state(num_envs)
  for t in range(2):
    _, state, _ = learner.act(params, state, segment.obs[t], KEY, EPSILON)
  _, expected = network.apply(
    params,
    segment.obs[:2],
    learner.initial_state(num_envs),
    np.zeros([2, num_envs], bool),
  )
  assert_close(state, expected)
