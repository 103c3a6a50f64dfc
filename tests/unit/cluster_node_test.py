"""A node without Ray, whose threads only wait."""

import threading
import types

import pytest

from a3c_jax.core import threads
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

  watchdog_seconds = 300.0

  def opened(self, who):
    del who
    return self

  def members(self, indexes, site):
    site.make_store({}, None)
    team = [types.SimpleNamespace(state=(), index=each) for each in indexes]
    return runtime.Members(team, types.SimpleNamespace())


class Server:
  """Has parameters without an array."""

  def ask(self, method, *arguments):
    del method, arguments
    return wire.News(0, 0, 0, [], None, None)


@pytest.fixture
def of_one(monkeypatch):
  """A node of one worker."""
  monkeypatch.setattr(asynchronous, 'Asynchronous', Waits)
  monkeypatch.setattr(node, '_PERIOD_SECONDS', 0.01)
  found = node.Node()
  found.make(
    Recipe(),
    [Server()],
    number=0,
    indexes=[0],
    of_store={'accepts_factored': False},
  )
  return found


def test_work_that_is_called_again_ends_the_earlier_call_alone(of_one):
  calls = []
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
