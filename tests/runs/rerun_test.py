"""Recorded runs of several threads, repeated by one thread."""

import collections
import fcntl
import functools

from catch_runs import Breaks, Failure, breaking, interrupted, run, vector
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_runs import SMALL, named
from results import digest

import a3c_jax
from a3c_jax.core import errors
from a3c_jax.envs import catch, gym
from a3c_jax.optim import factored
from a3c_jax.runs import rerun, session, trace_file
from a3c_jax.settings import build, config

NETWORK = 'catch_runs:make_small'
RECORDED = {'record': True, 'network': NETWORK, 'threads': 4, 'frames': 1500}


def rerun_all(workdir, **given):
  """All steps of a run; the checks compare each with what was recorded."""
  return [*a3c_jax.rerun(workdir, trust=True, **given)]


def same_end(steps, result):
  last = steps[-1].after
  assert digest(last.params) == digest(result.params)
  assert (last.frames, last.updates) == (result.frames, result.updates)


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'nstep_q', 'max_lag': 2, 'optimizer': 'rmsprop'},
    {'algo': 'one_step_q'},
    {'algo': 'one_step_sarsa', 'envs_per_thread': 3, 'inject_lag': 2},
    {'algo': 'a3c', 'lstm': True, 'normalize_obs': True},
    {'algo': 'a3c', 'max_lag': 3, 'when_late': 'wait'},
    SMALL | {'algo': 'prioritized_dqn', 'replay_minibatches': 2},
    SMALL | {'algo': 'pgql', 'replay': 'per_thread', 'frames': 2500},
  ],
  ids=named,
)
def test_a_rerun_ends_in_the_same_bits(tmp_path, given):
  result = run(tmp_path, **RECORDED | given)
  steps = rerun_all(tmp_path)
  same_end(steps, result)
  assert {step.worker for step in steps} == {0, 1, 2, 3}
  assert len(trace_file.Recorded(tmp_path).digests) >= 2  # First and last.


def test_a_step_has_all_of_an_update(tmp_path):
  run(tmp_path, **RECORDED, target_period_frames=200, algo='nstep_q')
  settings = config.make('catch', workdir=str(tmp_path), **RECORDED)
  gradients = None
  for step in a3c_jax.rerun(tmp_path, trust=True):
    if gradients is None:
      learner = build.make_learner(settings, gym.make(catch.Catch)())
      gradients = learner.gradients
    acted_on, newest = step.read
    assert acted_on.updates == step.contribution.read_version
    grads, _ = gradients(acted_on.params, newest.target_params, step.learnt)
    norm = np.sqrt(sum(np.sum(x**2) for x in leaves(grads)))
    for mine, other in zip(
      leaves(grads), leaves(step.contribution.grads), strict=True
    ):
      # The gradient of a contribution is clipped.
      np.testing.assert_allclose(
        mine * min(1, 40 / norm), other, rtol=1e-4, atol=1e-6
      )
    assert step.before.pushes + 1 == step.after.pushes == step.number
    assert step.receipt.lag == step.before.updates - acted_on.updates
    assert step.learnt.obs.shape == (6, 1, 10, 5)


def leaves(grads):
  return jax.tree.leaves(factored.dense(grads))


def test_until_ends_after_that_update(tmp_path):
  result = run(tmp_path, **RECORDED)
  steps = rerun_all(tmp_path, until=7)
  assert [step.receipt.version for step in steps] == [*range(1, 8)]
  # Wherever one ends, the parameters there are those of the whole rerun.
  for one, other in zip(steps, a3c_jax.rerun(tmp_path, trust=True)):  # noqa: B905
    assert digest(one.after.params) == digest(other.after.params)
  for until in (0, result.updates + 1):
    with pytest.raises(errors.UsageError) as error:
      rerun_all(tmp_path, until=until)
    assert str(error.value) == (
      f'--until={until}: allowed: an update, from 1 to at most {result.updates}'
    )


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'a3c', 'lstm': True},
    {'algo': 'one_step_sarsa'},
    SMALL | {'algo': 'prioritized_dqn'},
    SMALL | {'algo': 'dqn', 'replay_checkpoint': 'empty'},
  ],
  ids=named,
)
def test_a_run_that_was_interrupted_is_repeated_as_a_whole(
  tmp_path, monkeypatch, given
):
  given = RECORDED | {'checkpoint_frames': 400} | given
  for at_step in (100, 300):  # What is replayed counts too.
    interrupted(monkeypatch, tmp_path, at_step, **given)
  result = run(tmp_path, **given)
  same_end(rerun_all(tmp_path), result)
  assert len(trace_file.Recorded(tmp_path).sessions) == 3


def test_a_run_that_resumes_from_an_earlier_checkpoint_forgets_what_followed(
  tmp_path, monkeypatch
):
  given = RECORDED | {'checkpoint_frames': 200}
  interrupted(monkeypatch, tmp_path, 300, **given)
  newest = max((tmp_path / 'checkpoints').iterdir(), key=lambda x: int(x.name))
  newest.write_bytes(b'')
  result = run(tmp_path, **given)
  same_end(rerun_all(tmp_path), result)


