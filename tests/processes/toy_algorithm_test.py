"""An algorithm that a script outside the package registers: one record."""

import programs
from programs import refused, succeeded
import pytest
from results import read_record, read_rows
import script_runs

SCRIPT = '''
"""Trains REINFORCE with a baseline on Catch."""

import dataclasses

from a3c_jax import command_line, losses, networks, policy_based
from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import Algorithm, Hyperparameters
from a3c_jax.core import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Hyperparameters):
  baseline_cost: float = fields.not_negative(
    'Weight of the squared error of the baseline.', default=0.5, source='toy'
  )


def reinforce(network, settings):
  def loss(*arrays):
    return losses.a3c_loss(
      *arrays, entropy_cost=0.0, value_cost=settings.baseline_cost
    )

  return policy_based.actor_critic(network, loss)


registry.register(
  Algorithm(
    name='reinforce',
    title='REINFORCE',
    hyperparameters=Settings,
    make_network=lambda torso, space, settings: networks.ActorCritic(
      torso, int(space.n)
    ),
    make_learner=reinforce,
    is_policy=True,
    defaults={'catch': {'t_max': (9, 'an episode')}},
  )
)

if __name__ == '__main__':
  command_line.train('catch')
'''
COMMON = ('--threads=1', '--workdir=results', '--log_seconds=1e6')


@pytest.fixture
def run(tmp_path):
  """A function (flags) -> exit code, stdout and stderr, in this process."""
  path = tmp_path / 'toy.py'
  path.write_text(SCRIPT)

  def run(*flags):
    return script_runs.run(str(path), *flags, cwd=tmp_path)

  return run


def test_its_flags_are_shown_and_those_of_others_refused(run):
  out = succeeded(run('--help'))
  assert 'algorithm reinforce:\n  --baseline_cost: Weight of' in out
  assert 'with --algo=reinforce 9 (an episode)' in ' '.join(out.split())
  assert '--entropy_cost' in out and '--exploration_ends' in out

  code, out, _ = run('--algo=reinforce', '--help')
  assert code == 0
  assert '--baseline_cost' in out and '--rows' in out and '--t_max' in out
  assert '--entropy_cost' not in out and '--exploration_ends: ' not in out

  line = refused(run('--algo=reinforce', '--entropy_cost=0.1'))
  assert line.startswith('--entropy_cost: not a setting of ')
  assert line.endswith('--algo=reinforce; allowed with --algo=a3c or pgql')
  line = refused(run('--baseline_cost=1'))  # By default it is A3C.
  assert line.startswith('--baseline_cost: not a setting of --algo=a3c')
  line = refused(run('--algo=reinforce', '--baseline_cost=-1'))
  assert line.startswith('--baseline_cost=-1.0: allowed: ')


def test_it_trains_is_evaluated_and_resumes(run, tmp_path):
  given = ('--algo=reinforce', '--baseline_cost=0.25', '--eval_frames=1000')
  train = (*given, *COMMON, '--frames=2000')
  out = succeeded(programs.run('toy.py', *train, cwd=tmp_path))
  assert 'results in results' in out
  record = read_record(tmp_path / 'results')['config']
  assert record['algorithm'] == {'baseline_cost': 0.25}
  assert (record['algo'], record['t_max']) == ('reinforce', 9)
  (row,) = read_rows(tmp_path / 'results/train.csv')
  assert (row['algo'], row['frames']) == ('reinforce', '2007')
  policies = {row['policy'] for row in read_rows(tmp_path / 'results/eval.csv')}
  assert policies == {'sampled'}  # It is a policy, whatever its name is.

  line = refused(run(*COMMON, '--algo=reinforce', '--baseline_cost=0.5'))
  assert line.startswith('--baseline_cost=0.5: the run in results has ')
  line = refused(run(*COMMON, '--algo=a3c'))
  assert line.startswith('--algo=a3c: the run in results has reinforce')
  more = '--frames=3000', '--anneal_frames=3000'
  succeeded(run(*COMMON, *more, '--override=frames,anneal_frames'))
  record = read_record(tmp_path / 'results')['config']
  assert record['algorithm'] == {'baseline_cost': 0.25}
  assert read_rows(tmp_path / 'results/train.csv')[-1]['frames'] == '3006'

  # A script that does not register it cannot make its network.
  evaluate = 'evaluate.py --workdir=results'
  line = refused(script_runs.run(evaluate, cwd=tmp_path))
  assert 'its algorithm reinforce is not registered here' in line
