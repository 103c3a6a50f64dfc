"""The queues between agents, predictors and trainers, with real threads."""

import collections
import threading

import jax
import jax.numpy as jnp
from jobs import IDLE, job_of, worker_of
import numpy as np
import pytest
from stores import WAIT_SECONDS, plain

from a3c_jax import networks
from a3c_jax.acting import carry as carry_lib
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import errors, threads, types
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.runtimes import joining, queues

T, K = 4, 2
COSTS = {'entropy_cost': 0.1, 'value_cost': 0.5}
LSTM = networks.ActorCritic(
  networks.MLPTorso(hidden=()), 3, networks.LSTMCore(cells=4)
)
LEARNERS = {
  'recurrent': policy_based.a3c(LSTM, **COSTS),
  'kept': policy_based.a3c(LSTM, **COSTS, correction='vtrace'),
  'nstep_q': value_based.nstep_q(
    networks.QNetwork(networks.MLPTorso(hidden=()), 3)
  ),
}


def segment_of(learner, seed, *, keeps):
  rng = np.random.default_rng(seed)
  discount_t = np.full((T, K), 0.9, np.float32)
  discount_t[seed % T, seed % K] = 0
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return types.Segment(
    obs=normal(T + 1, K, 2),
    a=rng.integers(3, size=(T + 1, K), dtype=np.int32),
    r_t=normal(T, K),
    discount_t=discount_t,
    is_first=np.concatenate([np.zeros((1, K), bool), discount_t == 0]),
    state=jax.tree.map(lambda x: normal(*x.shape), learner.initial_state(K)),
    kept={'log_mu': -np.exp(normal(T * K))} if keeps else (),
  )


@pytest.mark.parametrize('name', LEARNERS)
def test_a_joined_segment_has_the_gradients_of_all(name):
  learner = LEARNERS[name]
  segments = [
    segment_of(learner, seed, keeps=name == 'kept') for seed in range(3)
  ]
  params = jax.jit(learner.init)(jax.random.PRNGKey(0), segments[0].obs[0])
  gradients = jax.jit(learner.gradients)
  together, _ = gradients(params, params, joining.joined(segments))
  parts = [gradients(params, params, each)[0] for each in segments]
  expected = jax.tree.map(lambda *leaves: sum(leaves), *parts)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    together,
    expected,
  )


def test_environments_stand_side_by_side_in_their_order():
  segments = [
    segment_of(LEARNERS['kept'], seed, keeps=True) for seed in range(3)
  ]
  found = joining.joined(segments)
  for index, segment in enumerate(segments):
    columns = slice(K * index, K * (index + 1))
    for name in ('obs', 'a', 'r_t', 'discount_t', 'is_first'):
      whole, part = getattr(found, name), getattr(segment, name)
      np.testing.assert_array_equal(whole[:, columns], part)
      assert whole.dtype == part.dtype
    jax.tree.map(
      lambda x, y, columns=columns: np.testing.assert_array_equal(
        x[columns], y
      ),
      found.state,
      segment.state,
    )
    np.testing.assert_array_equal(
      found.kept['log_mu'].reshape(T, 3 * K)[:, columns],
      segment.kept['log_mu'].reshape(T, K),
    )


def test_one_segment_is_joined_with_nothing():
  segment = segment_of(LEARNERS['recurrent'], 0, keeps=False)
  assert joining.joined([segment]) is segment


class Recording(LockedStore):
  """Remembers contributions, and the updates before each of them."""

  def __init__(self, *args, **given):
    super().__init__(*args, **given)
    self.pushed = []

  def push(self, contribution):
    self.pushed.append((self.read().updates, contribution))
    return super().push(contribution)


def gradients(params, target_params, segment):
  return jnp.ones(()), np.float32([0, 1])


def arrange(*, frames, of_gradient=gradients, max_bad_gradients=0, **settings):
  """Queues of agents that play Catch, and their store."""
  settings = queues.Settings(**{'agents': 3} | settings)
  envs = [
    replayable.Recorded(gym.make(catch.Catch)()) for _ in range(settings.agents)
  ]
  team = [
    worker_of(
      env, carry_lib.start(env, IDLE, seed=index, key=None), index=index
    )
    for index, env in enumerate(envs)
  ]
  store = Recording(
    jnp.zeros(()),
    plain(),
    worker_states=[worker.state for worker in team],
    target_period=None,
  )
  job = job_of(
    IDLE,
    of_gradient,
    store,
    frames=frames,
    max_bad_gradients=max_bad_gradients,
  )
  return queues.Queues(team, job, settings), store


