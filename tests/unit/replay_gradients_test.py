"""Gradients of minibatches: DQN's, Q-learning's and PGQL's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import losses, networks
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import types

STEPS, BATCH = 3, 6
NETWORK = networks.QNetwork(networks.MLPTorso(hidden=()), num_actions=3)
POLICY = networks.ActorCritic(networks.MLPTorso(hidden=()), 3)
KINDS = {'one_step_q': value_based.one_step_q, 'nstep_q': value_based.nstep_q}
ONES = np.ones(BATCH, np.float32)
WEIGHT = np.float32([1, 0.5, 0.25, 1, 0, 0.125])
ALPHA, VALUE_COST = 0.2, 0.3
PGQL = policy_based.pgql(
  POLICY, entropy_cost=ALPHA, value_cost=VALUE_COST, replay_rate=0.5
)


def make_minibatch(steps=STEPS, seed=0):
  """Episodes end in the first step, in the middle, and in the last one."""
  rng = np.random.default_rng(seed)
  discount_t = np.full([steps, BATCH], 0.9, np.float32)
  for env, step in enumerate((0, steps // 2, steps - 1)):
    discount_t[step, env] = 0
  return types.Segment(
    obs=rng.normal(size=(steps + 1, BATCH, 2)).astype(np.float32),
    a=rng.integers(3, size=(steps + 1, BATCH), dtype=np.int32),
    r_t=rng.normal(scale=2, size=(steps, BATCH)).astype(np.float32),
    discount_t=discount_t,
    is_first=np.zeros([steps + 1, BATCH], bool),
    state=(),
  )


def make_params(seed):
  obs = np.zeros([1, 2], np.float32)
  return jax.jit(NETWORK.init)(jax.random.key(seed), obs)


PARAMS, TARGET_PARAMS = make_params(1), make_params(2)


def plain_q(params, obs):
  bias, kernel = map(np.asarray, jax.tree.leaves(params))
  return obs @ kernel + bias


def plain_errors(segment, *, double):
  """What Q of the first action lacks, and that Q, by the definitions [B]."""
  target_q = plain_q(TARGET_PARAMS, segment.obs[-1])
  selector_q = plain_q(PARAMS, segment.obs[-1]) if double else target_q
  best = selector_q.argmax(axis=1)
  target = target_q[range(BATCH), best]
  for r_t, discount_t in zip(
    segment.r_t[::-1], segment.discount_t[::-1], strict=True
  ):
    target = r_t + discount_t * target
  q = plain_q(PARAMS, segment.obs[0])[range(BATCH), segment.a[0]]
  return target - q, q


def assert_gradient(grads, obs, by_q):
  """Checks a gradient, given that by Q: [B, A] of observations [B, O]."""
  bias, kernel = jax.tree.leaves(grads)
  np.testing.assert_allclose(bias, by_q.sum(axis=0), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(kernel, obs.T @ by_q, rtol=1e-4, atol=1e-5)


def assert_close(one, other):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    one,
    other,
  )


@pytest.mark.parametrize('double', [False, True])
@pytest.mark.parametrize('steps', [1, STEPS])
@pytest.mark.parametrize('error_clip', [0.7, None])
@pytest.mark.parametrize('weight', [ONES, WEIGHT], ids=['ones', 'weights'])
def test_dqn_by_hand(double, steps, error_clip, weight):
  segment = make_minibatch(steps)
  learner = value_based.dqn(NETWORK, double=double, error_clip=error_clip)
  grads, stats, errors = learner.replay_gradients(
    PARAMS, TARGET_PARAMS, segment, weight
  )
  error, q = plain_errors(segment, double=double)
  # Some are clipped, and some are not; the weight comes before the clip.
  step = weight * error
  if error_clip is not None:
    assert 0 < np.mean(np.abs(step) > error_clip) < 1
    step = np.clip(step, -error_clip, error_clip)
  by_q = -step[:, None] * np.eye(3)[segment.a[0]]
  assert_gradient(grads, segment.obs[0], by_q)
  # Priorities are of errors without weights and bounds.
  np.testing.assert_allclose(errors, np.abs(error), rtol=1e-4, atol=1e-5)
  assert set(stats) == {'loss', 'mean_q', 'error'}
  np.testing.assert_allclose(stats['error'], np.abs(error).mean(), rtol=1e-4)
  np.testing.assert_allclose(stats['mean_q'], q.mean(), rtol=1e-4)


def test_double_dqn_is_another_algorithm():
  segment = make_minibatch()
  plain, double = (
    plain_errors(segment, double=double)[0] for double in (False, True)
  )
  assert np.any(plain != double)
  # Where the episode ends, no next action counts.
  np.testing.assert_array_equal(plain[:3], double[:3])


def test_the_loss_of_dqn_is_that_of_the_losses():
  segment = make_minibatch(steps=1)
  learner = value_based.dqn(NETWORK, error_clip=0.7)
  _, stats, errors = learner.replay_gradients(
    PARAMS, TARGET_PARAMS, segment, WEIGHT
  )
  loss, of_loss = losses.one_step_q_loss(
    jnp.asarray(plain_q(PARAMS, segment.obs[0])),
    segment.a[0],
    segment.r_t[0],
    segment.discount_t[0],
    plain_q(TARGET_PARAMS, segment.obs[1]),
    weight_tm1=WEIGHT,
    error_clip=0.7,
  )
  np.testing.assert_allclose(stats['loss'], np.mean(loss), rtol=1e-5)
  np.testing.assert_allclose(errors, np.abs(of_loss.error_tm1), rtol=1e-4)


def test_dqn_learns_from_memory_alone():
  learner = value_based.dqn(NETWORK)
  assert not learner.learns_from_segments
  assert learner.uses_target
  assert learner.acting == 'snapshot'
  segment = make_minibatch()
  grads, stats = learner.gradients(PARAMS, TARGET_PARAMS, segment)
  same, of_replay, _ = learner.replay_gradients(
    PARAMS, TARGET_PARAMS, segment, ONES
  )
  assert_close(grads, same)
  assert_close(stats, of_replay)


@pytest.mark.parametrize('name', KINDS)
def test_a_minibatch_with_weights_of_1_is_a_segment(name):
  learner = KINDS[name](NETWORK)
  segment = make_minibatch()
  grads, stats = learner.gradients(PARAMS, TARGET_PARAMS, segment)
  same, of_replay, errors = learner.replay_gradients(
    PARAMS, TARGET_PARAMS, segment, ONES
  )
  assert_close(grads, same)
  assert_close(stats, {name: of_replay[name] for name in stats})
  # Of a sequence, the mean over its steps.
  np.testing.assert_allclose(errors.mean(), of_replay['error'], rtol=1e-5)
  assert errors.shape == (BATCH,) and (errors >= 0).all()


def gradients_of_each(learner, *params, steps):
  """The gradient and error of each sequence of a minibatch alone."""
  segment = make_minibatch(steps)
  found = []
  for env in range(BATCH):
    one = jax.tree.map(lambda x, env=env: x[:, [env]], segment)
    found.append(learner.replay_gradients(*params, one, ONES[:1]))
  return segment, found


@pytest.mark.parametrize('name', [*KINDS, 'pgql'])
def test_weights_scale_the_gradient_of_each_sequence(name):
  if name == 'pgql':
    learner, params, steps = PGQL, (policy_params(), None), 1
  else:
    learner, params = KINDS[name](NETWORK), (PARAMS, TARGET_PARAMS)
    steps = STEPS
  segment, each = gradients_of_each(learner, *params, steps=steps)
  grads, _, errors = learner.replay_gradients(*params, segment, WEIGHT)
  expected = jax.tree.map(
    lambda *leaves: sum(w * x for w, x in zip(WEIGHT, leaves, strict=True)),
    *[grads for grads, _, _ in each],
  )
  assert_close(grads, expected)
  # Errors are not weighted.
  np.testing.assert_allclose(
    errors, [error[0] for _, _, error in each], rtol=1e-4, atol=1e-5
  )


def policy_params():
  return jax.jit(PGQL.init)(jax.random.key(1), np.zeros([1, 2], np.float32))


def policy_and_value(params, obs):
  """log π and V of a linear policy."""
  (policy_bias, policy), (value_bias, value) = (
    map(np.asarray, jax.tree.leaves(params['params'][name]))
    for name in ('Linear_0', 'Linear_1')
  )
  logits = obs @ policy + policy_bias
  log_pi = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
  return log_pi, (obs @ value + value_bias)[:, 0]


def test_pgql_by_hand():
  params, segment = policy_params(), make_minibatch(steps=1)
  grads, stats, errors = PGQL.replay_gradients(params, None, segment, WEIGHT)
  q, log_pis = [], []
  for obs in segment.obs:
    log_pi, v = policy_and_value(params, obs)
    entropy = -(np.exp(log_pi) * log_pi).sum(axis=1)
    q.append(ALPHA * (log_pi + entropy[:, None]) + v[:, None])
    log_pis.append(log_pi)
  qa = q[0][range(BATCH), segment.a[0]]
  error = segment.r_t[0] + segment.discount_t[0] * q[1].max(axis=1) - qa
  step = (WEIGHT * error)[:, None]
  by_logits = -step * (np.eye(3)[segment.a[0]] - np.exp(log_pis[0]))
  obs = segment.obs[0]
  assert_gradient(grads['params']['Linear_0'], obs, by_logits)
  assert_gradient(grads['params']['Linear_1'], obs, -VALUE_COST * step)
  np.testing.assert_allclose(errors, np.abs(error), rtol=1e-4, atol=1e-5)
  assert set(stats) == {'loss', 'mean_q', 'error'}
  np.testing.assert_allclose(stats['mean_q'], qa.mean(), rtol=1e-4)
  logged = np.mean(WEIGHT * error**2 / 2)
  np.testing.assert_allclose(stats['loss'], logged, rtol=1e-4)


def test_pgql_is_a3c_on_segments():
  given = {'entropy_cost': ALPHA, 'value_cost': VALUE_COST}
  segment, params = make_minibatch(), policy_params()
  expected = policy_based.a3c(POLICY, **given).gradients(params, None, segment)
  assert_close(PGQL.gradients(params, None, segment), expected)
  assert PGQL.replay_rate_scale == 0.5
  assert PGQL.learns_from_segments
