import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from a3c_jax import losses

COSTS = {'entropy_cost': 0.1, 'value_cost': 0.5}


def floats(*values):
  return np.array(values, np.float32)


def transitions():
  return {
    'a_tm1': np.array([0, 1]),
    'r_t': floats(1, 2),
    'discount_t': floats(0.5, 0.5),
  }


def one_step():
  # Q taken = 1, 3.
  target_q_t = floats([2, 4], [-2, -6])
  q_tm1 = floats([1, 7], [-5, 3])
  return {'q_tm1': q_tm1, **transitions(), 'target_q_t': target_q_t}


def double():
  return {**one_step(), 'selector_q_t': floats([3, 1], [0, 5])}


def weighted(make):
  """Arguments with weights that change the sign of nothing."""
  return lambda: {**make(), 'weight_tm1': floats(2, 0.5)}


def sarsa():
  return {**one_step(), 'a_t': np.array([0, 1])}


def nstep():
  q_tm1 = floats([1, 7], [-5, 3])
  bootstrap = floats(6, -1)
  return {'q_tm1': q_tm1, **transitions(), 'target_q_bootstrap': bootstrap}


def a3c():
  # π = (¼, ¾), (½, ½).
  logits_tm1 = floats([0, np.log(3)], [2, 2])
  return {
    'logits_tm1': logits_tm1,
    'v_tm1': floats(2, 7),
    **transitions(),
    'v_bootstrap': np.float32(8),
  }


def gaussian():
  # |a - μ|² = 1 + 4 + 4 = 9 and 0.
  return {
    'mean_tm1': floats([1, 0, -1], [1, 2, 3]),
    'variance_tm1': floats(9, 0.25),
    'v_tm1': floats(2, 7),
    **transitions(),
    'a_tm1': floats([2, 2, 1], [1, 2, 3]),
    'v_bootstrap': np.float32(8),
  }


def pgql():
  return {
    'logits_tm1': floats([0, np.log(3)], [2, 2]),
    'v_tm1': floats(2, 7),
    **transitions(),
    'logits_t': floats([1, 1], [np.log(3), 0]),
    'v_t': floats(4, 8),
  }


# What comes on arrival: without effect where an episode ended.
ON_ARRIVAL = ('target_q_t', 'v_t')
# Each loss with its arguments, and those that a gradient reaches.
LOSSES = {
  losses.one_step_q_loss: (weighted(one_step), {'q_tm1'}),
  losses.double_q_loss: (weighted(double), {'q_tm1'}),
  losses.one_step_sarsa_loss: (sarsa, {'q_tm1'}),
  losses.nstep_q_loss: (weighted(nstep), {'q_tm1'}),
  losses.a3c_loss: (a3c, {'logits_tm1', 'v_tm1'}),
  losses.pgql_loss: (weighted(pgql), {'logits_tm1', 'v_tm1'}),
  losses.gaussian_a3c_loss: (
    gaussian,
    {'mean_tm1', 'variance_tm1', 'v_tm1'},
  ),
}
every_loss = pytest.mark.parametrize(
  'function', LOSSES, ids=lambda function: function.__name__
)


def keywords_of(function):
  """The hyperparameters that a loss takes, if any."""
  parameters = inspect.signature(function).parameters
  known = COSTS | {'alpha': 0.5}
  return {name: cost for name, cost in known.items() if name in parameters}


def gradients(function, arguments, **keywords):
  """Of the summed loss, for every argument of floats."""

  def summed(varied, fixed):
    return jnp.sum(function(**varied, **fixed, **keywords)[0])

  varied = {
    name: value
    for name, value in arguments.items()
    if value.dtype == np.float32
  }
  fixed = {k: v for k, v in arguments.items() if k not in varied}
  return jax.grad(summed)(varied, fixed)


@every_loss
def test_gradients_stop_where_they_must(function):
  make, reached = LOSSES[function]
  arguments = make()
  grads = gradients(function, arguments, **keywords_of(function))
  assert {'r_t', 'discount_t'} < set(grads)
  assert {k for k, grad in grads.items() if np.any(grad != 0)} == reached


@every_loss
def test_shapes_and_steps(function):
  arguments = LOSSES[function][0]()
  traced = jax.jit(functools.partial(function, **keywords_of(function)))
  loss, stats = traced(**arguments)
  assert loss.shape == (2,)
  assert {leaf.shape for leaf in stats} == {(2,)}
  assert {leaf.dtype for leaf in (loss, *stats)} == {np.dtype('float32')}


