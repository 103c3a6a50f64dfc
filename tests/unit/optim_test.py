"""Update rules, clipping, and gradients as factors."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax.core import types
from a3c_jax.optim import (
  adagrad,
  adam,
  clipping,
  factored,
  momentum,
  rmsprop,
  rule,
)


def some_grads(updates, seed=0):
  rng = np.random.default_rng(seed)
  return [
    {
      'bias': rng.normal(size=3).astype(np.float32),
      'kernel': rng.normal(size=(2, 3)).astype(np.float32),
    }
    for _ in range(updates)
  ]


def ascent(frames):
  """A learning rate by which parameters of 0 become what is taken from them."""
  del frames
  return -1.0


def run(update_rule, grads):
  """The directions that a rule of rate -1 takes for one gradient each."""
  zeros = jax.tree.map(jnp.zeros_like, grads[0])
  state = update_rule.init(zeros)
  directions = []
  for grad in grads:
    direction, state = update_rule.apply(zeros, state, grad, 0)
    directions.append(direction)
  return directions


RMSPROPS = [rmsprop.shared_rmsprop, rmsprop.rmsprop]


@pytest.mark.parametrize('make', RMSPROPS)
def test_rmsprop_by_hand(make):
  # g = 0.01·2² = 0.04, so 2/√(0.04 + 0.05) = 2/0.3, and for a gradient of 0
  # next 0; then g = 0.99²·0.04 + 0.01·1² and 1/√(0.039204 + 0.01 + 0.05).
  grads = [np.float32([2.0]), np.float32([0.0]), np.float32([-1.0])]
  found = run(make(ascent, decay=0.99, epsilon=0.05), grads)
  np.testing.assert_allclose(
    np.ravel(found), [2 / 0.3, 0, -1 / np.sqrt(0.099204)], rtol=1e-5
  )


@pytest.mark.parametrize('make', RMSPROPS)
def test_rmsprop_from_a_mean_square_by_hand(make):
  # g = ½·12 + ½·2² = 8, so 2/√(8 + 1) = 2/3; then g = ½·8 + ½·4² = 12 and
  # -4/√(12 + 1). From 0 the first step would be 2/√(2 + 1).
  grads = [np.float32([2.0]), np.float32([-4.0])]
  found = run(make(ascent, decay=0.5, epsilon=1.0, start=12.0), grads)
  np.testing.assert_allclose(np.ravel(found), [2 / 3, -4 / 13**0.5], rtol=1e-5)


@pytest.mark.parametrize('make', RMSPROPS)
def test_rmsprop_is_the_papers_equation(make):
  grads = some_grads(updates=6)
  directions = run(make(ascent, decay=0.9, epsilon=1e-3), grads)
  for name in ('bias', 'kernel'):
    g = 0.0
    for grad, direction in zip(grads, directions, strict=True):
      g = 0.9 * g + 0.1 * grad[name] ** 2
      expected = grad[name] / np.sqrt(g + 1e-3)
      np.testing.assert_allclose(direction[name], expected, rtol=1e-5)


def test_rmsprop_is_optax_rmsprop():
  grads = some_grads(updates=6)
  expected = rule.of_optax(
    optax.scale_by_rms(
      decay=0.9, eps=1e-3, initial_scale=0.0, eps_in_sqrt=True
    ),
    ascent,
  )
  found = run(rmsprop.shared_rmsprop(ascent, decay=0.9, epsilon=1e-3), grads)
  for one, other in zip(found, run(expected, grads), strict=True):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), one, other
    )


def factors(x, dy):
  """A gradient in factors of one kernel [in, out], without a network."""

  def loss(params, target_params, segment, activations):
    # As `forward_cache.call`: the output of the layer is the cached one.
    del target_params, segment, params
    return jnp.sum(activations['kept_layer']['output'] * dy), {
      'loss': jnp.ones(())
    }

  kernel = jnp.zeros((x.shape[1], dy.shape[1]))
  params = {'params': {'layer': {'Dense_0': {'kernel': kernel}}}}
  activations = {
    'kept_layer': {'input': jnp.asarray(x), 'output': jnp.asarray(dy)}
  }
  segment = types.Segment(*[None] * 6, kept=activations)
  form = factored.gradients(loss, None, None)
  return lambda *_, **given: form.gradients(params, None, segment, **given)


def kernel_of(grads):
  return grads['params']['layer']['Dense_0']['kernel']


@pytest.mark.parametrize(
  'update_rule',
  [
    rmsprop.shared_rmsprop(ascent, decay=0.9, epsilon=1e-3),
    rmsprop.centered_rmsprop(ascent, decay=0.9, epsilon=1e-3),
    momentum.momentum_sgd(ascent, momentum=0.5),
    adam.adam(ascent, epsilon=1e-3),
    adam.radam(ascent, epsilon=1e-3),
  ],
)
def test_a_gradient_in_factors_is_its_product(update_rule):
  rng = np.random.default_rng(1)
  pairs = []
  for _ in range(3):
    x, dy = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    grads, _ = factors(np.float32(x), np.float32(dy))()
    np.testing.assert_allclose(
      kernel_of(factored.dense(grads)), x.T @ dy, rtol=1e-5
    )
    pairs.append((grads, factored.dense(grads)))
  zeros = jax.tree.map(jnp.zeros_like, pairs[0][1])
  states = [update_rule.init(zeros) for _ in range(2)]
  for pair in pairs:
    found, expected = (
      update_rule.apply(zeros, state, grads, 0)
      for grads, state in zip(pair, states, strict=True)
    )
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      found,
      expected,
    )
    states = [found[1], expected[1]]


@pytest.mark.parametrize(
  ('rows', 'inputs', 'outputs', 'most_rows', 'factors_expected'),
  [
    (10, 2, 3, 10, True),  # Few rows, whatever the size.
    (10, 2, 3, 9, False),
    (11, 40, 30, 10, False),
    (11, 40, 30, 11, True),
    (17, 40, 30, 64, True),  # 17 · 70 numbers instead of 1,200.
    (18, 40, 30, 64, False),
  ],
)
def test_factors_have_few_rows_or_few_numbers(
  rows, inputs, outputs, most_rows, factors_expected
):
  given = np.ones((rows, inputs), np.float32), np.ones((rows, outputs), 'f')
  grads, _ = factors(*given)(most_rows=most_rows)
  assert isinstance(kernel_of(grads.tree), jax.Array) != factors_expected


@pytest.mark.parametrize(('rows', 'multiplied'), [(10, False), (11, True)])
def test_factors_of_many_rows_are_multiplied(rows, multiplied):
  rng = np.random.default_rng(1)
  x = rng.normal(size=(rows, 40)).astype(np.float32)
  dy = rng.normal(size=(rows, 30)).astype(np.float32)
  grads, _ = factors(x, dy)(most_rows=11)
  assert not isinstance(kernel_of(grads.tree), jax.Array)
  found = factored.of_few_rows(grads)
  assert isinstance(kernel_of(found.tree), jax.Array) == multiplied
  np.testing.assert_allclose(
    kernel_of(factored.dense(found)), x.T @ dy, rtol=1e-5, atol=1e-5
  )
  # A dense gradient remains what it is.
  dense = factored.dense(grads)
  assert factored.of_few_rows(dense) is dense


def test_factors_are_clipped_as_their_product():
  # x.T @ dy = [[4, 2]] + [[0, 1]] = [[4, 3]], of norm 5.
  gradients = factors(
    np.float32([[2.0], [1.0]]), np.float32([[2.0, 1.0], [0.0, 1.0]])
  )
  learner = learner_of(lambda *_: None)
  learner = learner._replace(
    factored_gradients=types.FactoredGradients(learner.gradients, gradients)
  )
  for max_grad_norm, expected in ((10.0, [[4, 3]]), (1.0, [[0.8, 0.6]])):
    clipped = clipping.of_learner(learner, max_grad_norm, factored_rows=10)
    grads, stats = clipped(None, None, None)
    np.testing.assert_allclose(stats, [1, 5], rtol=1e-6)
    np.testing.assert_allclose(
      kernel_of(factored.dense(grads)), expected, rtol=1e-6
    )


def learner_of(gradients):
  return types.Learner(
    *[None] * 5, gradients=gradients, acting='snapshot', uses_target=False
  )


ARITHMETIC = {
  'global norm': optax.global_norm,
  'tree norm': optax.tree.norm,
  'sum of two': lambda grads: jax.tree.map(lambda x, y: x + y, grads, grads),
  'jnp.add': lambda grads: jax.tree.map(jnp.add, grads, grads),
  'product': lambda grads: jax.tree.map(lambda x: 0.5 * x, grads),
  'optax.clip': lambda grads: optax.clip_by_global_norm(1.0).update(grads, ()),
  'optax.sgd': lambda grads: optax.sgd(0.1).update(grads, ((), ())),
  'apply_updates': lambda grads: optax.apply_updates(
    factored.dense(grads), grads
  ),
  'sum of dense and factored': lambda grads: jax.tree.map(
    jnp.add, factored.dense(grads), grads
  ),
  'jit': jax.jit(lambda grads: grads),
  'finite': lambda grads: optax.tree.max(grads),
}


@pytest.mark.parametrize('of', [lambda x: x, lambda x: {'a': x, 'b': 1.0}])
@pytest.mark.parametrize('name', ARITHMETIC)
def test_whoever_computes_with_factors_fails(name, of):
  grads, _ = factors(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))()
  assert isinstance(grads, factored.Factored)
  compute = ARITHMETIC[name]
  with pytest.raises((AttributeError, TypeError, ValueError)):
    compute(of(grads))


def test_factors_can_be_pickled():
  grads, _ = factors(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))()
  again = pickle.loads(pickle.dumps(grads))
  assert jax.tree.structure(again.tree) == jax.tree.structure(grads.tree)
  jax.tree.map(np.testing.assert_array_equal, again.tree, grads.tree)


def test_momentum_by_hand():
  # m = ½·4 = 2, then ½·2 + ½·0 = 1, then ½·1 + ½·(-3) = -1.
  grads = [np.float32([4.0]), np.float32([0.0]), np.float32([-3.0])]
  found = run(momentum.momentum_sgd(ascent, momentum=0.5), grads)
  np.testing.assert_allclose(np.ravel(found), [2, 1, -1])


def test_momentum_is_the_papers_equation():
  grads = some_grads(updates=6)
  directions = run(momentum.momentum_sgd(ascent, momentum=0.9), grads)
  for name in ('bias', 'kernel'):
    m = 0.0
    for grad, direction in zip(grads, directions, strict=True):
      m = 0.9 * m + 0.1 * grad[name]
      np.testing.assert_allclose(direction[name], m, rtol=1e-5)


def test_without_decay_momentum_is_plain_descent():
  grads = some_grads(updates=3)
  directions = run(momentum.momentum_sgd(ascent, momentum=0.0), grads)
  jax.tree.map(np.testing.assert_array_equal, directions, grads)


def test_centered_rmsprop_by_hand():
  # g = ½·4 = 2, n = ½·16 = 8: 4/√(8 - 4 + ¼). Then g = 1 - 1 = 0 and
  # n = 4 + ½·4 = 6: -2/√(6 + ¼) = -0.8.
  grads = [np.float32([4.0]), np.float32([-2.0])]
  found = run(rmsprop.centered_rmsprop(ascent, decay=0.5, epsilon=0.25), grads)
  np.testing.assert_allclose(np.ravel(found), [4 / 4.25**0.5, -0.8], rtol=1e-6)


def test_centered_rmsprop_is_dqns():
  grads = some_grads(updates=6)
  found = run(rmsprop.centered_rmsprop(ascent, decay=0.95, epsilon=0.01), grads)
  expected = optax.rmsprop(
    1.0, decay=0.95, eps=0.01, centered=True, initial_scale=0.0
  )
  state = expected.init(grads[0])
  g = n = 0.0
  for grad, direction in zip(grads, found, strict=True):
    g = 0.95 * g + 0.05 * grad['kernel']
    n = 0.95 * n + 0.05 * grad['kernel'] ** 2
    np.testing.assert_allclose(
      direction['kernel'], grad['kernel'] / np.sqrt(n - g**2 + 0.01), rtol=1e-5
    )
    updates, state = expected.update(grad, state)
    jax.tree.map(
      lambda ours, theirs: np.testing.assert_allclose(ours, -theirs, rtol=1e-5),
      direction,
      updates,
    )


def test_centered_rmsprop_of_gradients_that_do_not_vary():
  # n - g² is 0 but for rounding, which is a thousand times ε.
  grads = [np.float32([1e3, -3e3, 7.7e3])] * 400
  rule = rmsprop.centered_rmsprop(ascent, decay=0.95, epsilon=1e-5)
  assert np.isfinite(run(rule, grads)).all()


def moments(grads):
  """k, m / (1 - β₁^k) and v / (1 - β₂^k) of Adam, after each gradient."""
  m = v = 0.0
  for k, grad in enumerate(grads, 1):
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    yield k, m / (1 - 0.9**k), v / (1 - 0.999**k)


def test_adam_is_the_papers_algorithm():
  grads = some_grads(updates=6)
  directions = run(adam.adam(ascent, epsilon=1e-3), grads)
  for name in ('bias', 'kernel'):
    of_name = moments(grad[name] for grad in grads)
    for (_, m, v), direction in zip(of_name, directions, strict=True):
      step = m / (np.sqrt(v) + 1e-3)
      np.testing.assert_allclose(direction[name], step, rtol=1e-4)


def test_radam_is_the_papers_algorithm():
  grads = some_grads(updates=9)
  directions = run(adam.radam(ascent, epsilon=1e-3), grads)
  longest = 2 / (1 - 0.999) - 1
  rectified = []
  for name in ('bias', 'kernel'):
    of_name = moments(grad[name] for grad in grads)
    for (k, m, v), direction in zip(of_name, directions, strict=True):
      step = m
      length = longest - 2 * k * 0.999**k / (1 - 0.999**k)
      rectified.append(length >= 5)
      if rectified[-1]:
        r = (length - 4) * (length - 2) * longest
        r /= (longest - 4) * (longest - 2) * length
        step = m * r**0.5 / (np.sqrt(v) + 1e-3)
      # In float32, ρ is a difference of large numbers.
      np.testing.assert_allclose(direction[name], step, rtol=1e-2)
  assert rectified == [False] * 5 + [True] * 4 + [False] * 5 + [True] * 4


def test_adagrad_by_hand():
  # G = 3² = 9, so 3/√(9 + 7) = 3/4; a gradient of 0 does not move it. Then
  # G = 9 + 3² = 18: -3/√(18 + 7) = -3/5.
  grads = [np.float32([x]) for x in (3.0, 0.0, -3.0)]
  found = run(adagrad.adagrad(ascent, epsilon=7.0), grads)
  np.testing.assert_allclose(np.ravel(found), [0.75, 0, -0.6], rtol=1e-6)


def test_adagrad_is_that_of_optax_whose_sum_starts_at_epsilon():
  grads = some_grads(updates=5)
  found = run(adagrad.adagrad(ascent, epsilon=0.1), grads)
  expected = optax.adagrad(1.0, initial_accumulator_value=0.1, eps=0.0)
  state = expected.init(grads[0])
  for grad, direction in zip(grads, found, strict=True):
    updates, state = expected.update(grad, state)
    jax.tree.map(
      lambda ours, theirs: np.testing.assert_allclose(ours, -theirs, rtol=1e-5),
      direction,
      updates,
    )


def test_whose_optimizer_state_is_each_workers_own():
  settings = {'decay': 0.9, 'epsilon': 0.1}
  assert not rmsprop.shared_rmsprop(ascent, **settings).per_worker
  assert not rmsprop.centered_rmsprop(ascent, **settings).per_worker
  for make in (adam.adam, adam.radam):
    assert not make(ascent, epsilon=0.1).per_worker
    assert make(ascent, epsilon=0.1, per_worker=True).per_worker
  assert not adagrad.adagrad(ascent, epsilon=0.1).per_worker
  assert rmsprop.rmsprop(ascent, **settings).per_worker
  assert momentum.momentum_sgd(ascent, momentum=0.9).per_worker


@pytest.mark.parametrize(
  'make',
  [
    lambda rate: rmsprop.shared_rmsprop(rate, decay=0.0, epsilon=0.0),
    lambda rate: momentum.momentum_sgd(rate, momentum=0.0),
    lambda rate: rule.of_optax(optax.scale(4.0), rate),
  ],
)
def test_the_learning_rate_is_that_of_the_frames(make):
  # Without a past, RMSProp steps by 1, momentum by 4, the last by 16.
  update_rule = make(lambda frames: 8 - frames)
  params, state = jnp.zeros(()), update_rule.init(jnp.zeros(()))
  steps = []
  for frames in (0, 6, 8):
    new, state = update_rule.apply(params, state, jnp.full((), 4.0), frames)
    steps.append(float(new))
  assert steps in ([-8, -2, 0], [-32, -8, 0], [-128, -32, 0])
  # Half the rate, half the step; the optimizer state does not depend on it.
  whole, half = (
    update_rule.apply(
      params, update_rule.init(params), jnp.full((), 4.0), 0, **scale
    )
    for scale in ({}, {'rate_scale': 0.5})
  )
  assert half[0] == whole[0] / 2
  jax.tree.map(np.testing.assert_array_equal, half[1], whole[1])


def three_four_five(params, target_params, segment):
  """Like `Learner.gradients`: global norm 5·segment with parameters of 1."""
  del target_params
  grads = {'bias': 3 * segment * params, 'kernel': 4 * segment * params}
  return grads, {'loss': jnp.sum(segment)}


def test_clipping_by_hand():
  # Norm √(3² + 4²) = 5, over both parameters together: halved at most 2.5.
  gradients = clipping.clipped(three_four_five, 2.5)
  grads, stats = gradients(np.ones(1), None, 1.0)
  np.testing.assert_allclose(grads['bias'], [1.5], rtol=1e-6)
  np.testing.assert_allclose(grads['kernel'], [2.0], rtol=1e-6)
  assert stats.tolist() == [1.0, 5.0]
  for rows in (10, 0):
    names = clipping.stat_names(
      learner_of(three_four_five),
      np.ones(1),
      None,
      1.0,
      factored_rows=rows,
    )
    assert names == ['loss', 'grad_norm']


def random_gradients(params, target_params, segment):
  del params, target_params
  return segment, {}


@pytest.mark.parametrize('max_grad_norm', [1e-3, 0.5, 1.5])
def test_norm_above_becomes_the_largest_and_keeps_its_direction(max_grad_norm):
  [grads] = some_grads(updates=1)
  clipped, stats = clipping.clipped(random_gradients, max_grad_norm)(
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
  clipped, _ = clipping.clipped(random_gradients, max_grad_norm)(
    None, None, grads
  )
  jax.tree.map(np.testing.assert_array_equal, clipped, grads)


def test_no_gradient_is_no_division_by_zero():
  gradients = clipping.clipped(three_four_five, 2.5)
  grads, stats = gradients(np.ones(1), None, 0.0)
  assert stats[-1] == 0
  jax.tree.map(lambda grad: np.testing.assert_array_equal(grad, [0.0]), grads)


def test_clipped_compiles_once():
  traces = []

  def counted(*arguments):
    traces.append(None)
    return three_four_five(*arguments)

  gradients = clipping.clipped(counted, 2.5)
  for segment in (1.0, 0.1, 7.0):
    gradients(np.ones(1), None, segment)
  assert len(traces) == 1


def test_the_norm_is_over_what_is_learnt():
  variables = {'params': {'w': jnp.ones(2)}, 'constants': {'c': jnp.ones(2)}}
  gradients = clipping.clipped(lambda *_: (variables, {}), 1.0)
  # √2 scaled down to 1.
  grads, stats = gradients(None, None, None)
  np.testing.assert_allclose(grads['params']['w'], [0.5**0.5] * 2, rtol=1e-6)
  np.testing.assert_allclose(stats, [2**0.5], rtol=1e-6)
  assert set(grads) == {'params'}
