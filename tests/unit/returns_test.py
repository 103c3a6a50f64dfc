import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax.losses import returns


def episode(steps, seed=0, terminal=()):
  rng = np.random.default_rng(seed)
  r_t = rng.normal(size=steps).astype(np.float32)
  discount_t = np.full(steps, 0.9, np.float32)
  discount_t[list(terminal)] = 0.0
  v = rng.normal(size=steps + 1).astype(np.float32)
  return r_t, discount_t, v


def test_three_steps_by_hand():
  # R_3 = 8, R_2 = 3 + ½·8 = 7, R_1 = 2 + ½·7 = 5.5, R_0 = 1 + ½·5.5 = 3.75.
  found = jax.jit(returns.nstep_returns)(
    np.array([1.0, 2.0, 3.0]), np.full(3, 0.5), np.array(8.0)
  )
  np.testing.assert_allclose(found, [3.75, 5.5, 7.0])


def test_one_discount_per_step():
  # R_1 = 2 + ¼·8 = 4, R_0 = 1 + ½·4 = 3; the discounts the other way round
  # would give R_1 = 6 and R_0 = 2.5.
  found = returns.nstep_returns(
    np.array([1.0, 2.0]), np.array([0.5, 0.25]), np.array(8.0)
  )
  np.testing.assert_allclose(found, [3.0, 4.0])


@pytest.mark.parametrize('steps', [1, 2, 7])
@pytest.mark.parametrize('terminal', [(), (0,), (-1,)])
def test_scan_is_the_plain_loop(steps, terminal):
  r_t, discount_t, v = episode(steps, terminal=terminal)
  expected, value = [], v[-1]
  for reward, discount in zip(r_t[::-1], discount_t[::-1], strict=True):
    value = reward + discount * value
    expected.insert(0, value)
  found = returns.nstep_returns(r_t, discount_t, v[-1])
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_nothing_reaches_over_a_terminal_step():
  # d R_0 / d r = 1, γ and no further, as the episode ends with the second step.
  r_t, discount_t, v = episode(4, terminal=[1])
  by_reward, by_bootstrap = jax.jacobian(returns.nstep_returns, argnums=(0, 2))(
    r_t, discount_t, v[-1]
  )
  np.testing.assert_allclose(
    by_reward,
    [[1, 0.9, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.9], [0, 0, 0, 1]],
    rtol=1e-6,
  )
  np.testing.assert_allclose(by_bootstrap, [0, 0, 0.81, 0.9], rtol=1e-6)


def test_whole_number_rewards():
  found = returns.nstep_returns(
    np.array([1, 2]), np.array([0.5, 0.5], np.float32), np.float32(4)
  )
  np.testing.assert_allclose(found, [3.0, 4.0])


@pytest.mark.parametrize('terminal', [(), (0,), (1,), (-1,)])
def test_steps_together_are_one_step(terminal):
  r_t, discount_t, v = episode(4, terminal=terminal)
  reward, discount = returns.over_steps(r_t, discount_t)
  assert (reward.shape, discount.shape) == ((), ())
  assert reward.dtype == discount.dtype == jnp.float32
  expected = returns.nstep_returns(r_t, discount_t, v[-1])[0]
  np.testing.assert_allclose(reward + discount * v[-1], expected, rtol=1e-6)
  assert (discount == 0) == bool(terminal)


def test_steps_together_by_hand():
  # 1 + ½·2 + ½·¼·8 = 3 and ½·¼·½.
  reward, discount = returns.over_steps(
    np.float32([1, 2, 8]), np.float32([0.5, 0.25, 0.5])
  )
  assert (float(reward), float(discount)) == (3.0, 0.0625)


def test_advantages_by_hand():
  # δ_0 = 1 + ½·2 - 1 = 1 and δ_1 = 2 + ½·4 - 2 = 2;
  # A_1 = δ_1 = 2, A_0 = δ_0 + ½·½·A_1 = 1.5.
  found = returns.generalized_advantages(
    np.array([1.0, 2.0]),
    np.array([0.5, 0.5]),
    np.array([1.0, 2.0, 4.0]),
    lambda_=0.5,
  )
  np.testing.assert_allclose(found, [1.5, 2.0])


