"""What every parameter store does: nothing lost, nothing half done.

A new store joins `STORES`, and all of these tests are its own.
"""

import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax import base, networks, normalization, value_based
from a3c_jax.core import events
from a3c_jax.optim import clipping, factored, momentum, rmsprop, rule
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.parameters.store import Contribution

STORES = [LockedStore]
WAIT_SECONDS = 60.0


def plain(learning_rate=lambda frames: 1.0, **given):
  """The rule θ ← θ - η Δθ."""
  return rule.of_optax(optax.identity(), learning_rate, **given)


@pytest.fixture(params=STORES, ids=lambda store: store.__name__)
def make(request):
  """Makes a store, whose workers' states are 'at 0' in the beginning."""

  def make(params=None, update_rule=None, *, workers=1, **changes):
    arguments = {
      'worker_states': ['at 0'] * workers,
      'target_period_frames': None,
    }
    return request.param(
      jnp.zeros(()) if params is None else params,
      update_rule or plain(),
      **arguments | changes,
    )

  return make


def push(store, worker, grads, frames, **given):
  arguments = {'read_version': 0, 'worker_state': None}
  return store.push(Contribution(worker, grads, frames, **arguments | given))


def in_threads(*bodies):
  """Runs functions at the same time; raises what the first one raised."""
  barrier = threading.Barrier(len(bodies))
  errors = []

  def run(body):
    try:
      barrier.wait(WAIT_SECONDS)
      body()
    except BaseException as error:
      errors.append(error)

  threads = [
    threading.Thread(target=run, args=(body,), daemon=True) for body in bodies
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(WAIT_SECONDS)
  assert not any(thread.is_alive() for thread in threads)
  if errors:
    raise errors[0]


def for_each(workers, body):
  in_threads(*[lambda worker=worker: body(worker) for worker in range(workers)])


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_collections_other_than_params_stay_whatever_their_gradient(make):
  # As `jax.grad` over all variables of a network gives it.
  variables = {'params': {'w': jnp.ones(2)}, 'constants': {'c': jnp.ones(2)}}
  store = make(variables)
  push(store, 0, variables, frames=1)
  after = store.read().params
  np.testing.assert_array_equal(after['params']['w'], [0, 0])
  np.testing.assert_array_equal(after['constants']['c'], [1, 1])


def test_gradients_of_many_workers_add_up_exactly(make):
  workers, updates = 8, 150
  params = {'w': jnp.zeros((300, 300)), 'b': jnp.ones(3)}
  store = make(params, workers=workers)
  store.warm_up(params)

  def body(worker):
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, worker + 1), params)
    for _ in range(updates):
      push(store, worker, grads, frames=worker + 1)

  for_each(workers, body)
  # 1 + 2 + … + 8 = 36 from each round, all of it subtracted at rate 1.
  total = updates * 36
  version = store.read()
  np.testing.assert_array_equal(
    version.params['w'], np.full((300, 300), -total)
  )
  np.testing.assert_array_equal(version.params['b'], np.full(3, 1 - total))
  assert version.frames == total
  assert version.updates == updates * workers


def test_versions_are_whole_and_never_change(make):
  params = {'big': jnp.zeros(50_000), 'small': jnp.zeros(2)}
  store = make(params, workers=2, target_period_frames=3)
  store.warm_up(params)
  ones = jax.tree.map(jnp.ones_like, params)
  written, kept = [], []

  def write(worker):
    try:
      for _ in range(150):
        push(store, worker, ones, frames=3)
    finally:
      written.append(worker)

  def read():
    seen = 0
    while seen < 20 or len(written) < 2:
      version = store.read()
      kept.append((version, np.array(version.params['big'])))
      for leaf in jax.tree.leaves((version.params, version.target_params)):
        # Each update takes 1 from every number; the target follows each time.
        assert np.unique(leaf).tolist() == [-version.updates]
      assert version.frames == 3 * version.updates
      seen += 1

  in_threads(lambda: write(0), lambda: write(1), read, read)
  assert store.read().updates == 300
  for version, copy in kept:
    np.testing.assert_array_equal(version.params['big'], copy)


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
  store = make(target_period_frames=10)
  target = 0.0
  for update, (frames, sync) in enumerate(
    zip(segments, synced, strict=True), start=1
  ):
    push(store, 0, jnp.ones(()), frames)
    if sync:
      target = -update  # The parameters after this update, not before.
    version = store.read()
    assert (version.params, version.target_params) == (-update, target)


