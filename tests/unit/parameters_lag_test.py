"""How parameter stores bound the lag of gradients."""

import random
import threading

import jax.numpy as jnp
import numpy as np
import pytest
import remotes
import stores
from stores import WAIT_SECONDS, contribution, for_each, push

from a3c_jax.core import events, threads
from a3c_jax.parameters.lag import Lags
from a3c_jax.parameters.store import Dropped, LagBound, Replayed


@pytest.fixture(params=stores.LOCKED, ids=lambda store: store.__name__)
def make(request):
  return stores.maker(request.param)


def bounded(make, most, when_late, **given):
  store = make(lag_bound=LagBound(most, when_late), **given)
  store.warm_up(jnp.ones(()))
  return store


class Waiter:
  """A push in a thread of its own, and whether it waits or has ended."""

  def __init__(self, store, worker, read_version=0):
    self.waits, self.stop = threading.Event(), threading.Event()
    self.receipt = self.error = None

    def check():
      self.waits.set()
      if self.stop.is_set():
        raise threads.Stopped

    def run():
      given = contribution(worker, jnp.ones(()), 1, read_version=read_version)
      try:
        self.receipt = store.push(given, while_waiting=check)
      except threads.Stopped as error:
        self.error = error

    self._thread = threading.Thread(target=run, daemon=True)
    self._thread.start()

  def join(self):
    self._thread.join(WAIT_SECONDS)
    assert not self._thread.is_alive()


def test_a_late_gradient_is_dropped_and_counted_and_its_frames_count(make):
  store = bounded(make, 2, 'drop', workers=2)
  for _ in range(2):
    push(store, 0, jnp.ones(()), 10, read_version=store.read().updates)
  # A lag of 2 is allowed, one of 3 is not.
  in_time = push(store, 1, jnp.full((), 4.0), 10, read_version=0)
  assert (in_time.lag, store.read().params) == (2, -6)
  assert store.dropped() == Dropped(late=0)
  late = push(
    store,
    1,
    jnp.full((), 100.0),
    10,
    read_version=0,
    worker_state='after',
    events=('episode',),
    of_gradient=(events.LearningStatistics(np.zeros(1)),),
  )
  assert (late.lag, late.frames, late.version) == (3, 40, 3)
  assert store.read().params == -6
  assert store.dropped() == Dropped(late=1)
  *_, applied = store.drain()
  # As of a gradient that is not finite: nothing is learnt from these steps.
  assert applied.policy_lags.tolist() == []
  assert applied.events == ('episode',)
  state, _ = store.capture()
  assert state.worker_states[1] == 'after'


def test_frames_alone_are_never_late(make):
  store = bounded(make, 1, 'drop')
  for _ in range(5):
    push(store, 0, jnp.ones(()), 1, read_version=store.read().updates)
  push(store, 0, None, 1, read_version=0)
  assert store.dropped() == Dropped()


class Memory:
  """Keeps the errors that it gets."""

  def __init__(self):
    self.errors = []

  def reprioritize(self, worker, where, errors):
    self.errors.append((worker, *errors.tolist()))


def test_errors_of_a_late_minibatch_are_no_priorities(make):
  memory = Memory()
  store = bounded(make, 1, 'drop', workers=2, memory=memory)
  for worker, error in ((0, 5.0), (1, 6.0), (0, 7.0)):
    minibatch = Replayed(worker, np.array([[0, 0]]), np.float32([error]))
    given = contribution(worker, jnp.ones(()), 0)  # Of version 0.
    store.push(given._replace(replayed=(minibatch,)))
  assert store.dropped() == Dropped(late=1)
  assert memory.errors == [(0, 5.0), (1, 6.0)]


def test_without_a_bound_nothing_is_late(make):
  store = make(workers=2)
  for _ in range(50):
    push(store, 0, jnp.ones(()), 1, read_version=0)
  assert (store.read().updates, store.dropped()) == (50, Dropped())
  store.leave(0)


def test_outliers_that_workers_discard_are_counted(make):
  store = make()
  for outliers in (0, 1, 3):
    store.push(contribution(0, None, 0)._replace(outliers=outliers))
  assert store.dropped() == Dropped(late=0, outliers=4)


def test_many_threads_drop_exactly_what_is_late(make):
  workers, pushes, most = 4, 60, 2
  store = bounded(make, most, 'drop', workers=workers)
  receipts = [[] for _ in range(workers)]

  def body(worker):
    dice = random.Random(worker)
    old = 0
    for _ in range(pushes):
      # Sometimes of the version before, which others may have left behind.
      version = store.read().updates
      read = version if dice.random() < 0.5 else old
      old = version
      gradient = jnp.full((), float(worker + 1))
      receipt = push(store, worker, gradient, 1, read_version=read)
      receipts[worker].append(receipt)

  for_each(workers, body)
  learnt = [sum(receipt.lag <= most for receipt in each) for each in receipts]
  assert store.read().params == -sum(
    (worker + 1) * count for worker, count in enumerate(learnt)
  )
  assert store.read().updates == sum(learnt)
  assert store.dropped().late == workers * pushes - sum(learnt)
  assert store.read().frames == workers * pushes


