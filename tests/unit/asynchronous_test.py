"""Which version of the parameters each part of a worker's life sees."""

import itertools
import pickle
import threading

import jax
from jobs import IDLE, job_of, worker_of
import numpy as np
import optax
import pytest
from stores import push

from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import normalization
from a3c_jax.core import errors, events, types
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.optim import rule
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.parameters.store import Receipt
from a3c_jax.runtimes import asynchronous

T_MAX = 3


def run(acting, *, segments, exploration=lambda frames: np.array([frames])):
  """One worker, while another one updates before each of its actions.

  An update adds 1 to the one parameter, so it tells how many there were; the
  target is copied each time. Returns what `act` and `gradients` were given.
  """
  store = LockedStore(
    np.float32(0),
    rule.of_optax(optax.identity(), lambda frames: -1.0),
    worker_states=[None, None],
    target_period=types.TargetPeriod(1),
  )
  acted, learnt = [], []

  def act(params, recurrent, obs, key, exploration_epsilon):
    acted.append((int(params), *map(float, exploration_epsilon)))
    push(store, 1, np.float32(1), 100)
    return np.zeros(len(obs), np.int32), recurrent, key

  def gradients(params, target_params, segment):
    learnt.append((int(params), int(target_params), len(segment.r_t)))
    return np.float32(1), np.float32([0, 1])

  learner = types.Learner(
    init=None,
    initial_state=lambda streams: (),
    act=act,
    greedy=None,
    bootstrap=None,
    gradients=gradients,
    acting=acting,
  )
  env = replayable.Recorded(gym.make(catch.Catch)())
  # Unless on a 'snapshot', the last action of a segment is the first of the
  # next.
  frames = (T_MAX * segments + (acting != 'snapshot')) * 100
  frames += T_MAX * (segments - 1) + 1
  carry = carry_lib.start(env, learner, seed=0, key=None)
  asynchronous.work(
    worker_of(env, carry, exploration),
    job_of(learner, gradients, store, frames=frames),
    threading.Event(),
  )
  lags = [each.receipt.lag for each in store.drain() if each.worker == 0]
  return acted, learnt, lags


def test_on_a_snapshot_the_whole_segment_sees_the_same_parameters():
  acted, learnt, lags = run('snapshot', segments=2)
  # Three actions of version 0, three updates by the other worker, one own one.
  assert [version for version, _ in acted] == [0, 0, 0, 4, 4, 4]
  # The gradient is of the version acted on; the target is the newest.
  assert learnt == [(0, 3, T_MAX), (4, 7, T_MAX)]
  assert lags == [3, 3]


def test_on_the_newest_each_action_sees_the_newest_parameters():
  acted, learnt, lags = run('newest', segments=2)
  # A fourth action is drawn on arrival in the last state of a segment.
  assert [version for version, _ in acted] == [0, 1, 2, 3, 5, 6, 7]
  assert learnt == [(4, 4, T_MAX), (8, 8, T_MAX)]
  assert lags == [0, 0]


def test_on_arrival_the_last_action_is_of_the_parameters_of_the_segment():
  acted, learnt, lags = run('arrival', segments=2)
  # The last action of a segment is the first of the next.
  assert [version for version, _ in acted] == [0, 0, 0, 0, 5, 5, 5]
  assert learnt == [(0, 4, T_MAX), (5, 8, T_MAX)]
  assert lags == [4, 3]


@pytest.mark.parametrize('acting', ['snapshot', 'newest', 'arrival'])
def test_exploration_is_that_of_the_frames_when_the_segment_began(acting):
  acted, _, _ = run(acting, segments=2)
  epsilons = [epsilon for _, epsilon in acted]
  first = T_MAX + (acting != 'snapshot')
  # Each action of the other worker counts 100 frames, the segment its own 3.
  assert epsilons[:first] == [0.0] * first
  assert set(epsilons[first:]) == {100.0 * first + T_MAX}