def test_target_starts_at_the_parameters(make):
  store = make(jnp.full((), 5.0), target_period_frames=10)
  assert store.read().target_params == 5
  assert store.read()[2:] == (0, 0, None)


def test_no_target_without_a_period(make):
  store = make(target_period_frames=None)
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


def test_staleness_counts_the_updates_in_between(make):
  store = make(workers=2)
  read_version = store.read().updates
  for _ in range(3):
    push(store, 1, jnp.ones(()), frames=1)
  push(store, 1, None, frames=1)  # No update.
  receipt = push(store, 0, jnp.ones(()), 1, read_version=read_version)
  assert receipt.staleness == 3
  receipt = push(store, 0, jnp.ones(()), 1, read_version=store.read().updates)
  assert receipt.staleness == 0


RULES = [
  rmsprop.rmsprop(lambda frames: 1.0, decay=0.5, epsilon=2.0),
  rmsprop.shared_rmsprop(lambda frames: 1.0, decay=0.5, epsilon=2.0),
  momentum.momentum_sgd(lambda frames: 1.0, momentum=0.5),
]


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


@pytest.mark.parametrize('per_worker', [False, True])
def test_a_captured_state_resumes_in_the_same_bits(make, per_worker):
  def make_one():
    return make(
      jnp.arange(3.0),
      rule.of_optax(
        optax.scale_by_rms(),
        lambda frames: 1 / (1 + frames),
        per_worker=per_worker,
      ),
      workers=2,
      target_period_frames=3,
    )

  def learn(store, updates):
    for update in updates:
      grads = jnp.array([1.0, -2.0, update])
      push(store, update % 2, grads, 2, worker_state=f'at {update}')

  whole, first, second = make_one(), make_one(), make_one()
  learn(whole, range(8))
  learn(first, range(5))
  state, _ = first.capture()
  learn(first, range(5, 8))  # What was captured does not change any more.
  assert state.worker_states == ['at 4', 'at 3']
  second.restore(state)
  assert second.read().frames == 10
  assert second.capture()[0].worker_states == ['at 4', 'at 3']
  learn(second, range(5, 8))
  for store in (first, second):
    version = store.read()
    np.testing.assert_array_equal(version.params, whole.read().params)
    np.testing.assert_array_equal(
      version.target_params, whole.read().target_params
    )
    assert version[2:] == whole.read()[2:] == (16, 8, None)
    assert store.capture()[0].worker_states == ['at 6', 'at 7']


def test_new_workers_begin_afresh(make):
  update_rule = rule.of_optax(
    optax.trace(0.5), lambda frames: 1.0, per_worker=True
  )
  few = make(update_rule=update_rule, workers=1)
  push(few, 0, jnp.ones(()), 1, worker_state='at 1')  # -1, trace 1
  state, _ = few.capture()
  many = make(update_rule=update_rule, workers=2)
  many.restore(state)
  assert many.capture()[0].worker_states == ['at 1', 'at 0']
  push(many, 1, jnp.ones(()), frames=1)  # -1, as the first of its worker
  assert many.read().params == -2
  push(many, 0, jnp.ones(()), frames=1)  # -(1 + 1/2)
  assert many.read().params == -3.5
  few.restore(many.capture()[0])  # And fewer take the first ones.
  assert len(few.capture()[0].worker_states) == 1


def test_restoring_drops_what_was_not_drained(make):
  store = make()
  state, _ = store.capture()
  push(store, 0, jnp.ones(()), frames=1)
  store.restore(state)
  assert store.drain() == []
  assert store.read().updates == 0


def test_frames_without_a_gradient_count(make):
  store = make(target_period_frames=4)
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


