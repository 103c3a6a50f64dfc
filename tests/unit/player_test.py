"""Playing segments, and replacing environments that fail."""

import threading

from jobs import IDLE, job_of, worker_of
import numpy as np
import pytest

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.core import threads, types
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.runtimes import player as player_lib


class Failure(Exception):
  """What environments raise."""


class Fails(catch.Catch):
  """Catch that fails at its steps of these numbers."""

  def __init__(self, *at):
    super().__init__()
    self._at, self._steps = at, 0

  def step(self, action):
    self._steps += 1
    if self._steps in self._at:
      raise Failure
    return super().step(action)


def make(*failures, stop=None, actor=None, max_env_restarts=0):
  """A player of environments one after another; the job and the worker."""
  at = iter(failures)

  def make_env():
    own = next(at)
    return replayable.Recorded(gym.make(lambda: Fails(*own))())

  job = job_of(IDLE, None, None)._replace(
    make_env=make_env, max_env_restarts=max_env_restarts
  )
  env = make_env()
  worker = worker_of(env, carry_lib.start(env, IDLE, seed=5, key=None))
  actor = actor or actor_lib.in_training(
    IDLE, lambda: types.Version(0, None, frames=0, updates=4)
  )
  stop = stop or threading.Event()
  return player_lib.Player(worker, job, actor, stop), job, worker


def test_segments_follow_one_another():
  player, _, _ = make(())
  before = None
  for number in range(1, 5):
    segment, played = player.play()
    assert len(played.worker_state.action_log.actions) == 3 * number
    assert played.worker_state.carry is segment.carry
    assert played.acted_versions.tolist() == [4, 4, 4]
    if before is not None:
      np.testing.assert_array_equal(segment.segment.obs[0], before)
    before = segment.segment.obs[-1]
  assert player.frames == 3


def test_an_environment_that_fails_is_replaced_and_its_segment_lost():
  player, job, worker = make((5,), (1,), (), max_env_restarts=2)
  first, seed = worker.env, worker.env.action_log().seeds[0]
  assert len(player.play()[1].worker_state.action_log.actions) == 3
  segment, played = player.play()
  assert worker.env is not first
  # The new one began an episode of its own, with another seed.
  log = played.worker_state.action_log
  assert len(log.actions) == 3
  assert log.seeds[0] != seed
  assert segment.segment.is_first[0].all()
  assert len(player.play()[1].worker_state.action_log.actions) == 6
  incidents = job.incidents.drain()
  assert [each.kind for each in incidents] == ['env_restarts'] * 2
  assert 'replaced, 2 of at most 2' in incidents[1].text


def test_one_failure_more_than_allowed_is_raised():
  player, job, _ = make((1,), (1,), (), max_env_restarts=1)
  with pytest.raises(Failure):
    player.play()
  assert len(job.incidents.drain()) == 1


class Raises(actor_lib.SnapshotActor):
  """An actor that raises, as one that waits for a predictor may."""

  def __init__(self, error):
    super().__init__(IDLE, lambda: types.Version(0, None, 0, 0))
    self._error = error

  def act(self, *args):
    raise self._error


@pytest.mark.parametrize('error', [threads.Stopped(), KeyError('mine')])
def test_what_the_actor_raises_replaces_no_environment(error):
  player, job, worker = make((), actor=Raises(error), max_env_restarts=9)
  env = worker.env
  with pytest.raises(type(error)) as raised:
    player.play()
  assert raised.value is error
  assert worker.env is env
  assert job.incidents.drain() == []


def test_a_stop_discards_the_segment():
  stop = threading.Event()
  player, job, worker = make((), stop=stop, max_env_restarts=9)
  player.play()
  state = worker.state
  stop.set()
  with pytest.raises(threads.Stopped):
    player.play()
  assert worker.state is state
  assert job.incidents.drain() == []


def test_a_failure_of_an_environment_after_a_stop_is_no_failure():
  stop = threading.Event()

  class StopsAndFails(catch.Catch):
    def step(self, action):
      stop.set()
      raise Failure

  env = replayable.Recorded(gym.make(StopsAndFails)())
  worker = worker_of(env, carry_lib.start(env, IDLE, seed=5, key=None))
  actor = actor_lib.in_training(IDLE, lambda: types.Version(0, None, 0, 0))
  job = job_of(IDLE, None, None)
  player = player_lib.Player(worker, job, actor, stop)
  with pytest.raises(threads.Stopped):
    player.play()
