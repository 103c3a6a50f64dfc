"""Where a cluster may run, and what is refused before it starts."""

import importlib.util
import socket

import marks
import pytest

from a3c_jax.core import errors
from a3c_jax.runtimes.cluster import engine


@pytest.mark.parametrize(
  'value', ['local', 'head:6379', '10.0.0.1:1', '10.0.0.1:65535']
)
def test_an_address_is_local_or_a_host_and_a_port(value):
  assert engine.is_address(value)


@pytest.mark.parametrize(
  'value',
  ['', 'auto', ':6379', 'head', 'head:', 'head:x', 'head:63 79', 'head:６'],
)
def test_another_address_is_refused(value):
  assert not engine.is_address(value)


def refused(address, *, parts=1, cpus=1):
  with (
    pytest.raises(errors.UsageError) as caught,
    engine.connected(address, parts=parts, cpus=cpus),
  ):
    raise AssertionError('connected')
  line = str(caught.value)
  assert '\n' not in line
  assert line.startswith(f'--address={address}: ')
  return line


@pytest.mark.parametrize('address', ['local', '127.0.0.1:6379'])
def test_without_ray_it_says_how_to_install_it(monkeypatch, address):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  line = refused(address)
  assert 'ray is not installed' in line
  assert "'a3c_jax[cluster]'" in line


@pytest.fixture
def port():
  """A port of this machine at which something accepts, but never answers."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    yield server.getsockname()[1]


@marks.needs_ray
def test_where_nothing_answers_no_cluster_is():
  with socket.create_server(('127.0.0.1', 0)) as server:
    free = server.getsockname()[1]
  assert 'Connection refused' in refused(f'127.0.0.1:{free}')


@marks.needs_ray
def test_what_answers_must_be_ray(port, monkeypatch):
  monkeypatch.setattr(engine, '_ANSWER_SECONDS', 0.5)
  assert 'not within 0.5 s' in refused(f'127.0.0.1:{port}')


@marks.needs_ray
def test_an_unknown_host_is_refused():
  assert 'no cluster of Ray answers' in refused('no-such-host.invalid:6379')


@marks.needs_ray
def test_ray_must_not_be_in_use_already(monkeypatch):
  import ray

  monkeypatch.setattr(ray, 'is_initialized', lambda: True)
  assert 'uses Ray already; allowed: after ray.shutdown()' in refused('local')
