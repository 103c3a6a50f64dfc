"""Which version of the parameters each part of a thread's life sees."""

import threading

import numpy as np
import optax
import pytest

from a3c_jax import (
  actor_learner,
  base,
  checkpoints,
  optimizers,
  shared,
  telemetry,
)
from a3c_jax.acting import carry as carry_lib
from a3c_jax.core import stopwatch
from a3c_jax.envs import catch, gym, recorded
from a3c_jax.settings import config

T_MAX = 3


def run(
  acting, *, segments, threads_exploration=lambda frames: np.array([frames])
):
  """One thread, while another one updates before each of its actions.

  An update adds 1 to the one parameter, so it tells how many there were; the
  target is copied each time. Returns what `act` and `gradients` were given.
  """
  state = shared.SharedState(
    np.float32(0),
    optimizers.Optimizer(optax.identity(), per_thread=False),
    threads=2,
    learning_rate=lambda frames: -1.0,
    target_period_frames=1,
  )
  acted, learnt = [], []

  def act(params, recurrent, obs, key, exploration_epsilon):
    acted.append((int(params), *map(float, exploration_epsilon)))
    state.apply(1, np.float32(1), 100)
    return np.zeros(len(obs), np.int32), recurrent, key

  def gradients(params, target_params, segment):
    learnt.append((int(params), int(target_params), len(segment.r_t)))
    return np.float32(1), np.float32([0, 1])

  learner = base.Learner(
    init=None,
    initial_state=lambda streams: (),
    act=act,
    greedy=None,
    bootstrap=None,
    gradients=gradients,
    acting=acting,
  )
  env = recorded.Recorded(gym.make(catch.Catch)())
  # On 'newest' the last action of a segment is the first of the next.
  frames = (T_MAX * segments + (acting == 'newest')) * 100
  frames += T_MAX * (segments - 1) + 1
  reports = telemetry.Reports()
  actor_learner.run(
    0,
    threading.Event(),
    config=config.make('catch', t_max=T_MAX, frames=frames),
    envs=[env],
    make_env=None,
    learner=learner,
    gradients=gradients,
    points=[
      checkpoints.Point(
        carry_lib.start(env, learner, seed=0, key=None), env.past()
      )
    ],
    state=state,
    exploration_epsilon=threads_exploration,
    reports=reports,
    phases=stopwatch.Stopwatch(),
    began=0.0,
  )
  lags = [
    report.lag
    for report in reports.take()
    if isinstance(report, telemetry.Update)
  ]
  return acted, learnt, lags


def test_on_a_snapshot_the_whole_segment_sees_the_same_parameters():
  acted, learnt, lags = run('snapshot', segments=2)
  # Three actions of version 0, three updates by the other thread, one own one.
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


@pytest.mark.parametrize('acting', ['snapshot', 'newest'])
def test_exploration_is_that_of_the_frames_when_the_segment_began(acting):
  acted, _, _ = run(acting, segments=2)
  epsilons = [epsilon for _, epsilon in acted]
  first = T_MAX + (acting == 'newest')
  # Each action of the other thread counts 100 frames, the segment its own 3.
  assert epsilons[:first] == [0.0] * first
  assert set(epsilons[first:]) == {100.0 * first + T_MAX}
