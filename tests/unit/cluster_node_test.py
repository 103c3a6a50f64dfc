"""A node without Ray, whose threads only wait."""

import itertools
import threading
import types

import pytest

from a3c_jax.core import errors, threads
from a3c_jax.runtimes import asynchronous, runtime
from a3c_jax.runtimes.cluster import node, wire


class Waits:
  """An arrangement of one thread, which waits until it has to stop."""

  def __init__(self, *_):
    pass

  def warm_up(self):
    pass

  def threads(self):
    return threads.ThreadGroup({'waits': threading.Event.wait})


class Recipe:
  """Of one worker with no environment."""

  def __init__(self, watchdog_seconds=300.0, make_env=lambda: None):
    self.watchdog_seconds = watchdog_seconds
    self._make_env = make_env

  def opened(self, who):
    del who
    return self

  def members(self, indexes, site):
    site.make_store({}, None)
    self._make_env()
    team = [types.SimpleNamespace(state=(), index=each) for each in indexes]
    return runtime.Members(team, types.SimpleNamespace())


class Server:
  """Has parameters without an array."""

  def ask(self, method, *arguments):
    del method, arguments
    return wire.News(0, 0, 0, [], None, None)


@pytest.fixture
def make(monkeypatch):
  """Makes a node of one worker."""
  monkeypatch.setattr(asynchronous, 'Asynchronous', Waits)
  monkeypatch.setattr(node, '_PERIOD_SECONDS', 0.01)

  def make(recipe):
    found = node.Node()
    found.make(
      recipe,
      [Server()],
      number=0,
      indexes=[0],
      of_store={'accepts_factored': False},
    )
    return found

  return make


def test_an_environment_that_hangs_while_it_is_made_is_found(make):
  ends = threading.Event()
  with pytest.raises(
    errors.HungError, match='no progress of node 0, setting up, for'
  ):
    make(Recipe(0.2, lambda: ends.wait(60)))
  ends.set()


def test_an_environment_that_computes_while_it_is_made_does_not_hang(
  make, monkeypatch
):
  monkeypatch.setattr(node.time, 'process_time', itertools.count().__next__)
  make(Recipe(0.05, lambda: threading.Event().wait(0.5)))


def test_an_environment_raises_while_it_is_made(make):
  with pytest.raises(ZeroDivisionError):
    make(Recipe(make_env=lambda: 1 // 0))


def test_work_that_is_called_again_ends_the_earlier_call_alone(make):
  of_one, calls = make(Recipe()), []
  for _ in range(5):
    calls.append(threading.Thread(target=of_one.work, daemon=True))
    calls[-1].start()
    for earlier in calls[:-1]:
      earlier.join(60)
      assert not earlier.is_alive()
    assert calls[-1].is_alive()
  of_one.stop()
  calls[-1].join(60)
  assert not calls[-1].is_alive()
