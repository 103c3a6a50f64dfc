"""Losses and returns against those of rlax, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import losses
from a3c_jax.losses import returns

rlax = pytest.importorskip('rlax')
# Of its own distributions.
pytestmark = pytest.mark.filterwarnings('ignore::PendingDeprecationWarning')

STEPS, ACTIONS, DIMENSIONS = 7, 4, 3
COSTS = {'entropy_cost': 0.02, 'value_cost': 0.5}


def floats(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


@functools.cache
def one_env():
  """Steps over the end of an episode, and values of each kind."""
  rng = np.random.default_rng(0)
  discount_t = np.full(STEPS, 0.9, np.float32)
  discount_t[3] = 0.0
  return {
    'r_t': floats(rng, STEPS),
    'discount_t': discount_t,
    'q_tm1': floats(rng, STEPS, ACTIONS),
    'target_q_t': floats(rng, STEPS, ACTIONS),
    'selector_q_t': floats(rng, STEPS, ACTIONS),
    'logits_tm1': floats(rng, STEPS, ACTIONS),
    'a_tm1': rng.integers(ACTIONS, size=STEPS),
    'a_t': rng.integers(ACTIONS, size=STEPS),
    'v': floats(rng, STEPS + 1),
    'mean_tm1': floats(rng, STEPS, DIMENSIONS),
    'variance_tm1': np.exp(floats(rng, STEPS)),
    'action_tm1': floats(rng, STEPS, DIMENSIONS),
  }


def take(*names):
  return {name: one_env()[name] for name in names}


def assert_close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def assert_same_loss(ours, theirs, *arguments):
  """Value and gradient of summed losses, by each of the arguments."""
  numbers = tuple(range(len(arguments)))
  for found, expected in zip(
    *(
      jax.tree.leaves(
        jax.jit(jax.value_and_grad(loss, argnums=numbers))(*arguments)
      )
      for loss in (ours, theirs)
    ),
    strict=True,
  ):
    assert_close(found, expected)


def half_squares(errors):
  return jnp.sum(rlax.l2_loss(errors))


def test_nstep_returns():
  r_t, discount_t, v = take('r_t', 'discount_t', 'v').values()
  found = returns.nstep_returns(r_t, discount_t, v[-1])
  assert_close(found, rlax.lambda_returns(r_t, discount_t, v[1:]))
  longest = rlax.n_step_bootstrapped_returns(r_t, discount_t, v[1:], STEPS)
  assert_close(found, longest)


@pytest.mark.parametrize('lambda_', [0.0, 0.7, 1.0])
def test_generalized_advantages(lambda_):
  r_t, discount_t, v = take('r_t', 'discount_t', 'v').values()
  assert_close(
    returns.generalized_advantages(r_t, discount_t, v, lambda_=lambda_),
    rlax.truncated_generalized_advantage_estimation(
      r_t, discount_t, lambda_, v
    ),
  )


def policy_weights(kind, v_tm1):
  """Those of rlax."""
  r_t, discount_t, v = take('r_t', 'discount_t', 'v').values()
  values = jnp.append(v_tm1, v[-1])
  return_tm1 = rlax.discounted_returns(r_t, discount_t, values[1:])
  return {
    'return': lambda: return_tm1,
    'nstep': lambda: return_tm1 - v_tm1,
    'td': lambda: jax.vmap(rlax.td_learning)(
      v_tm1, r_t, discount_t, values[1:]
    ),
    'gae': lambda: rlax.truncated_generalized_advantage_estimation(
      r_t, discount_t, 0.7, values
    ),
  }[kind]()


@pytest.mark.parametrize('kind', losses.ADVANTAGES)
def test_policy_weights(kind):
  r_t, discount_t, v = take('r_t', 'discount_t', 'v').values()
  found = returns.policy_weights(
    kind,
    v[:-1],
    r_t,
    discount_t,
    v[-1],
    lambda_=0.7 if kind == 'gae' else None,
  )
  assert_close(found, policy_weights(kind, v[:-1]))


@pytest.mark.parametrize('clip_rho', [0.5, 1.0, 2.0])
def test_vtrace(clip_rho):
  r_t, discount_t, v = take('r_t', 'discount_t', 'v').values()
  log_ratio = one_env()['target_q_t'][:, 0]
  assert (log_ratio > 0).any() and (log_ratio < 0).any()
  found = returns.vtrace(
    v[:-1], log_ratio, r_t, discount_t, v[-1], clip_rho=clip_rho
  )
  expected = rlax.vtrace_td_error_and_advantage(
    v[:-1],
    v[1:],
    r_t,
    discount_t,
    np.exp(log_ratio),
    clip_rho_threshold=clip_rho,
    clip_pg_rho_threshold=clip_rho,
  )
  assert_close(found.target_tm1, expected.errors + v[:-1])
  assert_close(found.advantage_tm1, expected.pg_advantage)


def test_one_step_q():
  rest = take('a_tm1', 'r_t', 'discount_t', 'target_q_t')
  assert_same_loss(
    lambda q: jnp.sum(losses.one_step_q_loss(q, **rest)[0]),
    lambda q: half_squares(jax.vmap(rlax.q_learning)(q, *rest.values())),
    one_env()['q_tm1'],
  )


@pytest.mark.parametrize('error_clip', [None, 0.5])
def test_double_q(error_clip):
  rest = take('a_tm1', 'r_t', 'discount_t', 'target_q_t', 'selector_q_t')

  def theirs(q):
    errors = jax.vmap(rlax.double_q_learning)(q, *rest.values())
    if error_clip is None:
      return half_squares(errors)
    return jnp.sum(rlax.huber_loss(errors, error_clip))

  assert_same_loss(
    lambda q: jnp.sum(
      losses.double_q_loss(q, **rest, error_clip=error_clip)[0]
    ),
    theirs,
    one_env()['q_tm1'],
  )


def test_weights_before_the_clip():
  # As dqn_zoo has it: rlax.clip_gradient of the errors, then their weights.
  rest = take('a_tm1', 'r_t', 'discount_t', 'target_q_t')
  weight_tm1 = np.exp(one_env()['v'][:-1])

  def theirs(q):
    errors = jax.vmap(rlax.q_learning)(q, *rest.values())
    errors = rlax.clip_gradient(errors, -0.5, 0.5)
    return jnp.sum(weight_tm1 * rlax.l2_loss(errors))

  def ours(q):
    return jnp.sum(
      losses.one_step_q_loss(q, **rest, weight_tm1=weight_tm1, error_clip=0.5)[
        0
      ]
    )

  q_tm1 = one_env()['q_tm1']
  assert_close(jax.grad(ours)(q_tm1), jax.grad(theirs)(q_tm1))


def test_one_step_sarsa():
  rest = take('a_tm1', 'r_t', 'discount_t', 'target_q_t', 'a_t')
  assert_same_loss(
    lambda q: jnp.sum(losses.one_step_sarsa_loss(q, **rest)[0]),
    lambda q: half_squares(jax.vmap(rlax.sarsa)(q, *rest.values())),
    one_env()['q_tm1'],
  )


@pytest.mark.parametrize('double', [False, True])
def test_one_step_of_nstep_q(double):
  # Each step is a segment of its own, with a best action of its own.
  a_tm1, r_t, discount_t, value_t, selector_t = take(
    'a_tm1', 'r_t', 'discount_t', 'target_q_t', 'selector_q_t'
  ).values()
  selector_t = selector_t if double else value_t

  def ours(q):
    loss = lambda q, a, r, discount, value, selector: losses.nstep_q_loss(
      q[None], a[None], r[None], discount[None], value, selector
    )[0]
    return jnp.sum(
      jax.vmap(loss)(q, a_tm1, r_t, discount_t, value_t, selector_t)
    )

  def theirs(q):
    if not double:
      rest = (a_tm1, r_t, discount_t, value_t)
      return half_squares(jax.vmap(rlax.q_learning)(q, *rest))
    rest = (a_tm1, r_t, discount_t, value_t, selector_t)
    return half_squares(jax.vmap(rlax.double_q_learning)(q, *rest))

  assert_same_loss(ours, theirs, one_env()['q_tm1'])


@pytest.mark.parametrize('double', [False, True])
def test_nstep_q_of_a_segment(double):
  rest = take('a_tm1', 'r_t', 'discount_t')
  target = one_env()['target_q_t'][-1]
  selector = one_env()['selector_q_t'][-1] if double else target

  def theirs(q):
    value = np.full(STEPS, target[np.argmax(selector)])
    return_tm1 = rlax.lambda_returns(rest['r_t'], rest['discount_t'], value)
    taken = rlax.batched_index(q, rest['a_tm1'])
    return half_squares(return_tm1 - taken)

  assert_same_loss(
    lambda q: jnp.sum(
      losses.nstep_q_loss(
        q,
        **rest,
        target_q_bootstrap=target,
        selector_q_bootstrap=selector if double else None,
      )[0]
    ),
    theirs,
    one_env()['q_tm1'],
  )


@pytest.mark.parametrize('lambda_', [0.0, 0.65, 1.0])
def test_q_lambda(lambda_):
  rest = take('a_tm1', 'r_t', 'discount_t')
  target = one_env()['target_q_t']
  assert_same_loss(
    lambda q: jnp.sum(
      losses.q_lambda_loss(q, **rest, target_q_t=target, lambda_=lambda_)[0]
    ),
    lambda q: half_squares(
      rlax.q_lambda(q, **rest, q_t=target, lambda_=lambda_)
    ),
    one_env()['q_tm1'],
  )


def errors(v_tm1):
  r_t, discount_t, v = take('r_t', 'discount_t', 'v').values()
  values = jnp.append(v_tm1, v[-1])
  return rlax.td_lambda(v_tm1, r_t, discount_t, values[1:], 1.0)


@pytest.mark.parametrize('advantage', losses.ADVANTAGES)
def test_a3c(advantage):
  a_tm1 = one_env()['a_tm1']
  rest = take('r_t', 'discount_t')
  logits_tm1, v = one_env()['logits_tm1'], one_env()['v']
  weights = np.ones(STEPS, np.float32)

  def ours(logits, v_tm1):
    loss, _ = losses.a3c_loss(
      logits,
      v_tm1,
      a_tm1,
      **rest,
      v_bootstrap=v[-1],
      advantage=advantage,
      lambda_=0.7,
      **COSTS,
    )
    return jnp.sum(loss)

  def theirs(logits, v_tm1):
    advantages = policy_weights(advantage, v_tm1)
    # Those of the policy are means over the steps.
    policy = rlax.policy_gradient_loss(logits, a_tm1, advantages, weights)
    entropy = rlax.entropy_loss(logits, weights)
    return STEPS * (policy + COSTS['entropy_cost'] * entropy) + COSTS[
      'value_cost'
    ] * half_squares(errors(v_tm1))

  assert_same_loss(ours, theirs, logits_tm1, v[:-1])


@pytest.mark.parametrize('advantage', losses.ADVANTAGES)
def test_gaussian_a3c(advantage):
  rest = take('r_t', 'discount_t')
  action_tm1, v = one_env()['action_tm1'], one_env()['v']
  mean_tm1, variance_tm1 = take('mean_tm1', 'variance_tm1').values()
  gaussian = rlax.gaussian_diagonal()

  def ours(mean, variance, v_tm1):
    loss, _ = losses.gaussian_a3c_loss(
      mean,
      variance,
      v_tm1,
      action_tm1,
      **rest,
      v_bootstrap=v[-1],
      advantage=advantage,
      lambda_=0.7,
      **COSTS,
    )
    return jnp.sum(loss)

  def theirs(mean, variance, v_tm1):
    sigma = jnp.broadcast_to(jnp.sqrt(variance)[:, None], mean.shape)
    advantages = policy_weights(advantage, v_tm1)
    log_pi = gaussian.logprob(action_tm1, mean, sigma)
    policy = -jnp.sum(jax.lax.stop_gradient(advantages) * log_pi)
    entropy = jnp.sum(gaussian.entropy(mean, sigma))
    return (
      policy
      - COSTS['entropy_cost'] * entropy
      + COSTS['value_cost'] * half_squares(errors(v_tm1))
    )

  assert_same_loss(ours, theirs, mean_tm1, variance_tm1, v[:-1])
