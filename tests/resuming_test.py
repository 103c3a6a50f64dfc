"""What a script takes from the run that it resumes, in this process."""

import importlib.util
import pathlib
import sys

from absl import flags
import pytest
import script_flags

from a3c_jax import checks, workdir

ROOT = pathlib.Path(__file__).parents[1]


def script_of(monkeypatch, name):
  """A script's module, whose flags belong to the test that forgets them."""
  path = ROOT / 'experiments' / name
  spec = importlib.util.spec_from_file_location('resumed_script', path)
  module = importlib.util.module_from_spec(spec)
  monkeypatch.setitem(sys.modules, spec.name, module)  # As dataclasses want.
  spec.loader.exec_module(module)
  return module


def claimed(monkeypatch, name, *arguments):
  """The config with which a script trains, whose folder it claims."""
  configs = []

  def train(config):
    with workdir.Workdir(config) as folder:
      folder.claim(0)
    configs.append(config)

  with script_flags.forgotten():
    script = script_of(monkeypatch, name)
    monkeypatch.setattr(script.training, 'train', train)
    flags.FLAGS([name, *arguments])
    script.main()
  return configs[0]


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('atari.py', {'game': 'breakout', 'sticky': 0.25, 'noops': 7}),
    ('gym_env.py', {'env': 'Acrobot-v1'}),
    ('continuous_control.py', {'env': 'Pendulum-v1', 'action_repeat': 3}),
    ('labyrinth.py', {'maze_size': 15, 'apples': 2}),
    ('torcs_racing.py', {'track': 'g-track-1', 'opponents': 2}),
  ],
)
def test_a_resumed_run_has_the_environment_it_began_with(
  monkeypatch, tmp_path, name, options
):
  monkeypatch.chdir(tmp_path)
  given = [f'--{option}={value}' for option, value in options.items()]
  began = claimed(monkeypatch, name, '--workdir=r', '--threads=7', *given)
  resumed = claimed(monkeypatch, name, '--workdir=r')
  assert resumed == began
  option, value = next(iter(options.items()))
  with pytest.raises(checks.UsageError, match=f'^--{option}=.*: the run in r '):
    other = {'game': 'pong', 'maze_size': '9'}.get(option, 'CartPole-v1')
    claimed(monkeypatch, name, '--workdir=r', f'--{option}={other}')


@pytest.mark.parametrize('name', ['gym_env.py', 'continuous_control.py'])
def test_an_environment_is_not_imported_because_a_folder_says_so(
  monkeypatch, tmp_path, name
):
  monkeypatch.chdir(tmp_path)
  again = ('--workdir=r', '--env=os:abort')
  claimed(monkeypatch, name, *again)
  with pytest.raises(checks.UsageError) as error:
    claimed(monkeypatch, name, '--workdir=r')
  assert str(error.value) == (
    '--env: the run in r has os:abort, which decides what code runs; allowed: '
    '--env=os:abort, given again'
  )
  claimed(monkeypatch, name, *again)


def test_arguments_of_an_environment_come_from_the_run(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  began = claimed(
    monkeypatch, 'gym_env.py', '--workdir=r', '--env_args=level=3'
  )
  assert began.environment['env_args'] == {'level': 3}
  assert claimed(monkeypatch, 'gym_env.py', '--workdir=r') == began
  # Text may name code, if the environment is not Gymnasium's own.
  env = '--env=os:abort'
  text = ('--workdir=s', env, '--env_args=level=x:y')
  claimed(monkeypatch, 'gym_env.py', *text)
  with pytest.raises(checks.UsageError, match='^--env_args: the run in s has '):
    claimed(monkeypatch, 'gym_env.py', '--workdir=s', env)
  claimed(monkeypatch, 'gym_env.py', *text)


def test_the_working_directory_may_be_gone(monkeypatch, tmp_path):
  (tmp_path / 'gone').mkdir()
  monkeypatch.chdir(tmp_path / 'gone')
  (tmp_path / 'gone').rmdir()
  with pytest.raises(checks.UsageError, match='current folder is not there'):
    claimed(monkeypatch, 'catch.py', '--workdir=r')
  claimed(monkeypatch, 'catch.py', f'--workdir={tmp_path}/r')
