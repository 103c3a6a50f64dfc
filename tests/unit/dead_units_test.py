"""The share of units whose ReLU gives 0 for every observation."""

import jax
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import types

KEY = jax.random.key(0)
A3C = {'entropy_cost': 0.01, 'value_cost': 0.5}
OBS = np.random.default_rng(0).integers(
  256, size=(3, 36, 36, 2), dtype=np.uint8
)


def killed(params, names, units):
  """Parameters with biases by which the first units of a layer are dead."""
  params = jax.tree.map(np.array, params)
  layer = params['params']['torso']
  for name in names:
    layer = layer[name]
  layer['bias'][:units] = -1e6
  return params


@pytest.mark.parametrize('torso', ['nips', 'nature'])
@pytest.mark.parametrize('norm', networks.NORMS)
def test_shares_by_hand(torso, norm):
  kind = {'nips': networks.NipsTorso, 'nature': networks.NatureTorso}[torso]
  obs = (
    np.zeros((2, 44, 44, 2), np.uint8) + np.arange(44, dtype=np.uint8)[:, None]
  )
  learner = value_based.nstep_q(networks.QNetwork(kind(norm=norm), 3))
  params = learner.init(KEY, obs)
  # Of a normalised layer, the bias of the norm decides.
  if norm == 'none':
    first, last = ['Convolution_0'], ['Linear_0', 'Dense_0']
  else:
    first, last = ['Convolution_1', 'LayerNorm_0'], ['LayerNorm_1']
  before = np.asarray(learner.dead_units(params, obs))
  filters, units = {'nips': (16, 256), 'nature': (32, 512)}[torso]
  params = killed(killed(params, first, filters // 2), last, units // 4)
  shares = np.asarray(learner.dead_units(params, obs))
  assert len(shares) == {'nips': 3, 'nature': 4}[torso]
  assert 0.5 <= shares[0] <= 0.5 + before[0]
  assert 0.25 <= shares[-1] <= 0.25 + before[-1] + 0.3


def test_a_unit_lives_if_one_observation_moves_it():
  torso = networks.MLPTorso(hidden=(2, 3))
  learner = value_based.one_step_q(networks.QNetwork(torso, 2))
  obs = np.eye(2, dtype=np.float32)
  params = jax.tree.map(np.array, learner.init(KEY, obs))
  layers = params['params']['torso']
  layers['Linear_0']['Dense_0']['kernel'][:] = [[1, -1], [-1, -1]]
  layers['Linear_0']['Dense_0']['bias'][:] = 0
  layers['Linear_1']['Dense_0']['kernel'][:] = 0
  layers['Linear_1']['Dense_0']['bias'][:] = [1, 0, -1]
  found = learner.dead_units(params, obs)
  np.testing.assert_allclose(found, [1 / 2, 2 / 3], rtol=1e-6)
  np.testing.assert_allclose(learner.dead_units(params, obs[1:])[0], 1)


@pytest.mark.parametrize(
  ('learner', 'layers'),
  [
    (lambda torso: value_based.dqn(networks.QNetwork(torso, 2)), 3),
    (lambda torso: value_based.dqn(networks.DuelingQNetwork(torso, 2)), 3),
    (
      lambda torso: policy_based.a3c(
        networks.ActorCritic(torso, 2, networks.LSTMCore(4)), **A3C
      ),
      3,
    ),
    (
      lambda torso: policy_based.gaussian_a3c(
        networks.GaussianActorCritic(torso, torso.copy(), 2), **A3C
      ),
      6,
    ),
  ],
  ids=['q', 'dueling', 'lstm', 'gaussian'],
)
def test_every_network_tells_its_dead_units(learner, layers):
  made = learner(networks.NipsTorso())
  params = made.init(KEY, OBS)
  shares = np.asarray(made.dead_units(params, OBS))
  assert shares.shape == (layers,)
  assert ((shares >= 0) & (shares < 1)).all()
  # Nothing of it remains in what is learnt.
  assert jax.tree.structure(params) == jax.tree.structure(made.init(KEY, OBS))
  assert types.trained(params).keys() == {'params'}


def test_a_torso_without_relu_has_no_dead_units():
  network = networks.QNetwork(networks.LinearConvTorso(), 2)
  learner = value_based.nstep_q(network)
  params = learner.init(KEY, OBS)
  assert learner.dead_units(params, OBS).shape == (0,)
