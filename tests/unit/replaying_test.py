"""How a worker draws minibatches, and when."""

import threading

import jax
from jobs import IDLE, job_of, worker_of
import numpy as np
import pytest
from stores import maker

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import normalization
from a3c_jax.acting.worker_state import ReplayErrors
from a3c_jax.core import errors, stopwatch
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.parameters.store import Dropped
from a3c_jax.replay.memory import Memory, Priorities
from a3c_jax.runtimes import asynchronous, outliers, replaying, runtime
from a3c_jax.runtimes import player as player_lib

STEPS, BATCH = 3, 4


def acting(params, state, obs, key, epsilon):
  """Always action 0, but the key goes on."""
  return np.zeros(len(obs), np.int32), state, jax.random.split(key)[0]


LEARNER = IDLE._replace(act=acting, learns_from_segments=False)


class Drawn:
  """Gradients of 1 that keep the minibatches that they are of."""

  def __init__(self, bad=()):
    self.minibatches, self._bad = [], bad

  def __call__(self, params, target_params, minibatch):
    self.minibatches.append(minibatch)
    number = len(self.minibatches)
    grads = np.float32('nan' if number in self._bad else 1)
    errors = np.arange(BATCH, dtype=np.float32)
    return grads, np.float32([number, grads]), errors


def make_memory(workers=1, **given):
  given = {'capacity': 60, 'shared': True} | given
  return Memory(
    workers=workers,
    num_envs=1,
    obs_shape=(10, 5),
    obs_dtype=np.dtype(np.float32),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    **given,
  )


def make_job(
  memory=None,
  *,
  minibatches=2,
  start=1,
  statistics=None,
  outlier_deviations=0.0,
  **limits,
):
  memory = memory or make_memory()
  env = replayable.Recorded(gym.make(catch.Catch)())
  carry = carry_lib.start(env, LEARNER, seed=0, key=jax.random.PRNGKey(3))
  worker = worker_of(env, carry)
  store = maker(LockedStore)(
    np.float32(0),
    worker_states=[worker.state],
    memory=memory,
    statistics=statistics,
  )
  replay = runtime.Replay(
    memory=memory,
    gradients=lambda *_: None,
    batch_size=BATCH,
    minibatches=minibatches,
    start=start,
    beta=lambda frames: 0.5,
    outlier_deviations=outlier_deviations,
  )
  job = job_of(LEARNER, None, store, steps=STEPS, replay=replay, **limits)
  return worker, job


def work(worker, job, frames, gradients):
  """Works until so many frames; returns what was applied meanwhile."""
  job.store.drain()
  asynchronous.work(
    worker, job._replace(frames=frames), threading.Event(), gradients
  )
  return job.store.drain()


def same_minibatches(ones, others):
  assert len(ones) == len(others) > 0
  for one, other in zip(ones, others, strict=True):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize('start', [1, 2, 8, 9])
def test_minibatches_are_due_after_each_segment_once_the_memory_has_its_start(
  start,
):
  worker, job = make_job(minibatches=2, start=start)
  gradients = Drawn()
  applied = work(worker, job, 6 * STEPS, gradients)
  # A segment that finds n transitions in the memory: 0, 2, 5, 8, 11, 14.
  found = [max(0, STEPS * number - 1) for number in range(6)]
  due = [2 * (size >= start) for size in found]
  assert len(gradients.minibatches) == sum(due)
  versions = np.cumsum([x for n in due for x in (0, *[1] * n)])
  assert [each.receipt.version for each in applied] == versions.tolist()
  state, _ = job.store.capture()
  assert state.worker_states[0].minibatches_due == 0
  assert state.version.frames == 6 * STEPS


def test_a_minibatch_counts_no_frame_and_is_reported_as_one_of_replay():
  worker, job = make_job()
  applied = work(worker, job, 3 * STEPS, Drawn())
  frames = [each.receipt.frames for each in applied]
  assert frames == [3, 6, 6, 6, 9, 9, 9]
  (learning,) = applied[2].events
  assert learning.of_replay
  # The mean age comes first; of the five transitions, at most four are older.
  age, *values = learning.values
  assert 0 <= age <= 5
  assert values == [1, 1]
  assert not applied[1].events


def test_what_is_drawn_depends_on_the_key_and_the_number():
  def drawn(key, start_due):
    worker, job = make_job()
    work(worker, job, 4 * STEPS, Drawn())
    state, _ = job.store.capture()
    carry = state.worker_states[0].carry._replace(key=jax.random.PRNGKey(key))
    worker.state = state.worker_states[0]._replace(
      carry=carry, minibatches_due=start_due
    )
    gradients = Drawn()
    replayer = replaying.Replayer(worker, job, gradients)
    while replayer.due:
      replayer.learn(stopwatch.Stopwatch())
    return gradients.minibatches

  first, second = drawn(1, 2)
  same_minibatches(drawn(1, 2), [first, second])
  same_minibatches(drawn(1, 1), [second])
  other, _ = drawn(2, 2)
  frames = [each.frames.tobytes() for each in (first, second, other)]
  assert len(set(frames)) == 3


