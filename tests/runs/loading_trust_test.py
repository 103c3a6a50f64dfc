"""Code that a run's config.json names is not imported unless it is trusted."""

import functools
import sys

import gymnasium
import pytest
from results import change_record
from walks import train_catch, walk

import a3c_jax
from a3c_jax.core import errors
from a3c_jax.envs import domain as domain_lib
from a3c_jax.settings import build, config

STRANGER = """
import pathlib
pathlib.Path(__file__).with_name('imported').touch()
def run():
  pathlib.Path(__file__).with_name('called').touch()
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
  """A folder whose module `stranger` must not be imported."""
  (tmp_path / 'stranger.py').write_text(STRANGER)
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path
  sys.modules.pop('stranger', None)


def test_a_network_that_config_json_names_is_not_imported(stranger):
  run = stranger / 'run'
  train_catch(run)
  change_record(run, network='stranger:run')
  with pytest.raises(errors.UsageError) as error:
    a3c_jax.load(run)
  assert str(error.value) == (
    f'--workdir={run}: its config.json names code that would be imported and '
    'called: --network=stranger:run; allowed: --env and --network as the run '
    'has them, or --trust_workdir (in Python: trust=True), if you trust where '
    'it comes from'
  )
  assert not (stranger / 'imported').exists()
  # Whoever says how to make the learner says what is run.
  settings = config.make('catch')
  a3c_jax.load(
    run, make_learner=functools.partial(build.make_learner, settings)
  )
  assert not (stranger / 'imported').exists()
  with pytest.raises(errors.UsageError, match='returned NoneType'):
    a3c_jax.load(run, trust=True)
  assert (stranger / 'called').exists()


@pytest.mark.parametrize('domain', ['gym', 'control'])
@pytest.mark.parametrize('name', ['stranger:run', 'stranger:Game-v0'])
def test_an_environment_that_config_json_names_is_not_imported(
  stranger, domain, name
):
  walk(stranger / 'run')
  environment = {'env': name}
  change_record(
    stranger / 'run', domain=domain, environment=environment, spaces=None
  )
  with pytest.raises(errors.UsageError, match=f'called: --env={name}; allowed'):
    a3c_jax.load(stranger / 'run')
  # Text in its arguments may name code as well.
  environment['env_args'] = 'level=x'
  change_record(stranger / 'run', environment=environment)
  with pytest.raises(errors.UsageError) as error:
    a3c_jax.load(stranger / 'run')
  named = f'--env={name} --env_args={{"level": "x"}}; allowed: --trust'
  assert named in str(error.value)
  assert not (stranger / 'imported').exists()


def test_with_spaces_on_file_no_environment_needs_trust(stranger):
  walk(stranger / 'run')
  environment = {'env': 'stranger:run', 'env_args': 'level=x'}
  change_record(stranger / 'run', domain='gym', environment=environment)
  a3c_jax.load(stranger / 'run')
  assert not (stranger / 'imported').exists()


def code_named(domain='gym', network='mlp', **options):
  environment = domain_lib.get(domain).options(**options)
  settings = config.make(domain, network=network, environment=environment)
  return config.code_named(settings)


def test_code_that_has_to_be_trusted():
  assert code_named(env='CartPole-v1') == {}
  assert code_named(env='a3c_jax/Labyrinth-v0') == {}
  assert code_named(env='CartPole-v1', env_args='level=3') == {}
  assert code_named('control', env='dm_control/cheetah-run') == {}
  assert code_named('catch') == {}
  assert code_named(env='http.server:test') == {'env': 'http.server:test'}
  assert code_named(env='a:b', network='os:abort') == {
    'env': 'a:b',
    'network': 'os:abort',
  }
  assert code_named(env='a:b', env_args='level=3,sizes=[1,2]') == {'env': 'a:b'}
  # Shimmy's environment of this name imports what its argument names.
  assert code_named(env='GymV26Environment-v0', env_args='env_id=os:abort') == {
    'env': 'GymV26Environment-v0',
    'env_args': '{"env_id": "os:abort"}',
  }


def test_environments_of_other_packages_have_to_be_trusted(monkeypatch):
  registry = dict(gymnasium.registry)
  for name, entry_point in (
    ('Plugin-v0', 'stranger.envs:Game'),
    ('Alike-v0', 'gymnasium_alike:Game'),
    ('Function-v0', lambda: None),
  ):
    registry[name] = gymnasium.envs.registration.EnvSpec(
      name, entry_point=entry_point
    )
  monkeypatch.setattr(gymnasium, 'registry', registry)
  for name in ('Plugin-v0', 'Alike-v0', 'Function-v0'):
    assert code_named(env=name) == {'env': name}
