"""An algorithm that a script outside the package registers: one record."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from results import read_rows

ROOT = pathlib.Path(__file__).parents[2]
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
  """Runs a script in a folder of its own: code, stdout, stderr."""
  (tmp_path / 'toy.py').write_text(SCRIPT)

  def run_script(*arguments, script='toy.py'):
    done = subprocess.run(
      [sys.executable, script, *arguments],
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      cwd=tmp_path,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    return done.returncode, done.stdout, done.stderr

  return run_script


def refused(result) -> str:
  """The one line on stderr of a script that refuses its flags."""
  code, out, err = result
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  return line


def test_its_flags_are_shown_and_those_of_others_refused(run):
  code, out, err = run('--help')
  assert (code, err) == (0, '')
  assert 'algorithm reinforce:\n  --baseline_cost: Weight of' in out
  assert 'with --algo=reinforce 9 (an episode)' in ' '.join(out.split())
  assert '--entropy_cost' in out and '--exploration_ends' in out

  code, out, _ = run('--algo=reinforce', '--help')
  assert code == 0
  assert '--baseline_cost' in out and '--rows' in out and '--t_max' in out
  assert '--entropy_cost' not in out and '--exploration_ends: ' not in out

  line = refused(run('--algo=reinforce', '--entropy_cost=0.1'))
  assert line.startswith('error: --entropy_cost: not a setting of ')
  assert line.endswith('--algo=reinforce; allowed: baseline_cost')
  line = refused(run('--baseline_cost=1'))  # By default it is A3C.
  assert line.startswith('error: --baseline_cost: not a setting of --algo=a3c')
  line = refused(run('--algo=reinforce', '--baseline_cost=-1'))
  assert line.startswith('error: --baseline_cost=-1.0: allowed: ')


def test_it_trains_is_evaluated_and_resumes(run, tmp_path):
  given = ('--algo=reinforce', '--baseline_cost=0.25', '--eval_frames=1000')
  code, out, err = run(*given, *COMMON, '--frames=2000')
  assert (code, err) == (0, '')
  assert 'results in results' in out
  record = json.loads((tmp_path / 'results/config.json').read_text())['config']
  assert record['algorithm'] == {'baseline_cost': 0.25}
  assert (record['algo'], record['t_max']) == ('reinforce', 9)
  (row,) = read_rows(tmp_path / 'results/train.csv')
  assert (row['algo'], row['frames']) == ('reinforce', '2007')
  policies = {row['policy'] for row in read_rows(tmp_path / 'results/eval.csv')}
  assert policies == {'sampled'}  # It is a policy, whatever its name is.

  line = refused(run(*COMMON, '--algo=reinforce', '--baseline_cost=0.5'))
  assert line.startswith('error: --baseline_cost=0.5: the run in results has ')
  line = refused(run(*COMMON, '--algo=a3c'))
  assert line.startswith('error: --algo=a3c: the run in results has reinforce')
  code, _, err = run(*COMMON, '--frames=3000', '--override=frames')
  assert (code, err) == (0, '')
  record = json.loads((tmp_path / 'results/config.json').read_text())['config']
  assert record['algorithm'] == {'baseline_cost': 0.25}
  assert read_rows(tmp_path / 'results/train.csv')[-1]['frames'] == '3006'

  # A script that does not register it cannot make its network.
  evaluate = str(ROOT / 'experiments/evaluate.py')
  line = refused(run('--workdir=results', script=evaluate))
  assert 'its algorithm reinforce is not registered here' in line
