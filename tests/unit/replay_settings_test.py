"""Settings of a replay memory, alone and together."""

import numpy as np
import pytest

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, types
from a3c_jax.parameters.store import LagBound
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import config

ON_POLICY = ('a3c', 'one_step_sarsa')
FAMILY = ('dqn', 'double_dqn', 'dueling_dqn', 'prioritized_dqn')
ALWAYS = (*FAMILY, 'gorila', 'pgql')
OPTIONAL = ('one_step_q', 'nstep_q')


def make(domain='catch', **given):
  return config.make(domain, workdir='runs/test', **given)


def refused(**given):
  with pytest.raises(errors.UsageError) as error:
    make(**given)
  (line,) = str(error.value).splitlines()
  return line


@pytest.mark.parametrize('algo', ON_POLICY)
@pytest.mark.parametrize(
  'given', [{'replay': 'shared'}, {'replay_batch': 8}, {'prioritized': True}]
)
def test_what_learns_on_policy_has_no_replay(algo, given):
  (name,) = given
  line = refused(algo=algo, **given)
  assert line.startswith(f'--{name}: ')
  assert f'--algo={algo}' in line and 'on-policy' in line
  _, _, allowed = line.rpartition('--algo=')
  assert not {*ON_POLICY} & {*allowed.split(' or ')}
  assert {*ALWAYS, *OPTIONAL} <= {*allowed.split(' or ')}


@pytest.mark.parametrize('algo', ['a3c', 'pgql', 'nstep_q'])
@pytest.mark.parametrize('name', ['dueling', 'double', 'error_clip'])
def test_what_belongs_to_dqn_is_no_setting_of_others(algo, name):
  line = refused(algo=algo, **{name: 1.0 if name == 'error_clip' else True})
  assert line.startswith(f'--{name}: ') and f'--algo={algo}' in line
  _, _, allowed = line.rpartition('--algo=')
  assert allowed.split(' or ') == [*ALWAYS[:-1]]


@pytest.mark.parametrize('algo', ALWAYS)
def test_an_algorithm_that_needs_a_memory_has_one(algo):
  made = make(algo=algo)
  assert made.replay is made.algorithm
  assert refused(algo=algo, replay='none').startswith('--replay=none: ')


@pytest.mark.parametrize('algo', OPTIONAL)
def test_where_it_is_optional_there_is_none_by_default(algo):
  made = make(algo=algo, replay_batch=10, replay_capacity=5)
  assert made.replay is None
  assert make(algo=algo, replay='per_thread').replay is not None
  # What nobody uses is not judged.
  assert make(algo=algo, runtime='queues').replay is None


@pytest.mark.parametrize('algo', [*ALWAYS, *OPTIONAL])
def test_a_runtime_must_be_able_to_replay(algo):
  given = {'algo': algo, 'replay': 'shared'}
  line = refused(runtime='queues', **given)
  assert line.startswith('--runtime=queues: ') and f'--algo={algo}' in line
  allowed = line.rpartition(': ')[2].split(', ')
  assert allowed == ['asynchronous', 'synchronous', 'cluster']
  for runtime in allowed:
    assert runtimes.get(runtime).replays
    assert make(runtime=runtime, **given).replay


@pytest.mark.parametrize('algo', ALWAYS)
def test_a_minibatch_is_not_larger_than_the_memory(algo):
  given = {'algo': algo, 'replay_start_frames': 1, 'replay_capacity': 10}
  assert make(replay_batch=10, **given).replay.replay_batch == 10
  line = refused(replay_batch=11, **given)
  assert line.startswith('--replay_batch=11 ')
  assert '--replay_capacity=10' in line


@pytest.mark.parametrize('algo', ALWAYS)
def test_learning_begins_before_the_run_ends(algo):
  given = {'algo': algo, 'replay_start_frames': 100}
  make(frames=101, **given)
  for frames in (100, 99):
    line = refused(frames=frames, **given)
    assert line.startswith('--replay_start_frames=100: ')
    assert f'--frames={frames}' in line


@pytest.mark.parametrize('name', ['priority_alpha', 'priority_beta'])
@pytest.mark.parametrize('value', [-0.1, 1.1, float('nan'), float('inf')])
def test_exponents_of_priorities_are_fractions(name, value):
  assert refused(algo='dqn', **{name: value}).startswith(f'--{name}=')


