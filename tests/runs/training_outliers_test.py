"""Runs that discard the gradients of some minibatches."""

import jax
import jax.numpy as jnp
import pytest
from replay_runs import interrupted_in_minibatch, newest, run_small
from results import digest, read_rows

from a3c_jax.runtimes import outliers, replaying

# Small, so that there are many.
MANY = {'algo': 'dqn', 'outlier_deviations': 0.3}


def discarded(workdir):
  return int(float(read_rows(workdir / 'train.csv')[-1]['outlier_gradients']))


@pytest.fixture(autouse=True)
def few_come_first(monkeypatch):
  monkeypatch.setattr(outliers, 'FIRST', 10)


def test_discarded_gradients_are_no_updates(tmp_path):
  result = run_small(tmp_path / 'a', **MANY)
  plain = run_small(tmp_path / 'b', algo='dqn')
  count = discarded(tmp_path / 'a')
  assert 0 < count < plain.updates / 2
  assert result.updates == plain.updates - count
  assert result.frames == plain.frames
  (row,) = read_rows(tmp_path / 'b/train.csv')
  assert 'outlier_gradients' not in row


def test_one_synchronous_thread_discards_as_an_asynchronous_one(tmp_path):
  one, other = (
    run_small(tmp_path / runtime, runtime=runtime, **MANY)
    for runtime in ('asynchronous', 'synchronous')
  )
  assert one.updates == other.updates
  assert digest(one.params) == digest(other.params)
  counts = [discarded(tmp_path / x) for x in ('asynchronous', 'synchronous')]
  assert counts[0] == counts[1] > 0


def learning(monkeypatch, change):
  """Changes what each worker learns from a minibatch."""
  learn = replaying.Replayer.learn

  def changed(self, clock):
    learnt = learn(self, clock)
    return change(learnt.played.worker, learnt)

  monkeypatch.setattr(replaying.Replayer, 'learn', changed)


def test_in_a_round_the_others_are_learnt(tmp_path, monkeypatch):
  given = MANY | {
    'runtime': 'synchronous',
    'threads': 2,
    'outlier_deviations': 1e6,
  }

  def without_second(worker, learnt):
    zeros = jax.tree.map(jnp.zeros_like, learnt.grads)
    return learnt._replace(grads=zeros) if worker else learnt

  with monkeypatch.context() as patch:
    learning(patch, without_second)
    expected = run_small(tmp_path / 'a', **given)
  with monkeypatch.context() as patch:
    learning(patch, lambda worker, learnt: learnt._replace(outlier=worker == 1))
    result = run_small(tmp_path / 'b', **given)
  assert digest(result.params) == digest(expected.params)
  assert discarded(tmp_path / 'b') == result.updates == expected.updates > 0
  learning(monkeypatch, lambda worker, learnt: learnt._replace(outlier=True))
  nothing = run_small(tmp_path / 'c', **given)
  assert nothing.updates == 0
  assert discarded(tmp_path / 'c') == 2 * expected.updates


def test_a_run_that_resumes_knows_the_errors_before(tmp_path, monkeypatch):
  whole = run_small(tmp_path / 'whole', **MANY)
  parts = tmp_path / 'parts'
  interrupted_in_minibatch(monkeypatch, parts, 60, **MANY)
  saved = newest(parts).arrays['workers']['0']['replay_errors']
  assert int(saved['count']) == 60
  last = run_small(parts, **MANY)
  assert last.updates == whole.updates
  assert digest(last.params) == digest(whole.params)