def interrupted(make, during):
  """Pushes once, and once more with a call of `during` in the update."""
  calls = []

  def apply(params, optimizer_state, grads, frames):
    if frames:
      calls.append(during(store))
    return params - grads, optimizer_state

  store = make(update_rule=rule.UpdateRule(lambda params: (), apply))
  push(store, 0, jnp.ones(()), frames=1)
  push(store, 0, jnp.ones(()), frames=1)
  (call,) = calls
  return call, store


def test_capture_does_not_wait_for_ever(make):
  def during(store):
    with pytest.raises(TimeoutError, match='0.01'):
      store.capture(timeout=0.01)

  _, store = interrupted(make, during)
  state, applied = store.capture()
  assert state.version.updates == 2
  assert [each.receipt.version for each in applied] == [1, 2]


def test_reading_and_draining_never_wait_for_a_push(make):
  (version, applied), store = interrupted(
    make, lambda store: (store.read(), store.drain())
  )
  assert version.updates == 1
  assert [each.receipt.version for each in applied] == [1]
  assert [each.receipt.version for each in store.drain()] == [2]


def test_what_was_applied_is_drained_once_and_in_order(make):
  store = make(workers=2)
  ended = events.EpisodeEnded(3.0, 1.0, steps=12)
  incident = events.Incident('bad_gradients', 'w is not finite')
  first = push(store, 1, jnp.ones(()), 4, events=(ended, ended))
  second = push(store, 0, None, 4, events=(incident,))
  third = push(store, 1, jnp.ones(()), 4)
  applied = store.drain()
  assert [each.receipt for each in applied] == [first, second, third]
  assert [each.worker for each in applied] == [1, 0, 1]
  assert [each.events for each in applied] == [(ended, ended), (incident,), ()]
  times = [each.time for each in applied]
  assert times == sorted(times)
  assert store.drain() == []
  assert store.capture()[1] == []


def test_a_capture_is_one_moment_for_state_and_events(make):
  # What was drained and captured until then are exactly the updates of the
  # state, and each worker stands where its newest event says.
  workers, pushes = 4, 120
  store = make(workers=workers)
  store.warm_up(jnp.zeros(()))
  ended = threading.Event()
  running = list(range(workers))
  moments, seen = [], []

  def work(worker):
    try:
      for count in range(pushes):
        event = events.Incident(str(worker), f'at {count}')
        grads = jnp.ones(()) if count % 3 else None
        push(store, worker, grads, 1, worker_state=event.text, events=(event,))
    finally:
      running.remove(worker)
      if not running:
        ended.set()

  def watch():
    while not ended.is_set() or len(moments) < 5:
      seen.extend(store.drain())
      state, applied = store.capture()
      seen.extend(applied)
      moments.append((state, len(seen)))

  in_threads(
    *[lambda worker=worker: work(worker) for worker in range(workers)], watch
  )
  assert store.drain() == []
  assert [each.receipt.frames for each in seen] == [
    *range(1, workers * pushes + 1)
  ]
  for state, count in moments:
    assert state.version.frames == count
    assert state.version.params == -state.version.updates
    places = ['at 0'] * workers
    for each in seen[:count]:
      (event,) = each.events
      assert event.kind == str(each.worker)
      places[each.worker] = event.text
    assert state.worker_states == places


def test_observations_of_all_workers_count_once_each(make):
  workers, segments = 4, 60
  store = make(workers=workers, statistics=normalization.initial((2,)))
  store.warm_up(jnp.ones(()))
  seen = np.random.default_rng(0).normal(
    [3.0, -100.0], [0.5, 20.0], (workers, segments, 5, 2)
  )

  def body(worker):
    for segment in seen[worker]:
      # Also where the gradient was dropped.
      grads = None if segment[0, 0] > 3 else jnp.ones(())
      push(store, worker, grads, 5, statistics=normalization.of(segment))

  before = store.read().statistics
  for_each(workers, body)
  mean, variance, count = store.read().statistics
  everything = seen.reshape(-1, 2)
  np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(variance, everything.var(axis=0), rtol=1e-4)
  np.testing.assert_allclose(count, len(everything), atol=1e-3)
  # Who read a version before keeps what was in it.
  np.testing.assert_array_equal(before.mean, [0.0, 0.0])