@pytest.mark.parametrize('steps', [1, 6])
def test_lambda_one_is_the_return_minus_the_value(steps):
  r_t, discount_t, v = episode(steps, terminal=[steps // 2])
  found = returns.generalized_advantages(r_t, discount_t, v, lambda_=1.0)
  expected = returns.nstep_returns(r_t, discount_t, v[-1]) - v[:-1]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('steps', [1, 6])
def test_lambda_zero_is_the_temporal_difference(steps):
  r_t, discount_t, v = episode(steps, terminal=[steps // 2])
  found = returns.generalized_advantages(r_t, discount_t, v, lambda_=0.0)
  expected = r_t + discount_t * v[1:] - v[:-1]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_advantages_stop_at_a_terminal_step():
  r_t, discount_t, v = episode(4, terminal=[1])
  found = returns.generalized_advantages(r_t, discount_t, v, lambda_=0.7)
  r_t[2:] += 10
  v[2:] += 10
  other = returns.generalized_advantages(r_t, discount_t, v, lambda_=0.7)
  np.testing.assert_array_equal(found[:2], other[:2])
  assert np.all(np.abs(found[2:] - other[2:]) > 0.1)


def weights(kind, steps=4, **given):
  r_t, discount_t, v = episode(steps, terminal=[1])
  return returns.policy_weights(kind, v[:-1], r_t, discount_t, v[-1], **given)


def test_policy_weights_by_hand():
  # V = 1, 2, 4; R_1 = 2 + ½·4 = 4 and R_0 = 1 + ½·4 = 3; δ = 1, 2.
  arguments = (
    np.array([1.0, 2.0]),
    np.array([1.0, 2.0]),
    np.array([0.5, 0.5]),
    np.array(4.0),
  )
  values = np.array([10.0, 20.0])
  for kind, given, expected in (
    ('return', {}, [3, 4]),
    ('baseline', {'baseline_tm1': values}, [-7, -16]),
    ('q', {'qa_tm1': values}, [10, 20]),
    ('td', {}, [1, 2]),
    ('nstep', {}, [2, 2]),
    ('gae', {'lambda_': 0.5}, [1.5, 2]),
  ):
    found = returns.policy_weights(kind, *arguments, **given)
    np.testing.assert_allclose(found, expected)


def test_which_policy_weights_are_the_same():
  _, _, v = episode(4, terminal=[1])
  equal = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
  equal(weights('baseline', baseline_tm1=v[:-1]), weights('nstep'))
  equal(weights('baseline', baseline_tm1=np.zeros(4)), weights('return'))
  equal(weights('gae', lambda_=0.0), weights('td'))
  equal(weights('gae', lambda_=1.0), weights('nstep'))
  one = episode(1)
  equal(
    *(
      returns.policy_weights(kind, one[2][:1], one[0], one[1], one[2][1])
      for kind in ('td', 'nstep')
    )
  )


@pytest.mark.parametrize('kind', ['return', 'td', 'nstep'])
def test_a_whole_episode_needs_no_bootstrap_value(kind):
  r_t, discount_t, v = episode(4, terminal=[-1])
  found, other = (
    returns.policy_weights(kind, v[:-1], r_t, discount_t, bootstrap)
    for bootstrap in (v[-1], v[-1] + 9)
  )
  np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize(
  ('kind', 'given', 'problem'),
  [
    ('vtrace', {}, 'allowed: return, baseline, q, td, nstep, gae'),
    ('gae', {}, 'needs lambda_'),
    ('q', {}, 'needs qa_tm1'),
    ('baseline', {}, 'needs baseline_tm1'),
    ('nstep', {'lambda_': 0.9}, 'does not take lambda_'),
    ('td', {'qa_tm1': np.zeros(4)}, 'does not take qa_tm1'),
    ('q', {'qa_tm1': np.zeros(3)}, 'qa_tm1 has shape'),
    ('baseline', {'baseline_tm1': np.zeros(3)}, 'baseline_tm1 has shape'),
  ],
)
def test_policy_weights_name_what_is_wrong(kind, given, problem):
  with pytest.raises(ValueError, match=problem):
    weights(kind, **given)


def test_lambda_returns_by_hand():
  # G_2 = 3 + ½·4 = 5, G_1 = 2 + ½ (¾·8 + ¼·5) = 5.625, and nothing follows
  # the first step, the last of its episode.
  found = returns.lambda_returns(
    np.array([1.0, 2.0, 3.0]),
    np.array([0.0, 0.5, 0.5]),
    np.array([16.0, 8.0, 4.0]),
    lambda_=0.25,
  )
  np.testing.assert_allclose(found, [1.0, 5.625, 5.0])


@pytest.mark.parametrize('lambda_', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('terminal', [(), (0,), (2, -1)])
def test_lambda_returns_are_means_of_returns_of_each_length(lambda_, terminal):
  r_t, discount_t, v = episode(5, terminal=terminal)
  found = returns.lambda_returns(r_t, discount_t, v[1:], lambda_=lambda_)
  for first in range(5):
    of_length, total, reach = [], 0.0, 1.0
    for t in range(first, 5):
      total += reach * r_t[t]
      reach *= discount_t[t]
      of_length.append(total + reach * v[t + 1])
    weights = (1 - lambda_) * lambda_ ** np.arange(len(of_length))
    weights[-1] = lambda_ ** (len(of_length) - 1)
    assert found[first] == pytest.approx(np.dot(weights, of_length), rel=1e-4)


@pytest.mark.parametrize(
  ('function', 'shapes', 'wrong'),
  [
    (returns.nstep_returns, ([5], [4], []), 'discount_t'),
    (returns.nstep_returns, ([5], [5, 1], []), 'discount_t'),
    (returns.nstep_returns, ([5], [5], [1]), 'bootstrap'),
    (returns.nstep_returns, ([5, 1], [5], []), 'r_t'),
    (returns.over_steps, ([5], [4]), 'discount_t'),
    (returns.over_steps, ([5, 1], [5]), 'r_t'),
    (returns.generalized_advantages, ([5], [4], [6]), 'discount_t'),
    (returns.generalized_advantages, ([5], [5], [5]), 'v'),
    (returns.lambda_returns, ([5], [4], [5]), 'discount_t'),
    (returns.lambda_returns, ([5], [5], [6]), 'v_t'),
  ],
)
def test_names_the_wrong_argument(function, shapes, wrong):
  keywords = {'lambda_': 1.0}
  if function in (returns.nstep_returns, returns.over_steps):
    keywords = {}
  with pytest.raises(ValueError, match=f'^{wrong} has shape'):
    function(*map(np.zeros, shapes), **keywords)
