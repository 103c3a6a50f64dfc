"""Settings of a cluster, and what its processes need to start."""

import importlib.metadata
import sys

import pytest

from a3c_jax.core import errors, packages
from a3c_jax.parameters.store import LagBound
from a3c_jax.runtimes.cluster import cluster, processes


def settings(**given):
  made = cluster.Settings(**{'nodes': 2, 'threads': 3} | given)
  made.check_together()
  return made


def test_workers_are_the_threads_of_all_nodes():
  assert settings().num_workers == 6
  assert settings().lag_bound is None
  assert settings(max_restarts=4).max_losses == 4


@pytest.mark.parametrize(
  ('given', 'line'),
  [
    (
      {'max_lag': 4, 'when_late': 'wait'},
      '--max_lag=4: with --when_late=wait each of 6 workers must be able to '
      'wait for the others; allowed: at least 5, or 0 for no bound',
    ),
    (
      {'max_lag': 1, 'fetch_updates': 2},
      '--fetch_updates=2: with --max_lag each answer must have the newest '
      'parameters; allowed: 1',
    ),
  ],
)
def test_what_does_not_go_together_is_refused(given, line):
  with pytest.raises(errors.UsageError) as caught:
    settings(**given)
  assert str(caught.value) == line


@pytest.mark.parametrize(
  'given',
  [
    {'max_lag': 5, 'when_late': 'wait'},
    {'max_lag': 1},
    {'fetch_updates': 9},
  ],
)
def test_what_goes_together_is_accepted(given):
  bound = settings(**given).lag_bound
  if 'max_lag' in given:
    assert bound == LagBound(given['max_lag'], given.get('when_late', 'drop'))


class Recipe:
  """Compared by what it is made of."""

  def __init__(self, call):
    self.call = call


def test_functions_of_a_script_cross_by_value():
  number = 41
  luggage = processes.Luggage.packed(Recipe(lambda: number + 1))
  assert luggage.opened('node 0').call() == 42


def test_what_cannot_be_pickled_is_refused_in_one_line():
  with pytest.raises(errors.UsageError) as caught:
    processes.Luggage.packed(Recipe(sys._getframe()))
  line = str(caught.value)
  assert line.startswith('--runtime=cluster: cannot be sent to other processes')
  assert 'frame' in line
  assert '\n' not in line


@pytest.mark.parametrize(
  'raised, words', [('not me:\n  never', 'not me: never'), ('', 'TypeError')]
)
def test_what_refuses_to_be_pickled_is_refused_in_one_line(raised, words):
  class Refuses:
    def __reduce__(self):
      raise TypeError(raised)

  with pytest.raises(errors.UsageError) as caught:
    processes.Luggage.packed(Recipe(Refuses()))
  assert f'sent to other processes, {words}; allowed: ' in str(caught.value)


def test_modules_that_register_parts_are_imported_first(tmp_path, monkeypatch):
  (tmp_path / 'of_a_user.py').write_text('import sys\nsys.of_a_user = 1\n')
  monkeypatch.setattr(packages, '_loaded', [])
  monkeypatch.setattr(sys, 'path', [*sys.path, str(tmp_path)])
  packages.load_module('of_a_user', flag='import')
  luggage = processes.Luggage.packed(Recipe(None))
  assert luggage.modules == ('of_a_user',)
  assert str(tmp_path) in luggage.path
  monkeypatch.delitem(sys.modules, 'of_a_user')
  monkeypatch.delattr(sys, 'of_a_user')
  # The other process does not have the folder in its path.
  monkeypatch.setattr(sys, 'path', sys.path[:-1])
  luggage.opened('node 1')
  assert sys.of_a_user == 1
  monkeypatch.delattr(sys, 'of_a_user')


def test_another_version_there_names_process_machine_and_package(monkeypatch):
  luggage = processes.Luggage.packed(Recipe(None))
  here = importlib.metadata.version
  monkeypatch.setattr(
    importlib.metadata,
    'version',
    lambda name: '0.0.7' if name == 'optax' else here(name),
  )
  monkeypatch.setattr(processes.socket, 'gethostname', lambda: 'machine-7')
  with pytest.raises(errors.UsageError) as caught:
    luggage.opened('node 2')
  assert str(caught.value) == (
    '--runtime=cluster: optax has version 0.0.7 on a machine; allowed: '
    f'{here("optax")}, as where the run was started; found by node 2 on '
    'machine-7'
  )


def test_a_module_that_is_missing_there_names_process_and_machine(monkeypatch):
  monkeypatch.setattr(packages, '_loaded', ['no_such_module_there'])
  monkeypatch.setattr(processes.socket, 'gethostname', lambda: 'machine-7')
  luggage = processes.Luggage.packed(Recipe(None))
  with pytest.raises(errors.UsageError) as caught:
    luggage.opened('node 1')
  line = str(caught.value)
  assert 'no_such_module_there' in line
  assert line.endswith('; found by node 1 on machine-7')