@pytest.mark.parametrize(('workers', 'most'), [(1, 1), (2, 1), (4, 3), (4, 5)])
def test_with_wait_nothing_is_lost_and_no_lag_is_too_large(make, workers, most):
  # At the least bound, one less than the workers, each waits for all others.
  pushes = 60
  store = bounded(make, most, 'wait', workers=workers)
  lags = []

  def body(worker):
    dice = random.Random(worker)
    for _ in range(pushes):
      if dice.random() < 0.3:  # Frames alone, as of a segment that is stored.
        push(store, worker, None, 1)
      read = store.read().updates
      if dice.random() < 0.5 * worker / workers:
        threading.Event().wait(0.002)  # Some are slow.
      gradient = jnp.full((), float(worker + 1))
      lags.append(push(store, worker, gradient, 1, read_version=read).lag)
    store.leave(worker)

  for_each(workers, body)
  assert store.read().params == -pushes * sum(range(1, workers + 1))
  assert store.read().updates == len(lags) == workers * pushes
  assert store.dropped() == Dropped()
  assert max(lags) <= most


def test_a_fast_worker_waits_for_a_slow_one(make):
  store = bounded(make, 2, 'wait', workers=2)
  push(store, 0, jnp.ones(()), 1)
  push(store, 0, jnp.ones(()), 1, read_version=1)
  # Worker 1 may still be at version 0. After a third update its lag is 3.
  waiter = Waiter(store, 0, read_version=2)
  assert waiter.waits.wait(WAIT_SECONDS)
  assert store.read().updates == 2
  state, applied = store.capture(timeout=WAIT_SECONDS)  # The lock is free.
  assert (state.version.updates, len(applied)) == (2, 2)
  assert push(store, 1, jnp.ones(()), 1, read_version=0).lag == 2
  waiter.join()
  assert (waiter.receipt.version, waiter.receipt.lag) == (4, 1)
  assert waiter.receipt.lock_wait_seconds > 0


@pytest.mark.parametrize(
  'free',
  [
    lambda store: push(store, 1, None, 1),  # It reads after this.
    lambda store: store.leave(1),
  ],
  ids=['frames', 'leave'],
)
def test_who_waits_goes_on_when_the_other_one_needs_no_update(make, free):
  store = bounded(make, 1, 'wait', workers=2)
  push(store, 0, jnp.ones(()), 1)
  waiter = Waiter(store, 0, read_version=1)
  assert waiter.waits.wait(WAIT_SECONDS)
  free(store)
  waiter.join()
  assert store.read().updates == 2


def test_who_is_stopped_while_it_waits_has_pushed_nothing(make):
  store = bounded(make, 1, 'wait', workers=2)
  if isinstance(store, remotes.Remote):
    pytest.skip('what was sent to another process may still be applied')
  push(store, 0, jnp.ones(()), 1)
  waiter = Waiter(store, 0, read_version=1)
  assert waiter.waits.wait(WAIT_SECONDS)
  waiter.stop.set()
  waiter.join()
  assert isinstance(waiter.error, threads.Stopped)
  version = store.read()
  assert (version.updates, version.frames, version.params) == (1, 1, -1)
  assert len(store.drain()) == 1
  # The store still works.
  push(store, 1, jnp.ones(()), 1)
  assert store.read().updates == 2


def test_a_gradient_of_a_version_older_than_promised_is_dropped(make):
  # The worker kept version 0 beyond its push.
  store = bounded(make, 1, 'wait')
  for _ in range(2):
    push(store, 0, jnp.ones(()), 1, read_version=store.read().updates)
  push(store, 0, jnp.ones(()), 1, read_version=0)
  assert store.read().updates == 2
  assert store.dropped() == Dropped(late=1)


def test_a_bound_under_which_workers_would_wait_for_ever_is_refused(make):
  with pytest.raises(ValueError, match='at least 3, not 2'):
    bounded(make, 2, 'wait', workers=4)
  bounded(make, 2, 'drop', workers=4)


def test_a_store_that_resumes_expects_gradients_of_its_version(make):
  first = make(workers=2)
  for _ in range(9):
    push(first, 0, jnp.ones(()), 1)
  state, _ = first.capture()
  second = bounded(make, 1, 'wait', workers=2)
  second.restore(state)
  push(second, 0, jnp.ones(()), 1, read_version=9)
  waiter = Waiter(second, 0, read_version=10)
  assert waiter.waits.wait(WAIT_SECONDS)
  assert push(second, 1, jnp.ones(()), 1, read_version=9).lag == 1
  waiter.join()
  assert second.read().updates == 12


def test_the_rule_by_hand():
  lags = Lags(LagBound(3, 'wait'), workers=3)
  # After an update of worker 0, workers 1 and 2 can be 1 and 2 behind.
  assert not lags.must_wait([0], updates=0)
  lags.pushed(0, 1)
  assert not lags.must_wait([0], updates=1)  # 2 and 3.
  lags.pushed(0, 2)
  assert lags.must_wait([0], updates=2)  # 3 and 4.
  assert not lags.must_wait([1], updates=2)  # Worker 2: 3; worker 0: 1 + 1.
  lags.pushed(1, 3)
  assert lags.must_wait([0], updates=3)  # Worker 2: 4.
  assert lags.must_wait([1], updates=3)
  assert not lags.must_wait([2], updates=3)  # Workers 0, 1: 2 and 1 + 1.
  # A contribution of all workers, as in rounds, waits for nobody.
  assert not lags.must_wait([0, 1, 2], updates=3)
  lags.left(2)
  assert not lags.must_wait([0], updates=3)
  dropping = Lags(LagBound(1, 'drop'), workers=3)
  assert not dropping.must_wait([0], updates=99)
  assert [dropping.is_late(read, 9) for read in (7, 8, 9)] == [
    True,
    False,
    False,
  ]