def test_a_worker_that_resumes_between_minibatches_draws_the_same():
  whole = Drawn()
  worker, job = make_job(minibatches=3)
  work(worker, job, 5 * STEPS, whole)

  worker, job = make_job(minibatches=3)
  gradients, stop = Drawn(), threading.Event()

  def stopping(*arguments):
    if len(gradients.minibatches) == 3:
      stop.set()
    return gradients(*arguments)

  asynchronous.work(worker, job, stop, stopping)
  state, _ = job.store.capture()
  assert state.worker_states[0].minibatches_due == 2
  again, other = make_job(minibatches=3)
  again.state = state.worker_states[0]
  again.env = worker.env
  other.store.restore(state)
  work(again, other, 5 * STEPS, gradients)
  same_minibatches(whole.minibatches, gradients.minibatches)


def test_minibatches_that_are_due_come_before_the_end_of_the_run():
  worker, job = make_job()
  work(worker, job, 3 * STEPS, Drawn())
  worker.state = worker.state._replace(minibatches_due=2)
  gradients = Drawn()
  assert len(work(worker, job, 3 * STEPS, gradients)) == 2
  assert len(gradients.minibatches) == 2


def test_skipping_leaves_out_what_is_due():
  worker, job = make_job()
  worker.state = worker.state._replace(minibatches_due=2)
  replayer = replaying.Replayer(worker, job, Drawn())
  assert replayer.due == 2
  replayer.skip()
  assert replayer.due == 0


def test_workers_that_learn_together_wait_for_the_memory_of_each():
  memory = make_memory(workers=2, shared=False)
  worker, job = make_job(memory, start=4)
  other = worker_of(worker.env, worker.state.carry, index=1)
  alone, together = (
    replaying.Replayer(worker, job, Drawn(), together=each)
    for each in ((), (worker, other))
  )
  player = player_lib.Player(
    worker,
    job,
    actor_lib.in_training(LEARNER, job.store.read),
    threading.Event(),
  )
  dues = []
  for index in (0, 0, 1, 1):
    segment, played = player.play()
    # As a segment of an environment of its own.
    is_first = np.concatenate(
      [[[not memory.size(index)]], segment.transitions.is_first[1:]]
    )
    memory.extend(index, segment.transitions._replace(is_first=is_first))
    alone.remember(segment, played)
    together.remember(segment, played)
    dues.append((alone.due, together.due))
  assert dues == [(0, 0), (2, 0), (2, 0), (2, 2)]


def test_errors_become_priorities_and_weights_are_those_of_beta():
  memory = make_memory(priorities=Priorities(alpha=1.0, epsilon=1e-6))
  worker, job = make_job(memory, minibatches=1)
  gradients = Drawn()
  work(worker, job, 8 * STEPS, gradients)
  weights = [each.weight for each in gradients.minibatches]
  # At first all priorities are equal; then errors of 0 to 3 are known.
  np.testing.assert_array_equal(weights[0], np.ones(BATCH))
  assert {each.max() for each in weights} == {1}
  # 3 instead of 1, to the power of -β.
  lowest = min(each.min() for each in weights)
  assert lowest == pytest.approx(3**-0.5)
  priorities = memory.capture().arrays['priorities']
  np.testing.assert_allclose(priorities.max(), BATCH - 1, rtol=1e-5)


def test_a_minibatch_that_is_bad_changes_no_priority():
  arrays = []
  for bad in ((), (1,)):
    memory = make_memory(priorities=Priorities(alpha=1.0, epsilon=1e-6))
    worker, job = make_job(memory, minibatches=1, max_bad_gradients=1)
    applied = work(worker, job, 2 * STEPS, Drawn(bad))
    arrays.append(memory.capture().arrays['priorities'])
    (event,) = applied[-1].events
    assert getattr(event, 'kind', None) == ('bad_gradients' if bad else None)
    assert applied[-1].receipt.version == (0 if bad else 1)
  assert len(np.unique(arrays[0])) > 2
  assert set(np.unique(arrays[1])) == {0, 1}


class WithErrors:
  """Gradients of 1 of minibatches with these errors, one after another."""

  def __init__(self, *errors):
    self._errors = iter(errors)

  def __call__(self, params, target_params, minibatch):
    errors = np.full(BATCH, next(self._errors), np.float32)
    grads = np.float32('nan' if np.isnan(errors[0]) else 1)
    return grads, np.float32([0, grads]), errors


