"""PGQL: identities, and a grid world whose action values are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import losses


def floats(*values):
  return np.array(values, np.float32)


def some_policy(rng, *lead, actions=4):
  logits = rng.normal(size=(*lead, actions)).astype(np.float32)
  return logits, rng.normal(size=lead).astype(np.float32)


def test_action_values_by_hand():
  # π = (¼, ¾): log π + H = (-¾ log 3, ¼ log 3), as H = log 4 - ¾ log 3.
  found = losses.policy_q_values(floats([0, np.log(3)]), floats(2.0), alpha=0.4)
  log_3 = np.log(3)
  np.testing.assert_allclose(
    found, [[2 - 0.3 * log_3, 2 + 0.1 * log_3]], rtol=1e-6
  )


@pytest.mark.parametrize('alpha', [0.01, 1.0, 30.0])
def test_the_mean_action_value_is_the_value(alpha):
  logits, v = some_policy(np.random.default_rng(0), 3, 5)
  q = losses.policy_q_values(logits, v, alpha=alpha)
  assert q.shape == (3, 5, 4)
  mean = jnp.sum(jax.nn.softmax(logits) * q, axis=-1)
  np.testing.assert_allclose(mean, v, rtol=1e-4, atol=1e-5 * max(1, alpha))


def test_action_values_at_the_fixed_point_are_those_of_the_policy():
  # There, π = exp(A / α - H): a softmax of any Q whatever, divided by α.
  q = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
  pi = jax.nn.softmax(q / 0.5)
  v = jnp.sum(pi * q, axis=1)
  entropy = -jnp.sum(pi * jnp.log(pi), axis=1)
  expected = jnp.exp((q - v[:, None]) / 0.5 - entropy[:, None])
  np.testing.assert_allclose(pi, expected, rtol=1e-5)
  found = losses.policy_q_values(q / 0.5, v, alpha=0.5)
  np.testing.assert_allclose(found, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('v', [floats(1.0), floats([1.0, 2.0]), np.float32(1)])
def test_a_value_of_other_axes(v):
  with pytest.raises(ValueError, match='^v has shape'):
    losses.policy_q_values(np.zeros((2, 3), np.float32), v, alpha=1.0)


def steps():
  return {
    'logits_tm1': floats([0, np.log(3)], [2, 2]),
    'v_tm1': floats(2, 7),
    'a_tm1': np.array([0, 1]),
    'r_t': floats(1, 2),
    'discount_t': floats(0.5, 0.5),
    'logits_t': floats([1, 1], [np.log(3), 0]),
    'v_t': floats(4, 8),
  }


def test_loss_and_gradient_by_hand():
  # Q̃(s_0, 0) = 2 - 0.3 log 3 and max Q̃(s_1) = 4; Q̃(s_1, 1) = 7 and
  # max Q̃(s_2) = 8 + 0.1 log 3: δ = 1 + 2 - Q̃ and 2 + 4 + 0.05 log 3 - 7.
  log_3 = np.log(3)
  weight_tm1 = floats(1, 10)
  settings = {'alpha': 0.4, 'value_cost': 0.25, 'weight_tm1': weight_tm1}
  loss, stats = losses.pgql_loss(**steps(), **settings)
  errors = floats(1 + 0.3 * log_3, -1 + 0.05 * log_3)
  np.testing.assert_allclose(stats.error_tm1, errors, rtol=1e-5)
  np.testing.assert_allclose(stats.q_loss, errors**2 / 2, rtol=1e-5)
  np.testing.assert_allclose(stats.qa_tm1, [2 - 0.3 * log_3, 7], rtol=1e-6)
  entropy = [np.log(4) - 0.75 * log_3, np.log(2)]
  np.testing.assert_allclose(stats.entropy, entropy, rtol=1e-6)
  scores = floats(-np.log(4) + 0.25 * 2, -np.log(2) + 0.25 * 7)
  np.testing.assert_allclose(loss, -weight_tm1 * errors * scores, rtol=1e-5)

  def summed(logits_tm1, v_tm1):
    changed = steps() | {'logits_tm1': logits_tm1, 'v_tm1': v_tm1}
    return jnp.sum(losses.pgql_loss(**changed, **settings)[0])

  by_logits, by_v = jax.grad(summed, argnums=(0, 1))(
    steps()['logits_tm1'], steps()['v_tm1']
  )
  weighted = weight_tm1 * errors
  scores = floats([0.75, -0.75], [-0.5, 0.5])  # 1_a - π
  np.testing.assert_allclose(by_logits, -weighted[:, None] * scores, rtol=1e-5)
  np.testing.assert_allclose(by_v, -0.25 * weighted, rtol=1e-5)


def test_weights_of_another_length():
  with pytest.raises(ValueError, match='^weight_tm1 has shape'):
    losses.pgql_loss(**steps(), alpha=1.0, weight_tm1=np.ones(3, np.float32))


# A grid of 4 x 6 cells, as in section 5.1 of the paper. The last cell ends the
# episode with a reward of 1; walls keep in place.
ROWS, COLUMNS, GAMMA, ALPHA = 4, 6, 0.95, 0.1
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


@functools.cache
def grid():
  """Next cell [S, A], reward [S, A] and discount [S, A]."""
  following = np.zeros((ROWS * COLUMNS, len(MOVES)), np.int64)
  for cell in range(ROWS * COLUMNS):
    for action, (down, right) in enumerate(MOVES):
      row = np.clip(cell // COLUMNS + down, 0, ROWS - 1)
      column = np.clip(cell % COLUMNS + right, 0, COLUMNS - 1)
      following[cell, action] = row * COLUMNS + column
  arrives = following == ROWS * COLUMNS - 1
  return (
    following,
    arrives.astype(np.float32),
    np.where(arrives, 0, GAMMA).astype(np.float32),
  )


def q_of(pi):
  """Action values of a policy: the solution of linear equations."""
  following, reward, discount = grid()
  size = reward.size
  # From (s, a) to (s', b), by γ π(b|s').
  to = jnp.zeros((size, *reward.shape))
  to = to.at[jnp.arange(size), following.ravel()].set(
    discount.reshape(-1, 1) * pi[following.ravel()]
  )
  system = jnp.eye(size) - to.reshape(size, size)
  return jnp.linalg.solve(system, reward.ravel()).reshape(reward.shape)


def on_policy_loss(params, q):
  """Of every cell and action, weighted by the policy: A3C's, of one step."""
  logits, v = params
  cells, actions = np.indices(q.shape).reshape(2, -1)

  def of_one(logits, v, action, q):
    loss, _ = losses.a3c_loss(
      logits[None],
      v[None],
      action[None],
      q[None],
      jnp.zeros(1),
      jnp.zeros(()),
      entropy_cost=ALPHA,
      value_cost=1.0,
    )
    return loss[0]

  loss = jax.vmap(of_one)(logits[cells], v[cells], actions, q.ravel())
  return jnp.sum(probabilities(logits) * loss)


