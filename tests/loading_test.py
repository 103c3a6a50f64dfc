"""From the folder of a real run back to its policy."""

import functools
import json

import jax
import numpy as np
import pytest

import a3c_jax
from a3c_jax import agents, checks, config, training
from a3c_jax.envs import catch


def train(workdir, **given):
  defaults = {
    'threads': 1,
    'frames': 400,
    'eval_frames': 100,
    'checkpoint_frames': 10**6,
    'log_seconds': 1000.0,
  }
  settings = config.make(
    'catch',
    workdir=str(workdir),
    environment={'name': 'catch'},
    **defaults | given,
  )
  return training.run(
    settings,
    agents.make_env(settings),
    functools.partial(agents.make_learner, settings),
  )


@pytest.mark.parametrize(
  'given',
  [{'algo': 'a3c'}, {'algo': 'a3c', 'lstm': True}, {'algo': 'nstep_q'}],
)
def test_the_parameters_at_the_end_are_those_that_come_back(tmp_path, given):
  result = train(tmp_path, **given)
  policy = a3c_jax.load(tmp_path)
  assert policy.frames == result.frames
  jax.tree.map(np.testing.assert_array_equal, policy.params, result.params)


def test_a_policy_plays(tmp_path):
  train(tmp_path, algo='one_step_sarsa')
  policy = a3c_jax.load(str(tmp_path), greedy=True)
  env = catch.Catch()
  obs, _ = env.reset(seed=1)
  state, over = policy.initial_state(seed=1), False
  steps = 0
  while not over:
    action, state = policy(obs[None], state)
    obs, _, over, _, _ = env.step(int(action[0]))
    steps += 1
  assert steps == 9


def test_best_and_counts_of_frames(tmp_path):
  result = train(tmp_path)
  (best,) = (tmp_path / 'best').iterdir()
  assert a3c_jax.load(tmp_path, checkpoint='best').frames == int(best.name)
  assert a3c_jax.load(tmp_path, checkpoint=0).frames == 0
  assert a3c_jax.load(tmp_path, checkpoint='0').frames == 0
  with pytest.raises(checks.UsageError) as error:
    a3c_jax.load(tmp_path, checkpoint=7)
  assert str(error.value) == (
    '--checkpoint=7: there are those of frames: '
    + ', '.join(map(str, sorted({0, int(best.name), result.frames})))
    + '; allowed: latest, best, or the frames of one that is there'
  )


def test_without_evaluations_there_is_no_best(tmp_path):
  train(tmp_path, eval_frames=0)
  with pytest.raises(checks.UsageError, match='--checkpoint=best: there are'):
    a3c_jax.load(tmp_path, checkpoint='best')


def test_a_corrupt_checkpoint_is_told_of_and_left_where_it_is(tmp_path):
  result = train(tmp_path)
  newest = tmp_path / 'checkpoints' / str(result.frames)
  newest.write_bytes(b'')
  problems = []
  policy = a3c_jax.load(tmp_path, on_problem=problems.append)
  assert policy.frames == 0
  (problem,) = problems
  assert f'checkpoint of frame {result.frames} is corrupt' in problem
  assert newest.exists()
  with pytest.raises(checks.UsageError, match='is corrupt'):
    a3c_jax.load(tmp_path, checkpoint=result.frames)


def test_all_corrupt_ends_in_one_line(tmp_path):
  train(tmp_path)
  for path in (tmp_path / 'checkpoints').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  with pytest.raises(checks.UsageError) as error:
    a3c_jax.load(tmp_path)
  assert '\n' not in str(error.value)


def test_another_network_is_refused(tmp_path):
  train(tmp_path, algo='nstep_q')
  path = tmp_path / 'config.json'
  record = json.loads(path.read_text())
  record['config'] |= {'algo': 'a3c'}
  path.write_text(json.dumps(record))
  with pytest.raises(checks.UsageError, match='checkpoint does not fit'):
    a3c_jax.load(tmp_path)


@pytest.mark.parametrize(
  ('text', 'hint'),
  [
    (None, 'No such file'),
    ('', 'not that of a run'),
    ('{}', 'not that of a run'),
    ('{"config": {"algo": "a3c"}}', 'not that of a run'),
    ('[1]', 'not that of a run'),
  ],
)
def test_a_folder_of_another_program_is_refused(tmp_path, text, hint):
  if text is not None:
    (tmp_path / 'config.json').write_text(text)
  with pytest.raises(checks.UsageError) as error:
    a3c_jax.load(tmp_path)
  assert str(error.value).startswith(f'--workdir={tmp_path}: ')
  assert hint in str(error.value)


def test_a_learner_of_ones_own(tmp_path):
  result = train(tmp_path, algo='one_step_q')
  settings = config.make('catch', algo='nstep_q', environment={'name': 'own'})
  made = []

  def make_learner(env):
    made.append(env)
    return agents.make_learner(settings, env)

  policy = a3c_jax.load(
    tmp_path, make_env=agents.make_env(settings), make_learner=make_learner
  )
  assert len(made) == 1
  jax.tree.map(np.testing.assert_array_equal, policy.params, result.params)
