"""The program `a3c-jax`, and modules that `--import` names."""

import json

import programs
from programs import refused, succeeded
import pytest
from results import change_record, read_record, read_rows
import script_runs

from a3c_jax.envs import domain

MODULE = """
import pathlib

from a3c_jax.algorithms import registry
from a3c_jax.envs import domain

pathlib.Path('imported').touch()
domain.register(domain.get('catch')._replace(name='own_catch'))
registry.register(registry.get('a3c')._replace(name='own_a3c'))
"""
MAIN = ('-m', 'a3c_jax', 'train')
EVALUATE = ('evaluate.py', '--workdir=r')
PLOT = ('plot.py', '--workdir=r')


@pytest.fixture
def run(tmp_path):
  """A function (arguments) -> exit code, stdout and stderr, in this process."""
  (tmp_path / 'own_module.py').write_text(MODULE)

  def run(*arguments):
    return script_runs.run(' '.join(arguments), cwd=tmp_path)

  return run


def test_without_scripts_a_domain_is_trained(tmp_path):
  flags = ('--threads=1', '--frames=90', '--rows=4', '--workdir=r')
  out = succeeded(programs.run(*MAIN, 'catch', *flags, cwd=tmp_path))
  assert out.endswith('results in r\n')
  record = read_record(tmp_path / 'r')['config']
  assert record['domain'] == 'catch'
  assert record['environment']['rows'] == 4
  assert read_rows(tmp_path / 'r/train.csv')[-1]['frames'] == '90'


def test_the_other_commands_are_those_of_the_scripts(run):
  program = ('-m', 'a3c_jax')
  out = succeeded(run(*program, '--help'))
  for command in ('train', 'evaluate', 'export', 'rerun'):
    assert f'a3c-jax {command} ' in out
  flags = ('--threads=1', '--frames=90', '--workdir=r', '--record')
  succeeded(run(*MAIN, 'catch', *flags))
  out = succeeded(run(*program, 'evaluate', '--workdir=r', '--episodes=2'))
  assert '2 episodes, plain' in out
  out = succeeded(run(*program, 'export', '--workdir=r', '--out=m'))
  assert '2 episodes' in succeeded(
    run(*program, 'evaluate', '--workdir=m', '--episodes=2')
  )
  assert 'update 18' in succeeded(run(*program, 'rerun', '--workdir=r'))


@pytest.mark.parametrize(
  ('command', 'first', 'flag'),
  [
    ('evaluate', 'Evaluates the trained policy', 'episodes'),
    ('export', 'Writes the trained policy', 'out'),
    ('rerun', 'Repeats a recorded', 'until'),
  ],
)
def test_help_lists_the_flags_of_a_command(run, command, first, flag):
  ours = succeeded(run('-m', 'a3c_jax', command, '--help'))
  script = succeeded(run(f'{command}.py', '--help'))
  for out in (ours, script):
    assert out.startswith(first)
    assert f'\n  --{flag}: ' in out and '\n  --workdir: ' in out


@pytest.mark.parametrize('arguments', [[], ['catch'], ['--workdir=r']])
def test_an_unknown_command_names_the_others(run, arguments):
  line = refused(run('-m', 'a3c_jax', *arguments))
  assert line.endswith(': allowed: train, evaluate, export, rerun, first')


def test_help_lists_the_domains_or_the_flags_of_one(run):
  out = succeeded(run(*MAIN, '--help'))
  for name in domain.names():
    assert f' {name}' in out
  out = succeeded(run(*MAIN, 'catch', '--help', '--algo=nstep_q'))
  assert '\n  --rows: ' in out and '\n  --exploration_ends: ' in out
  assert '--entropy_cost' not in out
  headings = [line for line in out.splitlines() if line.startswith('runtime ')]
  assert headings == [
    'runtime asynchronous, synchronous, cluster:',
    'runtime asynchronous, cluster:',
    'runtime asynchronous:',
    'runtime asynchronous, queues:',
    'runtime synchronous:',
    'runtime queues:',
    'runtime cluster:',
  ]


def test_queues_train_and_resume_as_no_other_runtime(run):
  given = (*MAIN, 'catch', '--frames=90', '--workdir=r')
  queues = ('--runtime=queues', '--agents=2')
  out = succeeded(run(*given, *queues, '--lag_correction=vtrace'))
  assert out.endswith('results in r\n')
  line = refused(run(*given, '--runtime=synchronous'))
  assert '--runtime' in line and 'queues' in line
  line = refused(run(*given, '--threads=2'))
  assert line.startswith('--threads: not a setting of --runtime=queues')
  succeeded(run(*given))


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    ([], 'catch'),
    (['--algo=a3c'], 'catch'),
    (['chess'], 'domain chess: unknown; allowed: atari, '),
    (['catch', 'pong'], 'pong: unexpected'),
    (['catch', '--import=no_such_module'], '--import=no_such_module: '),
    (['catch', '--import=own_module:f'], '--import=own_module:f: '),
  ],
)
def test_bad_input_ends_in_one_line(run, arguments, hint):
  assert hint in refused(run(*MAIN, *arguments))


def test_imported_modules_register_domains_and_algorithms(run, tmp_path):
  own = '--import=own_module'
  train = (*MAIN, 'own_catch', '--algo=own_a3c', '--workdir=r', '--threads=1')
  assert 'own_catch' in run(*MAIN, '--help', own)[1]
  train += (own, '--frames=90', '--entropy_cost=0.5')
  succeeded(programs.run(*train, cwd=tmp_path))
  record = read_record(tmp_path / 'r')['config']
  assert (record['domain'], record['algo']) == ('own_catch', 'own_a3c')
  assert record['algorithm']['entropy_cost'] == 0.5
  assert 'own_module' not in json.dumps(record)
  out = succeeded(run(*EVALUATE, '--episodes=1', '--import', 'own_module'))
  assert 'parameters of frame 90' in out
  pytest.importorskip('matplotlib')
  succeeded(run(*PLOT, own))

  # The run itself never has them imported.
  (tmp_path / 'imported').unlink()
  for script in (EVALUATE, PLOT):
    line = refused(run(*script))
    assert 'own_a3c is not registered here' in line
    assert '--import' in line
  for name, value in (
    ('algo', 'a3c'),
    ('domain', 'own_module'),
    ('import', ['own_module']),
  ):
    change_record(tmp_path / 'r', **{name: value})
    assert '--workdir=r: ' in refused(run(*EVALUATE))
  assert not (tmp_path / 'imported').exists()


@pytest.mark.parametrize('script', [(*MAIN, 'catch'), EVALUATE, PLOT])
def test_a_module_that_cannot_be_imported_is_told_in_one_line(
  run, tmp_path, script
):
  (tmp_path / 'twice.py').write_text('import own_module\n' + MODULE)
  line = refused(run(*script, '--import=twice'))
  assert line.startswith('--import=twice: importing it raised ValueError(')
  assert 'own_catch' in line and 'twice.py:9; allowed: ' in line
  (tmp_path / 'leaves.py').write_text('raise SystemExit(0)\n')
  assert 'SystemExit(0)' in refused(run(*script, '--import=leaves'))
  (tmp_path / 'interrupted.py').write_text('raise KeyboardInterrupt\n')
  result = run(*script, '--import=interrupted')
  assert result == (130, '', 'stopped\n')
