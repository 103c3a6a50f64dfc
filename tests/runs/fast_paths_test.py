"""The fast forms give what the plain ones give, on whole segments."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax import networks
from a3c_jax.acting import steps as steps_lib
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import types
from a3c_jax.optim import clipping, factored

STEPS, ACTIONS = 5, 3
EPSILON = np.float32(0.5)


class PlainTorso(nn.Module):
  """`networks.NipsTorso` in flax's own layers."""

  @nn.compact
  def __call__(self, obs):
    convolution = lambda features, size, stride, name: nn.Conv(
      features, (size, size), (stride, stride), 'VALID', name=name
    )
    x = jnp.moveaxis(obs.reshape(-1, *obs.shape[-3:]), 1, -1) / 255
    x = nn.relu(convolution(16, 8, 4, name='Convolution_0')(x))
    x = nn.relu(convolution(32, 4, 2, name='Convolution_1')(x))
    x = x.reshape(len(x), -1)
    x = nn.relu(PlainLinear(256, name='Linear_0')(x))
    return x.reshape(*obs.shape[:-3], -1)


class NormalisedTorso(networks.NipsTorso):
  """Has no cache, as its type is another; networks_test.py has its twin."""

  norm: str = 'layer'


class PlainLinear(nn.Module):
  features: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.features)(x)


def make(algo, torso):
  if algo in ('one_step_q', 'one_step_sarsa', 'nstep_q', 'sarsa on snapshots'):
    how = {}
    if algo == 'sarsa on snapshots':
      algo, how = 'one_step_sarsa', {'acting': 'snapshot'}
    make_learner = getattr(value_based, algo)
    return make_learner(networks.QNetwork(torso, ACTIONS), **how)
  if algo == 'gaussian':
    return policy_based.gaussian_a3c(
      networks.GaussianActorCritic(torso, torso.copy(), ACTIONS),
      entropy_cost=0.01,
      value_cost=0.5,
    )
  core = networks.LSTMCore(cells=8) if algo == 'lstm' else None
  return policy_based.a3c(
    networks.ActorCritic(torso, ACTIONS, core),
    entropy_cost=0.01,
    value_cost=0.5,
  )


def acted_segment(learner, params, num_envs, shape=(4, 84, 84), steps=STEPS):
  """A segment that was played with the learner, an episode's end within."""
  rng = np.random.default_rng(0)
  obs = rng.integers(0, 256, (steps + 1, num_envs, *shape)).astype(np.uint8)
  discount_t = np.full((steps, num_envs), 0.9, np.float32)
  discount_t[2, 0] = 0.0
  is_first = np.zeros((steps + 1, num_envs), bool)
  is_first[3, 0] = True
  actions = []
  state = first_state = learner.initial_state(num_envs)
  key, activations = jax.random.PRNGKey(1), []
  for t in range(steps):
    state = jax.tree.map(
      lambda old, t=t: np.where(is_first[t][:, None], np.float32(0), old),
      state,
    )
    inputs = params, state, obs[t], key, EPSILON
    action, state, key = acted = learner.act(*inputs)
    actions.append(np.asarray(action))
    if learner.act_and_keep:
      *again, cached = learner.act_and_keep(*inputs)
      jax.tree.map(np.testing.assert_array_equal, tuple(again), acted)
      activations.append(cached)
  return types.Segment(
    obs=obs,
    a=np.stack([*actions, np.zeros_like(actions[0])]),
    r_t=rng.normal(size=(steps, num_envs)).astype(np.float32),
    discount_t=discount_t,
    is_first=is_first,
    state=first_state,
    kept=steps_lib.joined(activations),
  )


def assert_close(tree, expected):
  def check(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * np.abs(y).max())

  jax.tree.map(check, tree, expected)


