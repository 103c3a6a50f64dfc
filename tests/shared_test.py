"""Many threads, one set of parameters: nothing lost, nothing half done."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax import optimizers, shared
from a3c_jax.acting import normalization

WAIT_SECONDS = 60.0
PLAIN = optimizers.Optimizer(optax.identity(), per_thread=False)


def make(params=None, optimizer=PLAIN, **changes):
  arguments = {
    'threads': 1,
    'learning_rate': lambda frames: 1.0,
    'target_period_frames': None,
  }
  params = jnp.zeros(()) if params is None else params
  return shared.SharedState(params, optimizer, **arguments | changes)


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


def test_collections_other_than_params_stay_whatever_their_gradient():
  # As `jax.grad` over all variables of a network gives it.
  variables = {'params': {'w': jnp.ones(2)}, 'constants': {'c': jnp.ones(2)}}
  state = make(variables)
  state.apply(0, variables, frames=1)
  after = state.snapshot().params
  np.testing.assert_array_equal(after['params']['w'], [0, 0])
  np.testing.assert_array_equal(after['constants']['c'], [1, 1])
  # A norm over what is learnt: √2 scaled down to 1.
  gradients = optimizers.clipped(lambda *args: (variables, {}), 1.0)
  grads, stats = gradients(None, None, None)
  np.testing.assert_allclose(grads['params']['w'], [0.5**0.5] * 2, rtol=1e-6)
  np.testing.assert_allclose(stats, [2**0.5], rtol=1e-6)
  assert set(grads) == {'params'}


def test_gradients_of_many_threads_add_up_exactly():
  threads, updates = 8, 150
  params = {'w': jnp.zeros((300, 300)), 'b': jnp.ones(3)}
  state = make(params, threads=threads)
  state.warm_up(state.snapshot().params)

  def body(thread):
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, thread + 1), params)
    for _ in range(updates):
      state.apply(thread, grads, frames=thread + 1)

  in_threads(*[lambda thread=thread: body(thread) for thread in range(threads)])
  # 1 + 2 + … + 8 = 36 from each round, all of it subtracted at rate 1.
  total = updates * 36
  snapshot = state.snapshot()
  np.testing.assert_array_equal(
    snapshot.params['w'], np.full((300, 300), -total)
  )
  np.testing.assert_array_equal(snapshot.params['b'], np.full(3, 1 - total))
  assert snapshot.frames == total
  assert snapshot.updates == updates * threads


def test_snapshots_are_whole_versions_and_never_change():
  params = {'big': jnp.zeros(50_000), 'small': jnp.zeros(2)}
  state = make(params, threads=2, target_period_frames=3)
  state.warm_up(state.snapshot().params)
  ones = jax.tree.map(jnp.ones_like, params)
  written, kept = [], []

  def write(thread):
    try:
      for _ in range(150):
        state.apply(thread, ones, frames=3)
    finally:
      written.append(thread)

  def read():
    seen = 0
    while seen < 20 or len(written) < 2:
      snapshot = state.snapshot()
      kept.append((snapshot, np.array(snapshot.params['big'])))
      for leaf in jax.tree.leaves((snapshot.params, snapshot.target_params)):
        # Each update takes 1 from every number; the target follows each time.
        assert np.unique(leaf).tolist() == [-snapshot.updates]
      assert snapshot.frames == 3 * snapshot.updates
      seen += 1

  in_threads(lambda: write(0), lambda: write(1), read, read)
  assert state.snapshot().updates == 300
  for snapshot, copy in kept:
    np.testing.assert_array_equal(snapshot.params['big'], copy)


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
def test_target_follows_when_frames_cross_the_period(segments, synced):
  state = make(target_period_frames=10)
  target = 0.0
  for update, (frames, sync) in enumerate(
    zip(segments, synced, strict=True), start=1
  ):
    state.apply(0, jnp.ones(()), frames)
    if sync:
      target = -update  # The parameters after this update, not before.
    snapshot = state.snapshot()
    assert (snapshot.params, snapshot.target_params) == (-update, target)


def test_target_starts_at_the_parameters():
  state = make(jnp.full((), 5.0), target_period_frames=10)
  assert state.snapshot().target_params == 5
  assert state.snapshot()[2:] == (0, 0, None)


def test_no_target_without_a_period():
  state = make(target_period_frames=None)
  assert state.snapshot().target_params is None
  state.apply(0, jnp.ones(()), frames=10**6)
  assert state.snapshot().target_params is None


def test_statistics_per_thread_by_hand():
  # α = ½, ε = 2: the first gradient of 2 makes g = 2 and a step of 2/√4 = 1.
  # A second thread with its own g steps by 1 again; with a shared g = 3, by
  # 2/√5.
  settings = {'decay': 0.5, 'epsilon': 2.0}
  steps = {}
  for make_optimizer in (optimizers.rmsprop, optimizers.shared_rmsprop):
    state = make(optimizer=make_optimizer(**settings), threads=2)
    state.warm_up(state.snapshot().params)
    state.apply(0, jnp.full((), 2.0), frames=1)
    state.apply(1, jnp.full((), 2.0), frames=1)
    steps[make_optimizer] = float(state.snapshot().params)
  assert steps[optimizers.rmsprop] == pytest.approx(-2.0)
  assert steps[optimizers.shared_rmsprop] == pytest.approx(-1 - 2 / 5**0.5)


def test_learning_rate_is_that_of_the_frames_before_the_update():
  state = make(learning_rate=lambda frames: 100.0 - frames)
  applied = [state.apply(0, jnp.ones(()), frames=10) for _ in range(3)]
  assert state.snapshot().params == -(100 + 90 + 80)
  assert [result[:2] for result in applied] == [(10, 1), (20, 2), (30, 3)]
  assert all(result.lock_wait >= 0 for result in applied)


@pytest.mark.parametrize(
  'optimizer',
  [
    optimizers.rmsprop(decay=0.5, epsilon=2.0),
    optimizers.shared_rmsprop(decay=0.5, epsilon=2.0),
    optimizers.momentum_sgd(momentum=0.5),
  ],
)
def test_warm_up_changes_nothing(optimizer):
  warm, cold = (make(optimizer=optimizer, threads=2) for _ in range(2))
  warm.warm_up(warm.snapshot().params)
  warm.warm_up(warm.snapshot().params)
  assert warm.snapshot() == cold.snapshot()
  for thread in (0, 1, 0):
    for state in (warm, cold):
      state.apply(thread, jnp.full((), 2.0), frames=1)
    assert warm.snapshot() == cold.snapshot()


def test_update_compiles_once():
  traces = []

  def update(grads, state, params=None):
    traces.append(threading.current_thread().name)
    return grads, state

  optimizer = optimizers.Optimizer(
    optax.GradientTransformation(lambda params: jnp.zeros(()), update),
    per_thread=True,
  )
  # The rate changes at each update and is sometimes an int.
  state = make(
    optimizer=optimizer, threads=3, learning_rate=lambda frames: 30 - frames
  )
  state.warm_up(state.snapshot().params)

  def body(thread):
    for _ in range(3):
      state.apply(thread, jnp.ones(()), frames=1)

  in_threads(*[lambda thread=thread: body(thread) for thread in range(3)])
  assert traces == ['MainThread']
  assert state.snapshot().updates == 9


@pytest.mark.parametrize('per_thread', [False, True])
def test_what_was_captured_goes_on_in_the_same_bits(per_thread):
  def make_one():
    return make(
      jnp.arange(3.0),
      optimizers.Optimizer(optax.scale_by_rms(), per_thread),
      threads=2,
      learning_rate=lambda frames: 1 / (1 + frames),
      target_period_frames=3,
    )

  def learn(state, updates):
    for update in updates:
      state.apply(update % 2, jnp.array([1.0, -2.0, update]), frames=2)

  whole, first, second = make_one(), make_one(), make_one()
  learn(whole, range(8))
  learn(first, range(5))
  captured, _ = first.capture()
  learn(first, range(5, 8))  # What was captured does not change any more.
  second.restore(captured)
  assert second.snapshot().frames == 10
  learn(second, range(5, 8))
  for state in (first, second):
    np.testing.assert_array_equal(
      state.snapshot().params, whole.snapshot().params
    )
    np.testing.assert_array_equal(
      state.snapshot().target_params, whole.snapshot().target_params
    )
    assert state.snapshot()[2:] == whole.snapshot()[2:] == (16, 8, None)


def test_new_threads_begin_with_fresh_statistics():
  optimizer = optimizers.Optimizer(optax.trace(0.5), per_thread=True)
  few = make(optimizer=optimizer, threads=1)
  few.apply(0, jnp.ones(()), frames=1)  # -1, trace 1
  many = make(optimizer=optimizer, threads=2)
  many.restore(few.capture()[0])
  many.apply(1, jnp.ones(()), frames=1)  # -1, as the first of its thread
  assert many.snapshot().params == -2
  many.apply(0, jnp.ones(()), frames=1)  # -(1 + 1/2)
  assert many.snapshot().params == -3.5


def test_frames_without_a_gradient_count():
  state = make(target_period_frames=4)
  state.apply(0, jnp.ones(()), frames=3)
  applied = state.apply(0, None, frames=3)
  assert (applied.frames, applied.updates) == (6, 1)
  params, target_params, *_ = state.snapshot()
  assert params == target_params == -1


def test_capture_does_not_wait_for_ever():
  state = make()
  problems = []

  def note(applied):
    try:
      state.capture(seconds=0.01)
    except TimeoutError as error:
      problems.append(str(error))

  state.apply(0, jnp.ones(()), 1, note)
  assert problems == ['the lock of the parameters is held for 0.01 s']
  assert state.capture(lambda: 'also')[1] == 'also'


def test_observations_of_all_threads_count_once_each():
  threads, segments = 4, 60
  state = make(threads=threads, moments=normalization.initial((2,)))
  state.warm_up(jnp.ones(()))
  seen = np.random.default_rng(0).normal(
    [3.0, -100.0], [0.5, 20.0], (threads, segments, 5, 2)
  )

  def body(thread):
    for segment in seen[thread]:
      # Also where the gradient was dropped.
      grads = None if segment[0, 0] > 3 else jnp.ones(())
      state.apply(thread, grads, frames=5, statistics=normalization.of(segment))

  before = state.snapshot().moments
  in_threads(*[lambda thread=thread: body(thread) for thread in range(threads)])
  mean, variance, count = state.snapshot().moments
  everything = seen.reshape(-1, 2)
  np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(variance, everything.var(axis=0), rtol=1e-4)
  np.testing.assert_allclose(count, len(everything), atol=1e-3)
  # Who took a snapshot before keeps what was in it.
  np.testing.assert_array_equal(before.mean, [0.0, 0.0])


def test_moments_are_captured_and_restored():
  state = make(moments=normalization.initial((1,)))
  few = normalization.of(np.array([[4.0], [8.0]]))
  state.apply(0, jnp.ones(()), frames=1, statistics=few)
  captured, _ = state.capture()
  far = normalization.of(np.array([[-400.0]]))
  state.apply(0, jnp.ones(()), frames=1, statistics=far)
  other = make(moments=normalization.initial((1,)))
  other.restore(captured)
  np.testing.assert_allclose(other.snapshot().moments.mean, [6.0], rtol=1e-3)
  for one in (other, make()):  # Whoever has no moments takes no notice.
    more = normalization.of(np.array([[6.0]]))
    one.apply(0, None, frames=1, statistics=more)
  np.testing.assert_allclose(other.snapshot().moments.mean, [6.0], rtol=1e-3)
