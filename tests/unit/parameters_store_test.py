"""What every parameter store does with contributions: nothing is lost."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import stores
from stores import WAIT_SECONDS, for_each, in_threads, plain, push

from a3c_jax.acting import normalization
from a3c_jax.core import types
from a3c_jax.optim import momentum, rmsprop, rule
from a3c_jax.parameters.hogwild import HogwildStore
from a3c_jax.parameters.locked import LockedStore

RULES = [
  rmsprop.rmsprop(lambda frames: 1.0, decay=0.5, epsilon=2.0),
  rmsprop.shared_rmsprop(lambda frames: 1.0, decay=0.5, epsilon=2.0),
  momentum.momentum_sgd(lambda frames: 1.0, momentum=0.5),
]


@pytest.fixture(params=stores.STORES, ids=lambda store: store.__name__)
def make(request):
  return stores.maker(request.param)


def test_collections_other_than_params_stay_whatever_their_gradient(make):
  # As `jax.grad` over all variables of a network gives it.
  variables = {'params': {'w': jnp.ones(2)}, 'constants': {'c': jnp.ones(2)}}
  store = make(variables)
  push(store, 0, variables, frames=1)
  after = store.read().params
  np.testing.assert_array_equal(after['params']['w'], [0, 0])
  np.testing.assert_array_equal(after['constants']['c'], [1, 1])


def after_many(make, *, workers=8, updates=150):
  """The version after 1 + … + 8 = 36 of each round, subtracted at rate 1."""
  params = {'w': jnp.zeros((300, 300)), 'b': jnp.zeros(3)}
  store = make(params, workers=workers)
  store.warm_up(params)

  def body(worker):
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, worker + 1), params)
    for _ in range(updates):
      push(store, worker, grads, frames=worker + 1)

  for_each(workers, body)
  version = store.read()
  assert version.frames == 36 * updates
  assert version.updates == updates * workers
  return version


@pytest.mark.parametrize(
  'store', stores.EXACT, ids=lambda store: store.__name__
)
def test_gradients_of_many_workers_add_up_exactly(store):
  version = after_many(stores.maker(store))
  for leaf in jax.tree.leaves(version.params):
    np.testing.assert_array_equal(leaf, np.full(leaf.shape, -36 * 150))


def test_without_locks_parts_of_updates_may_be_lost(record_property):
  version = after_many(stores.maker(HogwildStore))
  lost = 0
  for leaf in map(np.asarray, jax.tree.leaves(version.params)):
    # Whatever is lost, nothing is added twice.
    assert (leaf >= -36 * 150).all()
    assert (leaf <= leaf.min() / 2).all()
    lost += (leaf + 36 * 150).sum()
  record_property('lost', float(lost))


def while_others_write(make, check):
  """Calls `check` with versions that are read while two threads push."""
  params = {'big': jnp.zeros(50_000), 'small': jnp.zeros(2)}
  store = make(params, workers=2, target_period=types.TargetPeriod(3))
  store.warm_up(params)
  ones = jax.tree.map(jnp.ones_like, params)
  written = []

  def write(worker):
    try:
      for _ in range(150):
        push(store, worker, ones, frames=3)
    finally:
      written.append(worker)

  def read():
    count = 0
    while count < 20 or len(written) < 2:
      check(store.read())
      count += 1

  in_threads(lambda: write(0), lambda: write(1), read, read)
  assert store.read().updates == 300


def test_mean_squares_of_updates_that_overlap_stay_above_0():
  store = stores.maker(HogwildStore)(
    jnp.ones(3),
    rmsprop.shared_rmsprop(lambda frames: 0.1, decay=0.1, epsilon=0.1, start=1),
    workers=2,
  )
  apply, entered = store._rule.apply, threading.Barrier(2)

  def apply_at_once(*arguments):
    entered.wait(WAIT_SECONDS)
    return apply(*arguments)

  store._rule = store._rule._replace(apply=apply_at_once)
  for_each(2, lambda worker: push(store, worker, jnp.zeros(3), 1))
  (state,), _ = store.capture()[0].optimizer_states, None
  for leaf in jax.tree.leaves(state):
    # 0.1 · 1, of whichever was the last.
    np.testing.assert_allclose(leaf, 0.1, rtol=1e-6)


@pytest.mark.parametrize(
  'store', stores.LOCKED, ids=lambda store: store.__name__
)
def test_versions_are_whole(store):
  def check(version):
    for leaf in jax.tree.leaves((version.params, version.target_params)):
      # Each update takes 1 from every number; the target follows each time.
      assert np.unique(leaf).tolist() == [-version.updates]
    assert version.frames == 3 * version.updates

  while_others_write(stores.maker(store), check)


def test_versions_never_change(make):
  versions = []

  def check(version):
    big = version.params['big']
    # Of other numbers than of one update, if there is no lock around all.
    assert np.unique(big).max() <= 0
    versions.append((big, np.array(big)))

  while_others_write(make, check)
  for version, copy in versions:
    np.testing.assert_array_equal(version, copy)


@pytest.mark.parametrize(
  'segments, synced',
  [
    # Counts 4, 8, 12, 16, 20, 24, 28: 10 is crossed, 20 is hit.
    ([4] * 7, [False, False, True, False, True, False, False]),
    ([10, 10], [True, True]),
    ([9, 1, 9, 1], [False, True, False, True]),
    # One segment over two multiples is one copy.
    ([25, 4, 1], [True, False, True]),
  ],
)
def test_target_follows_when_frames_cross_the_period(make, segments, synced):
  store = make(target_period=types.TargetPeriod(10))
  target = 0.0
  for update, (frames, sync) in enumerate(
    zip(segments, synced, strict=True), start=1
  ):
    push(store, 0, jnp.ones(()), frames)
    if sync:
      target = -update  # The parameters after this update, not before.
    version = store.read()
    assert (version.params, version.target_params) == (-update, target)


def test_target_follows_every_so_many_updates(make):
  store = make(target_period=types.TargetPeriod(3, 'updates'), workers=2)
  targets = []
  for number in range(1, 11):
    # Dropped gradients are no updates, and frames do not count.
    dropped = number in (2, 5)
    grads = None if dropped else jnp.ones(())
    push(store, number % 2, grads, frames=100 * number)
    version = store.read()
    targets.append((version.updates, float(version.target_params)))
  assert targets == [
    *((1, 0), (1, 0), (2, 0), (3, -3), (3, -3)),
    *((4, -3), (5, -3), (6, -6), (7, -6), (8, -6)),
  ]


def test_target_starts_at_the_parameters(make):
  store = make(jnp.full((), 5.0), target_period=types.TargetPeriod(10))
  assert store.read().target_params == 5
  assert store.read()[2:] == (0, 0, None, 0)


def test_no_target_without_a_period(make):
  store = make(target_period=None)
  assert store.read().target_params is None
  push(store, 0, jnp.ones(()), frames=10**6)
  assert store.read().target_params is None


def test_optimizer_state_per_worker_by_hand(make):
  # α = ½, ε = 2: the first gradient of 2 makes g = 2 and a step of 2/√4 = 1.
  # A second worker with its own g steps by 1 again; with a shared g = 3, by
  # 2/√5.
  steps = {}
  for make_rule in (rmsprop.rmsprop, rmsprop.shared_rmsprop):
    update_rule = make_rule(lambda frames: 1.0, decay=0.5, epsilon=2.0)
    store = make(update_rule=update_rule, workers=2)
    store.warm_up(jnp.zeros(()))
    push(store, 0, jnp.full((), 2.0), frames=1)
    push(store, 1, jnp.full((), 2.0), frames=1)
    steps[make_rule] = float(store.read().params)
  assert steps[rmsprop.rmsprop] == pytest.approx(-2.0)
  assert steps[rmsprop.shared_rmsprop] == pytest.approx(-1 - 2 / 5**0.5)


def test_the_rule_gets_the_frames_before_the_segment(make):
  store = make(update_rule=plain(lambda frames: 100.0 - frames))
  receipts = [push(store, 0, jnp.ones(()), frames=10) for _ in range(3)]
  assert store.read().params == -(100 + 90 + 80)
  assert [receipt[:2] for receipt in receipts] == [(10, 1), (20, 2), (30, 3)]
  assert all(receipt.lock_wait_seconds >= 0 for receipt in receipts)


def test_lag_counts_the_updates_in_between(make):
  store = make(workers=2)
  read_version = store.read().updates
  for _ in range(3):
    push(store, 1, jnp.ones(()), frames=1)
  push(store, 1, None, frames=1)  # No update.
  receipt = push(store, 0, jnp.ones(()), 1, read_version=read_version)
  assert receipt.lag == 3
  receipt = push(store, 0, jnp.ones(()), 1, read_version=store.read().updates)
  assert receipt.lag == 0


@pytest.mark.parametrize('update_rule', RULES)
def test_warm_up_changes_nothing(make, update_rule):
  warm, cold = (make(update_rule=update_rule, workers=2) for _ in range(2))
  warm.warm_up(jnp.ones(()))
  warm.warm_up(jnp.ones(()))
  assert warm.read() == cold.read()
  assert warm.drain() == []
  for worker in (0, 1, 0):
    for store in (warm, cold):
      push(store, worker, jnp.full((), 2.0), frames=1)
    assert warm.read() == cold.read()


def test_update_compiles_once(make):
  traces = []

  def update(grads, state, params=None):
    traces.append(threading.current_thread().name)
    return grads, state

  # The rate changes at each update and is sometimes an int.
  update_rule = rule.of_optax(
    optax.GradientTransformation(lambda params: jnp.zeros(()), update),
    lambda frames: 30 - frames,
    per_worker=True,
  )
  store = make(update_rule=update_rule, workers=3)
  store.warm_up(jnp.zeros(()))

  def body(worker):
    for _ in range(3):
      push(store, worker, jnp.ones(()), frames=1)

  for_each(3, body)
  assert traces == ['MainThread']
  assert store.read().updates == 9


def test_frames_without_a_gradient_count(make):
  store = make(target_period=types.TargetPeriod(4))
  push(store, 0, jnp.ones(()), frames=3)
  receipt = push(store, 0, None, frames=3)
  assert (receipt.frames, receipt.version) == (6, 1)
  params, target_params, *_ = store.read()
  assert params == target_params == -1


@pytest.mark.parametrize('worker', [-1, 2])
def test_a_worker_that_does_not_exist_is_refused(make, worker):
  store = make(workers=2)
  with pytest.raises(IndexError, match=f'worker {worker}'):
    push(store, worker, jnp.ones(()), frames=1)
  assert (store.read().params, store.read().frames) == (0, 0)
  assert store.drain() == []


def test_observations_of_all_workers_count_once_each(make):
  workers, segments = 4, 60
  store = make(workers=workers, statistics=normalization.initial((2,)))
  store.warm_up(jnp.ones(()))
  observations = np.random.default_rng(0).normal(
    [3.0, -100.0], [0.5, 20.0], (workers, segments, 5, 2)
  )

  def body(worker):
    for segment in observations[worker]:
      # Also where the gradient was dropped.
      grads = None if segment[0, 0] > 3 else jnp.ones(())
      push(store, worker, grads, 5, statistics=normalization.of(segment))

  before = store.read().statistics
  for_each(workers, body)
  mean, variance, count = store.read().statistics
  everything = observations.reshape(-1, 2)
  np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(variance, everything.var(axis=0), rtol=1e-4)
  np.testing.assert_allclose(count, len(everything), atol=1e-3)
  # Who read a version before keeps what was in it.
  np.testing.assert_array_equal(before.mean, [0.0, 0.0])


def test_a_locked_store_accepts_what_its_rule_accepts():
  own = rule.UpdateRule(lambda params: (), lambda params, *_: (params, ()))
  given = {'worker_states': ['at 0'], 'target_period': None}
  assert LockedStore(jnp.zeros(()), own, **given).factored_rows == 0
  for update_rule in (plain(), *RULES):
    assert LockedStore(jnp.zeros(()), update_rule, **given).factored_rows == 10


def test_a_worker_warms_up_while_others_push(monkeypatch):
  """As a node does that starts again; an update donates these arrays."""
  store = LockedStore(
    jnp.ones(2), RULES[1], worker_states=[None], target_period=None
  )
  states = store._optimizer_states
  kept = jax.tree.map(jnp.copy, states[0])

  class Lock:
    """Until one enters, another thread applies an update."""

    def __enter__(self):
      states[0] = kept

    def __exit__(self, *error):
      pass

  jax.tree.map(lambda leaf: leaf.delete(), states[0])
  monkeypatch.setattr(store, '_lock', Lock())
  store.warm_up(jnp.ones(2))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(states[0]))
