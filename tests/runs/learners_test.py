"""Every part of a learner that a Config makes, called once."""

import flax.linen as nn
from gymnasium import spaces
import jax
import jax.numpy as jnp
from learner_settings import IMAGE, JOINTS, VECTOR, Spaces, make_config
import numpy as np
import pytest
import stores

from a3c_jax import networks
from a3c_jax.algorithms import registry
from a3c_jax.core import types
from a3c_jax.optim import clipping, factored
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.settings import build, common


def use(learner, space, num_envs=2, steps=3):
  """Calls every part once, on what the environment would give.

  Returns parameters, actions and gradients.
  """
  rng = np.random.default_rng(0)
  low = np.where(space.dtype == np.uint8, 0, -1)
  obs = rng.uniform(low, space.high.max(), (steps + 1, num_envs, *space.shape))
  obs = obs.astype(space.dtype)
  params = jax.jit(learner.init)(jax.random.PRNGKey(0), obs[0])
  target = params if learner.uses_target else None
  state = learner.initial_state(num_envs)
  key, epsilon = jax.random.PRNGKey(1), np.float32(0.5)
  action, next_state, _ = learner.act(params, state, obs[0], key, epsilon)
  best, greedy_state = learner.greedy(params, state, obs[0])
  assert best.shape == action.shape and best.dtype == action.dtype
  jax.tree.map(np.testing.assert_array_equal, next_state, greedy_state)
  value, _ = learner.bootstrap(params, target, state, obs[0], key, epsilon)
  assert value.shape == (num_envs,)
  assert jax.tree.map(np.shape, state) == jax.tree.map(np.shape, next_state)
  segment = types.Segment(
    obs=obs,
    a=np.zeros((steps + 1, *action.shape), action.dtype),
    r_t=np.ones((steps, num_envs), np.float32),
    discount_t=np.full((steps, num_envs), 0.9, np.float32),
    is_first=np.zeros((steps + 1, num_envs), bool),
    state=state,
  )
  grads, stats = learner.gradients(params, target, segment)
  assert jax.tree.map(np.shape, grads) == jax.tree.map(np.shape, params)
  assert all(np.shape(stat) == () for stat in stats.values())
  return params, action, grads


@pytest.mark.parametrize(
  'algo, network, space',
  [
    *[(algo, 'auto', VECTOR) for algo in registry.names()],
    ('a3c', 'auto', IMAGE),
    ('nstep_q', 'auto', IMAGE),
    ('one_step_q', 'mlp', spaces.Box(0.0, 1.0, (4, 3), np.float32)),
    ('a3c', 'learner_settings:make_own', VECTOR),
  ],
)
def test_algorithms_fit_vectors_images_and_own_networks(algo, network, space):
  learner = build.make_learner(
    make_config(algo, network=network), Spaces(space)
  )
  _, action, grads = use(learner, space)
  assert action.shape == (2,)
  assert set(np.asarray(action)) <= set(range(5))
  assert any(np.any(grad) for grad in jax.tree.leaves(grads))


def test_lstm():
  learner = build.make_learner(make_config(lstm=True), Spaces(VECTOR))
  assert [part.shape for part in learner.initial_state(3)] == [(3, 256)] * 2
  use(learner, VECTOR)
  plain = build.make_learner(make_config(lstm=False), Spaces(VECTOR))
  assert plain.initial_state(3) == ()


@pytest.mark.parametrize(
  'domain, given, space, layers',
  [
    # 200 units, then 128 cells, for policy and value each.
    ('control', {}, VECTOR, {(6, 200): 2, (200, 512): 2, (128, 512): 2}),
    ('control', {'lstm': False}, VECTOR, {(6, 200): 2, (200, 3): 1}),
    ('control', {}, IMAGE, {(8, 8, 3, 16): 2, (4, 4, 16, 32): 2}),
    ('control', {'lstm': False}, IMAGE, {(384, 256): 2, (256, 3): 1}),
    ('control', {'network': 'learner_settings:make_own'}, VECTOR, {(6, 7): 2}),
    ('gym', {}, VECTOR, {(6, 64): 2, (64, 64): 2}),
    ('gym', {'lstm': True}, VECTOR, {(128, 512): 2}),
  ],
)
def test_continuous_actions(domain, given, space, layers):
  learner = build.make_learner(
    make_config(domain=domain, **given), Spaces(space, JOINTS)
  )
  params, action, _ = use(learner, space)
  assert action.shape == (2, 3) and action.dtype == np.float32
  shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
  assert {shape: shapes.count(shape) for shape in layers} == layers