# Mean 2 and deviation 1, so that with k = 3 an outlier is above 5.
USUAL = (1.0, 3.0) * 3


@pytest.fixture
def six_are_enough(monkeypatch):
  monkeypatch.setattr(outliers, 'FIRST', 6)


def test_the_gradient_of_an_outlier_is_discarded_and_counted(six_are_enough):
  memory = make_memory(priorities=Priorities(alpha=1.0, epsilon=1e-6))
  worker, job = make_job(memory, minibatches=1, outlier_deviations=3.0)
  # The first segment finds no transition. So 7 segments have 6 minibatches.
  work(worker, job, 7 * STEPS, WithErrors(*USUAL))
  # With 4.9 the mean is 2.41 and the deviation 1.37: then 6.54 is the limit.
  for error, discarded in ((4.9, False), (6.6, True)):
    before = job.store.read()
    worker.state = job.store.capture()[0].worker_states[0]
    segment, minibatch = work(
      worker, job, before.frames + STEPS, WithErrors(error)
    )
    assert segment.receipt.frames == minibatch.receipt.frames
    assert len(minibatch.events) == (not discarded)
    assert job.store.read().updates == before.updates + (not discarded)
    # Priorities are errors, and new transitions have the largest so far.
    largest = memory.capture().arrays['priorities'].max()
    assert largest == pytest.approx(4.9)
  assert job.store.dropped() == Dropped(late=0, outliers=1)


def test_without_deviations_nothing_is_an_outlier(six_are_enough):
  worker, job = make_job(minibatches=1)
  work(worker, job, 8 * STEPS, WithErrors(*USUAL, 1e6))
  assert job.store.read().updates == 7
  state, _ = job.store.capture()
  assert state.worker_states[0].replay_errors == ReplayErrors()


def test_a_gradient_that_is_not_finite_is_no_outlier(six_are_enough):
  worker, job = make_job(
    minibatches=1, outlier_deviations=3.0, max_bad_gradients=1
  )
  applied = work(worker, job, 8 * STEPS, WithErrors(*USUAL, np.nan))
  (incident,) = applied[-1].events
  assert incident.kind == 'bad_gradients'
  assert job.store.dropped() == Dropped()
  state, _ = job.store.capture()
  assert state.worker_states[0].replay_errors.count == 6


def test_mean_and_deviation_of_errors_are_part_of_the_workers_state():
  worker, job = make_job(minibatches=1, outlier_deviations=3.0)
  work(worker, job, 3 * STEPS, WithErrors(1.0, 3.0))
  state, _ = job.store.capture()
  found = state.worker_states[0].replay_errors
  assert found == (2, 2.0, 1.0)
  # A segment alone leaves it.
  worker.state = state.worker_states[0]
  replayer = replaying.Replayer(worker, job, WithErrors(5.0))
  player = player_lib.Player(
    worker,
    job,
    actor_lib.in_training(LEARNER, job.store.read),
    threading.Event(),
  )
  played = replayer.remember(*player.play())
  assert played.worker_state.replay_errors == found
  learnt = replayer.learn(stopwatch.Stopwatch())
  # 2 + (5 - 2)/3, and ⅔ (1 + 3²/3).
  assert learnt.played.worker_state.replay_errors == pytest.approx(
    (3, 3, 8 / 3)
  )


def test_bad_minibatches_in_a_row_end_the_worker():
  worker, job = make_job(max_bad_gradients=1)
  with pytest.raises(errors.BadGradientError, match='2 gradients'):
    work(worker, job, 9 * STEPS, Drawn(bad=(2, 3)))


def test_raw_observations_are_normalized_with_the_newest_statistics():
  statistics = normalization.initial((10, 5))
  worker, job = make_job(statistics=statistics)
  gradients = Drawn()
  work(worker, job, 3 * STEPS, gradients)
  newest = job.store.read().statistics
  raw = np.unique(
    normalization.normalizer(newest)(
      np.float32([0, 1])[:, None, None] * np.ones((10, 5), np.float32)
    )
  )
  assert set(np.unique(gradients.minibatches[-1].frames)) <= set(raw)


def test_an_example_has_the_shapes_of_what_is_drawn():
  worker, job = make_job()
  gradients = Drawn()
  work(worker, job, 3 * STEPS, gradients)
  shapes = [
    jax.tree.map(lambda x: (x.shape, x.dtype), each)
    for each in (replaying.example(job), gradients.minibatches[0])
  ]
  assert shapes[0] == shapes[1]


def test_names_are_in_the_order_of_values():
  def gradients(params):
    return params, {'mean_q': params, 'error': params, 'loss': params}, params

  assert replaying.names(gradients, np.float32(0)) == [
    'replay_age',
    'replay_error',
    'replay_loss',
    'replay_mean_q',
    'replay_grad_norm',
  ]