class Recording:
  """A store that gives one version, and keeps what is pushed."""

  factored_rows = 0

  def __init__(self, version, stop_after):
    self.version = version
    self.pushed = []
    self.stop = threading.Event()
    self._stop_after = stop_after

  def read(self):
    return self.version

  def push(self, contribution, *, while_waiting):
    self.pushed.append(contribution)
    if len(self.pushed) == self._stop_after:
      self.stop.set()
    return Receipt(0, 0, 0, 0.0)

  def leave(self, worker):
    self.left = worker


def play(gradients, *, segments, statistics=None, **limits):
  """What one worker contributes that plays so many segments of Catch."""
  learner = IDLE._replace(gradients=gradients)
  env = replayable.Recorded(gym.make(catch.Catch)())
  store = Recording(
    types.Version(np.float32(0), None, 0, 7, statistics), segments
  )
  asynchronous.work(
    worker_of(env, carry_lib.start(env, learner, seed=0, key=None)),
    job_of(learner, gradients, store, **limits),
    store.stop,
  )
  return store.pushed


def test_a_contribution_tells_all_of_its_segment():
  # An episode of Catch takes 9 steps: the third segment ends the first one.
  pushed = play(
    lambda params, target_params, segment: (
      np.float32(1),
      np.float32([2, 3]),
    ),
    segments=4,
  )
  assert [played.worker for each in pushed for played in each.played] == [0] * 4
  assert [each.frames for each in pushed] == [T_MAX] * 4
  assert [each.read_version for each in pushed] == [7] * 4
  assert [each.played[0].statistics for each in pushed] == [None] * 4
  for number, each in enumerate(pushed, start=1):
    (learning,), ended = each.events, each.played[0].events
    np.testing.assert_array_equal(learning.values, [2, 3])
    assert isinstance(learning, events.LearningStatistics)
    assert [episode.steps for episode in ended] == [9] * (number == 3)
    assert len(each.played[0].worker_state.action_log.actions) == T_MAX * number
    pickle.loads(pickle.dumps(each))


def test_statistics_are_of_the_raw_observations_of_the_segment():
  raw = []

  def gradients(params, target_params, segment):
    raw.append(segment.obs[:-1])
    return np.float32(1), np.float32([0, 1])

  given = normalization.initial((10, 5))
  (plain,) = play(gradients, segments=1)
  (normalized,) = play(gradients, segments=1, statistics=given)
  assert plain.played[0].statistics is None
  expected = normalization.of(raw[0].reshape(-1, 10, 5))
  found = normalized.played[0].statistics
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_gradients_that_are_held_back_keep_what_belongs_to_them():
  count = itertools.count(1)

  def gradients(params, target_params, segment):
    number = next(count)
    return np.float32(number), np.float32([0, number])

  pushed = play(gradients, segments=5, inject_lag=2)
  assert [each.grads for each in pushed] == [None, None, 1, 2, 3]
  values = [[event.values[1] for event in each.events] for each in pushed]
  assert values == [[], [], [1], [2], [3]]
  # Frames and states are those of the newest segment.
  assert [each.frames for each in pushed] == [T_MAX] * 5
  for number, each in enumerate(pushed, start=1):
    assert len(each.played[0].worker_state.action_log.actions) == T_MAX * number


def bad_at(*calls):
  """Gradients of which some, counted from 1, are not finite."""
  count = itertools.count(1)

  def gradients(params, target_params, segment):
    bad = next(count) in calls
    return {'w': np.float32('nan' if bad else 1)}, np.float32(
      [0, 'nan' if bad else 1]
    )

  return gradients


def test_a_bad_gradient_is_an_incident_and_its_frames_count():
  pushed = play(bad_at(2, 4), segments=5, max_bad_gradients=1)
  assert [each.grads is None for each in pushed] == [
    False,
    True,
    False,
    True,
    False,
  ]
  assert [each.frames for each in pushed] == [T_MAX] * 5
  for each in (pushed[1], pushed[3]):
    incident = each.events[0]
    assert incident.kind == 'bad_gradients'
    assert 'thread 0' in incident.text and 'w is not finite' in incident.text


def test_too_many_bad_gradients_in_a_row_end_the_worker():
  with pytest.raises(errors.BadGradientError, match='2 gradients'):
    play(bad_at(2, 4, 5), segments=6, max_bad_gradients=1)
