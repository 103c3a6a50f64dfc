"""Contributions of several segments: a store applies them at one moment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stores
from stores import assert_same, in_threads, plain

from a3c_jax.acting import normalization
from a3c_jax.optim import rmsprop
from a3c_jax.parameters.store import Contribution, Played


@pytest.fixture(params=stores.STORES, ids=lambda store: store.__name__)
def make(request):
  return stores.maker(request.param)


def played(worker, state, versions=(0,), **given):
  return Played(worker, state, np.array(versions), **given)


def test_all_segments_are_applied_in_one_update(make):
  store = make(jnp.zeros(3), plain(lambda frames: 1), workers=3)
  grads = jnp.array([1.0, 2.0, 3.0])
  for _ in range(2):
    store.push(Contribution(grads, 5, 0, ()))
  store.drain()
  receipt = store.push(
    Contribution(
      grads,
      frames=12,
      read_version=1,
      played=(
        played(2, 'first of 2', [0, 0, 1], events=('a', 'b')),
        played(0, 'of 0', [2, 2, 2], events=('c',)),
        played(2, 'second of 2', [1, 2, 2]),
      ),
      events=('gradient',),
    )
  )
  version = store.read()
  assert_same(version.params, -3 * np.array([1.0, 2.0, 3.0]))
  assert (version.frames, version.updates) == (22, 3)
  assert receipt[:3] == (22, 3, 1)
  state, applied = store.capture()
  assert state.worker_states == ['of 0', 'at 0', 'second of 2']
  assert [each.worker for each in applied] == [2, 0, 2]
  assert [each.receipt for each in applied] == [receipt] * 3
  assert len({each.time for each in applied}) == 1
  # Updates from acting until it was applied: there were two before.
  lags = [each.policy_lags.tolist() for each in applied]
  assert lags == [[2, 2, 1], [0, 0, 0], [1, 0, 0]]
  # Those of the gradient belong to the first segment alone.
  events = [each.events for each in applied]
  assert events == [('gradient', 'a', 'b'), ('c',), ()]


def test_without_a_gradient_frames_and_states_count(make):
  store = make(workers=2)
  segments = (played(1, 'b'), played(0, 'a'))
  store.push(Contribution(None, 7, 0, segments, ('dropped',)))
  version = store.read()
  assert (version.params, version.frames, version.updates) == (0, 7, 0)
  state, applied = store.capture()
  assert state.worker_states == ['a', 'b']
  assert [each.events for each in applied] == [('dropped',), ()]


def test_statistics_are_merged_in_the_order_of_segments(make):
  rng = np.random.default_rng(0)
  batches = [rng.normal(size=(n, 2)) * 10**n for n in (3, 1, 2)]
  store = make(workers=3, statistics=normalization.initial((2,)))
  segments = tuple(
    played(worker, '', statistics=normalization.of(batch))
    for worker, batch in enumerate(batches)
  )
  store.push(Contribution(None, 1, 0, segments))
  expected = normalization.initial((2,))
  for batch in batches:
    expected = normalization.merged(expected, normalization.of(batch))
  assert_same(store.read().statistics, expected)
  # As one by one.
  apart = make(workers=3, statistics=normalization.initial((2,)))
  for segment in segments:
    apart.push(Contribution(None, 1, 0, (segment,)))
  assert_same(apart.read().statistics, expected)


def test_the_optimizer_state_is_the_one_that_is_named(make):
  # As in `test_optimizer_state_per_worker_by_hand`: whose gradient it is
  # matters, not who played.
  make_rule = lambda: rmsprop.rmsprop(lambda frames: 1.0, decay=0.5, epsilon=2)
  grads = jnp.full((), 2.0)
  same, other = (make(update_rule=make_rule(), workers=2) for _ in range(2))
  for worker in (0, 1):
    segment = (played(worker, ''),)
    same.push(Contribution(grads, 1, 0, segment, optimizer=1))
    other.push(Contribution(grads, 1, 0, segment, optimizer=worker))
  assert same.read().params == pytest.approx(-1 - 2 / 5**0.5)
  assert other.read().params == pytest.approx(-2)


@pytest.mark.parametrize('wrong', [-1, 2])
def test_one_worker_that_does_not_exist_refuses_it_all(make, wrong):
  store = make(workers=2)
  before = store.capture()
  for worker, optimizer in ((wrong, 0), (1, wrong)):
    segments = (played(0, 'a'), played(worker, 'b'))
    with pytest.raises(IndexError, match=f'worker {wrong}'):
      store.push(
        Contribution(jnp.ones(()), 1, 0, segments, optimizer=optimizer)
      )
  assert store.capture() == before


def test_no_capture_sees_a_part_of_a_contribution(make):
  store = make(workers=3)
  store.warm_up(jnp.ones(()))
  done = []

  def push():
    for number in range(60):
      segments = tuple(played(worker, number) for worker in range(3))
      store.push(Contribution(jnp.ones(()), 3, number, segments))
    done.append(True)

  def capture():
    seen = 0
    while not done:
      state, applied = store.capture()
      assert len(set(state.worker_states)) == 1
      assert len(applied) % 3 == 0
      seen += len(applied)
      assert state.version.frames == seen
      assert state.version.updates == seen // 3

  in_threads(push, capture)
  assert jax.tree.leaves(store.read().params) == [-60]
