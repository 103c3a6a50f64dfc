"""Runs that change parameters in other ways, or hold gradients back."""

from catch_runs import interrupted, make_config, run
import jax
import numpy as np
import pytest
from replay_runs import SMALL
from results import digest, read_rows

from a3c_jax.core import errors

SMALL_NET = {'network': 'catch_runs:make_small'}


def same_up_to_rounding(one, other):
  for mine, its in zip(
    jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True
  ):
    np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('consistency', ['per_leaf', 'hogwild'])
@pytest.mark.parametrize('algo', ['a3c', 'one_step_q'])
def test_one_thread_learns_the_same_without_the_lock(
  tmp_path, algo, consistency
):
  given = SMALL_NET | {'algo': algo, 'frames': 300}
  locked = run(tmp_path / 'locked', **given)
  other = run(tmp_path / 'other', consistency=consistency, **given)
  assert other.updates == locked.updates
  same_up_to_rounding(other, locked)


@pytest.mark.parametrize(
  'given',
  [
    {'consistency': 'per_leaf', 'optimizer': 'per_thread_adam'},
    {'consistency': 'hogwild', 'algo': 'nstep_q'},
    SMALL | {'consistency': 'hogwild', 'algo': 'prioritized_dqn'},
  ],
)
def test_one_thread_that_is_stopped_ends_in_the_same_bits(
  tmp_path, monkeypatch, given
):
  given = SMALL_NET | {'frames': 600} | given
  whole = run(tmp_path / 'whole', **given)
  interrupted(monkeypatch, tmp_path / 'parts', 217, **given)
  parts = run(tmp_path / 'parts', **given)
  assert digest(parts.params) == digest(whole.params)


@pytest.mark.parametrize('consistency', ['per_leaf', 'hogwild'])
def test_threads_without_one_lock_count_all_updates(tmp_path, consistency):
  result = run(
    tmp_path, threads=4, frames=2000, consistency=consistency, **SMALL_NET
  )
  assert result.finished
  assert result.updates == result.frames / 5


@pytest.mark.parametrize('algo', ['a3c', 'one_step_sarsa'])
def test_one_thread_has_exactly_the_lag_that_is_injected(tmp_path, algo):
  given = SMALL_NET | {'algo': algo, 'frames': 400, 'inject_lag': 7}
  one, other = (run(tmp_path / name, **given) for name in ('one', 'other'))
  assert digest(one.params) == digest(other.params)
  # Of 80 segments, 7 gradients are still held back at the end.
  assert one.updates == 73
  (row,) = read_rows(tmp_path / 'one/train.csv')
  # The first is applied at once, and so has no updates before it.
  assert float(row['lag']) == pytest.approx((sum(range(7)) + 66 * 7) / 73)


@pytest.mark.parametrize('algo', ['a3c', 'one_step_q'])
def test_the_cosine_of_stale_gradients_is_below_1(tmp_path, algo):
  given = SMALL_NET | {'algo': algo, 'frames': 400, 'measure_staleness': 2}
  cosines = []
  for lag in (0, 20):
    run(tmp_path / f'{lag}', inject_lag=lag, **given)
    (row,) = read_rows(tmp_path / f'{lag}/train.csv')
    cosines.append(float(row['staleness_cosine']))
  # One thread always learns at the newest parameters.
  assert cosines[0] == pytest.approx(1, abs=1e-5)
  assert -1 <= cosines[1] < 1 - 1e-5


@pytest.mark.parametrize(
  'given', [{'staleness_rate': 'inverse'}, {'delay_compensation': 0.5}]
)
def test_corrections_change_what_stale_gradients_do(tmp_path, given):
  own = SMALL_NET | {'frames': 200}
  for lag, same in ((0, True), (4, False)):
    plain = run(tmp_path / f'plain{lag}', inject_lag=lag, **own)
    other = run(tmp_path / f'other{lag}', inject_lag=lag, **own, **given)
    assert (digest(plain.params) == digest(other.params)) is same


@pytest.mark.parametrize(
  'given, message',
  [
    (
      {'consistency': 'bounded'},
      '--consistency=bounded: allowed: locked, per_leaf, hogwild; a barrier is '
      '--runtime=synchronous, and a bound of the lag --max_lag',
    ),
    (
      {'consistency': 'hogwild', 'record': True},
      '--record=True with --consistency=hogwild: parts of updates overlap by '
      'chance; allowed: --consistency=locked, or --record=False',
    ),
    (
      {'consistency': 'per_leaf', 'max_lag': 3},
      '--max_lag=3 with --consistency=per_leaf: nothing counts updates '
      'exactly; allowed: --consistency=locked, or --max_lag=0',
    ),
    (
      {'inject_lag': 2, 'max_lag': 3},
      '--inject_lag=2 with --max_lag=3: gradients held back would be late; '
      'allowed: --max_lag=0',
    ),
    (
      {'inject_lag': 10, 'threads': 2, 'frames': 100},
      '--inject_lag=10: 2 threads hold back 20 gradients, and --frames=100 '
      'give about 20, so nothing would be learnt; allowed: less',
    ),
    (
      {'runtime': 'queues', 'record': True},
      '--record: not a setting of --runtime=queues, in which chance decides '
      'which requests share a prediction; allowed with --runtime=asynchronous',
    ),
    (
      {'record': True, 'device': 'gpu'},
      '--record with --device=gpu: only a CPU repeats the same bits; allowed: '
      '--device=cpu',
    ),
  ],
)
def test_what_excludes_one_another_is_refused(tmp_path, given, message):
  with pytest.raises(errors.UsageError) as error:
    make_config(tmp_path, **given)
  assert str(error.value) == message
