"""Any Gymnasium environment with Box observations, and tasks of dm_control."""

from __future__ import annotations

from collections.abc import Callable
import difflib
import functools
import os

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
import numpy as np

from a3c_jax import checks, workers
from a3c_jax.envs import simulations
from a3c_jax.envs import spaces as spaces_lib

_DM_CONTROL = 'dm_control/'
_LARGEST = float(np.finfo(np.float32).max)
# What suite.ALL_TASKS has and we have not.
_REFUSED = {
  'quadruped-escape': 'draws in a way that threads cannot share',
  'lqr-lqr_2_1': 'has actions without bounds',
  'lqr-lqr_6_2': 'has actions without bounds',
}
_CLOSE_SECONDS = 5.0
_FILM = {'height': 480, 'width': 480}  # Pixels of a video of MuJoCo.


def make(
  env: str | Callable[[], gymnasium.Env],
  *,
  envs: int = 1,
  film: bool = False,
  camera: str = 'auto',
  wrap: Callable[[gymnasium.Env], gymnasium.Env] = lambda env: env,
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """A function that makes the vector environment of one thread.

  Discrete actions are taken as 0 to A - 1. Continuous ones [K, D] are taken
  without bounds: -1 to 1 is the box of the environment, and what is beyond is
  clipped.

  Args:
    env: a registered id such as 'CartPole-v1', 'dm_control/DOMAIN-TASK',
      'module:function' where the function returns a `gymnasium.Env`, or such a
      function.
    envs: games per environment.
    film: whether `render` gives a picture of each game; a function must make
      environments with `render_mode='rgb_array'` for this, unless they are of
      MuJoCo.
    camera: which films MuJoCo, as for `simulations.Camera`.
    wrap: what is put around each game.

  Raises:
    UsageError: for an unknown id, module or function, a missing dependency,
      spaces that `check_spaces` refuses, or an environment that cannot be
      filmed.
  """
  make_game = env if callable(env) else _factory(env, film)

  def make_one():
    workers.beat()
    game = make_game()
    if not isinstance(game, gymnasium.Env):
      raise checks.UsageError(
        f'--env={env}: returned {type(game).__name__}; '
        'allowed: module:function that returns a gymnasium.Env'
      )
    if simulations.simulation(game):
      simulations.tell_warnings_once()
    game = wrap(game)
    if film and simulations.simulation(game):
      game = _Filmed(game, camera, str(env))
    return game

  expected = [gymnasium.error.Error]
  if env in gymnasium.registry:
    expected.append(ImportError)  # Of the user's own module it is a bug there.
  try:
    probe = make_one()
  except tuple(expected) as error:
    raise checks.UsageError(f'--env={env}: {error}') from error
  try:
    if film:
      _check_film(probe, env)
    check_spaces(probe.observation_space, probe.action_space, env)
  finally:
    # Those of training tell, at its end, that they cannot be closed.
    workers.call_all([probe.close], seconds=_CLOSE_SECONDS)

  def make_checked():
    return _with_our_actions(_Finite(make_one(), env))

  native_action_space = probe.action_space

  def make_env() -> gymnasium.vector.VectorEnv:
    vector_env = gymnasium.vector.SyncVectorEnv(
      [make_checked] * envs, autoreset_mode=AutoresetMode.SAME_STEP
    )
    vector_env.native_action_space = native_action_space
    return vector_env

  return make_env


def make_own(
  kind: Callable[..., gymnasium.Env],
  *,
  envs: int = 1,
  film: bool = False,
  **given,
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """As `make`, for a class of this package with `given` arguments.

  Raises:
    UsageError: as `make`; and whatever the class raises.
  """
  mode = 'rgb_array' if film else None
  make_game = functools.partial(kind, **given, render_mode=mode)
  return make(make_game, envs=envs, film=film)


def check_render_mode(mode: str | None) -> None:
  """Checks what an environment that only renders rgb_array is given.

  Raises:
    UsageError: naming what is allowed.
  """
  if mode not in (None, 'rgb_array'):
    raise checks.UsageError(f'render_mode={mode}: allowed: None, rgb_array')


def _check_film(probe, name):
  problem = f'it renders {probe.render_mode}'
  if probe.render_mode == 'rgb_array':
    try:
      probe.reset(seed=0)
      probe.render()
      return
    except (gymnasium.error.Error, ImportError) as error:
      problem = str(error)
  raise checks.UsageError(
    f'--video of {name}: {problem}; allowed: environments that render rgb_array'
  )


def check_spaces(
  observation_space: gymnasium.Space, action_space: gymnasium.Space, name: str
) -> None:
  """Checks that the learners can use the spaces of an environment.

  Raises:
    UsageError: naming the space that is not supported.
  """
  box = isinstance(observation_space, spaces.Box)
  if not box or 0 in observation_space.shape:
    raise checks.UsageError(
      f'--env={name}: observation space {_in_one_line(observation_space)} is '
      'not supported; allowed: Box that is not empty'
    )
  if isinstance(action_space, spaces.Discrete):
    return
  if not isinstance(action_space, spaces.Box) or not (
    len(action_space.shape) == 1
    and 0 not in action_space.shape
    and np.issubdtype(action_space.dtype, np.floating)
    and np.isfinite([action_space.low, action_space.high]).all()
    and (action_space.low < action_space.high).all()
  ):
    raise checks.UsageError(
      f'--env={name}: action space {_in_one_line(action_space)} is not '
      'supported; allowed: Discrete, or a Box of floats of one axis with a '
      'finite least and a larger finite greatest value for each'
    )


def _in_one_line(space):
  return ' '.join(str(space).split())


class _Finite(gymnasium.Wrapper):
  """Raises where an observation or a reward is not finite, as a float32."""

  def __init__(self, env, name):
    super().__init__(env)
    self._name = name
    self._may_fail = np.issubdtype(env.observation_space.dtype, np.floating)

  def reset(self, **kwargs):
    workers.beat()
    obs, info = self.env.reset(**kwargs)
    return self._checked(obs), info

  def step(self, action):
    workers.beat()
    obs, reward, *rest = self.env.step(action)
    if not abs(reward) <= _LARGEST:
      raise checks.RunError(
        f'--env={self._name}: a reward is {reward}; allowed: finite rewards'
      )
    return self._checked(obs), reward, *rest

  def _checked(self, obs):
    if self._may_fail and not (np.abs(obs) <= _LARGEST).all():
      index = np.argwhere(~(np.abs(obs) <= _LARGEST))[0]
      raise checks.RunError(
        f'--env={self._name}: observation{index.tolist()} is '
        f'{np.asarray(obs)[tuple(index)]}, of the space '
        f'{_in_one_line(self.observation_space)}; allowed: finite observations'
      )
    return obs


class _Filmed(gymnasium.Wrapper):
  """Renders MuJoCo in any thread, with a camera that follows the robot."""

  render_mode = 'rgb_array'

  def __init__(self, env, camera, name):
    super().__init__(env)
    self._camera = simulations.Camera(env, **_FILM, name=name, camera=camera)
    self.metadata = {
      'render_modes': [self.render_mode],
      'render_fps': round(1 / env.get_wrapper_attr('dt')),
    }

  def render(self):
    return self._camera.picture()

  def close(self):
    self._camera.close()
    super().close()


def _with_our_actions(env):
  space = env.action_space
  if isinstance(space, spaces.Box):
    ours = spaces.Box(-np.inf, np.inf, space.shape, np.float32)
  else:
    ours = spaces.Discrete(space.n)
  return gymnasium.wrappers.TransformAction(
    env, spaces_lib.to_native(space), ours
  )


def _factory(name: str, film: bool) -> Callable[[], gymnasium.Env]:
  if name.startswith(_DM_CONTROL):
    return _dm_control_factory(name)
  if ':' in name:
    return checks.load_function(name, flag='env')
  if name.startswith('ALE/'):
    raise checks.UsageError(
      f'--env={name}: allowed: python experiments/atari.py --game=… for Atari, '
      'or another environment'
    )
  if name not in gymnasium.registry:
    near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.4)
    raise checks.UsageError(
      f'--env={name}: unknown; '
      + (f'did you mean {", ".join(near)}?' if near else 'try CartPole-v1')
    )
  if str(gymnasium.spec(name).entry_point).startswith('gymnasium.envs.mujoco'):
    checks.check_installed(f'--env={name}', 'mujoco', extra='mujoco')
    if os.environ.get('MUJOCO_GL'):  # It may not be what MuJoCo takes.
      simulations.set_backend()
    simulations.tell_warnings_once()
    return lambda: gymnasium.make(name)  # Filmed by a camera of ours.
  mode = {'render_mode': 'rgb_array'} if film else {}
  return lambda: gymnasium.make(name, **mode)


def _dm_control_factory(name: str) -> Callable[[], gymnasium.Env]:
  checks.check_installed(
    f'--env={name}',
    *('mujoco', 'dm_control', 'shimmy'),
    extra='mujoco',
    needs='Python 3.11 or 3.12',
  )
  simulations.set_backend()  # Otherwise it looks for a screen.
  from dm_control import suite
  from shimmy import dm_control_compatibility

  simulations.tell_warnings_once()  # Importing dm_control changed that.
  known = ['-'.join(task) for task in suite.ALL_TASKS]
  task = name.removeprefix(_DM_CONTROL)
  if task not in known:
    near = difflib.get_close_matches(task, known, n=3, cutoff=0.4)
    names = ', '.join(_DM_CONTROL + each for each in near or known[:3])
    raise checks.UsageError(f'--env={name}: unknown; did you mean {names}?')
  if task in _REFUSED:
    raise checks.UsageError(
      f'--env={name}: {_REFUSED[task]}; allowed: other tasks of dm_control'
    )
  domain, task = task.split('-', maxsplit=1)

  def make_task():
    env = dm_control_compatibility.DmControlCompatibilityV0(
      suite.load(domain, task)
    )
    return gymnasium.wrappers.FlattenObservation(env)

  return make_task
