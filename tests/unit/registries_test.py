"""What the registries of algorithms, domains and runtimes refuse."""

import dataclasses

import pytest

from a3c_jax.algorithms import registry as algorithms
from a3c_jax.algorithms.algorithm import Hyperparameters
from a3c_jax.core import fields
from a3c_jax.envs import catch, domain
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.runtimes import runtime
from a3c_jax.settings import flags


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


def register_runtime(name, settings=runtime.Settings):
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
