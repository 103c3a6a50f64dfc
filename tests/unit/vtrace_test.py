"""Corrections of policy lag: V-trace, and the losses that use it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import losses
from a3c_jax.losses import returns

COSTS = {'entropy_cost': 0.1, 'value_cost': 0.5}


def floats(*values):
  return np.array(values, np.float32)


def steps(**changes):
  return {
    'v_tm1': floats(1, 2, 4),
    'log_ratio_tm1': np.log(floats(0.5, 2, 1)),
    'r_t': floats(1, 2, 3),
    'discount_t': floats(0.5, 0.5, 0.5),
    'bootstrap': np.float32(8),
  } | changes


def check(found, targets, advantages):
  np.testing.assert_allclose(found.target_tm1, targets, rtol=1e-5)
  np.testing.assert_allclose(found.advantage_tm1, advantages, rtol=1e-5)


def test_by_hand():
  # δ = 3 + ½·8 - 4 = 3, 2 + ½·4 - 2 = 2, ½ (1 + ½·2 - 1) = ½.
  # v - V: 3; 2 + ½·1·3 = 3.5; ½ + ½·½·3.5 = 1.375.
  # A = 3 + ½·8 - 4, 2 + ½·7 - 2, ½ (1 + ½·5.5 - 1).
  check(returns.vtrace(**steps()), [2.375, 5.5, 7], [1.375, 3.5, 3])


def test_larger_bounds_by_hand():
  # ρ = ½, 1.5, 1 and c = ½, 1, 1: the second δ is 1.5·2 = 3.
  # v - V: 3; 3 + ½·3 = 4.5; ½ + ½·½·4.5 = 1.625.
  check(
    returns.vtrace(**steps(), clip_rho=1.5),
    [2.625, 6.5, 7],
    [0.5 * (0.5 * 6.5), 1.5 * 3.5, 3],
  )
  # ρ = ½, 1, 1 and c = ½, 2, 1. v - V: 3; 2 + ½·2·3 = 5; ½ + ½·½·5 = 1.75.
  check(
    returns.vtrace(**steps(), clip_c=2.0), [2.75, 7, 7], [0.5 * 3.5, 3.5, 3]
  )
  # ρ and c at most ¼. δ = ¾, ½, ¼; v - V: ¾; ½ + ⅛·¾; ¼ + ⅛·(½ + ⅛·¾).
  second = 0.5 + 0.75 / 8
  first = 0.25 + second / 8
  check(
    returns.vtrace(**steps(), clip_rho=0.25, clip_c=0.25),
    [1 + first, 2 + second, 4.75],
    [0.25 * (0.5 * (2 + second)), 0.25 * (0.5 * 4.75), 0.75],
  )


def test_on_the_acting_policy_it_is_the_nstep_return():
  given = steps(log_ratio_tm1=floats(0, 0, 0))
  expected = returns.nstep_returns(
    given['r_t'], given['discount_t'], given['bootstrap']
  )
  found = returns.vtrace(**given)
  check(found, expected, expected - given['v_tm1'])


def test_nothing_after_a_terminal_step_matters():
  discount_t = floats(0.5, 0, 0.5)
  before = returns.vtrace(**steps(discount_t=discount_t))
  after = returns.vtrace(
    **steps(
      discount_t=discount_t,
      v_tm1=floats(1, 2, -9),
      r_t=floats(1, 2, 9),
      log_ratio_tm1=np.log(floats(0.5, 2, 0.1)),
      bootstrap=np.float32(-9),
    )
  )
  for one, other in zip(before, after, strict=True):
    np.testing.assert_array_equal(one[:2], other[:2])
    assert one[2] != other[2]
  # The second step: 1·(2 - 2). The first: ½ (1 + ½·2 - 1) + 0.
  np.testing.assert_allclose(before.target_tm1[:2], [1.5, 2])


def test_an_action_that_has_become_impossible_teaches_nothing():
  found = returns.vtrace(**steps(log_ratio_tm1=floats(-np.inf, -1e4, -200)))
  check(found, steps()['v_tm1'], [0, 0, 0])


def test_huge_ratios_are_those_of_one():
  huge = returns.vtrace(**steps(log_ratio_tm1=floats(1e4, 500, 100)))
  one = returns.vtrace(**steps(log_ratio_tm1=floats(0, 0, 0)))
  check(huge, *one)


@pytest.mark.parametrize(
  'name', ['log_ratio_tm1', 'r_t', 'discount_t', 'bootstrap']
)
def test_names_the_argument_whose_shape_disagrees(name):
  wrong = np.ones([4] * (name != 'bootstrap') or [1], np.float32)
  with pytest.raises(ValueError, match=f'^{name} has shape'):
    returns.vtrace(**steps(**{name: wrong}))


def discrete(rng, steps=4):
  log_pi = jax.nn.log_softmax(rng.normal(size=(steps, 3)).astype(np.float32))
  a_tm1 = rng.integers(3, size=steps)
  return {
    'logits_tm1': np.asarray(log_pi),
    'a_tm1': a_tm1,
  }, np.asarray(log_pi)[np.arange(steps), a_tm1]


def gaussian(rng, steps=4):
  mean, action = rng.normal(size=(2, steps, 2)).astype(np.float32)
  variance = np.exp(rng.normal(size=steps)).astype(np.float32)
  log_density = -0.5 * (
    np.sum((action - mean) ** 2, axis=1) / variance
    + 2 * np.log(2 * np.pi * variance)
  )
  return {
    'mean_tm1': mean,
    'variance_tm1': variance,
    'a_tm1': action,
  }, log_density


KINDS = {
  'discrete': (losses.a3c_loss, discrete),
  'gaussian': (losses.gaussian_a3c_loss, gaussian),
}
each_kind = pytest.mark.parametrize('kind', KINDS)


def segment(kind):
  """The loss, its arguments, and log π of the actions."""
  rng = np.random.default_rng(0)
  function, make = KINDS[kind]
  policy, log_pi = make(rng)
  critic = {
    'v_tm1': rng.normal(size=4).astype(np.float32),
    'r_t': rng.normal(size=4).astype(np.float32),
    'discount_t': floats(0.9, 0.9, 0, 0.9),
    'v_bootstrap': np.float32(2),
  }
  return function, policy | critic, log_pi


def value_and_gradients(function, arguments, **given):
  """Of the summed loss, by all arguments of floats."""
  varied = {k: v for k, v in arguments.items() if v.dtype == np.float32}
  fixed = {k: v for k, v in arguments.items() if k not in varied}

  def summed(varied):
    return jnp.sum(function(**varied, **fixed, **COSTS, **given)[0])

  return jax.value_and_grad(summed)(varied)


def assert_close(found, expected):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    found,
    expected,
  )


@each_kind
def test_on_the_acting_policy_vtrace_changes_no_loss(kind):
  function, arguments, log_pi = segment(kind)
  assert_close(
    value_and_gradients(
      function, arguments, correction='vtrace', log_mu_tm1=log_pi
    ),
    value_and_gradients(function, arguments),
  )


@each_kind
def test_the_loss_of_vtrace_has_its_targets_as_constants(kind):
  function, arguments, log_pi = segment(kind)
  log_mu = log_pi + floats(0.7, -0.3, 1.2, 0.1)
  target, advantage = returns.vtrace(
    arguments['v_tm1'],
    log_pi - log_mu,
    arguments['r_t'],
    arguments['discount_t'],
    arguments['v_bootstrap'],
  )
  _, found = value_and_gradients(
    function, arguments, correction='vtrace', log_mu_tm1=log_mu
  )
  assert_close(found['v_tm1'], -0.5 * (target - arguments['v_tm1']))
  # The policy's gradient is linear in the advantage, given as the reward of a
  # one-step episode without a value. No gradient flows through the ratio.
  plain = arguments | {
    'r_t': np.asarray(advantage),
    'discount_t': np.zeros(4, np.float32),
    'v_tm1': np.zeros(4, np.float32),
  }
  _, expected = value_and_gradients(function, plain)
  for name in {'logits_tm1', 'mean_tm1', 'variance_tm1'} & set(found):
    assert_close(found[name], expected[name])
  for name in ('r_t', 'discount_t', 'v_bootstrap'):
    np.testing.assert_array_equal(found[name], 0)


@each_kind
def test_log_mu_has_no_gradient(kind):
  function, arguments, log_pi = segment(kind)

  def summed(log_mu):
    given = {'correction': 'vtrace', 'log_mu_tm1': log_mu}
    return jnp.sum(function(**arguments, **COSTS, **given)[0])

  np.testing.assert_array_equal(jax.grad(summed)(log_pi + 0.5), 0)


def test_the_gradient_of_epsilon_by_hand():
  # d/dlogits of -A log(π + ε) is A π / (π + ε) (π(·) - 1_a).
  pi = floats([1e-6, 1 - 1e-6], [0.25, 0.75], [1e-12, 1])
  arguments = {
    'logits_tm1': np.log(pi),
    'a_tm1': np.zeros(3, int),
    'v_tm1': floats(0, 0, 0),
    'r_t': floats(2, 2, 2),
    'discount_t': floats(0, 0, 0),
    'v_bootstrap': np.float32(0),
  }

  def summed(logits, correction):
    given = arguments | {'logits_tm1': logits}
    costs = {'entropy_cost': 0.0, 'value_cost': 0.5}
    loss, _ = losses.a3c_loss(**given, **costs, correction=correction)
    return jnp.sum(loss)

  found = jax.grad(summed)(arguments['logits_tm1'], 'epsilon')
  weight = pi[:, :1] / (pi[:, :1] + 1e-6)
  np.testing.assert_allclose(weight[:, 0], [0.5, 1, 1e-6], rtol=1e-5)
  expected = 2 * weight * (pi - floats([1, 0]))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
  # Without it an unlikely action has the largest gradient.
  plain = jax.grad(summed)(arguments['logits_tm1'], 'none')
  np.testing.assert_allclose(plain[:, 0], [-2, -1.5, -2], rtol=1e-4)


@each_kind
def test_an_impossible_action_has_a_finite_loss_with_epsilon(kind):
  function, arguments, _ = segment(kind)
  if kind == 'discrete':
    arguments['logits_tm1'] = floats(*[[-1e4, 0, -1e4]] * 4)
    arguments['a_tm1'] = np.zeros(4, int)
  else:
    arguments['a_tm1'] = arguments['mean_tm1'] + np.float32(1e3)
  value, grads = value_and_gradients(function, arguments, correction='epsilon')
  assert np.isfinite(value)
  name = 'logits_tm1' if kind == 'discrete' else 'mean_tm1'
  np.testing.assert_allclose(grads[name], 0, atol=1e-6)


@each_kind
def test_a_wrong_correction_names_the_allowed_ones(kind):
  function, arguments, _ = segment(kind)
  with pytest.raises(ValueError, match="'retrace': allowed: none, epsilon"):
    function(**arguments, **COSTS, correction='retrace')


@each_kind
@pytest.mark.parametrize('log_mu', [None, np.zeros(1, np.float32)])
def test_vtrace_needs_the_log_probabilities_of_acting(kind, log_mu):
  function, arguments, _ = segment(kind)
  with pytest.raises(ValueError, match='^log_mu_tm1 has shape'):
    function(**arguments, **COSTS, correction='vtrace', log_mu_tm1=log_mu)
