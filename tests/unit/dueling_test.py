"""The dueling head of Q."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.algorithms import value_based
from a3c_jax.core import types
from a3c_jax.networks import forward_cache, layers
from a3c_jax.optim import factored

KEY = jax.random.key(0)
ACTIONS = 3
SHARES = {  # A torso, its observations, and the features of each stream.
  'nips': (networks.NipsTorso(), (36, 36, 2), 256),
  'nature': (networks.NatureTorso(), (44, 36, 2), 512),
  'mlp': (networks.MLPTorso(hidden=(8,)), (5,), 8),
  'no torso': (networks.MLPTorso(hidden=()), (5,), 5),
}
every_torso = pytest.mark.parametrize('name', SHARES)


@functools.cache
def made(name):
  """The network, its parameters and observations [2, 3, ...]."""
  torso, shape, _ = SHARES[name]
  network = networks.DuelingQNetwork(torso, ACTIONS)
  rng = np.random.default_rng(0)
  obs = rng.normal(size=(2, 3, *shape)).astype(np.float32)
  return network, jax.jit(network.init)(KEY, obs[0]), obs


def test_the_head_by_hand():
  # V = 2·3 + 1 = 7 and A = (3, 6, 0) + (0, 0, 3), of mean 4.
  network = networks.DuelingQNetwork(networks.MLPTorso(hidden=()), ACTIONS)
  head = lambda kernel, bias: {
    'Dense_0': {'kernel': np.float32(kernel), 'bias': np.float32(bias)}
  }
  params = {
    'Linear_0': head([[2]], [1]),
    'Linear_1': head([[1, 2, 0]], [0, 0, 3]),
  }
  q = network.apply({'params': params}, np.float32([[3]]))
  np.testing.assert_allclose(q, [[7 - 1, 7 + 2, 7 - 1]], rtol=1e-6)


@every_torso
def test_the_mean_over_actions_is_the_value(name):
  network, variables, obs = made(name)
  q = network.apply(variables, obs)
  assert q.shape == (2, 3, ACTIONS) and q.dtype == jnp.float32
  params = variables['params']
  value, advantage = (params[each] for each in ('Linear_0', 'Linear_1'))
  assert value['Dense_0']['kernel'].shape == (SHARES[name][2], 1)
  assert advantage['Dense_0']['kernel'].shape == (SHARES[name][2], ACTIONS)
  zero = lambda layer: {'Linear_1': jax.tree.map(jnp.zeros_like, layer)}
  v = network.apply({'params': params | zero(advantage)}, obs)
  np.testing.assert_allclose(
    jnp.mean(q, axis=-1, keepdims=True), v[..., :1], atol=1e-5
  )
  assert jnp.std(q - v) > 0
  # What all advantages have in common has no effect.
  shifted = jax.tree.map(lambda leaf: leaf, params)
  shifted['Linear_1']['Dense_0']['bias'] += 5
  np.testing.assert_allclose(
    network.apply({'params': shifted}, obs), q, atol=1e-5
  )


def test_parameters_of_the_papers_network():
  # As the nature torso: 77,984 in convolutions and 1,606,144 in each hidden
  # layer. Then 512 + 1 for the value and 512·18 + 18 for the advantages.
  network = networks.DuelingQNetwork(networks.NatureTorso(), 18)
  obs = jax.ShapeDtypeStruct((1, 84, 84, 4), jnp.uint8)
  shapes = jax.eval_shape(network.init, KEY, obs)
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
  assert count == 77_984 + 2 * 1_606_144 + 513 + 9_234


def gradient_of(name):
  network, variables, obs = made(name)

  def loss(variables):
    return jnp.sum(network.apply(variables, obs)[..., 0] ** 2)

  return jax.jit(jax.grad(loss))(variables)['params']


@every_torso
def test_the_gradient_that_enters_what_is_shared(name, monkeypatch):
  found = gradient_of(name)
  monkeypatch.setattr(layers, 'scale_gradient', lambda x, factor: x)
  plain = gradient_of(name)
  shared = 'Convolution' if name in ('nips', 'nature') else 'torso'
  count = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(found):
    key = jax.tree_util.keystr(path)
    factor = 2**-0.5 if shared in key else 1.0
    count += shared in key
    expected = plain
    for entry in path:
      expected = expected[entry.key]
    assert np.any(leaf != 0)
    np.testing.assert_allclose(leaf, factor * expected, rtol=1e-4, atol=1e-6)
  assert count == {'nips': 4, 'nature': 6, 'mlp': 2, 'no torso': 0}[name]


@pytest.mark.parametrize('name', ['nips', 'mlp'])
def test_gradients_with_and_without_what_acting_kept(name):
  network, variables, obs = made(name)
  learner = value_based.one_step_q(network)
  segment = types.Segment(
    obs=np.concatenate([obs, obs[:1]]),
    a=np.zeros((3, 3), np.int32),
    r_t=np.ones((2, 3), np.float32),
    discount_t=np.full((2, 3), 0.9, np.float32),
    is_first=np.zeros((3, 3), bool),
    state=(),
  )
  _, kept = forward_cache.apply_and_keep(network, variables, obs)
  assert kept['torso']
  plain, _ = learner.gradients(variables, variables, segment)
  cached, _ = learner.gradients(
    variables, variables, segment._replace(kept=kept)
  )
  assert learner.factored_gradients is not None
  factors, _ = learner.factored_gradients.gradients(
    variables, variables, segment
  )
  for other in (cached, factored.dense(factors)):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
      plain,
      other,
    )


def test_the_gain_of_the_torso_is_that_of_both_streams():
  _, variables, _ = made('nips')
  scaled = networks.scale_torso_kernels(variables, 3.0)['params']['torso']
  before = variables['params']['torso']
  assert sorted(before) == [
    'Convolution_0',
    'Convolution_1',
    'Linear_0',
    'Linear_1',
  ]
  for stream in ('Linear_0', 'Linear_1'):
    np.testing.assert_array_equal(
      scaled[stream]['Dense_0']['kernel'],
      3 * before[stream]['Dense_0']['kernel'],
    )
  assert np.any(
    before['Linear_0']['Dense_0']['kernel']
    != before['Linear_1']['Dense_0']['kernel']
  )