@pytest.mark.parametrize('algo', ['a3c', 'one_step_sarsa'])
def test_environments_that_were_replaced_are_repeated(tmp_path, algo):
  make_env, made = breaking(101, thread=2)
  given = RECORDED | {'algo': algo, 'max_env_restarts': 1, 'inject_lag': 2}
  result = run(tmp_path, make_env, **given)
  assert len(made) == 5
  steps = rerun_all(tmp_path, make_env=gym.make(catch.Catch))
  same_end(steps, result)
  seeds = [step.contribution.trace.new_seed for step in steps]
  # It was replaced in its 21st segment.
  own = [
    seed for step, seed in zip(steps, seeds, strict=True) if step.worker == 2
  ]
  assert [number for number, seed in enumerate(own) if seed is not None] == [20]


def test_dropped_gradients_are_repeated(tmp_path):
  settings = config.make('catch', workdir=str(tmp_path), **RECORDED)

  def make_learner(env, own=settings):
    learner = build.make_learner(own, env)

    def gradients(params, target_params, segment):
      grads, stats = learner.gradients(params, target_params, segment)
      bad = jnp.where(segment.a.sum() % 7 == 0, jnp.nan, 1.0)
      return jax.tree.map(lambda x: x * bad, grads), stats

    return learner._replace(gradients=gradients)

  result = run(
    tmp_path,
    None,
    lambda _, env: make_learner(env),
    **RECORDED,
    max_bad_gradients=100,
  )
  steps = rerun_all(tmp_path, make_learner=make_learner)
  same_end(steps, result)
  dropped = [step for step in steps if step.contribution.grads is None]
  assert dropped and len(dropped) + result.updates == len(steps)


class Chance(catch.Catch):
  """Catch with an observation that no seed decides."""

  steps = collections.Counter()

  def __init__(self, at_step):
    super().__init__()
    self._at_step = at_step

  def step(self, action):
    obs, *rest = super().step(action)
    self.steps['all'] += 1
    if self.steps['all'] == self._at_step:
      obs = 1 - obs
    return obs, *rest


def test_the_first_difference_is_that_of_the_environment(tmp_path):
  Chance.steps.clear()
  make_env = gym.make(functools.partial(Chance, 203))
  run(tmp_path, make_env, **RECORDED | {'threads': 1})
  steps = []
  with pytest.raises(rerun.DifferenceError) as error:
    for step in a3c_jax.rerun(
      tmp_path, make_env=gym.make(catch.Catch), trust=True
    ):
      steps.append(step)
  # A segment has 5 steps, and the observation after step 203 is in the 41st.
  assert str(error.value) == (
    'contribution 41, of thread 0, differs from the recorded one: its segment '
    'has other actions, rewards or observations: the environment does not '
    'repeat what it did'
  )
  assert len(steps) == 40


def test_another_gradient_is_the_first_difference(tmp_path):
  run(tmp_path, **RECORDED)
  settings = config.make('catch', workdir=str(tmp_path), **RECORDED)

  def make_learner(env):
    learner = build.make_learner(settings, env)

    def gradients(params, target_params, segment):
      grads, stats = learner.gradients(params, target_params, segment)
      return jax.tree.map(lambda x: 1.01 * x, grads), stats

    return learner._replace(gradients=gradients)

  with pytest.raises(rerun.DifferenceError) as error:
    rerun_all(tmp_path, make_learner=make_learner)
  text = str(error.value)
  assert text.startswith('contribution 1, of thread ')
  assert text.endswith(': the same segment gives another gradient')


def test_other_parameters_are_the_first_difference(tmp_path):
  run(tmp_path, **RECORDED)
  settings = config.make('catch', workdir=str(tmp_path), **RECORDED)

  def make_learner(env):
    learner = build.make_learner(settings, env)

    def init(key, obs):
      return jax.tree.map(lambda x: x + 1e-6, learner.init(key, obs))

    return learner._replace(init=init)

  with pytest.raises(rerun.DifferenceError) as error:
    rerun_all(tmp_path, make_learner=make_learner)
  assert str(error.value) == (
    'after contribution 0 the parameters differ from the recorded ones'
  )
  # Without checks it goes on, and ends elsewhere.
  assert rerun_all(tmp_path, make_learner=make_learner, check=False)


def test_a_damaged_record_is_repeated_until_there(tmp_path):
  run(tmp_path, **RECORDED)
  path = tmp_path / trace_file.NAME
  path.write_bytes(path.read_bytes()[:-1])
  whole = len(trace_file.Recorded(tmp_path))
  steps = []
  with pytest.raises(errors.RunError) as error:
    for step in a3c_jax.rerun(tmp_path, trust=True):
      steps.append(step)
  assert len(steps) == whole
  assert str(error.value).startswith('trace.bin: block ')
  assert str(error.value).endswith(
    f'is damaged; the run is repeated until contribution {whole}, which is the '
    'last one before'
  )
  path.write_bytes(path.read_bytes()[:20])
  with pytest.raises(errors.UsageError, match='trace.bin: block 0 at byte 16'):
    rerun_all(tmp_path)


