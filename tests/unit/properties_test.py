"""Pure functions against naive loops, for whatever hypothesis thinks of."""

from hypothesis import given
from hypothesis import strategies as st
import jax
import numpy as np

from a3c_jax.acting.carry import add_up_episodes
from a3c_jax.losses import returns
from a3c_jax.reproduce import curves

# Compiled once for each of the few lengths.
nstep_returns = jax.jit(returns.nstep_returns)
generalized_advantages = jax.jit(
  returns.generalized_advantages, static_argnames='lambda_'
)
REWARDS = st.floats(-100, 100, width=32)
DISCOUNTS = st.sampled_from([0.0, 0.5, 0.99, 1.0])
LENGTHS = st.sampled_from([1, 2, 5, 20])


@st.composite
def segments(draw):
  """Rewards [T], discounts [T] and values [T+1], as float32."""
  steps = draw(LENGTHS)

  def array(values, length):
    numbers = draw(st.lists(values, min_size=length, max_size=length))
    return np.array(numbers, np.float32)

  return (
    array(REWARDS, steps),
    array(DISCOUNTS, steps),
    array(REWARDS, steps + 1),
  )


@given(segments())
def test_nstep_returns_are_those_of_a_loop(segment):
  r_t, discount_t, v = segment
  found = nstep_returns(r_t, discount_t, v[-1])
  expected = np.zeros(len(r_t))
  for begin in range(len(r_t)):
    weight = 1.0
    for t in range(begin, len(r_t)):
      expected[begin] += weight * r_t[t]
      weight *= float(discount_t[t])
    expected[begin] += weight * v[-1]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@given(segments())
def test_advantages_of_lambda_one_are_nstep_returns_minus_values(segment):
  r_t, discount_t, v = segment
  found = generalized_advantages(r_t, discount_t, v, lambda_=1.0)
  expected = nstep_returns(r_t, discount_t, v[-1]) - v[:-1]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@given(segments())
def test_advantages_of_lambda_zero_are_one_step_errors(segment):
  r_t, discount_t, v = segment
  found = generalized_advantages(r_t, discount_t, v, lambda_=0.0)
  expected = r_t + discount_t * v[1:] - v[:-1]
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


@st.composite
def plays(draw):
  """Rewards and ends of episodes [T, K], and where segments begin."""
  num_envs = draw(st.integers(1, 3))
  step = st.tuples(st.integers(-3, 3), st.sampled_from([False, False, True]))
  steps = draw(
    st.lists(
      st.lists(step, min_size=num_envs, max_size=num_envs),
      min_size=1,
      max_size=20,
    )
  )
  rewards, done = np.moveaxis(np.array(steps, int), 2, 0)
  cuts = draw(st.sets(st.integers(1, len(steps)), max_size=3))
  return rewards.astype(float), done.astype(bool), sorted(cuts)


def sums_of_one_env(rewards, done):
  """Sums and lengths of its episodes, with their last steps; the rest too."""
  episodes, begin = [], 0
  for end in np.flatnonzero(done) + 1:
    episodes.append((end - 1, sum(rewards[begin:end]), end - begin))
    begin = end
  return episodes, sum(rewards[begin:]), len(rewards) - begin


@given(plays())
def test_sums_over_episodes_are_those_of_each_game_alone(play):
  rewards, done, cuts = play
  num_envs = rewards.shape[1]
  sums = [np.zeros(num_envs), np.zeros(num_envs, np.int64)]
  found = []
  for begin, end in zip([0, *cuts], [*cuts, len(done)], strict=True):
    before = [each.copy() for each in sums]
    ones = np.ones((end - begin, num_envs), np.int64)
    after, ended = add_up_episodes(
      sums, (rewards[begin:end], ones), done[begin:end]
    )
    # The sums before are another carry's: they must stay as they were.
    for each, copy in zip(sums, before, strict=True):
      np.testing.assert_array_equal(each, copy)
    found += [tuple(map(float, episode)) for episode in ended]
    sums = after

  naive = [sums_of_one_env(rewards[:, k], done[:, k]) for k in range(num_envs)]
  expected = sorted(
    (step, k, total, length)
    for k, (episodes, _, _) in enumerate(naive)
    for step, total, length in episodes
  )
  assert found == [(total, length) for _, _, total, length in expected]
  assert sums[0].tolist() == [total for _, total, _ in naive]
  assert sums[1].tolist() == [length for _, _, length in naive]


POINTS = st.lists(
  st.tuples(
    st.floats(0, 1e6),
    st.one_of(st.floats(-1e3, 1e3), st.sampled_from([np.nan, np.inf])),
  ),
  max_size=12,
)


def columns(points):
  """Places [M] and values [M] of a run."""
  x, y = np.array(points, float).reshape(-1, 2).T
  return x, y


@given(st.lists(POINTS, max_size=3), st.integers(1, 8))
def test_a_curve_lies_within_its_values(runs, bins):
  curve = curves.binned([columns(run) for run in runs], bins)
  values = [y for run in runs for _, y in run if np.isfinite(y)]
  if not values:
    assert curve is None
    return
  assert len({len(part) for part in curve}) == 1
  assert 1 <= len(curve.x) <= bins
  slack = 1e-9 * max(1.0, *map(abs, values))
  assert (curve.lowest <= curve.mean + slack).all()
  assert (curve.mean <= curve.highest + slack).all()
  assert min(values) - slack <= curve.lowest.min()
  assert curve.highest.max() <= max(values) + slack


@given(st.lists(POINTS, min_size=1, max_size=3), st.integers(1, 8), st.data())
def test_a_curve_does_not_depend_on_the_order_of_points_and_runs(
  runs, bins, data
):
  shuffled = [data.draw(st.permutations(run)) for run in runs]
  shuffled = data.draw(st.permutations(shuffled))
  curve, other = (
    curves.binned([columns(run) for run in each], bins)
    for each in (runs, shuffled)
  )
  assert (curve is None) == (other is None)
  if curve is not None:
    for one, another in zip(curve, other, strict=True):
      np.testing.assert_allclose(one, another, rtol=1e-9, atol=1e-6)


@given(POINTS)
def test_one_bin_holds_the_plain_mean(points):
  x, y = columns(points)
  curve = curves.binned([(x, y)], 1)
  finite = y[np.isfinite(y)]
  if len(finite):
    np.testing.assert_allclose(curve.mean, [finite.mean()], atol=1e-9)
