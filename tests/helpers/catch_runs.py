"""Runs of Catch on small networks, and of environments that misbehave."""

import functools
import threading

import gymnasium
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.vector import AutoresetMode
import pytest
from short_runs import make_ctrl_c, run_config

from a3c_jax import networks
from a3c_jax.envs import catch, control, gym
from a3c_jax.runs import checkpoints, training
from a3c_jax.settings import build, config

RUNTIMES = ('asynchronous', 'synchronous', 'queues')
# Of all runtimes, in the beginning of the names of their threads.
THREADS = ('actor-learner', 'agent', 'predictor', 'trainer', 'adjuster')
each_runtime = pytest.mark.parametrize('runtime', RUNTIMES)


def make_config(workdir, *, domain='catch', **given):
  """Settings of a short run: of queues, `threads` is the number of agents."""
  if given.get('runtime') == 'queues':
    given = {'agents': given.pop('threads', 1)} | given
    defaults = {}
  else:
    defaults = {'threads': 1}
  defaults |= {
    'frames': 100,
    'log_seconds': 1000.0,
    'eval_frames': 0,
  }
  return config.make(domain, workdir=str(workdir), **defaults | given)


def run(
  workdir,
  make_env=None,
  make_learner=build.make_learner,
  *,
  make_eval_env=None,
  **given,
):
  """A short run: `given` are settings, and the hooks of training.run."""
  hooks = {
    name: given.pop(name)
    for name in [*given]
    if name[:3] == 'on_' or name == 'loggers'
  }
  settings = make_config(workdir, **given)
  return run_config(
    settings,
    make_env,
    lambda env: make_learner(settings, env),
    make_eval_env,
    **hooks,
  )


def player_of(runtime, index):
  """The name of the thread that plays."""
  return f'{"agent" if runtime == "queues" else "actor-learner"}-{index}'


def vector(*makers):
  """Environments that are reset at the step in which an episode ends."""
  return gymnasium.vector.SyncVectorEnv(
    makers, autoreset_mode=AutoresetMode.SAME_STEP
  )


def saved(folder):
  """The counts of frames of the checkpoints in a folder."""
  return sorted(int(path.name) for path in folder.iterdir())


def our_threads():
  return [
    thread.name
    for thread in threading.enumerate()
    if thread.name.startswith(THREADS)
  ]


def make_wide():
  """A torso with a kernel whose gradient is handed over in factors."""
  return networks.MLPTorso(obs_dims=2, hidden=(700,))


def make_small():
  return networks.MLPTorso(obs_dims=2, hidden=(8,))


class Failure(Exception):
  """What the scripted environment raises."""


def fail():
  raise Failure('the game broke')


class Breaks(catch.Catch):
  """Catch that fails, or does something else, at one step of its own."""

  def __init__(self, at_step=None, act=fail):
    super().__init__()
    self._at_step, self._act = at_step, act
    self._steps = 0

  def step(self, action):
    self._steps += 1
    if self._steps == self._at_step:
      self._act()
    return super().step(action)


def breaking(at_step, thread=0):
  """Environments one after another, of which one breaks; and all of them."""
  made = []

  def make_env():
    fails = len(made) == thread
    env = vector(lambda: Breaks(at_step if fails else None))
    made.append(env)
    return env

  return make_env, made


def at_step(number, act):
  """Catch that does something once, at a step of all its environments."""
  steps = []

  class Acts(catch.Catch):
    def step(self, action):
      steps.append(1)
      if len(steps) == number:
        act()
      return super().step(action)

  return gym.make(Acts)


def full(*args, **given):
  raise OSError(28, 'No space left on device')


def full_after_the_start(monkeypatch):
  """Has every checkpoint fail but that of frame 0."""

  def save(self, state, *, best):
    if state.store.version.frames:
      full()

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save)


def interrupted(monkeypatch, workdir, at_step, **given):
  """A run that ends at a step of a thread; those that it replays count too."""
  ctrl_c = make_ctrl_c(monkeypatch)
  make_env = gym.make(
    lambda: Breaks(at_step, ctrl_c), num_envs=given.get('envs_per_thread', 1)
  )
  result = run(workdir, make_env, **given)
  assert not result.finished
  assert 0 < result.frames < given['frames']
  assert f'--workdir={workdir}' in training.describe(result)
  return result


class Swings(PendulumEnv):
  """Pendulum of short episodes that may end the run at one step."""

  def __init__(self, at_step=None, ctrl_c=None):
    super().__init__()
    self._at_step = at_step
    self._ctrl_c = ctrl_c
    self._taken = 0

  def reset(self, **kwargs):
    self._steps = 0
    return super().reset(**kwargs)

  def step(self, action):
    self._taken += 1
    self._steps += 1
    if self._taken == self._at_step:
      self._ctrl_c()
    obs, reward, *_ = super().step(action)
    return obs, reward, False, self._steps == 30, {}


def swing(workdir, at_step=None, ctrl_c=None, **given):
  settings = config.make(
    'control',
    workdir=str(workdir),
    environment=control.Options(env='swings'),
    **{'threads': 1, 'eval_frames': 300, 'eval_episodes': 1, 't_max': 8}
    | given,
  )
  return run_config(
    settings,
    gym.make(
      lambda: Swings(at_step, ctrl_c), num_envs=settings.envs_per_thread
    ),
    functools.partial(build.make_learner, settings),
    gym.make(Swings),
  )