def test_what_was_not_recorded_is_refused(tmp_path):
  run(tmp_path, **RECORDED | {'record': False, 'frames': 100})
  with pytest.raises(errors.UsageError) as error:
    rerun_all(tmp_path)
  assert str(error.value) == (
    f'--workdir={tmp_path}: the run was not recorded; allowed: one that '
    'trained with --record'
  )


def test_what_others_recorded_is_refused(tmp_path, monkeypatch):
  run(tmp_path, **RECORDED | {'frames': 100})
  own = trace_file.platform_of
  with monkeypatch.context() as patch:
    patch.setattr(
      trace_file, 'platform_of', lambda x: own(x) | {'jaxlib': '99.9'}
    )
    with pytest.raises(errors.UsageError) as error:
      rerun_all(tmp_path)
  assert 'was recorded with jaxlib ' in str(error.value)
  assert ', here it is 99.9, with which bits may differ' in str(error.value)
  with monkeypatch.context() as patch:
    patch.setenv('XLA_FLAGS', '')
    with pytest.raises(errors.UsageError, match='XLA_FLAGS .*cpu.set_up'):
      rerun_all(tmp_path)
  with pytest.raises(errors.UsageError, match='config.json names code'):
    a3c_jax.rerun(tmp_path)


def test_a_run_is_repeated_until_it_resumed_with_other_settings(
  tmp_path, monkeypatch
):
  interrupted(monkeypatch, tmp_path, 200, **RECORDED)
  first = len(trace_file.Recorded(tmp_path))
  run(tmp_path, **RECORDED, gamma=0.5, override=('gamma',))
  steps = []
  with pytest.raises(errors.RunError) as error:
    for step in a3c_jax.rerun(tmp_path, trust=True):
      steps.append(step)
  assert str(error.value) == (
    f'after contribution {first} the run has resumed with other settings: '
    'gamma; it is repeated until there'
  )
  assert len(steps) == first


def test_a_run_that_resumes_for_more_frames_is_repeated_as_a_whole(tmp_path):
  given = RECORDED | {'anneal_frames': 0}
  run(tmp_path, **given | {'frames': 700})
  result = run(tmp_path, **given, override=('frames',))
  same_end(rerun_all(tmp_path), result)


def test_settings_of_a_session_that_has_left_no_checkpoint(
  tmp_path, monkeypatch
):
  interrupted(monkeypatch, tmp_path, 200, **RECORDED)
  first = len(trace_file.Recorded(tmp_path))
  with monkeypatch.context() as patch:
    patch.setattr(session.Session, 'checkpoint', lambda *args, **given: None)
    run(tmp_path, **RECORDED, gamma=0.5, override=('gamma',))
  # Now 0.5 is the value in config.json.
  run(tmp_path, **RECORDED, gamma=0.5)
  with pytest.raises(
    errors.RunError, match=f'after contribution {first} .* settings: gamma;'
  ):
    rerun_all(tmp_path)


@pytest.mark.parametrize('how', ['removed', 'a folder'])
def test_a_run_resumes_without_its_record(tmp_path, monkeypatch, caplog, how):
  interrupted(monkeypatch, tmp_path, 200, **RECORDED)
  path = tmp_path / trace_file.NAME
  path.unlink()
  if how == 'a folder':
    path.mkdir()
  assert run(tmp_path, **RECORDED).finished
  assert 'the run is not recorded any more: trace.bin: ' in caplog.text
  assert run(tmp_path, **RECORDED).finished
  with pytest.raises(errors.UsageError, match='^--workdir='):
    rerun_all(tmp_path)


def test_a_run_that_trains_is_not_repeated(tmp_path):
  run(tmp_path, **RECORDED)
  with (tmp_path / 'config.json').open('r+') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    with pytest.raises(errors.UsageError, match='another process is using it'):
      rerun_all(tmp_path)


def test_environments_that_did_not_repeat_start_new_episodes(
  tmp_path, monkeypatch
):
  given = RECORDED | {'threads': 2}
  interrupted(monkeypatch, tmp_path, 203, **given)
  # The first one fails while its actions are replayed.
  made = []

  def make_env():
    made.append(vector(lambda: Breaks(1 if not made else None)))
    return made[-1]

  result = run(tmp_path, make_env, **given)
  assert trace_file.Recorded(tmp_path).sessions.popitem()[1][0].restarted == (
    0,
  )
  same_end(rerun_all(tmp_path, make_env=gym.make(catch.Catch)), result)


def test_an_environment_that_fails_in_a_rerun_ends_it(tmp_path):
  run(tmp_path, **RECORDED)
  make_env, _ = breaking(50)
  with pytest.raises(Failure):
    rerun_all(tmp_path, make_env=make_env)