@pytest.mark.parametrize(
  ('algo', 'num_envs', 'norm'),  # 5 images are one piece, 15 are two.
  [
    ('a3c', 3, 'layer'),
    ('lstm', 1, 'none'),
    ('gaussian', 1, 'none'),
    ('nstep_q', 1, 'layer'),
    ('one_step_q', 3, 'none'),
    ('one_step_sarsa', 1, 'none'),
    ('sarsa on snapshots', 3, 'none'),
  ],
)
def test_fast_and_plain_gradients_of_a_segment(algo, num_envs, norm):
  fast = make(algo, networks.NipsTorso(stacked_first=True, norm=norm))
  plain_torso = PlainTorso()
  if norm == 'layer':
    plain_torso = NormalisedTorso(stacked_first=True)
  init = jax.jit(fast.init)
  obs = np.zeros((num_envs, 4, 84, 84), np.uint8)
  params, target_params = (
    init(jax.random.key(0), obs),
    init(jax.random.key(1), obs),
  )
  segment = acted_segment(fast, params, num_envs)
  without = segment._replace(kept=())
  form = fast.factored_gradients
  grads, stats = form.gradients(params, target_params, segment)
  torsos = [name for name in grads.tree['params'] if name.endswith('torso')]
  assert len(torsos) == 1 + (algo == 'gaussian')
  for name in torsos:
    kernel = grads.tree['params'][name]['Linear_0']['Dense_0']['kernel']
    assert isinstance(kernel, jax.Array) == (num_envs > 1)
  norm = optax.tree.norm(factored.dense(grads))
  np.testing.assert_allclose(factored.global_norm(grads.tree), norm, rtol=1e-4)
  assert all(np.any(grad) for grad in jax.tree.leaves(grads.tree))
  for learner in fast, make(algo, plain_torso):
    # The plain torso does not use cached activations.
    for each in (segment, without) if learner is fast else (without,):
      assert_close(
        (factored.dense(grads), stats),
        learner.gradients(params, target_params, each),
      )


@pytest.mark.parametrize('algo', ['a3c', 'lstm', 'gaussian', 'nstep_q'])
@pytest.mark.parametrize(
  # Of few rows and of many.
  ('steps', 'cached'),
  [(5, True), (12, False)],
)
def test_gradients_are_arrays_like_what_is_trained(algo, steps, cached):
  learner = make(algo, networks.MLPTorso(hidden=(300,)))
  obs = np.zeros((1, 300), np.uint8)
  params = learner.init(jax.random.key(0), obs)
  segment = acted_segment(learner, params, 1, (300,), steps)
  if not cached:
    segment = segment._replace(kept=())
  variables = params | {'constants': {'c': jnp.ones(2)}}
  grads, stats = learner.gradients(variables, params, segment)
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  jax.tree.map(
    lambda grad, param: np.testing.assert_equal(grad.shape, param.shape),
    grads,
    types.trained(params),
  )
  in_factors, other_stats = learner.factored_gradients.gradients(
    variables, params, segment
  )
  # Two leaves in the place of one, for each torso.
  more = len(jax.tree.leaves(in_factors.tree)) - len(jax.tree.leaves(grads))
  assert more == (steps < 10) * (1 + (algo == 'gaussian'))
  assert_close((factored.dense(in_factors), other_stats), (grads, stats))


def test_activations_stand_for_the_forward_pass():
  learner = make('nstep_q', networks.MLPTorso(3, hidden=(4,)))
  shape = (2, 2, 1)
  obs = np.zeros((2, *shape), np.uint8)
  params = learner.init(jax.random.key(0), obs)
  segment = acted_segment(learner, params, 2, shape)
  # Less than 0 before a ReLU is 0 behind it: the bias of the head is left.
  changed = jax.tree.map(lambda cached: -jnp.abs(cached), segment.kept)
  _, stats = learner.gradients(params, params, segment._replace(kept=changed))
  bias = params['params']['Linear_0']['Dense_0']['bias']
  np.testing.assert_allclose(
    stats['mean_q'], np.mean(bias[segment.a[:-1]]), rtol=1e-5
  )


class OwnOrder(nn.Module):
  """The rows of its layer are not the steps in their order."""

  linear: type[nn.Module]

  @nn.compact
  def __call__(self, obs):
    views = jnp.stack([obs, 1 - obs]) / 255
    x = self.linear(300, name='layer')(views.reshape(-1, obs.shape[-1]))
    return nn.relu(x).reshape(2, *obs.shape[:-1], -1).sum(0)


