"""Runs with a replay memory whose environments or gradients fail."""

import itertools

from catch_runs import Breaks, vector
import jax
import numpy as np
import pytest
from replay_runs import remembered, run_small
from results import digest, read_rows

from a3c_jax.envs import catch
from a3c_jax.runtimes import replaying

both_runtimes = pytest.mark.parametrize(
  'runtime', ['asynchronous', 'synchronous']
)


def cuts(workdir, stream=0):
  """Where a stream's next observation is not known, and where it begins anew.

  Of a memory that has not wrapped.
  """
  memory = remembered(workdir)
  truncated, is_first, discount, ready = (
    memory[name].reshape(-1, memory[name].shape[-1])[stream]
    for name in ('truncated', 'is_first', 'discount_t', 'ready')
  )
  cut = np.flatnonzero(truncated)
  assert not ready[cut].any()
  anew = 1 + np.flatnonzero(is_first[1:] & (discount[:-1] != 0))
  return cut.tolist(), anew.tolist()


@both_runtimes
def test_no_transition_leads_to_an_environment_that_replaces_another(
  tmp_path, caplog, runtime
):
  makers = iter([lambda: Breaks(23), catch.Catch])
  result = run_small(
    tmp_path,
    lambda: vector(next(makers)),
    algo='dqn',
    t_max=3,
    frames=200,
    runtime=runtime,
  )
  assert result.finished
  assert 'the game broke' in caplog.text
  # Five whole segments of four steps, then those of another environment.
  assert cuts(tmp_path) == ([19], [20])
  # A window of three steps may not cross it.
  ready = remembered(tmp_path)['ready'].reshape(-1)
  assert not ready[17:20].any() and ready[16] and ready[20]


class Truncates(catch.Catch):
  """Catch whose episodes end after five steps, without an end of the game."""

  def step(self, action):
    obs, reward, terminated, _, info = super().step(action)
    truncated = not terminated and self.steps_of_episode() == 5
    return obs, reward, terminated, truncated, info

  def reset(self, **given):
    self._number = 0
    return super().reset(**given)

  def steps_of_episode(self):
    self._number += 1
    return self._number


@both_runtimes
def test_a_truncated_transition_is_not_drawn(tmp_path, runtime):
  run_small(
    tmp_path,
    lambda: vector(Truncates),
    algo='pgql',
    frames=200,
    runtime=runtime,
  )
  cut, _ = cuts(tmp_path)
  assert cut == [*range(4, 200, 5)]


@pytest.mark.parametrize(('t_max', 'warned'), [(1, False), (5, True)])
def test_a_memory_that_lacks_its_start_is_reported(
  tmp_path, caplog, t_max, warned
):
  # Each window of five steps has one that is truncated.
  result = run_small(
    tmp_path,
    lambda: vector(Truncates),
    algo='dqn',
    t_max=t_max,
    replay_start_frames=20,
    frames=400,
  )
  assert (result.updates == 0) == warned
  assert ('nothing is learnt' in caplog.text) == warned
  assert ('nothing was learnt' in caplog.text) == warned


@pytest.mark.parametrize(
  'given', [{'update_period': 300}, {'replay_start_frames': 199}]
)
def test_a_run_that_ends_before_its_first_minibatch_is_reported(
  tmp_path, caplog, given
):
  result = run_small(tmp_path, algo='dqn', frames=200, **given)
  assert result.updates == 0
  assert caplog.text.count('nothing was learnt') == 1


@pytest.mark.parametrize('algo', ['dqn', 'pgql'])
def test_synchronous_threads_begin_to_learn_from_memory_together(
  tmp_path, algo
):
  # The memory of one thread has the start later than that of the other.
  makers = iter([catch.Catch, Truncates])
  result = run_small(
    tmp_path,
    lambda: vector(next(makers)),
    algo=algo,
    replay='per_thread',
    runtime='synchronous',
    threads=2,
    frames=600,
    max_bad_gradients=0,
  )
  assert result.finished
  steps = 4 if algo == 'dqn' else 5
  # 50 that are no cuts, of 50 and of 63 steps, and one that is not known yet.
  filling = -(-64 // steps)
  of_segments = 600 // (2 * steps) if algo == 'pgql' else 0
  learning = result.updates - of_segments
  assert abs(learning - (600 // (2 * steps) - filling)) <= 1


@both_runtimes
@pytest.mark.parametrize('algo', ['prioritized_dqn', 'nstep_q'])
def test_a_bad_gradient_of_a_minibatch_is_dropped(
  tmp_path, monkeypatch, caplog, runtime, algo
):
  given = {'algo': algo, 'replay': 'shared', 'runtime': runtime}
  given |= {'replay_minibatches': 3, 'frames': 400}
  whole = run_small(tmp_path / 'whole', **given)
  learn, numbers = replaying.Replayer.learn, itertools.count(1)

  def bad(self, clock):
    learnt = learn(self, clock)
    if next(numbers) != 5:
      return learnt
    grads = jax.tree.map(lambda leaf: leaf * np.nan, learnt.grads)
    return learnt._replace(
      grads=grads,
      values=np.full_like(learnt.values, np.nan),
      replayed=learnt.replayed._replace(
        errors=np.full_like(learnt.replayed.errors, np.nan)
      ),
    )

  monkeypatch.setattr(replaying.Replayer, 'learn', bad)
  result = run_small(tmp_path / 'bad', **given)
  assert (result.finished, result.updates) == (True, whole.updates - 1)
  assert digest(result.params) != digest(whole.params)
  assert 'is not finite' in caplog.text
  row = read_rows(tmp_path / 'bad' / 'train.csv')[-1]
  assert row['bad_gradients'] == '1'
  for leaf in jax.tree.leaves(result.params):
    assert np.isfinite(leaf).all()
  if algo == 'prioritized_dqn':
    assert np.isfinite(remembered(tmp_path / 'bad')['priorities']).all()
