"""What every parameter store does with a replay memory."""

import jax.numpy as jnp
import numpy as np
import pytest
import stores
from stores import for_each, in_threads
from transitions import Worker, memory_for

from a3c_jax.core import types
from a3c_jax.parameters.store import Contribution, Played, Replayed
from a3c_jax.replay.memory import Priorities

STEPS = 3
PRIORITIES = Priorities(alpha=1.0, epsilon=1e-6)


@pytest.fixture(params=stores.STORES, ids=lambda store: store.__name__)
def make(request):
  """Makes a memory and a store that has it."""

  def make(workers=1, *, priorities=None, persistent=True):
    memory = memory_for(
      capacity=60 * workers,
      workers=workers,
      num_envs=1,
      shared=True,
      priorities=priorities,
      persistent=persistent,
    )
    store = stores.maker(request.param)(
      workers=workers, memory=memory, target_period=types.TargetPeriod(10**6)
    )
    store.warm_up(jnp.ones(()))
    return memory, store

  return make


def player(seed=0, ends=0.2):
  return Worker(np.random.default_rng(seed), num_envs=1, stack=1, ends=ends)


def segment_of(worker, transitions, number=0):
  played = Played(worker, number, np.zeros(STEPS, int), transitions=transitions)
  return Contribution(None, len(transitions.r_t), 0, (played,))


def minibatch_of(worker, where, errors, number=0):
  played = Played(worker, number, np.empty(0, int))
  return Contribution(
    jnp.ones(()),
    0,
    0,
    (played,),
    optimizer=worker,
    replayed=(Replayed(worker, where, errors),),
  )


def test_transitions_and_frames_are_applied_together(make):
  memory, store = make()
  playing = player()
  for number in range(1, 4):
    receipt = store.push(segment_of(0, playing.segment(STEPS)))
    assert (receipt.frames, receipt.version) == (STEPS * number, 0)
    assert memory.capture().arrays['heads'].tolist() == [STEPS * number]
  minibatch = memory.sample(0, 20, np.random.default_rng(0))
  history = playing.history[0]
  for (_, index), action in zip(minibatch.where, minibatch.a, strict=True):
    assert action[0] == history[index].a


def test_a_minibatch_is_an_update_without_frames(make):
  memory, store = make(priorities=PRIORITIES)
  store.push(segment_of(0, player(ends=0).segment(STEPS)))
  where = np.array([[0, 1], [0, 0]])
  receipt = store.push(minibatch_of(0, where, np.float32([3, 5]), 'after'))
  assert (receipt.frames, receipt.version) == (STEPS, 1)
  priorities = memory.capture().arrays['priorities'].ravel()
  np.testing.assert_allclose(priorities[:3], [5, 3, 0], rtol=1e-5)
  state, applied = store.capture()
  assert state.worker_states == ['after']
  assert state.version.params == -1
  # No step was acted on for it.
  assert [len(each.policy_lags) for each in applied] == [0, 0]


def test_a_captured_state_is_of_one_moment(make):
  workers, segments = 3, 40
  memory, store = make(workers, priorities=PRIORITIES)
  done = []

  def body(worker):
    playing = player(worker)
    rng = np.random.default_rng(worker)
    for number in range(1, segments + 1):
      store.push(segment_of(worker, playing.segment(STEPS), (number, 0)))
      minibatch = memory.sample(worker, 4, rng)
      errors = np.full(4, 10 * worker + 1, np.float32)
      store.push(minibatch_of(worker, minibatch.where, errors, (number, 1)))
    done.append(worker)

  states = []

  def capture():
    while len(done) < workers:
      states.append(store.capture()[0])

  in_threads(*[lambda w=w: body(w) for w in range(workers)], capture)
  states.append(store.capture()[0])
  for state in states:
    counts = [(0, 0) if x == 'at 0' else x for x in state.worker_states]
    heads = state.memory.arrays['heads'].ravel().tolist()
    assert heads == [STEPS * segments for segments, _ in counts]
    assert state.version.frames == sum(heads)
    assert state.version.updates == sum(
      max(0, segments - 1 + learnt) for segments, learnt in counts
    )


def test_a_restored_store_goes_on_with_the_same_memory(make):
  memory, store = make(priorities=PRIORITIES)
  playing = player()
  for _ in range(25):  # More than it holds.
    store.push(segment_of(0, playing.segment(STEPS)))
    where = memory.sample(0, 4, np.random.default_rng(0)).where
    store.push(minibatch_of(0, where, np.float32([1, 2, 3, 4])))
  state, _ = store.capture()
  other_memory, other = make(priorities=PRIORITIES)
  other.restore(state)
  following = playing.segment(STEPS)
  for each in (store, other):
    each.push(segment_of(0, following))
  minibatches = [
    each.sample(0, 30, np.random.default_rng(1), beta=0.5)._replace(changes=0)
    for each in (memory, other_memory)
  ]
  stores.assert_same(*minibatches)


def test_a_state_without_a_memory_leaves_it_as_it_is(make):
  memory, store = make(persistent=False)
  store.push(segment_of(0, player().segment(STEPS)))
  state, _ = store.capture()
  assert state.memory is None
  other_memory, other = make()
  other.restore(state)
  assert other.read().frames == STEPS
  assert other_memory.size(0) == 0
  assert memory.size(0) > 0


def test_a_store_without_memory_ignores_transitions(make):
  _, store = make()
  plain = stores.maker(type(store))()
  plain.push(segment_of(0, player().segment(STEPS)))
  plain.push(minibatch_of(0, np.array([[0, 0]]), np.float32([1])))
  assert plain.read().frames == STEPS
  assert plain.capture()[0].memory is None


def bad_transitions():
  transitions = player().segment(STEPS)
  return transitions._replace(a=transitions.a.astype(np.int64))


@pytest.mark.parametrize(
  ('contribution', 'error', 'named'),
  [
    (lambda: segment_of(0, bad_transitions()), ValueError, 'int64'),
    (
      lambda: minibatch_of(0, np.array([[0, 0]]), np.float32([np.nan])),
      ValueError,
      'finite',
    ),
    (lambda: segment_of(1, player().segment(STEPS)), IndexError, 'worker 1'),
    (lambda: segment_of(-1, player().segment(STEPS)), IndexError, 'worker -1'),
  ],
)
def test_what_is_refused_changes_nothing(make, contribution, error, named):
  memory, store = make(priorities=PRIORITIES)
  with pytest.raises(error, match=named):
    store.push(contribution())
  version = store.read()
  assert (version.frames, version.updates) == (0, 0)
  assert memory.capture().arrays['heads'].tolist() == [0]
  assert store.drain() == []
  # The lock is free again.
  store.push(segment_of(0, player().segment(STEPS)))
  assert store.read().frames == STEPS


def test_no_transition_of_many_workers_is_lost(make):
  workers, segments = 4, 20
  memory, store = make(workers)
  playing = [player(worker, ends=0) for worker in range(workers)]

  def body(worker):
    for _ in range(segments):
      store.push(segment_of(worker, playing[worker].segment(STEPS)))

  for_each(workers, body)
  actions = memory.capture().arrays['a'].reshape(workers, -1)
  expected = [[step.a for step in each.history[0]] for each in playing]
  np.testing.assert_array_equal(actions, expected)