def test_statistics_are_captured_and_restored(make):
  store = make(statistics=normalization.initial((1,)))
  for value in (4.0, 8.0):
    statistics = normalization.of(np.array([[value]]))
    push(store, 0, jnp.ones(()), 1, statistics=statistics)
  state, _ = store.capture()
  far = normalization.of(np.array([[-400.0]]))
  push(store, 0, jnp.ones(()), 1, statistics=far)
  other = make(statistics=normalization.initial((1,)))
  other.restore(state)
  np.testing.assert_allclose(other.read().statistics.mean, [6.0], rtol=1e-3)
  push(other, 0, jnp.ones(()), 1)  # Without any they stay.
  np.testing.assert_allclose(other.read().statistics.mean, [6.0], rtol=1e-3)
  without = make()
  push(without, 0, None, 1, statistics=far)
  assert without.read().statistics is None


# Of 300 · 300 weights, so that a gradient of few rows has factors.
NETWORK = networks.QNetwork(networks.MLPTorso(hidden=(300,)), 3)
SHAPE = (300,)


def wide_segments(count):
  rng = np.random.default_rng(0)
  return [
    base.Segment(
      obs=rng.normal(size=(4, 1, *SHAPE)).astype(np.float32),
      a=rng.integers(0, 3, (4, 1)),
      r_t=rng.normal(size=(3, 1)).astype(np.float32),
      discount_t=np.full((3, 1), 0.9, np.float32),
      is_first=np.zeros((4, 1), bool),
      state=(),
    )
    for _ in range(count)
  ]


@pytest.mark.parametrize('form', ['dense', 'factored'])
def test_contributions_can_be_logged_and_replayed(make, form):
  learner = value_based.nstep_q(NETWORK)
  gradients = clipping.of_learner(
    learner, 1.0, accepts_factored=form == 'factored'
  )
  params = learner.init(jax.random.key(0), np.zeros((1, *SHAPE), np.float32))
  first, second = (
    make(
      params,
      rmsprop.shared_rmsprop(lambda frames: 0.1, decay=0.9, epsilon=0.1),
      target_period_frames=6,
      statistics=normalization.initial(SHAPE),
    )
    for _ in range(2)
  )
  if form == 'factored' and not first.accepts_factored:
    pytest.skip('the store accepts dense gradients alone')
  log = []
  for count, segment in enumerate(wide_segments(4)):
    version = first.read()
    grads, stats = gradients(version.params, version.target_params, segment)
    assert isinstance(grads, factored.Factored) == (form == 'factored')
    contribution = Contribution(
      worker=0,
      grads=grads,
      frames=3,
      read_version=version.updates,
      worker_state=f'at {count}',
      events=(events.LearningStatistics(np.asarray(stats)),),
      statistics=normalization.of(segment.obs.reshape(-1, *SHAPE)),
    )
    log.append(pickle.dumps(contribution))
    assert 'Contribution(worker=0' in repr(contribution)
    first.push(contribution)
  for content in log:
    second.push(pickle.loads(content))
  assert_same(first.capture()[0], second.capture()[0])


def test_factored_and_dense_contributions_agree(make):
  learner = value_based.nstep_q(NETWORK)
  params = learner.init(jax.random.key(0), np.zeros((1, *SHAPE), np.float32))
  found = []
  for accepts_factored in (True, False):
    gradients = clipping.of_learner(
      learner, 1.0, accepts_factored=accepts_factored
    )
    store = make(params, RULES[1])
    if accepts_factored and not store.accepts_factored:
      pytest.skip('the store accepts dense gradients alone')
    for segment in wide_segments(3):
      push(store, 0, gradients(params, params, segment)[0], frames=3)
    found.append(store.read().params)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *found
  )


def test_a_locked_store_accepts_what_its_rule_accepts():
  own = rule.UpdateRule(lambda params: (), lambda params, *_: (params, ()))
  given = {'worker_states': ['at 0'], 'target_period_frames': None}
  assert not LockedStore(jnp.zeros(()), own, **given).accepts_factored
  for update_rule in (plain(), *RULES):
    assert LockedStore(jnp.zeros(()), update_rule, **given).accepts_factored