@every_loss
def test_nothing_after_a_terminal_step_matters(function):
  # The first step ends its episode: all that comes on arrival, and all of the
  # next step, is another episode's.
  arguments = LOSSES[function][0]()
  arguments['discount_t'] = floats(0, 0.5)
  keywords = keywords_of(function)
  before, _ = function(**arguments, **keywords)
  arguments['r_t'] += floats(0, 9)
  for name, value in arguments.items():
    if name in ON_ARRIVAL:
      arguments[name] = value * 9
    elif name.endswith('bootstrap'):
      arguments[name] = value - 9
  after, _ = function(**arguments, **keywords)
  assert before[0] == after[0]
  assert abs(before[1] - after[1]) > 0.1


@every_loss
def test_discount_zero_at_the_end_makes_the_bootstrap_irrelevant(function):
  arguments = LOSSES[function][0]()
  arguments['discount_t'] = floats(0.5, 0)
  keywords = keywords_of(function)
  name = next(n for n in arguments if 'bootstrap' in n or n in ON_ARRIVAL)
  before, _ = function(**arguments, **keywords)
  change = np.float32(9)
  if name in ON_ARRIVAL:
    change = np.zeros_like(arguments[name])
    change[-1] = 9  # Of the state after the last step.
  after, _ = function(
    **arguments | {name: arguments[name] + change}, **keywords
  )
  np.testing.assert_array_equal(before, after)
  arguments['discount_t'] = floats(0.5, 0.5)
  before, _ = function(**arguments, **keywords)
  after, _ = function(
    **arguments | {name: arguments[name] + change}, **keywords
  )
  assert abs(before[1] - after[1]) > 0.1


@every_loss
def test_one_step_segment_is_the_last_step_alone(function):
  # The last step's loss rests on nothing but itself and what follows.
  arguments = LOSSES[function][0]()
  keywords = keywords_of(function)
  whole, _ = function(**arguments, **keywords)
  last = {
    name: value if 'bootstrap' in name else value[1:]
    for name, value in arguments.items()
  }
  alone, _ = function(**last, **keywords)
  assert alone.shape == (1,)
  np.testing.assert_allclose(alone[0], whole[1], rtol=1e-6)


@every_loss
def test_names_the_argument_with_another_number_of_axes(function):
  arguments = LOSSES[function][0]()
  traced = jax.jit(functools.partial(function, **keywords_of(function)))
  for name in arguments:
    wrong = arguments | {name: np.expand_dims(arguments[name], -1)}
    with pytest.raises(ValueError, match=f'^{name} has shape'):
      traced(**wrong)


@every_loss
def test_names_the_argument_of_another_length(function):
  arguments = LOSSES[function][0]()
  first, *others = (n for n, value in arguments.items() if value.ndim)
  for name in others:
    value = arguments[name]
    wrong = arguments | {name: np.concatenate([value, value[:1]])}
    with pytest.raises(ValueError, match=f'^{name} has .* as in {first}$'):
      function(**wrong, **keywords_of(function))


@pytest.mark.parametrize(
  'function',
  [losses.one_step_q_loss, losses.double_q_loss, losses.one_step_sarsa_loss],
)
def test_target_q_of_another_number_of_actions(function):
  arguments = LOSSES[function][0]()
  arguments['target_q_t'] = np.zeros([2, 3], np.float32)
  message = r'^target_q_t has shape \[2, 3\], .* with A = 2 as in q_tm1$'
  with pytest.raises(ValueError, match=message):
    function(**arguments)


def test_one_step_q_by_hand():
  # Targets 1 + ½·max(2, 4) = 3 and 2 + ½·max(-2, -6) = 1, so errors 3 - 1 = 2
  # and 1 - 3 = -2, and dL/dQ = -error where the action was taken.
  loss, stats = losses.one_step_q_loss(**one_step())
  np.testing.assert_allclose(loss, [2, 2])
  np.testing.assert_allclose(stats.qa_tm1, [1, 3])
  np.testing.assert_allclose(stats.error_tm1, [2, -2])
  grads = gradients(losses.one_step_q_loss, one_step())
  np.testing.assert_allclose(grads['q_tm1'], [[-2, 0], [0, 2]])


