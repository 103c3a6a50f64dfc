"""Corrections of stale gradients, by hand."""

import jax.numpy as jnp
from jobs import IDLE
import numpy as np
import pytest
import stores
from stores import push

from a3c_jax.core import types
from a3c_jax.optim import staleness
from a3c_jax.optim.staleness import Correction
from a3c_jax.parameters.hogwild import HogwildStore
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.parameters.per_leaf import PerLeafStore
from a3c_jax.runtimes import staleness as meter_lib


@pytest.mark.parametrize(
  'lag, factor', [(0, 1.0), (1, 1.0), (2, 0.5), (8, 0.125)]
)
def test_the_rate_is_divided_by_the_lag(lag, factor):
  assert staleness.inverse(lag) == factor
  assert Correction('inverse').factor(lag) == factor
  assert Correction('none').factor(lag) == 1.0


def test_compensation_by_hand():
  grads = {'params': {'w': jnp.array([2.0, -1.0])}}
  read = {'params': {'w': jnp.array([1.0, 1.0])}, 'moments': jnp.ones(3)}
  newest = {'params': {'w': jnp.array([1.5, 3.0])}, 'moments': jnp.ones(3)}
  found = staleness.compensated(grads, newest, read, 0.1)
  # 2 + 0.1 · 4 · 0.5 and -1 + 0.1 · 1 · 2.
  np.testing.assert_allclose(found['params']['w'], [2.2, -0.8], rtol=1e-6)


def test_compensation_is_exact_for_a_loss_whose_hessian_is_that():
  # Of f(θ) = -log θ, f' = -1/θ and f'' = 1/θ² = f'²: λ = 1 leaves an error of
  # second order.
  errors = []
  for step in (0.1, 0.05):
    grads, truth = jnp.array(-1.0), -1 / (1 + step)
    found = staleness.compensated(grads, jnp.array(1 + step), jnp.array(1.0), 1)
    errors.append(abs(float(found) - truth))
  assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_a_fresh_gradient_stays_as_it_is():
  params, grads = jnp.ones(2), jnp.ones(2)
  correction = Correction('inverse', 0.5)
  assert correction.corrected(grads, params, params) is grads
  assert correction.corrected(grads, params, None) is grads
  assert Correction().corrected(grads, params, jnp.zeros(2)) is grads


@pytest.mark.parametrize('store', [LockedStore, PerLeafStore, HogwildStore])
def test_stores_correct_by_the_lag_at_the_update(store):
  make = stores.maker(store)
  plain = make(jnp.zeros(2), correction=Correction('inverse'))
  for read_version in (0, 0, 0, 3):
    push(plain, 0, jnp.ones(2), 1, read_version=read_version)
  # Lags 0, 1, 2 and 0.
  np.testing.assert_allclose(plain.read().params, -(1 + 1 + 0.5 + 1))

  both = make(jnp.zeros(2), correction=Correction('inverse', 0.25))
  before = both.read().params
  for _ in range(3):
    contribution = stores.contribution(0, jnp.full(2, 2.0), 1)
    both.push(contribution._replace(read_params=before))
  # 2; 2 + 0.25 · 4 · (-2) = 0; 2 + 0.25 · 4 · (-2) = 0, at half of the rate.
  np.testing.assert_allclose(both.read().params, [-2.0, -2.0])


def test_a_cosine_by_hand():
  one = {'a': jnp.array([3.0, 0.0]), 'b': jnp.array(4.0)}
  other = {'a': jnp.array([0.0, 2.0]), 'b': jnp.array(1.0)}
  assert float(meter_lib.cosine(one, other)) == pytest.approx(4 / 5 / 5**0.5)
  assert float(meter_lib.cosine(one, one)) == pytest.approx(1)


def test_a_meter_compares_with_the_gradient_at_the_newest_parameters():
  segments = []

  def gradients(params, target_params, segment):
    segments.append(segment)
    return {'w': params + target_params}, jnp.zeros(1)

  segment = types.Segment(*[None] * 6, kept='activations')
  newest = types.Version(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), 0, 0)
  for keeps, kept in ((True, ()), (False, 'activations')):
    learner = IDLE._replace(keeps_activations=keeps)
    meter = meter_lib.Meter(learner, gradients, every=1)
    assert np.isnan(meter.mean())
    meter.measure({'w': jnp.array([1.0, 0.0])}, segment, newest)
    meter.measure({'w': jnp.array([-1.0, -1.0])}, segment, newest)
    meter.measure({'w': jnp.zeros(2)}, segment, newest)  # It has no angle.
    assert meter.mean() == pytest.approx((0.5**0.5 - 1) / 2)
    assert np.isnan(meter.mean())
    assert segments[-1].kept == kept
