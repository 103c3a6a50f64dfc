"""What whole runs of each runtime promise."""

from catch_runs import (
  RUNTIMES,
  each_runtime,
  interrupted,
  make_config,
  our_threads,
  run,
)
import jax
import numpy as np
import pytest
from results import digest, read_rows, same_episodes

from a3c_jax.core import errors
from a3c_jax.settings import config

ALGORITHMS = ('a3c', 'nstep_q', 'one_step_q', 'one_step_sarsa')


def synchronous(workdir, **given):
  return run(workdir, runtime='synchronous', **given)


def distance(one, other):
  """The largest difference of two runs' parameters."""
  differences = jax.tree.map(
    lambda x, y: np.max(np.abs(x - y)), one.params, other.params
  )
  return max(jax.tree.leaves(differences))


@pytest.mark.parametrize(
  ('threads', 'algo'),
  [(1, 'a3c'), (4, 'a3c'), *[(2, algo) for algo in ALGORITHMS]],
)
def test_synchronous_runs_repeat_exactly(tmp_path, threads, algo):
  given = {'threads': threads, 'algo': algo, 'frames': 600}
  runs = [synchronous(tmp_path / name, **given) for name in 'ab']
  assert digest(runs[0].params) == digest(runs[1].params)
  same_episodes(tmp_path / 'a', tmp_path / 'b')
  other = synchronous(tmp_path / 'c', **given | {'seed': 2})
  assert digest(other.params) != digest(runs[0].params)
  # One update of each round, at the parameters that all acted on.
  (row,) = read_rows(tmp_path / 'a/train.csv')
  t_max = make_config(tmp_path, algo=algo).t_max
  rounds = -(-600 // (t_max * threads))
  assert (runs[0].updates, runs[0].frames) == (rounds, rounds * t_max * threads)
  assert float(row['lag']) == 0


def test_policy_lag_of_a_round_is_0(tmp_path):
  synchronous(tmp_path, threads=3)
  (row,) = read_rows(tmp_path / 'train.csv')
  assert [float(row[f'policy_lag{end}']) for end in ('', '_p95', '_max')] == [
    0,
    0,
    0,
  ]


@pytest.mark.parametrize('algo', ['a3c', 'one_step_q'])
def test_one_synchronous_thread_is_one_asynchronous_thread(tmp_path, algo):
  def both(name, **given):
    given |= {'algo': algo, 'frames': 400}
    one = synchronous(tmp_path / name / 'synchronous', **given)
    other = run(tmp_path / name / 'asynchronous', **given)
    assert (one.frames, one.updates) == (other.frames, other.updates)
    return one, other

  one, other = both('whole', max_grad_norm=1e9)
  assert digest(one.params) == digest(other.params)
  # One program computes and clips a gradient, or two do: they round in
  # different ways.
  assert distance(*both('clipped', max_grad_norm=0.1)) < 1e-6


def test_the_mean_of_gradients_is_their_sum_at_a_larger_rate(tmp_path):
  # Momentum SGD is linear in the gradient, unlike RMSProp.
  given = {
    'threads': 2,
    'envs_per_thread': 2,
    'frames': 400,
    'optimizer': 'momentum_sgd',
    'max_grad_norm': 1e9,
  }
  total = synchronous(tmp_path / 'sum', learning_rate=0.01, **given)
  mean = synchronous(
    tmp_path / 'mean', reduce='mean', learning_rate=0.04, **given
  )
  same_rate = synchronous(
    tmp_path / 'other', reduce='mean', learning_rate=0.01, **given
  )
  assert distance(total, mean) < 1e-5
  assert distance(total, same_rate) > 1e-4
  norms = [
    float(read_rows(tmp_path / name / 'train.csv')[0]['grad_norm'])
    for name in ('sum', 'mean')
  ]
  assert norms[0] == pytest.approx(4 * norms[1], rel=1e-3)


def test_three_synchronous_threads_resume_in_the_same_bits(
  tmp_path, monkeypatch
):
  given = {
    'runtime': 'synchronous',
    'threads': 3,
    'frames': 3000,
    'algo': 'a3c',
    'checkpoint_frames': 500,
  }
  whole = run(tmp_path / 'whole', **given)
  interrupted(monkeypatch, tmp_path / 'parts', 301, **given)
  last = run(tmp_path / 'parts', **given)
  assert (last.finished, last.frames) == (True, whole.frames)
  assert digest(last.params) == digest(whole.params)
  same_episodes(tmp_path / 'whole', tmp_path / 'parts')


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'a3c', 'lstm': True, 'lag_correction': 'vtrace'},
    {'algo': 'nstep_q', 'min_training_segments': 2},
    {'algo': 'one_step_sarsa', 'prediction_batch': 2, 'trainers': 2},
    {'algo': 'one_step_q', 'adjust': True, 'predictors': 2},
    {'algo': 'a3c', 'lag_correction': 'epsilon', 'envs_per_thread': 3},
  ],
  ids=lambda given: '-'.join(map(str, given.values())),
)
def test_queues_train_every_algorithm(tmp_path, given):
  result = run(tmp_path, runtime='queues', threads=3, frames=600, **given)
  assert result.finished and result.frames >= 600
  assert our_threads() == []
  row = read_rows(tmp_path / 'train.csv')[-1]
  assert int(row['agents']) == 3
  assert int(row['predictors']) == given.get('predictors', 1)
  assert int(row['trainers']) == given.get('trainers', 1)
  assert 1 <= float(row['prediction_batch']) <= 3
  assert {each['thread'] for each in read_rows(tmp_path / 'episodes.csv')} == {
    '0',
    '1',
    '2',
  }
  for leaf in jax.tree.leaves(result.params):
    assert np.isfinite(leaf).all()


def test_an_injected_lag_is_in_the_log(tmp_path):
  lag, frames = 20, 5000
  run(
    tmp_path,
    runtime='queues',
    threads=2,
    t_max=5,
    frames=frames,
    inject_lag=lag,
  )
  (row,) = read_rows(tmp_path / 'train.csv')
  assert float(row['policy_lag_max']) >= lag
  # Update k of the first ones has a lag of k.
  updates = frames / 5
  smallest_mean = lag - lag * (lag + 1) / 2 / updates
  assert float(row['policy_lag']) >= smallest_mean


@pytest.mark.parametrize(
  ('runtime', 'norm'),
  [('asynchronous', 'layer'), ('synchronous', 'none'), ('queues', 'none')],
)
def test_the_share_of_dead_units_is_in_the_log(tmp_path, runtime, norm):
  result = run(tmp_path, runtime=runtime, threads=2, norm=norm, t_max=30)
  (row,) = read_rows(tmp_path / 'train.csv')
  shares = [row[name] for name in row if name.startswith('dead_units')]
  assert len(shares) == 2  # Of --network=mlp.
  assert all(0 <= float(share) < 1 for share in shares)
  names = {
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(result.params)
  }
  assert any('LayerNorm' in name for name in names) == (norm == 'layer')


@each_runtime
def test_a_run_resumes_with_no_other_runtime(tmp_path, runtime):
  run(tmp_path, runtime=runtime)
  other = RUNTIMES[RUNTIMES.index(runtime) - 1]
  with pytest.raises(errors.UsageError, match='--runtime') as refused:
    run(tmp_path, runtime=other)
  assert str(refused.value).count('\n') == 0
  # Without a name it is the runtime of the run.
  again = config.make('catch', workdir=str(tmp_path))
  assert again.runtime == runtime