class OwnTwice(nn.Module):
  """Its layer is used twice."""

  linear: type[nn.Module]

  @nn.compact
  def __call__(self, obs):
    layer = self.linear(300, name='input')
    return layer(jnp.sin(layer(obs / 255)))


class OwnAround(nn.Module):
  """A torso of ours within another, with the num_envs before the steps."""

  linear: type[nn.Module]

  @nn.compact
  def __call__(self, obs):
    x = jnp.moveaxis(obs, -2, 0) if obs.ndim == 3 else obs
    if self.linear is networks.Linear:
      x = networks.MLPTorso(hidden=(300,), name='inner')(x)
    else:
      x = PlainMLP(name='inner')(x)
    return jnp.moveaxis(x, 0, -2) if obs.ndim == 3 else x


class PlainMLP(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.relu(PlainLinear(300, name='Linear_0')(obs / 255))


@pytest.mark.parametrize('algo', ['a3c', 'nstep_q'])
@pytest.mark.parametrize('own', [OwnOrder, OwnTwice, OwnAround])
def test_of_own_torsos_nothing_is_cached(own, algo):
  learner, plain = (
    make(algo, own(networks.Linear)),
    make(algo, own(PlainLinear)),
  )
  shape, num_envs = (300,), 2
  obs = np.zeros((1, num_envs, *shape), np.uint8)
  params = learner.init(jax.random.key(0), obs[0])
  segment = acted_segment(learner, params, num_envs, shape)
  assert not jax.tree.leaves(segment.kept)
  assert_close(
    learner.gradients(params, params, segment),
    plain.gradients(params, params, segment._replace(kept=())),
  )


def test_one_step_methods_cache_nothing():
  network = networks.QNetwork(networks.MLPTorso(), ACTIONS)
  for make_learner in value_based.one_step_q, value_based.one_step_sarsa:
    assert make_learner(network).act_and_keep is None


def test_initial_parameters_hold_no_activations():
  learner = make('a3c', networks.MLPTorso())
  assert set(learner.init(jax.random.key(0), np.zeros((1, 3)))) == {'params'}


@pytest.mark.parametrize('algo', ['nstep_q', 'a3c'])
@pytest.mark.parametrize('factored_rows', [10, 2, 0])
def test_only_who_accepts_factors_gets_them(algo, factored_rows):
  learner = make(algo, networks.MLPTorso(hidden=(300,)))
  obs = np.random.default_rng(0).normal(size=(4, 1, 300)).astype(np.float32)
  params = jax.jit(learner.init)(jax.random.key(0), obs[0])
  segment = types.Segment(
    obs=obs,
    a=np.zeros((4, 1), np.int32),
    r_t=np.ones((3, 1), np.float32),
    discount_t=np.full((3, 1), 0.9, np.float32),
    is_first=np.zeros((4, 1), bool),
    state=(),
  )
  gradients = clipping.of_learner(learner, 0.5, factored_rows=factored_rows)
  grads, stats = gradients(params, params, segment)
  assert isinstance(grads, factored.Factored) == (factored_rows > 0)
  # Two leaves in the place of one, for a segment of three rows.
  more = len(jax.tree.leaves(factored.opened(grads)))
  more -= len(jax.tree.leaves(params))
  assert more == (factored_rows == 10)
  grads = factored.dense(grads)
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  np.testing.assert_allclose(optax.tree.norm(grads), 0.5, rtol=1e-4)
  # Whoever replaces the gradients gets the new ones, dense.
  twice = learner._replace(
    gradients=lambda *args: (
      jax.tree.map(lambda grad: 2 * grad, learner.gradients(*args)[0]),
      {'own': jnp.zeros(())},
    )
  )
  own = clipping.of_learner(twice, None, factored_rows=factored_rows)
  grads, own_stats = own(params, params, segment)
  np.testing.assert_allclose(own_stats, [0, 2 * stats[-1]], rtol=1e-4)
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  names = clipping.stat_names(
    twice, params, params, segment, factored_rows=factored_rows
  )
  assert names == ['own', 'grad_norm']
