"""The scripts of experiments/variations, as a user runs and changes them."""

import runpy

import jax
import numpy as np
from programs import ROOT, refused, succeeded
import pytest
from results import read_rows
import script_flags
from script_runs import run

from a3c_jax import networks
from a3c_jax.core import types

FOLDER = ROOT / 'experiments/variations'
SCRIPTS = sorted(
  path.name for path in FOLDER.glob('*.py') if not path.is_symlink()
)


def load(name):
  """What a script defines, but for its flags, which are absl's."""
  with script_flags.forgotten():
    return runpy.run_path(str(FOLDER / name))


def run_variation(command, cwd):
  """Stdout of a script, given its name and flags."""
  flags = '--threads=1 --eval_frames=0'
  return succeeded(run(f'variations/{command}', *flags.split(), cwd=cwd))


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_variation_is_short_and_its_help_is_true(name, tmp_path):
  text = (FOLDER / name).read_text()
  assert len(text.splitlines()) < 60
  assert f'python experiments/variations/{name} ' in text
  out = run_variation(
    f'{name} --frames=400 --workdir=results --envs_per_thread=2', tmp_path
  )
  assert 'results in results' in out
  assert int(read_rows(tmp_path / 'results/train.csv')[-1]['frames']) >= 400


def test_generalized_advantages_with_lambda_one_are_a3c(tmp_path):
  gae = 'generalized_advantage.py --frames=2000 --log_seconds=1e6'
  run_variation(f'{gae} --lambda_=1 --workdir=gae', tmp_path)
  succeeded(
    run(
      'gym_env.py --env=CartPole-v1 --frames=2000 --threads=1 --eval_frames=0 '
      '--workdir=a3c --log_seconds=1e6 --anneal_frames=2000',
      cwd=tmp_path,
    )
  )
  names = ('policy_loss', 'value_loss', 'entropy', 'mean_v', 'grad_norm')
  (one,), (a3c,) = (
    read_rows(tmp_path / name / 'train.csv') for name in ('gae', 'a3c')
  )
  for name in names:
    assert float(one[name]) == pytest.approx(float(a3c[name]), rel=1e-3)
  run_variation(f'{gae} --lambda_=0.5 --workdir=half', tmp_path)
  (half,) = read_rows(tmp_path / 'half/train.csv')
  assert float(half['grad_norm']) != pytest.approx(
    float(a3c['grad_norm']), rel=1e-2
  )


def test_a_variation_takes_the_network_that_is_given(tmp_path):
  run_variation(
    'generalized_advantage.py --frames=400 --workdir=results --lstm '
    '--network=hidden200',
    tmp_path,
  )
  # Its learner is that of a3c for all but the loss, so this plays it.
  out = succeeded(
    run('evaluate.py --workdir=results --episodes=1', cwd=tmp_path)
  )
  assert out.startswith('parameters of frame 400\n')


@pytest.mark.parametrize(
  ('name', 'given'),
  [
    ('dueling_q.py', '--algo=a3c'),
    ('double_nstep_q.py', '--algo=one_step_q'),
    ('generalized_advantage.py', '--algo=nstep_q'),
    ('reinforce.py', '--t_max=5'),
    ('reinforce.py', '--entropy_cost=0.01'),
  ],
)
def test_what_a_variation_fixes_cannot_be_given(name, given, tmp_path):
  line = refused(run(f'variations/{name}', given, cwd=tmp_path))
  assert line.startswith(f'{given}: allowed here: ')


def test_the_online_network_chooses_in_double_q():
  names = load('double_nstep_q.py')
  network = networks.QNetwork(networks.MLPTorso(obs_dims=2), num_actions=3)
  obs = np.random.default_rng(0).uniform(size=(3, 1, 10, 5)).astype(np.float32)
  params, target = (
    network.init(jax.random.key(seed), obs[0]) for seed in (1, 2)
  )
  segment = types.Segment(
    obs=obs,
    a=np.zeros((3, 1), np.int32),
    r_t=np.ones((2, 1), np.float32),
    discount_t=np.full((2, 1), 0.5, np.float32),
    is_first=np.zeros((3, 1), bool),
    state=(),
    activations=(),
  )
  q, chosen = (network.apply(each, obs)[:, 0] for each in (params, target))
  assert int(q[2].argmax()) != int(chosen[2].argmax())
  last = 1 + 0.5 * chosen[2][q[2].argmax()]
  losses = [0.5 * (1 + 0.5 * last - q[0, 0]) ** 2, 0.5 * (last - q[1, 0]) ** 2]
  _, stats = names['double_nstep_q'](network).gradients(params, target, segment)
  assert float(stats['loss']) == pytest.approx(np.mean(losses), rel=1e-4)


def test_without_a_baseline_there_is_no_value_to_learn(tmp_path):
  for name, flag in (('with', ''), ('without', '--nobaseline')):
    command = f'reinforce.py --frames=3600 --workdir={name} --log_seconds=1e6'
    run_variation(f'{command} {flag}', tmp_path)
  (with_,), (without,) = (
    read_rows(tmp_path / name / 'train.csv') for name in ('with', 'without')
  )
  # Returns are 1 or -1, discounted: ½ (0.99^(2k)) on average over nine steps.
  squares = sum(0.99 ** (2 * k) for k in range(9)) / 9
  assert float(without['value_loss']) == pytest.approx(squares / 2, rel=1e-4)
  assert float(with_['value_loss']) < float(without['value_loss'])


def test_the_mean_of_dueling_values_is_that_of_the_state():
  names = load('dueling_q.py')
  obs = np.float32([[1, 2], [3, -4], [0, 1]])
  network = names['DuelingQNetwork'](networks.MLPTorso(obs_dims=1), 4)
  q, params = network.init_with_output(jax.random.key(1), obs)
  assert q.shape == (3, 4)
  layers = params['params']
  features = networks.MLPTorso(obs_dims=1).apply(
    {'params': layers['torso']}, obs
  )
  value = networks.Linear(1).apply({'params': layers['Linear_0']}, features)
  np.testing.assert_allclose(q.mean(axis=1), value[:, 0], rtol=1e-5)
  assert (q.std(axis=1) > 1e-3).all()