def test_double_q_by_hand():
  # The selector prefers actions 0 and 1: targets 1 + ½·2 = 2 and
  # 2 + ½·(-6) = -1, so errors 1 and -4.
  loss, stats = losses.double_q_loss(**double())
  np.testing.assert_allclose(loss, [0.5, 8])
  np.testing.assert_allclose(stats.qa_tm1, [1, 3])
  np.testing.assert_allclose(stats.error_tm1, [1, -4])
  grads = gradients(losses.double_q_loss, double())
  np.testing.assert_allclose(grads['q_tm1'], [[-1, 0], [0, 4]])


def test_double_q_that_selects_by_its_target_is_q():
  arguments = double() | {'selector_q_t': double()['target_q_t']}
  found, _ = losses.double_q_loss(**arguments)
  expected, _ = losses.one_step_q_loss(**one_step())
  np.testing.assert_array_equal(found, expected)


def test_weight_and_clip_by_hand():
  # Errors 2 and -2. Weights 2 and ½ give w δ = 4 and -1, clipped at 3: the
  # losses are 3 (2 - 3/4) and ½·2.
  function = losses.one_step_q_loss
  keywords = {'weight_tm1': floats(2, 0.5), 'error_clip': 3.0}
  loss, stats = function(**one_step(), **keywords)
  np.testing.assert_allclose(loss, [3.75, 1])
  np.testing.assert_allclose(stats.error_tm1, [2, -2])
  grads = gradients(function, one_step(), **keywords)
  np.testing.assert_allclose(grads['q_tm1'], [[-3, 0], [0, 1]])
  # Weights alone, and the clip alone.
  weights = {'weight_tm1': floats(2, 0.5)}
  np.testing.assert_allclose(function(**one_step(), **weights)[0], [4, 1])
  clip = {'error_clip': 0.5}
  np.testing.assert_allclose(function(**one_step(), **clip)[0], [0.875, 0.875])
  grads = gradients(function, one_step(), **clip)
  np.testing.assert_allclose(grads['q_tm1'], [[-0.5, 0], [0, 0.5]])


VALUE_LOSSES = {
  losses.one_step_q_loss: one_step,
  losses.double_q_loss: double,
  losses.nstep_q_loss: nstep,
}


@pytest.mark.parametrize('function', VALUE_LOSSES)
def test_the_gradient_is_the_weighted_error_clipped(function):
  make = VALUE_LOSSES[function]
  for scale in (1e-30, 0.1, 1.0, 10.0, 1e6):
    arguments = make()
    arguments['r_t'] = arguments['r_t'] * np.float32(scale)
    for weight_tm1 in (floats(0, 1), floats(0.3, 1e-6), floats(1e3, 1)):
      loss, stats = function(**arguments, weight_tm1=weight_tm1, error_clip=1.0)
      assert np.isfinite(loss).all() and (loss >= 0).all()
      assert (loss[weight_tm1 == 0] == 0).all()
      grads = gradients(
        function, arguments, weight_tm1=weight_tm1, error_clip=1.0
      )
      expected = np.zeros((2, 2), np.float32)
      expected[[0, 1], arguments['a_tm1']] = -np.clip(
        weight_tm1 * stats.error_tm1, -1, 1
      )
      np.testing.assert_allclose(grads['q_tm1'], expected, rtol=1e-5)


