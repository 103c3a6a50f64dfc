"""What the registries of algorithms, domains and runtimes refuse."""

import dataclasses

import pytest
import script_flags

from a3c_jax.algorithms import registry as algorithms
from a3c_jax.algorithms.algorithm import Hyperparameters
from a3c_jax.core import errors, fields
from a3c_jax.envs import catch, domain
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.runtimes import runtime
from a3c_jax.settings import config, flags


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
  """Forgets, at the end, what a test registers."""
  monkeypatch.setattr(algorithms, '_algorithms', dict(algorithms._algorithms))
  monkeypatch.setattr(runtimes, '_runtimes', dict(runtimes._runtimes))
  monkeypatch.setattr(domain, '_registered', {})


def register_algorithm(name, settings=Hyperparameters):
  record = algorithms.get('a3c')
  algorithms.register(record._replace(name=name, hyperparameters=settings))


def register_domain(name, settings=catch.Options):
  domain.register(catch.DOMAIN._replace(name=name, options=settings))


class OneWorker(runtime.Settings):
  num_workers = 1


def register_runtime(name, settings=OneWorker):
  record = runtimes.get('asynchronous')
  runtimes.register(record._replace(name=name, settings_type=settings))


REGISTRIES = [
  (register_algorithm, algorithms, 'a3c'),
  (register_domain, domain, 'catch'),
  (register_runtime, runtimes, 'asynchronous'),
]


@pytest.mark.parametrize(('register', 'registry', 'ours'), REGISTRIES)
def test_a_name_is_taken_once(register, registry, ours):
  register('own')
  assert registry.get('own').name == 'own'
  assert registry.names()[-1] == 'own'
  for name in ('own', ours):
    with pytest.raises(ValueError, match=f'^[a-z]+ {name} is registered'):
      register(name)


@pytest.mark.parametrize('register', [each[0] for each in REGISTRIES])
@pytest.mark.parametrize('name', ['', 'two words', 'a/b', 'a,b', '-x', None])
def test_a_name_is_a_word(register, name):
  with pytest.raises(ValueError, match='^[a-z]+ .*: allowed: letters'):
    register(name)


def settings_with(kind, field):
  """A dataclass of settings whose only one is `size`."""
  return dataclasses.make_dataclass(
    'Settings', [('size', kind, field)], frozen=True, kw_only=True
  )


def size(**given):
  return fields.count('Size.', **{'default': 3, 'source': 'ours'} | given)


@pytest.mark.parametrize('register', [each[0] for each in REGISTRIES])
@pytest.mark.parametrize(
  ('settings', 'hint'),
  [
    (settings_with(int, dataclasses.field(default=3)), 'fields.setting'),
    (settings_with(int, size(source='')), 'a default and its source'),
    (
      settings_with(int, size(default=dataclasses.MISSING)),
      'a default and its source',
    ),
    (settings_with(dict, size()), 'is dict; allowed: bool, str, float, int'),
    (settings_with('int | None', size()), r'is int \| None; allowed: bool'),
    (settings_with(int, size(default=0)), 'default 0; allowed: .* >= 1'),
    (settings_with(int, size(default='x')), 'default x; allowed: .* >= 1'),
  ],
)
def test_a_setting_that_cannot_have_a_flag_is_refused(register, settings, hint):
  with pytest.raises(ValueError, match=f'^[a-z]+ own: size .*{hint}'):
    register('own', settings)
  for _, registry, _ in REGISTRIES:
    assert 'own' not in registry.names()


@pytest.mark.parametrize('register', [each[0] for each in REGISTRIES])
def test_settings_that_are_no_dataclass_are_refused(register):
  with pytest.raises(ValueError, match='^[a-z]+ own: its settings'):
    register('own', int)


@pytest.mark.parametrize(
  ('register', 'name', 'other', 'kind'),
  [
    (register_algorithm, 'lstm', 'a3c', 'bool'),
    (register_runtime, 'reduce', 'synchronous', 'str'),
  ],
)
def test_a_flag_has_one_type(register, name, other, kind):
  settings = dataclasses.make_dataclass('Settings', [(name, int, size())])
  with pytest.raises(ValueError) as error:
    register('own', settings)
  assert f'own: {name} is int, but {kind} in {other}' in str(error.value)


def test_every_type_that_is_allowed_can_be_read():
  assert tuple(flags._PARSERS) == fields.TYPES


def define_flags(name):
  with script_flags.forgotten():
    flags.define_run(name)


@pytest.mark.parametrize(
  ('register', 'name', 'owners'),
  [
    (register_algorithm, 'frames', ('every run', 'algorithm own')),
    (register_algorithm, 'environment', ('every run', 'algorithm own')),
    (
      register_algorithm,
      'agents',
      ('runtime queues', 'algorithm own'),
    ),
    (register_algorithm, 'rows', ('algorithm own', 'domain catch')),
    (register_runtime, 'frames', ('every run', 'runtime own')),
    (register_runtime, 'value_cost', ('runtime own', 'algorithm a3c')),
    (register_runtime, 'rows', ('runtime own', 'domain catch')),
    (register_domain, 'frames', ('every run', 'domain own')),
    (register_domain, 'agents', ('runtime queues', 'domain own')),
    (register_domain, 'lstm', ('algorithm a3c', 'domain own')),
  ],
)
def test_one_name_is_one_setting(register, name, owners):
  base = Hyperparameters if register is register_algorithm else OneWorker
  settings = dataclasses.make_dataclass(
    'Settings',
    [(name, int, size())],
    bases=() if register is register_domain else (base,),
    frozen=True,
    kw_only=True,
  )
  register('own', settings)
  used = 'own' if register is register_domain else 'catch'
  algo = 'own' if register is register_algorithm else 'a3c'
  first, second = owners
  for use in (
    lambda: config.make(used, algo=algo),
    lambda: define_flags(used),
  ):
    with pytest.raises(errors.UsageError) as error:
      use()
    assert str(error.value).startswith(
      f'--{name}: a setting of {first} and of {second}; allowed: '
    )


@pytest.mark.parametrize(
  ('default', 'hint'),
  [
    (
      {'tmax': (5, 'ours')},
      'a default of tmax; allowed: acting, adagrad_epsilon, ',
    ),
    ({'t_max': 5}, 'the default 5 of t_max; allowed: a value and its source'),
  ],
)
def test_defaults_are_those_of_settings_and_have_sources(default, hint):
  own = algorithms.get('a3c')
  algorithms.register(own._replace(name='own', defaults={'catch': default}))
  presets = {'best': {'catch': default}}
  algorithms.register(own._replace(name='own2', presets=presets))
  domain.register(catch.DOMAIN._replace(name='own', defaults=default))
  for owner, given in (
    ('algorithm own', {'domain': 'catch', 'algo': 'own'}),
    ('algorithm own2', {'domain': 'catch', 'algo': 'own2', 'preset': 'best'}),
    ('domain own', {'domain': 'own'}),
  ):
    with pytest.raises(errors.UsageError) as error:
      config.make(**given)
    assert str(error.value).startswith(f'{owner} has {hint}')
  with pytest.raises(errors.UsageError):
    define_flags('catch')


def test_settings_of_a_runtime_say_how_many_workers_there_are():
  with pytest.raises(ValueError, match='own: its settings need num_workers'):
    register_runtime('own', runtime.Settings)
  register_runtime('idle', type('Idle', (OneWorker,), {'num_workers': 0}))
  with pytest.raises(errors.UsageError, match='^--runtime=idle: no thread'):
    config.make('catch', runtime='idle')
