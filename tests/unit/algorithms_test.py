"""Records of algorithms, and the registry that holds them."""

import numpy as np
import pytest

from a3c_jax.algorithms import algorithm, registry
from a3c_jax.algorithms.algorithm import ValueBased
from a3c_jax.core import errors, fields
from a3c_jax.settings.defaults import defaults

PAPER = ('a3c', 'nstep_q', 'one_step_q', 'one_step_sarsa')


@pytest.fixture
def register(monkeypatch):
  """Registers algorithms for one test."""
  monkeypatch.setattr(registry, '_algorithms', dict(registry._algorithms))
  return registry.register


def test_the_four_of_the_paper_are_there():
  assert registry.names()[:4] == PAPER
  assert [registry.get(name).name for name in PAPER] == [*PAPER]
  assert [registry.get(name).is_policy for name in PAPER] == [True] + 3 * [
    False
  ]


def test_an_unknown_name_is_refused():
  with pytest.raises(errors.UsageError, match='^--algo=ppo: .*: a3c, nstep_q'):
    registry.get('ppo')


@pytest.mark.parametrize('name', registry.names())
def test_every_hyperparameter_has_a_good_default_its_source_and_help(name):
  fields.check_settings(registry.get(name).hyperparameters())
  for field in registry.get(name).settings.values():
    assert field.metadata['source'] and field.metadata['help']


@pytest.mark.parametrize(
  'algo, policy, epsilon, expected',
  [
    ('a3c', 'sample', 0.05, 'sampled'),
    ('nstep_q', 'sample', 0.05, 'epsilon-greedy 0.05'),
    ('one_step_q', 'sample', 0.001, 'epsilon-greedy 0.001'),
    ('dqn', 'sample', 0.05, 'epsilon-greedy 0.05'),
    ('prioritized_dqn', 'sample', 0.05, 'epsilon-greedy 0.05'),
    ('pgql', 'sample', 0.05, 'sampled'),
    ('a3c', 'mean', 0.05, 'mean'),
    ('one_step_sarsa', 'greedy', 0.05, 'greedy'),
  ],
)
def test_how_actions_are_chosen_is_described(algo, policy, epsilon, expected):
  described = registry.get(algo).describe_policy(
    policy, exploration_epsilon=epsilon
  )
  assert described == expected


@pytest.mark.parametrize('domain', ['atari', 'labyrinth', 'torcs'])
@pytest.mark.parametrize(
  'algo, learning_rate, max_grad_norm',
  [('dqn', 2.5e-4, 0), ('dueling_dqn', 2.5e-4, 10), ('pgql', None, None)],
)
def test_dqn_learns_from_pixels_with_its_own_settings(
  domain, algo, learning_rate, max_grad_norm
):
  own, of_a3c = defaults(domain, algo), defaults(domain, 'a3c', lstm=False)
  names = ('t_max', 'learning_rate', 'rms_epsilon', 'max_grad_norm')
  values = [own[name][0] for name in names]
  if learning_rate is None:  # It has those of A3C.
    assert values == [of_a3c[name][0] for name in names]
  else:
    assert values == [1, learning_rate, 0.01, max_grad_norm]


def test_a_registered_algorithm_is_known(register):
  other = registry.get('nstep_q')._replace(name='other')
  register(other)
  assert registry.get('other') is other
  assert registry.names()[-1] == 'other'


def test_ends_and_probabilities_of_exploration_are_as_many():
  algorithm.ValueBased().check_together()
  with pytest.raises(errors.UsageError, match='^--exploration_ends=0.1 with '):
    algorithm.ValueBased(exploration_ends=(0.1,)).check_together()


def final_epsilons(num_envs, *, seed=0, **settings):
  """Draws the ε that environments have after the annealing."""
  rng = np.random.default_rng(seed)
  value_based = ValueBased(exploration_anneal_frames=100, **settings)
  return value_based.exploration(rng, num_envs)(100).round(9)


def test_ends_of_exploration_are_drawn_with_their_probabilities():
  # 10,000 draws: a share's standard deviation is at most 0.005.
  drawn = final_epsilons(10_000)
  assert drawn.shape == (10_000,)
  assert set(drawn) == {0.1, 0.01, 0.5}
  shares = [np.mean(drawn == end) for end in (0.1, 0.01, 0.5)]
  np.testing.assert_allclose(shares, (0.4, 0.3, 0.3), atol=0.02)
  assert final_epsilons(20).tolist() == final_epsilons(20).tolist()
  assert final_epsilons(20).tolist() != final_epsilons(20, seed=1).tolist()


def test_impossible_ends_of_exploration_are_not_drawn():
  drawn = final_epsilons(
    50, exploration_ends=(0.1, 0.2), exploration_probabilities=(0.0, 1.0)
  )
  assert set(drawn) == {0.2}
