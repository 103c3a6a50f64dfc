"""Sets JAX up as the scripts do, before any test computes something."""

import logging
import os
import pathlib
import signal
import subprocess
import sys

import hypothesis
import jax
import marks
import programs
import psutil
import pytest
import script_runs
import searches

from a3c_jax.core import compiled, cpu, packages
from a3c_jax.runs import training

TESTS = pathlib.Path(__file__).parent
PROGRAMS_BYTES = 2**30  # Resident memory of this process.

cpu.set_up()
# For `caplog`; the library itself leaves levels to its users.
logging.getLogger('a3c_jax').setLevel(logging.INFO)
# Whatever started the tests, such as `nohup`, may ignore them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# So that a [T] that meets a [T, 1] fails aloud.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Python has the folder of a script there.
sys.path.append(str(TESTS.parent / 'experiments'))

# The same examples in every run, and few of them.
hypothesis.settings.register_profile(
  'tests', derandomize=True, deadline=None, max_examples=50
)
hypothesis.settings.load_profile('tests')


def pytest_configure(config):
  """Keeps what XLA compiles for the next session: `--cache-clear` forgets it.

  Most of the time of most tests goes into compiling the same as last time.
  """
  if not hasattr(config, 'cache'):  # -p no:cacheprovider
    return
  compiled.keep(config.cache.mkdir('compiled'))
  # Of the processes that tests start.
  for name in (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
  ):
    value = jax.config.values[name]
    if value is not None:
      os.environ[name.upper()] = str(value)
  # Pytest shows what Python would ignore, as do processes of other code.
  for line in compiled.WARNINGS:
    config.addinivalue_line('filterwarnings', f'ignore:{line}')
  os.environ['PYTHONWARNINGS'] = ','.join(
    f'ignore:{line}' for line in compiled.WARNINGS
  )


def pytest_collection_modifyitems(items):
  """Marks each test by its folder, which says what it costs.

  The examples in docstrings cost as little as the tests in tests/unit.
  """
  for item in items:
    folder = item.path.parent
    item.add_marker(folder.name if folder.parent == TESTS else 'unit')


def pytest_runtest_setup(item):
  for mark in item.iter_markers('needs'):
    reason = marks.why_not(*mark.args)
    if reason:
      pytest.skip(reason)


@pytest.fixture(scope='module', autouse=True)
def few_programs():
  """Forgets what JAX has compiled, where it takes a lot of memory.

  JAX keeps the programs of all tests that have run in this process.
  """
  yield
  if psutil.Process().memory_info().rss > PROGRAMS_BYTES:
    jax.clear_caches()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The folder of a short run on Catch."""
  return script_runs.train_catch(tmp_path_factory.mktemp('trained'))


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  """The folder of a short run on an environment of one's own, `mine`."""
  return script_runs.train_own(tmp_path_factory.mktemp('own'))


@pytest.fixture
def close_later(request):
  """Has an environment closed at the end of the test, and returns it."""

  def close_at_the_end(env):
    request.addfinalizer(env.close)
    return env

  return close_at_the_end


@pytest.fixture
def search(tmp_path, monkeypatch):
  """`searches.search`, in a folder of its own."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('PYTHONPATH', str(programs.ROOT), prepend=os.pathsep)
  return searches.search


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
  """Forgets the modules of other tests, which later processes would import."""
  monkeypatch.setattr(packages, '_loaded', [])


@pytest.fixture(autouse=True)
def cheap(request, monkeypatch):
  """Fails tests in tests/unit that train or start Python."""
  if request.node.get_closest_marker('unit') is None:
    return
  start = subprocess.Popen.__init__

  def refuse(*args, **kwargs):
    raise AssertionError('not in tests/unit: it takes too long')

  def start_others(self, args, *rest, **kwargs):
    (refuse if args[0] == sys.executable else start)(
      self, args, *rest, **kwargs
    )

  monkeypatch.setattr(training, 'run', refuse)
  monkeypatch.setattr(subprocess.Popen, '__init__', start_others)
  monkeypatch.setattr(os, 'fork', refuse)
