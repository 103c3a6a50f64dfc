"""Evaluations of a run: when, of what, and which is the best."""

from catch_runs import (
  Breaks,
  Failure,
  each_runtime,
  our_threads,
  run,
  saved,
  vector,
)
import pytest
from results import digest, read_rows

from a3c_jax.envs import catch, gym
from a3c_jax.runs import checkpoints


class Scored(catch.Catch):
  """For evaluations: what it gives for an episode is prescribed."""

  def __init__(self, scores):
    super().__init__()
    self._scores = iter(scores)

  def reset(self, *, seed=None, options=None):
    self._score = next(self._scores, 0.0)
    return super().reset(seed=seed, options=options)

  def step(self, action):
    obs, reward, terminated, truncated, info = super().step(action)
    return obs, self._score if reward else 0.0, terminated, truncated, info


def run_scored(workdir, scores, **given):
  # Evaluations begin with a reset that is not played.
  make_eval_env = lambda: vector(lambda: Scored([0.0, *scores]))
  return run(workdir, make_eval_env=make_eval_env, eval_episodes=1, **given)


def test_the_best_parameters_are_kept(tmp_path):
  run_scored(tmp_path, [5.0], frames=100, eval_frames=10**6)
  more = {'override': ('frames', 'anneal_frames'), 'eval_frames': 10**6}
  run_scored(tmp_path, [4.0], frames=200, **more)
  rows = read_rows(tmp_path / 'eval.csv')
  assert [row['mean_return'] for row in rows] == ['5.0', '4.0']
  assert [row['best'] for row in rows] == ['True', 'False']
  assert saved(tmp_path / 'best') == [100]
  result = run_scored(tmp_path, [6.0], frames=300, keep=1, **more)
  assert saved(tmp_path / 'best') == [300]
  best, *_ = checkpoints.read_params(tmp_path, 'best', result.params)
  assert digest(best) == digest(result.params)


def test_eval_frames_of_zero_evaluates_nothing(tmp_path):
  run(tmp_path, eval_frames=0)
  assert read_rows(tmp_path / 'eval.csv') == []


def test_evaluations_do_not_change_training(tmp_path):
  given = {'algo': 'one_step_q', 'frames': 2000}
  plain = run(tmp_path / 'plain', **given)
  evaluated = run(tmp_path / 'evaluated', eval_frames=1, **given)
  assert digest(plain.params) == digest(evaluated.params)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
  more = {'override': ('frames', 'anneal_frames'), 'eval_frames': 10**6}
  run_scored(tmp_path, [float('nan')], frames=100, **more)
  assert saved(tmp_path / 'best') == []
  run_scored(tmp_path, [-5.0], frames=200, **more)
  assert saved(tmp_path / 'best') == [200]


@each_runtime
def test_an_error_in_an_evaluation_ends_the_run(tmp_path, runtime):
  make_eval_env = lambda: vector(lambda: Breaks(at_step=3))
  given = {'threads': 2, 'frames': 10**9, 'eval_frames': 100}
  given |= {'runtime': runtime}
  with pytest.raises(Failure, match='the game broke') as raised:
    run(tmp_path, make_eval_env=make_eval_env, max_env_restarts=0, **given)
  assert raised.value.__notes__ == ['raised in thread evaluation']
  assert our_threads() == []
  assert saved(tmp_path / 'checkpoints')[-1] >= 100


def test_an_evaluation_without_an_end_is_bounded(tmp_path):
  class Endless(catch.Catch):
    def step(self, action):
      obs, *_ = super().step(1)
      self._ball = (0, 0)
      return obs, 0.5, False, False, {}

  result = run(
    tmp_path,
    make_eval_env=gym.make(Endless),
    eval_frames=10**6,
    eval_episodes=2,
    max_eval_episode_frames=30,
  )
  assert result.finished
  (row,) = read_rows(tmp_path / 'eval.csv')
  assert (row['mean_steps'], row['mean_return']) == ('30.0', '15.0')
  assert (row['episodes'], row['truncated_episodes']) == ('2', '2')