def test_the_family_of_dqn_differs_in_what_its_papers_changed():
  made = {algo: make('atari', algo=algo) for algo in FAMILY}
  flags = {
    algo: (
      own.algorithm.double,
      own.algorithm.dueling,
      own.algorithm.prioritized,
    )
    for algo, own in made.items()
  }
  assert flags == {
    'dqn': (False, False, False),
    'double_dqn': (True, False, False),
    'dueling_dqn': (True, True, False),
    'prioritized_dqn': (True, False, True),
  }
  for each in made.values():
    own = each.algorithm
    # Mnih et al. 2015, extended data table 1.
    assert (own.replay_batch, own.replay_capacity) == (32, 1_000_000)
    assert (own.update_period, own.replay_start_frames) == (4, 200_000)
    assert own.error_clip == 1
    assert (each.gamma, each.optimizer) == (0.99, 'centered_rmsprop')
    assert (each.t_max, each.arrangement.threads) == (1, 1)
  rates = [each.learning_rate for each in made.values()]
  assert rates == [2.5e-4, 2.5e-4, 2.5e-4, 2.5e-4 / 4]
  assert made['dqn'].algorithm.exploration_ends == (0.1,)
  assert made['double_dqn'].algorithm.exploration_ends == (0.01,)


def test_gorila_is_dqn_with_adagrad_and_safeguards():
  found, dqn = (
    make('atari', algo=algo, threads=2) for algo in ('gorila', 'dqn')
  )
  own = found.algorithm
  assert own.target_period == types.TargetPeriod(60_000, 'updates')
  assert own.replay == 'per_thread'
  assert (found.optimizer, found.anneal_frames) == ('adagrad', 0)
  assert found.arrangement.lag_bound == LagBound(100, 'drop')
  assert own.outlier_deviations == 3
  # 1,000,000 updates, each with 4 agent steps of 4 frames.
  frames = own.update_period * found.action_repeat
  assert own.exploration_anneal_frames == 1_000_000 * frames
  epsilon = own.exploration(np.random.default_rng(0), 1)
  assert epsilon(own.replay_start_frames) == 1
  assert epsilon(own.replay_start_frames + 16_000_000) == pytest.approx(0.1)
  # All else is that of DQN.
  shared = {*registry.get('gorila').settings} & {*registry.get('dqn').settings}
  assert {
    name
    for name in shared
    if getattr(own, name) != getattr(dqn.algorithm, name)
  } == {'replay', 'outlier_deviations', 'exploration_anneal_frames'}
  assert {*registry.get('dqn').settings} - shared == {'target_period_frames'}
  assert found.network == dqn.network == 'nature'


def test_gorila_counts_the_period_of_its_target_in_updates():
  line = refused(algo='gorila', target_period_frames=1000)
  assert line.startswith('--target_period_frames: ') and 'dqn' in line
  line = refused(algo='dqn', target_period_updates=1000)
  assert line.startswith('--target_period_updates: ')
  assert line.endswith('--algo=gorila')


def test_segments_and_windows_have_lengths_of_their_own():
  dqn = make(algo='dqn', update_period=4, t_max=3).algorithm
  assert (dqn.segment_steps(3), dqn.replay_steps(3)) == (4, 3)
  for algo, steps in (('one_step_q', 1), ('nstep_q', 5), ('pgql', 1)):
    own = make(algo=algo).algorithm
    assert (own.segment_steps(5), own.replay_steps(5)) == (5, steps)


def test_exploration_falls_once_the_memory_has_its_start():
  own = make(
    algo='dqn',
    replay_start_frames=100,
    exploration_anneal_frames=200,
    exploration_ends=(0.2,),
  ).algorithm
  epsilon = own.exploration(np.random.default_rng(0), 3)
  falling = [epsilon(frames).tolist() for frames in (0, 100, 200, 300, 900)]
  np.testing.assert_allclose(
    falling, np.repeat([[1], [1], [0.6], [0.2], [0.2]], 3, axis=1)
  )


def test_every_algorithm_is_in_one_of_the_lists_above():
  assert {*ON_POLICY, *ALWAYS, *OPTIONAL} == {*registry.names()}


@pytest.mark.parametrize('algo', ['a3c', 'pgql'])
def test_actor_critics_have_costs_of_their_own_in_torcs(algo):
  hyperparameters = make('torcs', algo=algo).algorithm
  assert hyperparameters.value_cost == 0.1
  assert hyperparameters.entropy_cost == 0.005
