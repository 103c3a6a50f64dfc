"""A store whose parameters are in another process, and what may fail there.

What it shares with all stores is in the tests `parameters_*`.
"""

import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import remotes
from remotes import crossed
import stores
from stores import WAIT_SECONDS, contribution, in_threads, plain
from transitions import Worker, memory_for

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, threads
from a3c_jax.core import types as types_lib
from a3c_jax.envs import replayable
from a3c_jax.parameters import locked
from a3c_jax.parameters.store import LagBound
from a3c_jax.runtimes.cluster import server as server_lib
from a3c_jax.runtimes.cluster import wire
from a3c_jax.runtimes.cluster.remote_store import RemoteStore

SIZE = 1000
BYTES = 4 * SIZE


def state_of(actions):
  """The state of a worker after so many actions."""
  log = replayable.ActionLog(
    np.array([7]), np.array([0]), np.arange(actions).reshape(-1, 1)
  )
  return WorkerState(f'after {actions}', log)


class Workers:
  """A server, and the stores of processes that call it."""

  def __init__(self, workers=2, **given):
    self.params = np.zeros(SIZE, np.float32)
    self.process, self._accepts_factored = remotes.served(
      self.params,
      plain(),
      worker_states=[state_of(0)] * workers,
      **{'target_period': None} | given,
    )
    self._actions = [0] * workers

  def store(self, **given):
    return RemoteStore(
      self.process,
      self.params,
      accepts_factored=self._accepts_factored,
      **given,
    )

  def push(self, store, worker=0, *, gradient=1.0, read_version=None, **given):
    """A segment of three steps of a worker, whose log grows."""
    steps = 3
    if read_version is None:
      read_version = store.read().updates
    self._actions[worker] += steps
    grads = None if gradient is None else np.full(SIZE, gradient, np.float32)
    return store.push(
      contribution(
        worker,
        grads,
        steps,
        read_version=read_version,
        worker_state=state_of(self._actions[worker]),
        acted_versions=[0] * steps,
      ),
      **given,
    )

  def check_states(self, store):
    """Checks that the server knows where each worker stands."""
    state, _ = store.capture()
    for found, actions in zip(state.worker_states, self._actions, strict=True):
      stores.assert_same(found.action_log, state_of(actions).action_log)


@pytest.fixture
def workers():
  return Workers()


def test_processes_share_the_parameters(workers):
  first, second = workers.store(), workers.store()
  assert workers.push(first, 0)[:3] == (3, 1, 0)
  # Nobody asks for it in the second process.
  assert (second.read().updates, second.read().frames) == (0, 0)
  assert workers.push(second, 1)[:3] == (6, 2, 1)
  np.testing.assert_array_equal(second.read().params, np.full(SIZE, -2))
  assert first.read().updates == 1


def test_gradients_of_many_processes_add_up_exactly():
  workers = Workers(4)
  nodes = [workers.store(), workers.store()]
  pushes = 60

  def body(worker):
    for _ in range(pushes):
      workers.push(nodes[worker % 2], worker, gradient=worker + 1)

  in_threads(*[lambda worker=worker: body(worker) for worker in range(4)])
  driver = workers.store(asks=True)
  np.testing.assert_array_equal(
    driver.read().params, np.full(SIZE, -pushes * 10)
  )
  assert driver.read()[2:4] == (4 * pushes * 3, 4 * pushes)
  workers.check_states(driver)
  frames = [each.receipt.frames for each in driver.drain()]
  assert frames == []  # The capture had them.


def test_who_asks_reads_the_newest_version(workers):
  driver, node = workers.store(asks=True), workers.store()
  workers.push(node)
  version = driver.read()
  assert (version.updates, version.frames) == (1, 3)
  np.testing.assert_array_equal(version.params, np.full(SIZE, -1))
  received = driver.received
  assert driver.read().params is version.params
  assert driver.received == received  # Nothing that it has crosses again.


def test_an_answer_waits_until_it_is_so_many_updates_ahead(workers):
  slow, fast = workers.store(fetch_updates=3), workers.store()
  updates, frames = [], []
  for _ in range(4):
    workers.push(slow)
    updates.append(slow.read().updates)
    frames.append(slow.read().frames)
  assert updates == [0, 0, 3, 3]
  assert frames == [3, 6, 9, 12]  # Schedules need them.
  workers.push(fast, 1)
  workers.push(slow)
  assert slow.read().updates == 6
  np.testing.assert_array_equal(slow.read().params, np.full(SIZE, -6))


