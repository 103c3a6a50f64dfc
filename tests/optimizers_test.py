import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax import activations, optimizers


def some_grads(updates, seed=0):
  rng = np.random.default_rng(seed)
  return [
    {
      'bias': rng.normal(size=3).astype(np.float32),
      'kernel': rng.normal(size=(2, 3)).astype(np.float32),
    }
    for _ in range(updates)
  ]


def run(optimizer, grads):
  """The directions that an optimizer gives for one gradient after another."""
  transformation = optimizer.transformation
  state = transformation.init(jax.tree.map(jnp.zeros_like, grads[0]))
  directions = []
  for grad in grads:
    direction, state = jax.jit(transformation.update)(grad, state)
    directions.append(direction)
  return directions


RMSPROPS = [optimizers.shared_rmsprop, optimizers.rmsprop]


@pytest.mark.parametrize('make', RMSPROPS)
def test_rmsprop_by_hand(make):
  # g = 0.01·2² = 0.04, so 2/√(0.04 + 0.05) = 2/0.3, and for a gradient of 0
  # next 0; then g = 0.99²·0.04 + 0.01·1² and 1/√(0.039204 + 0.01 + 0.05).
  grads = [np.float32([2.0]), np.float32([0.0]), np.float32([-1.0])]
  found = run(make(decay=0.99, epsilon=0.05), grads)
  np.testing.assert_allclose(
    np.ravel(found), [2 / 0.3, 0, -1 / np.sqrt(0.099204)], rtol=1e-5
  )


@pytest.mark.parametrize('make', RMSPROPS)
def test_rmsprop_is_the_papers_equation(make):
  grads = some_grads(updates=6)
  directions = run(make(decay=0.9, epsilon=1e-3), grads)
  for name in ('bias', 'kernel'):
    g = 0.0
    for grad, direction in zip(grads, directions, strict=True):
      g = 0.9 * g + 0.1 * grad[name] ** 2
      expected = grad[name] / np.sqrt(g + 1e-3)
      np.testing.assert_allclose(direction[name], expected, rtol=1e-5)


def test_rmsprop_is_optax_rmsprop():
  grads = some_grads(updates=6)
  expected = optimizers.Optimizer(
    optax.scale_by_rms(
      decay=0.9, eps=1e-3, initial_scale=0.0, eps_in_sqrt=True
    ),
    per_thread=False,
  )
  found = run(optimizers.shared_rmsprop(decay=0.9, epsilon=1e-3), grads)
  for one, other in zip(found, run(expected, grads), strict=True):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), one, other
    )


@pytest.mark.parametrize(
  'optimizer',
  [
    optimizers.shared_rmsprop(decay=0.9, epsilon=1e-3),
    optimizers.momentum_sgd(momentum=0.5),
  ],
)
def test_a_gradient_in_factors_is_its_product(optimizer):
  grads = some_grads(updates=3)
  rng = np.random.default_rng(1)
  factored = []
  for grad in grads:
    x, dy = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    grad['kernel'] = np.float32(x.T @ dy)
    outer = activations.Outer(np.float32(x), np.float32(dy))
    factored.append(grad | {'kernel': outer})
  transformation = optimizer.transformation
  update = jax.jit(transformation.update)
  state = other_state = transformation.init(grads[0])
  for grad, factors in zip(grads, factored, strict=True):
    expected, state = update(grad, state)
    found, other_state = update(factors, other_state)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      (found, other_state),
      (expected, state),
    )


def test_factors_are_clipped_as_their_product():
  # x.T @ dy = [[4, 2]] + [[0, 1]] = [[4, 3]], of norm 5.
  outer = activations.Outer(
    jnp.array([[2.0], [1.0]]), jnp.array([[2.0, 1.0], [0.0, 1.0]])
  )
  gradients = lambda *_: ({'kernel': outer}, {'loss': 1.0})
  grads, stats = optimizers.clipped(gradients, 10.0)(None, None, None)
  np.testing.assert_allclose(stats, [1, 5], rtol=1e-6)
  np.testing.assert_array_equal(
    activations.multiplied_out(grads)['kernel'], [[4, 3]]
  )
  grads, stats = optimizers.clipped(gradients, 1.0)(None, None, None)
  np.testing.assert_allclose(stats, [1, 5], rtol=1e-6)
  np.testing.assert_allclose(
    activations.multiplied_out(grads)['kernel'], [[0.8, 0.6]], rtol=1e-6
  )