def do(arrangement):
  """Has the threads do the job; returns what failed."""
  group = arrangement.threads()
  group.start()
  while group.wait(WAIT_SECONDS):
    pass
  assert group.stop(WAIT_SECONDS) == []
  return group.error


@pytest.mark.parametrize(
  'settings',
  [
    {'trainers': 1},
    {'trainers': 3, 'predictors': 2},
    {'trainers': 3, 'min_training_segments': 2, 'prediction_batch': 1},
    {'trainers': 2, 'inject_lag': 3, 'training_queue': 1},
  ],
)
def test_segments_of_an_agent_are_applied_in_the_order_played(settings):
  done = 3 * 120
  arrangement, store = arrange(frames=done, **settings)
  assert do(arrangement) is None
  played = collections.Counter()
  size = settings.get('min_training_segments', 1)
  for _, contribution in store.pushed:
    assert len(contribution.played) == size
    assert contribution.frames == 3 * size
    for each in contribution.played:
      played[each.worker] += 3
      log = each.worker_state.action_log
      assert len(log.actions) == played[each.worker]
  assert played.total() == store.read().frames >= done
  gauges = arrangement.gauges()
  assert 1 <= gauges['prediction_batch'] <= settings.get('prediction_batch', 3)
  assert gauges['trainers'] == settings['trainers']
  phases = arrangement.phases()
  assert all(phases[name] > 0 for name in ('acting', 'gradients', 'update'))


def test_one_trainer_learns_from_no_more_than_all_frames():
  arrangement, store = arrange(frames=90, trainers=1, training_queue=50)
  assert do(arrangement) is None
  assert store.read().frames == 90


def test_a_trainer_that_is_stopped_leaves_what_waits():
  arrangement, store = arrange(frames=10**6)
  arrangement._segments.put('never read')
  stop = threading.Event()
  stop.set()
  with pytest.raises(threads.Stopped):
    arrangement._train(0, stop)
  assert arrangement._segments.qsize() == 1
  assert store.pushed == []


def test_an_injected_lag_is_that_of_every_step():
  lag = 5
  arrangement, store = arrange(frames=300, trainers=2, inject_lag=lag)
  assert do(arrangement) is None
  assert len(store.pushed) > 3 * lag
  for updates, contribution in store.pushed:
    (each,) = contribution.played
    # There are fewer updates than that in the beginning.
    assert (updates - each.acted_versions >= min(lag, updates)).all()


def test_too_many_bad_gradients_in_a_row_end_it():
  bad = lambda *given: (jnp.full((), np.nan), np.float32([0, np.nan]))
  arrangement, store = arrange(
    frames=10**6, of_gradient=bad, max_bad_gradients=2, trainers=2
  )
  error = do(arrangement)
  assert isinstance(error, errors.BadGradientError)
  assert [each.grads for _, each in store.pushed] == [None, None]
  assert store.read()[2:4] == (6, 0)


def test_an_error_of_one_thread_ends_all():
  class Failure(Exception):
    pass

  def fail(*given):
    raise Failure

  arrangement, _ = arrange(frames=10**6, of_gradient=fail, trainers=2)
  error = do(arrangement)
  assert isinstance(error, Failure)
  assert error.__notes__[0].startswith('raised in thread trainer-')


def test_adjusted_numbers_of_threads_do_all_frames(monkeypatch):
  # Threads that are left out wait, and are back when their turn comes.
  monkeypatch.setattr(queues, '_POLL_SECONDS', 0.01)
  monkeypatch.setattr(queues, '_WINDOW_SECONDS', 0.02)
  arrangement, store = arrange(
    frames=900, trainers=3, predictors=2, adjust=True
  )
  assert do(arrangement) is None
  assert store.read().frames >= 900
  played = collections.Counter()
  for _, contribution in store.pushed:
    (each,) = contribution.played
    played[each.worker] += 3
    assert len(each.worker_state.action_log.actions) == played[each.worker]
  gauges = arrangement.gauges()
  assert 1 <= gauges['agents'] <= 3 and 1 <= gauges['predictors'] <= 2