def test_hyperparameters_reach_the_loss():
  # With no weight on value or entropy the value head gets no gradient.
  head = 'Linear_1'
  learner = build.make_learner(
    make_config(value_cost=0.0, entropy_cost=0.0), Spaces(VECTOR)
  )
  _, _, grads = use(learner, VECTOR)
  assert not any(np.any(g) for g in jax.tree.leaves(grads['params'][head]))
  learner = build.make_learner(make_config(value_cost=0.5), Spaces(VECTOR))
  _, _, grads = use(learner, VECTOR)
  assert any(np.any(g) for g in jax.tree.leaves(grads['params'][head]))


def test_own_network_takes_the_place_of_the_torso():
  learner = build.make_learner(
    make_config('nstep_q', network='learner_settings:make_own'), Spaces(VECTOR)
  )
  params, _, _ = use(learner, VECTOR)
  shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
  assert sorted(shapes) == [(5,), (6, 7), (7,), (7, 5)]


class Keeps(nn.Module):
  """A fixed projection and a number, in collections of their own."""

  @nn.compact
  def __call__(self, obs):
    init = lambda: jnp.ones((obs.shape[-1], 4))
    projection = self.variable('constants', 'kernel', init)
    count = self.variable('counter', 'n', lambda: jnp.array(2**24 + 1))
    x = nn.Dense(7)(obs) @ jnp.ones((7, 4)) + obs @ projection.value
    return x + 0 * count.value.astype(jnp.float32)


@pytest.mark.parametrize(
  ('algo', 'space'),
  [
    *[(algo, spaces.Discrete(5)) for algo in registry.names()],
    ('a3c', spaces.Box(-1.0, 1.0, (2,), np.float32)),
  ],
)
@pytest.mark.parametrize('optimizer', common.OPTIMIZERS)
def test_only_the_collection_params_is_learnt(algo, space, optimizer):
  settings = make_config(
    algo, network='learners_test:Keeps', optimizer=optimizer, init_gain=3.0
  )
  learner = build.make_learner(settings, Spaces(VECTOR, space))
  obs = np.random.default_rng(0).normal(size=(4, 2, 6)).astype(np.float32)
  before = networks.scale_torso_kernels(
    learner.init(jax.random.PRNGKey(0), obs[0]), 3.0
  )
  store = LockedStore(
    before,
    build.make_update_rule(settings),
    worker_states=[None],
    target_period=types.TargetPeriod(1),
  )
  action, *_ = learner.act(
    before, learner.initial_state(2), obs[0], jax.random.PRNGKey(1), 0.5
  )
  segment = types.Segment(
    obs=obs,
    a=np.zeros((4, *action.shape), action.dtype),
    r_t=np.ones((3, 2), np.float32),
    discount_t=np.full((3, 2), 0.9, np.float32),
    is_first=np.zeros((4, 2), bool),
    state=learner.initial_state(2),
  )
  gradients = clipping.of_learner(
    learner, 40.0, factored_rows=store.factored_rows
  )
  grads, stats = gradients(before, before, segment)
  assert set(factored.dense(grads)) == {'params'}
  assert np.isfinite(stats).all()
  stores.push(store, 0, grads, 10)
  after = store.read().params
  kept = {'constants', 'counter'}
  assert set(after) == {'params', *kept}
  for name in kept:
    jax.tree.map(np.testing.assert_array_equal, after[name], before[name])
    leaves = jax.tree.leaves((after[name], before[name]))
    assert len({leaf.dtype for leaf in leaves}) == 1
  moved = jax.tree.map(
    lambda x, y: np.any(x != y), after['params'], before['params']
  )
  assert any(jax.tree.leaves(moved))
  jax.tree.map(np.testing.assert_array_equal, after, store.read().target_params)
