"""What a script takes from the run that it resumes, in this process."""

from absl import flags
import pytest
import script_flags

from a3c_jax.core import errors
from a3c_jax.runs import workdir
from a3c_jax.settings import flags as flags_lib


def claimed(domain, *arguments):
  """The config with which a domain's script trains, whose folder it claims."""
  with script_flags.forgotten():
    make_config = flags_lib.define_run(domain)
    flags.FLAGS(['script.py', *arguments])
    config = make_config()
  with workdir.Workdir(config) as folder:
    folder.claim(0)
  return config


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('atari', {'game': 'breakout', 'sticky': 0.25, 'noops': 7}),
    ('gym', {'env': 'Acrobot-v1'}),
    ('control', {'env': 'Pendulum-v1', 'action_repeat': 3}),
    ('labyrinth', {'maze_size': 15, 'apples': 2}),
    ('torcs', {'track': 'g-track-1', 'opponents': 2}),
  ],
)
def test_a_resumed_run_has_the_environment_it_began_with(
  monkeypatch, tmp_path, name, options
):
  monkeypatch.chdir(tmp_path)
  given = [f'--{option}={value}' for option, value in options.items()]
  began = claimed(name, '--workdir=r', '--threads=7', *given)
  resumed = claimed(name, '--workdir=r')
  assert resumed == began
  option, value = next(iter(options.items()))
  with pytest.raises(errors.UsageError, match=f'^--{option}=.*: the run in r '):
    other = {'game': 'pong', 'maze_size': '9'}.get(option, 'CartPole-v1')
    claimed(name, '--workdir=r', f'--{option}={other}')


@pytest.mark.parametrize('name', ['gym', 'control'])
def test_an_environment_is_not_imported_because_a_folder_says_so(
  monkeypatch, tmp_path, name
):
  monkeypatch.chdir(tmp_path)
  again = ('--workdir=r', '--env=os:abort')
  claimed(name, *again)
  with pytest.raises(errors.UsageError) as error:
    claimed(name, '--workdir=r')
  assert str(error.value) == (
    '--env: the run in r has os:abort, which decides what code runs; allowed: '
    '--env=os:abort, given again'
  )
  claimed(name, *again)


def test_arguments_of_an_environment_come_from_the_run(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  began = claimed('gym', '--workdir=r', '--env_args=level=3')
  assert began.environment.env_args == '{"level": 3}'
  assert claimed('gym', '--workdir=r') == began
  # Text may name code, if the environment is not Gymnasium's own.
  env = '--env=os:abort'
  text = ('--workdir=s', env, '--env_args=level=x:y')
  claimed('gym', *text)
  with pytest.raises(errors.UsageError, match='^--env_args: the run in s has '):
    claimed('gym', '--workdir=s', env)
  claimed('gym', *text)


def test_the_working_directory_may_be_gone(monkeypatch, tmp_path):
  (tmp_path / 'gone').mkdir()
  monkeypatch.chdir(tmp_path / 'gone')
  (tmp_path / 'gone').rmdir()
  with pytest.raises(errors.UsageError, match='current folder was removed'):
    claimed('catch', '--workdir=r')
  claimed('catch', f'--workdir={tmp_path}/r')
