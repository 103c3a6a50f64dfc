"""What every parameter store captures, drains, restores and replays."""

import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import stores
from stores import assert_same, contribution, in_threads, push

from a3c_jax import networks
from a3c_jax.acting import normalization
from a3c_jax.algorithms import value_based
from a3c_jax.core import events, types
from a3c_jax.optim import clipping, factored, rmsprop, rule


@pytest.fixture(params=stores.STORES, ids=lambda store: store.__name__)
def make(request):
  return stores.maker(request.param)


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
      target_period=types.TargetPeriod(3),
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
    assert version[2:5] == whole.read()[2:5] == (16, 8, None)
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


def interrupted(make, during):
  """Pushes once, and once more with a call of `during` in the update."""
  calls = []

  def apply(params, optimizer_state, grads, frames, rate_scale):
    del rate_scale
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
  captured, drained = [], []

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
    done = False
    while not done or len(captured) < 5:
      done = ended.is_set()  # Before the capture, which then has all pushes.
      drained.extend(store.drain())
      state, applied = store.capture()
      drained.extend(applied)
      captured.append((state, len(drained)))

  in_threads(
    *[lambda worker=worker: work(worker) for worker in range(workers)], watch
  )
  assert store.drain() == []
  assert [each.receipt.frames for each in drained] == [
    *range(1, workers * pushes + 1)
  ]
  for state, count in captured:
    assert state.version.frames == count
    assert state.version.params == -state.version.updates
    places = ['at 0'] * workers
    for each in drained[:count]:
      (event,) = each.events
      assert event.kind == str(each.worker)
      places[each.worker] = event.text
    assert state.worker_states == places


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
    types.Segment(
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
    learner, 1.0, factored_rows=10 if form == 'factored' else 0
  )
  params = learner.init(jax.random.key(0), np.zeros((1, *SHAPE), np.float32))
  first, second = (
    make(
      params,
      rmsprop.shared_rmsprop(lambda frames: 0.1, decay=0.9, epsilon=0.1),
      target_period=types.TargetPeriod(6),
      statistics=normalization.initial(SHAPE),
    )
    for _ in range(2)
  )
  if form == 'factored' and not first.factored_rows:
    pytest.skip('the store accepts dense gradients alone')
  log = []
  for count, segment in enumerate(wide_segments(4)):
    version = first.read()
    grads, stats = gradients(version.params, version.target_params, segment)
    assert isinstance(grads, factored.Factored) == (form == 'factored')
    given = contribution(
      0,
      grads,
      3,
      read_version=version.updates,
      worker_state=f'at {count}',
      of_gradient=(events.LearningStatistics(np.asarray(stats)),),
      statistics=normalization.of(segment.obs.reshape(-1, *SHAPE)),
    )
    log.append(pickle.dumps(given))
    assert 'Contribution(grads=' in repr(given)
    first.push(given)
  for content in log:
    second.push(pickle.loads(content))
  assert_same(first.capture()[0], second.capture()[0])


def test_factored_and_dense_contributions_agree(make):
  learner = value_based.nstep_q(NETWORK)
  params = learner.init(jax.random.key(0), np.zeros((1, *SHAPE), np.float32))
  found = []
  for rows in (10, 0):
    gradients = clipping.of_learner(learner, 1.0, factored_rows=rows)
    store = make(
      params,
      rmsprop.shared_rmsprop(lambda frames: 1.0, decay=0.5, epsilon=2.0),
    )
    if rows and not store.factored_rows:
      pytest.skip('the store accepts dense gradients alone')
    for segment in wide_segments(3):
      push(store, 0, gradients(params, params, segment)[0], frames=3)
    found.append(store.read().params)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *found
  )