def replay_loss(params):
  """Of every cell and action, weighted by the policy: Q-learning on Q̃."""
  logits, v = params
  following, reward, discount = (x.reshape(-1) for x in grid())
  cells, actions = np.indices(grid()[1].shape).reshape(2, -1)
  loss, _ = losses.pgql_loss(
    logits[cells],
    v[cells],
    actions,
    reward,
    discount,
    logits[following],
    v[following],
    alpha=ALPHA,
    value_cost=1.0,
    weight_tm1=probabilities(logits),
  )
  return jnp.sum(loss)


def probabilities(logits):
  return jax.lax.stop_gradient(jax.nn.softmax(logits)).reshape(-1)


@functools.partial(jax.jit, static_argnums=1)
def learn(eta, updates):
  """Parameters after updates that mix both gradients, as section 4.1 does."""

  def update(params, _):
    q = q_of(jax.nn.softmax(params[0]))
    grads = jax.grad(
      lambda params: (
        (1 - eta) * on_policy_loss(params, q) + eta * replay_loss(params)
      )
    )(params)
    return jax.tree.map(lambda x, grad: x - grad, params, grads), None

  shape = grid()[1].shape
  params = jnp.zeros(shape), jnp.zeros(shape[0])
  return jax.lax.scan(update, params, length=updates)[0]


@pytest.mark.parametrize('eta', [0.0, 0.5, 0.9])
def test_a_grid_world_is_learnt_up_to_the_entropy(eta):
  logits, v = learn(eta, 3000)
  pi = jax.nn.softmax(logits)
  q = losses.policy_q_values(logits, v, alpha=ALPHA)
  following, reward, discount = grid()
  best = reward + discount * jnp.max(q, axis=1)[following]
  # The fixed point, and the bound of the Bellman residual there.
  mixed = (1 - eta) * q_of(pi) + eta * best
  np.testing.assert_allclose(q, mixed, atol=2e-3)
  residual = best - q
  assert residual.min() >= -2e-3
  assert 1e-3 < residual.max() <= len(MOVES) * ALPHA / np.e
  # Each likeliest action leads towards the end of the episode.
  cells = np.arange(ROWS * COLUMNS - 1)
  after = following[cells, np.argmax(pi, axis=1)[cells]]
  assert (after - cells > 0).all()


def test_the_actor_critic_gradient_is_that_of_its_action_values():
  # Equations 2, 6 and 7: the gradient with α ∇H is E[(Q - Q̃) ∇ log π].
  rng = np.random.default_rng(3)
  cells = ROWS * COLUMNS
  logits, v = some_policy(rng, cells)
  q = rng.normal(size=(cells, 4)).astype(np.float32)
  found = jax.grad(on_policy_loss)((logits, v), q)
  pi = jax.nn.softmax(logits)
  error = q - losses.policy_q_values(logits, v, alpha=ALPHA)

  def surrogate(logits, v):
    score = jax.nn.log_softmax(logits) + v[:, None]
    return -jnp.sum(pi * error * score)

  expected = jax.grad(surrogate, argnums=(0, 1))(logits, v)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