def test_momentum_by_hand():
  # m = ½·4 = 2, then ½·2 + ½·0 = 1, then ½·1 + ½·(-3) = -1.
  grads = [np.float32([4.0]), np.float32([0.0]), np.float32([-3.0])]
  found = run(optimizers.momentum_sgd(momentum=0.5), grads)
  np.testing.assert_allclose(np.ravel(found), [2, 1, -1])


def test_momentum_is_the_papers_equation():
  grads = some_grads(updates=6)
  directions = run(optimizers.momentum_sgd(momentum=0.9), grads)
  for name in ('bias', 'kernel'):
    m = 0.0
    for grad, direction in zip(grads, directions, strict=True):
      m = 0.9 * m + 0.1 * grad[name]
      np.testing.assert_allclose(direction[name], m, rtol=1e-5)


def test_without_decay_momentum_is_plain_descent():
  grads = some_grads(updates=3)
  directions = run(optimizers.momentum_sgd(momentum=0.0), grads)
  jax.tree.map(np.testing.assert_array_equal, directions, grads)


def test_only_shared_rmsprop_is_shared():
  assert not optimizers.shared_rmsprop(decay=0.9, epsilon=0.1).per_thread
  assert optimizers.rmsprop(decay=0.9, epsilon=0.1).per_thread
  assert optimizers.momentum_sgd(momentum=0.9).per_thread


def three_four_five(params, target_params, segment):
  """Like `Learner.gradients`: global norm 5·segment with parameters of 1."""
  del target_params
  grads = {'bias': 3 * segment * params, 'kernel': 4 * segment * params}
  return grads, {'loss': jnp.sum(segment)}


def test_clipping_by_hand():
  # Norm √(3² + 4²) = 5, over both parameters together: halved at most 2.5.
  gradients = optimizers.clipped(three_four_five, 2.5)
  grads, stats = gradients(np.ones(1), None, 1.0)
  np.testing.assert_allclose(grads['bias'], [1.5], rtol=1e-6)
  np.testing.assert_allclose(grads['kernel'], [2.0], rtol=1e-6)
  assert stats.tolist() == [1.0, 5.0]
  names = optimizers.stat_names(three_four_five, np.ones(1), None, 1.0)
  assert names == ['loss', 'grad_norm']


def random_gradients(params, target_params, segment):
  del params, target_params
  return segment, {}


@pytest.mark.parametrize('max_grad_norm', [1e-3, 0.5, 1.5])
def test_norm_above_becomes_the_largest_and_keeps_its_direction(max_grad_norm):
  [grads] = some_grads(updates=1)
  clipped, stats = optimizers.clipped(random_gradients, max_grad_norm)(
    None, None, grads
  )
  norm, before = (
    np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(tree)))
    for tree in (clipped, grads)
  )
  assert before > max_grad_norm
  np.testing.assert_allclose(norm, max_grad_norm, rtol=1e-5)
  np.testing.assert_allclose(stats, [before], rtol=1e-6)
  jax.tree.map(
    lambda found, grad: np.testing.assert_allclose(
      found, grad * max_grad_norm / before, rtol=1e-5
    ),
    clipped,
    grads,
  )


@pytest.mark.parametrize('max_grad_norm', [None, 100.0])
def test_norm_below_is_untouched(max_grad_norm):
  [grads] = some_grads(updates=1)
  clipped, _ = optimizers.clipped(random_gradients, max_grad_norm)(
    None, None, grads
  )
  jax.tree.map(np.testing.assert_array_equal, clipped, grads)


def test_no_gradient_is_no_division_by_zero():
  gradients = optimizers.clipped(three_four_five, 2.5)
  grads, stats = gradients(np.ones(1), None, 0.0)
  assert stats[-1] == 0
  jax.tree.map(lambda grad: np.testing.assert_array_equal(grad, [0.0]), grads)


def test_clipped_compiles_once():
  traces = []

  def counted(*arguments):
    traces.append(None)
    return three_four_five(*arguments)

  gradients = optimizers.clipped(counted, 2.5)
  for segment in (1.0, 0.1, 7.0):
    gradients(np.ones(1), None, segment)
  assert len(traces) == 1