@pytest.mark.parametrize('fetch_updates', [1, 5])
def test_a_target_crosses_when_it_has_changed(fetch_updates):
  workers = Workers(target_period=types_lib.TargetPeriod(9))
  store = workers.store(fetch_updates=fetch_updates)
  before, found = store.received, []
  for gradient in (1.0, None, None, 1.0, None, None, None, 1.0):
    workers.push(store, gradient=gradient)
    version = store.read()
    target = int(version.target_params[0])
    found.append(((store.received - before) // BYTES, target))
    before = store.received
  if fetch_updates == 1:
    assert found == [
      *((1, 0), (0, 0), (1, -1)),  # Frame 9, by frames alone.
      *((1, -1), (0, -1), (1, -2)),
      *((0, -2), (1, -2)),
    ]
  else:  # Of parameters that are not known here.
    assert found == [
      *((0, 0), (0, 0), (1, -1)),
      *((0, -1), (0, -1), (1, -2)),
      *((0, -2), (0, -2)),
    ]


class Slow(server_lib.Server):
  """A server whose first thread pauses in the middle of numbering."""

  def __setattr__(self, name, value):
    super().__setattr__(name, value)
    if name == '_target' and not self.pausing.is_set():
      self.pausing.set()
      assert self.go_on.wait(WAIT_SECONDS)


def test_a_new_target_never_comes_with_the_number_of_the_old_one(monkeypatch):
  workers = Workers(target_period=types_lib.TargetPeriod(1, 'updates'))
  node, driver = workers.store(), workers.store(asks=True)
  server, found = workers.process.object, []
  monkeypatch.setattr(server, '__class__', Slow)
  server.pausing, server.go_on = threading.Event(), threading.Event()
  first = threading.Thread(target=workers.push, args=(node,))
  second = threading.Thread(target=lambda: found.append(driver.read()))
  first.start()
  assert server.pausing.wait(WAIT_SECONDS)
  second.start()
  second.join(0.05)  # Unless it has to wait for the first one.
  server.go_on.set()
  for thread in (first, second):
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
  assert found[0].updates == 1
  np.testing.assert_array_equal(found[0].target_params, found[0].params)


@pytest.mark.parametrize(('fails', 'applied'), [('before', 0), ('after', 1)])
def test_a_push_without_an_answer_is_applied_at_most_once(
  workers, fails, applied
):
  store = workers.store()
  workers.push(store)
  workers.process.fails = fails
  receipt = workers.push(store)
  assert receipt[:2] == (3 + 3 * applied, 1 + applied)
  assert store.read().updates == 1 + applied
  # The next log is whole: the server may not have the last part.
  assert workers.push(store)[:2] == (6 + 3 * applied, 2 + applied)
  workers.push(store)
  np.testing.assert_array_equal(
    store.read().params, np.full(SIZE, -3.0 - applied)
  )
  workers.check_states(store)


def test_a_process_that_is_replaced_may_push_no_more(workers):
  old, driver = workers.store(life=1), workers.store(asks=True)
  for worker in (0, 1):
    workers.push(old, worker)
  (state,) = crossed(workers.process.ask('take_over', [0], 2))
  assert state.carry == 'after 3'
  with pytest.raises(errors.RunError, match='another process'):
    workers.push(old, 0)
  workers._actions[0] = len(state.action_log.actions)
  new = workers.store(life=2)
  for _ in range(2):
    workers.push(new, 0)
  workers.push(old, 1)  # Which nobody has taken over.
  assert driver.read()[2:4] == (15, 5)
  workers.check_states(driver)


def test_who_takes_over_waits_for_a_push_that_was_not_refused(
  workers, monkeypatch
):
  old, found = workers.store(life=1), []
  unpacking, go_on = threading.Event(), threading.Event()
  unpacked = wire.unpacked

  def unpack(*arguments):
    unpacking.set()
    assert go_on.wait(WAIT_SECONDS)
    return unpacked(*arguments)

  monkeypatch.setattr(wire, 'unpacked', unpack)
  pushing = threading.Thread(target=workers.push, args=(old,))
  taking_over = threading.Thread(
    target=lambda: found.extend(workers.process.ask('take_over', [0], 2))
  )
  pushing.start()
  assert unpacking.wait(WAIT_SECONDS)
  taking_over.start()
  taking_over.join(0.05)  # Unless it has to wait for the push.
  go_on.set()
  for thread in (pushing, taking_over):
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
  assert old.read().updates == 1
  assert [state.carry for state in found] == ['after 3']


def test_without_a_server_all_but_reading_says_so(workers):
  node, driver = workers.store(), workers.store(asks=True)
  workers.push(node)
  workers.push(driver, 1)
  state, _ = driver.capture()
  workers.process.ended = True
  for call in (
    lambda: workers.push(node),
    lambda: node.leave(0),
    node.dropped,
    node.drain,
    node.capture,
    lambda: node.restore(state),
    node.forget,
    lambda: node.warm_up(workers.params),
  ):
    with pytest.raises(errors.LostError, match='parameter server has ended'):
      call()
  # The last row of the log and the result need it.
  assert driver.read().updates == 2
  np.testing.assert_array_equal(driver.read().params, np.full(SIZE, -2))


def test_who_goes_back_in_time_forgets_what_came_later(workers):
  driver, node = workers.store(asks=True), workers.store()
  workers.push(node)
  state, _ = driver.capture()
  for _ in range(3):
    workers.push(node)
  driver.restore(crossed(state))
  assert driver.read().updates == 1
  node.forget()
  assert node.read()[2:4] == (3, 1)
  np.testing.assert_array_equal(node.read().params, np.full(SIZE, -1))
  workers._actions = [3, 0]
  workers.push(node)  # With a whole log.
  assert driver.read()[2:4] == (6, 2)
  workers.check_states(driver)


def test_what_was_sent_may_be_applied_after_its_worker_has_stopped():
  workers = Workers(lag_bound=LagBound(1, 'wait'))
  store = workers.store()
  workers.push(store, 0)

  def stop():
    raise threads.Stopped

  with pytest.raises(threads.Stopped):
    workers.push(store, 0, while_waiting=stop)
  assert (
    workers.push(store, 1, read_version=0).lag == 1
  )  # Until now worker 0 has waited.
  driver = workers.store(asks=True)
  limit = time.monotonic() + WAIT_SECONDS
  while driver.read().updates < 3:
    assert time.monotonic() < limit
  workers.check_states(driver)


def test_times_are_of_the_clock_of_here(workers, monkeypatch):
  store = workers.store()
  other = types.SimpleNamespace(
    perf_counter=lambda: time.perf_counter() + 10**6
  )
  for module in (server_lib, locked):
    monkeypatch.setattr(module, 'time', other)
  times = [time.perf_counter()]
  for drain in (store.drain, lambda: store.capture()[1]):
    workers.push(store)
    times += [*[each.time for each in drain()], time.perf_counter()]
  assert len(times) == 5
  assert times == sorted(times)


def test_bytes_are_counted(workers):
  store = workers.store()
  assert (store.sent, store.received) == (0, BYTES)
  workers.push(store, gradient=None)
  without = store.sent
  assert without < BYTES
  workers.push(store)
  assert BYTES <= store.sent - without < 2 * BYTES
  assert store.received == 2 * BYTES


def test_transitions_for_a_memory_of_here_do_not_cross(workers):
  memory = memory_for(capacity=60, workers=2, num_envs=1, shared=False)
  store = workers.store(memory=memory)
  playing = Worker(np.random.default_rng(0), num_envs=1, stack=1, ends=0)
  given = contribution(
    0,
    None,
    3,
    worker_state=state_of(3),
    acted_versions=[0] * 3,
    transitions=playing.segment(3),
  )
  store.push(given)
  assert memory.capture().arrays['heads'].tolist()[0] == 3
  assert store.read().frames == 3
  sent = store.sent
  store.push(given._replace(played=(), frames=0))
  store.push(given)
  played = given.played[0]
  without = played._replace(transitions=None)
  size = jax.tree.reduce(
    lambda total, leaf: total + getattr(leaf, 'nbytes', 0), without, 0
  )
  assert store.sent - sent <= size + 100


def test_parameters_of_collections_come_back_in_their_places():
  params = {'params': {'w': jnp.ones((2, 3)), 'b': jnp.ones(2)}, 'other': {}}
  store = remotes.Remote(
    params, plain(), worker_states=['at 0'], target_period=None
  )
  stores.assert_same(store.read().params, params)