@pytest.mark.parametrize('function', VALUE_LOSSES)
def test_weights_of_one_and_a_wide_clip_change_nothing(function):
  arguments = VALUE_LOSSES[function]()
  expected = function(**arguments)
  found = function(
    **arguments, weight_tm1=np.ones(2, np.float32), error_clip=1e9
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('error_clip', [0.0, -1.0, float('nan')])
def test_a_clip_that_is_not_positive(error_clip):
  with pytest.raises(ValueError, match='^error_clip='):
    losses.one_step_q_loss(**one_step(), error_clip=error_clip)


def test_sarsa_by_hand():
  # Targets 1 + ½·2 = 2 and 2 + ½·(-6) = -1: errors 1 and -4.
  loss, stats = losses.one_step_sarsa_loss(**sarsa())
  np.testing.assert_allclose(loss, [0.5, 8])
  np.testing.assert_allclose(stats.qa_tm1, [1, 3])
  grads = gradients(losses.one_step_sarsa_loss, sarsa())
  np.testing.assert_allclose(grads['q_tm1'], [[-1, 0], [0, 4]])


def test_sarsa_with_greedy_actions_is_q():
  rng = np.random.default_rng(0)
  arguments = {
    'q_tm1': rng.normal(size=(6, 4)).astype(np.float32),
    'a_tm1': rng.integers(4, size=6),
    'r_t': rng.normal(size=6).astype(np.float32),
    'discount_t': floats(0.9, 0.9, 0, 0.9, 0.9, 0.9),
    'target_q_t': rng.normal(size=(6, 4)).astype(np.float32),
  }
  a_t = np.argmax(arguments['target_q_t'], axis=1)
  q, _ = losses.one_step_q_loss(**arguments)
  greedy, _ = losses.one_step_sarsa_loss(**arguments, a_t=a_t)
  other, _ = losses.one_step_sarsa_loss(**arguments, a_t=(a_t + 1) % 4)
  np.testing.assert_array_equal(q, greedy)
  assert np.count_nonzero(q != other) == 5  # All but the terminal step.


def test_nstep_q_by_hand():
  # R_1 = 2 + ½·max(6, -1) = 5 and R_0 = 1 + ½·5 = 3.5: errors 2.5 and 2.
  loss, stats = losses.nstep_q_loss(**nstep())
  np.testing.assert_allclose(loss, [3.125, 2])
  np.testing.assert_allclose(stats.qa_tm1, [1, 3])
  grads = gradients(losses.nstep_q_loss, nstep())
  np.testing.assert_allclose(grads['q_tm1'], [[-2.5, 0], [0, -2]])


def test_nstep_q_of_one_step_is_one_step_q():
  arguments = {name: value[:1] for name, value in one_step().items()}
  one, _ = losses.one_step_q_loss(**arguments)
  bootstrap = arguments.pop('target_q_t')[0]
  several, _ = losses.nstep_q_loss(**arguments, target_q_bootstrap=bootstrap)
  np.testing.assert_array_equal(one, several)


def test_q_lambda_by_hand():
  # G = 2 + ½·max(-2, -6) = 1; before it 1 + ½ (¼·max(2, 4) + ¾·1) = 1.875.
  # Q taken = 1, 3.
  loss, stats = losses.q_lambda_loss(**one_step(), lambda_=0.75)
  np.testing.assert_allclose(loss, [0.875**2 / 2, 2.0])
  np.testing.assert_allclose(stats.qa_tm1, [1, 3])


def test_q_lambda_between_one_step_and_nstep():
  arguments = one_step()
  longest = {**nstep(), 'target_q_bootstrap': arguments['target_q_t'][-1]}
  for lambda_, (expected, _) in (
    (0.0, losses.one_step_q_loss(**arguments)),
    (1.0, losses.nstep_q_loss(**longest)),
  ):
    found, _ = losses.q_lambda_loss(**arguments, lambda_=lambda_)
    np.testing.assert_allclose(found, expected)


def test_double_nstep_q_by_hand():
  # The selector prefers the second action, of which the target says -1:
  # R_1 = 2 - ½ = 1.5 and R_0 = 1 + ½·1.5 = 1.75.
  arguments = nstep() | {'selector_q_bootstrap': floats(0, 1)}
  loss, _ = losses.nstep_q_loss(**arguments)
  np.testing.assert_allclose(loss, [0.28125, 1.125])
  grads = gradients(losses.nstep_q_loss, arguments)
  np.testing.assert_allclose(grads['q_tm1'], [[-0.75, 0], [0, 1.5]])
  assert not grads['selector_q_bootstrap'].any()
  with pytest.raises(ValueError, match='selector_q_bootstrap has shape'):
    losses.nstep_q_loss(**nstep(), selector_q_bootstrap=floats(1, 2, 3))


def test_a3c_by_hand():
  # R_1 = 2 + ½·8 = 6 and R_0 = 1 + ½·6 = 4: advantages 4 - 2 = 2, 6 - 7 = -1.
  # H_0 = ¼ log 4 + ¾ log 4/3 = log 4 - ¾ log 3 and H_1 = log 2.
  loss, stats = losses.a3c_loss(**a3c(), entropy_cost=0.1, value_cost=0.5)
  entropy = floats(np.log(4) - 0.75 * np.log(3), np.log(2))
  policy_loss = floats(2 * np.log(4), -np.log(2))
  np.testing.assert_allclose(stats.value_loss, [2, 0.5])
  np.testing.assert_allclose(stats.policy_loss, policy_loss, rtol=1e-6)
  np.testing.assert_allclose(stats.entropy, entropy, rtol=1e-6)
  expected = policy_loss + floats(1, 0.25) - 0.1 * entropy
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


# V = 2, 7, 8; R = 4, 6; δ = 1 + ½·7 - 2 = 2.5 and 2 + ½·8 - 7 = -1;
# with λ = ½ that is 2.5 - ½·½ and -1.
@pytest.mark.parametrize(
  ('advantage', 'expected'),
  [
    ('nstep', [2, -1]),
    ('td', [2.5, -1]),
    ('gae', [2.25, -1]),
    ('return', [4, 6]),
  ],
)
@pytest.mark.parametrize(
  ('function', 'make'),
  [(losses.a3c_loss, a3c), (losses.gaussian_a3c_loss, gaussian)],
)
def test_what_weighs_the_score_function(function, make, advantage, expected):
  assert advantage in losses.ADVANTAGES
  settings = COSTS | {'advantage': advantage, 'lambda_': 0.5}
  loss, stats = function(**make(), **settings)
  _, nstep = function(**make(), **COSTS)
  log_pi = -nstep.policy_loss / floats(2, -1)
  np.testing.assert_allclose(
    stats.policy_loss, -log_pi * floats(*expected), rtol=1e-5
  )
  # Nothing else depends on it: the value learns from R.
  np.testing.assert_array_equal(stats.value_loss, nstep.value_loss)
  np.testing.assert_array_equal(stats.entropy, nstep.entropy)
  expected_loss = stats.policy_loss + 0.5 * nstep.value_loss - 0.1 * nstep[2]
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  grads = gradients(function, make(), **settings)
  np.testing.assert_allclose(grads['v_tm1'], [-1, 0.5])
  assert not grads['v_bootstrap'].any()


@pytest.mark.parametrize('advantage', ['baseline', 'q', '', None])
def test_an_advantage_that_a_segment_cannot_have(advantage):
  with pytest.raises(ValueError, match='^advantage=.* nstep, td, gae, return'):
    losses.a3c_loss(**a3c(), **COSTS, advantage=advantage)


def test_vtrace_has_an_advantage_of_its_own():
  keywords = COSTS | {'correction': 'vtrace', 'log_mu_tm1': floats(-1, -1)}
  losses.a3c_loss(**a3c(), **keywords)
  for advantage in ('td', 'gae', 'return'):
    with pytest.raises(ValueError, match=f"'vtrace'.*'{advantage}'.*'nstep'"):
      losses.a3c_loss(**a3c(), **keywords, advantage=advantage)


def test_a3c_gradient_by_hand():
  # dL/dlogits = A (π - 1_a) + β π (log π + H), and log π_0 + H_0 =
  # (-¾ log 3, ¼ log 3). dL/dV = -c (R - V): nothing comes from the policy term.
  grads = gradients(losses.a3c_loss, a3c(), entropy_cost=0.1, value_cost=0.25)
  entropy_part = 0.1 * 3 / 16 * np.log(3)
  np.testing.assert_allclose(
    grads['logits_tm1'],
    [[-1.5 - entropy_part, 1.5 + entropy_part], [-0.5, 0.5]],
    rtol=1e-5,
  )
  np.testing.assert_allclose(grads['v_tm1'], [-0.5, 0.25])


def test_a3c_gradient_is_the_softmax_formula():
  rng = np.random.default_rng(1)
  steps, actions = 5, 4
  arguments = {
    'logits_tm1': rng.normal(size=(steps, actions)).astype(np.float32),
    'v_tm1': rng.normal(size=steps).astype(np.float32),
    'a_tm1': rng.integers(actions, size=steps),
    'r_t': rng.normal(size=steps).astype(np.float32),
    'discount_t': floats(0.9, 0.9, 0, 0.9, 0.9),
    'v_bootstrap': np.float32(0.7),
  }
  advantage = np.zeros(steps)
  value = 0.7
  for t in reversed(range(steps)):
    value = arguments['r_t'][t] + arguments['discount_t'][t] * value
    advantage[t] = value - arguments['v_tm1'][t]
  exp = np.exp(arguments['logits_tm1'])
  pi = exp / exp.sum(axis=1, keepdims=True)
  entropy = -np.sum(pi * np.log(pi), axis=1, keepdims=True)
  taken = np.eye(actions)[arguments['a_tm1']]
  expected = advantage[:, None] * (pi - taken) + 0.3 * pi * (
    np.log(pi) + entropy
  )
  grads = gradients(
    losses.a3c_loss, arguments, entropy_cost=0.3, value_cost=0.5
  )
  np.testing.assert_allclose(grads['logits_tm1'], expected, atol=1e-6)
  np.testing.assert_allclose(grads['v_tm1'], -0.5 * advantage, rtol=1e-5)


def test_a3c_is_finite_with_extreme_logits():
  # The policy is certain: entropy 0, and log π of the other action is -1000.
  arguments = a3c() | {'logits_tm1': floats([0, 1000], [0, 1000])}
  loss, stats = losses.a3c_loss(**arguments, **COSTS)
  np.testing.assert_allclose(stats.entropy, [0, 0], atol=1e-6)
  np.testing.assert_allclose(stats.policy_loss, [2000, 0])
  assert np.all(np.isfinite(loss))
  grads = gradients(losses.a3c_loss, arguments, **COSTS)
  np.testing.assert_allclose(grads['logits_tm1'], [[-2, 2], [0, 0]])


def test_gaussian_density_and_entropy_are_those_of_scipy():
  # Advantages 2 and -1 as for a3c, so log π = -policy_loss / advantage.
  arguments = gaussian()
  loss, stats = losses.gaussian_a3c_loss(**arguments, **COSTS)
  policies = [
    scipy.stats.multivariate_normal(mean, variance * np.eye(3))
    for mean, variance in zip(
      arguments['mean_tm1'], arguments['variance_tm1'], strict=True
    )
  ]
  log_pi = [
    policy.logpdf(action)
    for policy, action in zip(policies, arguments['a_tm1'], strict=True)
  ]
  entropy = [policy.entropy() for policy in policies]
  np.testing.assert_allclose(
    stats.policy_loss / floats(-2, 1), log_pi, rtol=1e-5
  )
  np.testing.assert_allclose(stats.entropy, entropy, rtol=1e-5)
  np.testing.assert_allclose(stats.value_loss, [2, 0.5])
  expected = -floats(2, -1) * log_pi + [1, 0.25] - 0.1 * np.array(entropy)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_gaussian_gradient_by_hand():
  # A = 2, -1; a - μ = (1, 2, 2), 0; σ² = 9, ¼; D = 3.
  # dL/dμ = -A (a - μ)/σ².
  # dL/dσ² = A/2 (D/σ² - |a - μ|²/σ⁴) - β D/(2σ²):
  #   2/2 (3/9 - 9/81) - 0.1·3/18 and -1/2 (3·4 - 0) - 0.1·3·2.
  grads = gradients(losses.gaussian_a3c_loss, gaussian(), **COSTS)
  np.testing.assert_allclose(
    grads['mean_tm1'], [[-2 / 9, -4 / 9, -4 / 9], [0, 0, 0]], rtol=1e-5
  )
  np.testing.assert_allclose(
    grads['variance_tm1'], [2 / 9 - 0.1 / 6, -6 - 0.6], rtol=1e-5
  )
  np.testing.assert_allclose(grads['v_tm1'], [-1, 0.5])


def test_positive_entropy_cost_raises_the_variance():
  # Rewards that equal the values leave the entropy's gradient alone; descent
  # goes against it.
  arguments = gaussian() | {
    'v_tm1': floats(1, 2),
    'discount_t': floats(0, 0),
  }
  grads = gradients(
    losses.gaussian_a3c_loss, arguments, entropy_cost=1.0, value_cost=1.0
  )
  np.testing.assert_allclose(grads['variance_tm1'], [-1 / 6, -6], rtol=1e-5)
  np.testing.assert_array_equal(grads['mean_tm1'], np.zeros([2, 3]))


@pytest.mark.parametrize('raw', [-10.0, -50.0, -80.0])
def test_gaussian_gradient_of_a_small_variance_is_finite(raw):
  # With σ² = softplus(x), about exp(x) here, and actions one σ away:
  # d(-A log π)/dx = A/2 (D - |a - μ|²/σ²) = A/2 (2 - 1).
  def loss(raw):
    variance = jax.nn.softplus(raw)[None]
    loss, _ = losses.gaussian_a3c_loss(
      mean_tm1=jnp.zeros((1, 2)),
      variance_tm1=variance,
      v_tm1=jnp.zeros(1),
      a_tm1=jnp.array([[1.0, 0.0]]) * jnp.sqrt(variance)[:, None],
      r_t=jnp.full(1, 3.0),
      discount_t=jnp.zeros(1),
      v_bootstrap=jnp.zeros(()),
      entropy_cost=0.0,
      value_cost=0.0,
    )
    return loss[0]

  np.testing.assert_allclose(jax.grad(loss)(jnp.float32(raw)), 1.5, rtol=1e-3)
