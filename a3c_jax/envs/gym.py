"""Any Gymnasium environment with Box observations, and tasks of dm_control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import json
import math
import os
import re
from typing import Any

import gymnasium
from gymnasium import spaces
import numpy as np

from a3c_jax.core import errors, fields, packages, workers
from a3c_jax.envs import atari, boundary, mujoco, named
from a3c_jax.envs import domain as domain_lib

_DM_CONTROL = 'dm_control/'
# What suite.ALL_TASKS has and we have not.
_REFUSED = {
  'quadruped-escape': 'draws in a way that threads cannot share',
  'lqr-lqr_2_1': 'has actions without bounds',
  'lqr-lqr_6_2': 'has actions without bounds',
}
# Distributions that some environments need, for config.json.
PACKAGES = ('mujoco', 'dm-control', 'shimmy')
_FRAME = {'height': 480, 'width': 480}  # Pixels of a video of MuJoCo.


@dataclasses.dataclass(frozen=True)
class Options:
  """Which environment."""

  env: str = fields.setting(
    'Environment: a Gymnasium id, package:id, or module:function that returns '
    'a gymnasium.Env. Observations must be a Box, actions Discrete, or with '
    '--algo=a3c a bounded Box.',
    'a name of one of these forms',
    lambda value: isinstance(value, str),
    default='CartPole-v1',
    source='ours',
  )
  env_args: str = named.env_args_setting()

  def __post_init__(self):
    named.normalise_args(self)


def make(
  env: str | Callable[..., gymnasium.Env],
  *,
  args: Mapping[str, Any] | None = None,
  num_envs: int = 1,
  render: bool = False,
  camera: str = 'auto',
  wrap: Callable[[gymnasium.Env], gymnasium.Env] = lambda env: env,
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """A function that makes the vector environment of one thread.

  Discrete actions are taken as 0 to A - 1. Continuous ones [K, D] are taken
  without bounds: -1 to 1 is the box of the environment, and what is beyond is
  clipped.

  One environment is made, reset, stepped once and closed here, to check it.

  Args:
    env: a registered id such as 'CartPole-v1', 'package:id' where importing the
      package registers the id, 'dm_control/DOMAIN-TASK', 'module:function'
      where the function returns a `gymnasium.Env`, or such a function.
    args: for `gymnasium.make` or the function.
    num_envs: K, the environments that one call steps.
    render: whether `render` returns one frame of each. A function must make
      environments with `render_mode='rgb_array'` for this, unless they are of
      MuJoCo.
    camera: which renders MuJoCo, as for `mujoco.Camera`.
    wrap: what is put around each environment.

  Raises:
    UsageError: for an unknown id, module or function, refused arguments, a
      missing dependency, spaces that `check_spaces` refuses, a first reset or
      step that does not fit them, or an environment that cannot be rendered.
  """
  args = dict(args or {})
  make_game = (
    functools.partial(env, **args)
    if callable(env)
    else _factory(env, render, args)
  )

  def make_one():
    workers.beat()
    game = make_game()
    _check_kind(game, env)
    if mujoco.simulation(game):
      mujoco.tell_warnings_once()
    game = wrap(game)
    if render and mujoco.simulation(game):
      game = _Rendered(game, camera, str(env))
    return game

  try:
    probe = make_one()
  except (Exception, SystemExit) as error:
    problem = _why_not_made(error, env, args)
    if problem is None:
      raise
    raise errors.UsageError(problem) from error
  to_close = probe
  try:
    if render:
      _check_render(probe, env)
    action_space = getattr(probe, 'action_space', None)
    observation_space = getattr(probe, 'observation_space', None)
    check_spaces(observation_space, action_space, env)
    games = functools.partial(
      boundary.Games,
      name=str(env),
      observation_space=observation_space,
      action_space=action_space,
    )
    to_close = games(lambda: probe, 1)
    error = boundary.check_first_step(to_close, str(env))
    if args and isinstance(error, TypeError):
      problem = _why_not_made(error, env, args)
      if problem is not None:
        raise errors.UsageError(problem) from error
  finally:
    # Those of training tell, at its end, that they cannot be closed.
    workers.call_all([to_close.close], seconds=workers.CLOSE_SECONDS)
  return functools.partial(games, make_one, num_envs)


def _check_kind(game, name):
  if isinstance(game, gymnasium.Env):
    return
  kind = type(game)
  found = kind.__name__
  if isinstance(game, type):
    found = f'the class {game.__name__} and no environment of it'
  elif isinstance(game, gymnasium.vector.VectorEnv):
    found = f'{found}, several environments: --envs_per_thread makes them'
  elif any(each.__module__.split('.')[0] == 'gym' for each in kind.__mro__):
    found = f'{found}, of the old package gym'
  raise errors.UsageError(
    f'--env={name}: returned {found}; '
    'allowed: module:function that returns a gymnasium.Env'
  )


def _why_not_made(error, env, args) -> str | None:
  """One line for what the user can mend; None for a bug in the environment."""
  if isinstance(error, errors.UsageError | errors.RunError):
    return None
  told = boundary.describe(error)
  registered = not callable(env) and (
    env in gymnasium.registry or env.split(':')[-1] in gymnasium.registry
  )
  refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
  if args and (registered or (refused and refused[1] in args)):
    return (
      f'--env_args={json.dumps(args)}: {told}; allowed: arguments that {env} '
      'takes'
    )
  if isinstance(error, gymnasium.error.Error) or (
    registered and isinstance(error, ImportError)
  ):  # Of the user's own module, ImportError is a bug there.
    return f'--env={env}: {error}'
  if isinstance(error, SystemExit) or boundary.raised_by_a_call(error):
    return f'--env={env}: cannot be made, {told}; allowed: a gymnasium.Env'
  return None


def make_own(
  kind: Callable[..., gymnasium.Env],
  options: Any,
  request: domain_lib.EnvRequest,
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """As `make`, for a class of this package.

  Args:
    kind: takes the fields of the options, and `render_mode`.
    options: a dataclass.
    request: what is asked of the environment.

  Raises:
    UsageError: as `make`; and whatever the class raises.
  """
  mode = 'rgb_array' if request.render else None
  make_game = functools.partial(
    kind, **dataclasses.asdict(options), render_mode=mode
  )
  return make(make_game, num_envs=request.num_envs, render=request.render)


def check_render_mode(mode: str | None) -> None:
  """Checks what an environment that only renders rgb_array is given.

  Raises:
    UsageError: naming what is allowed.
  """
  if mode not in (None, 'rgb_array'):
    raise errors.UsageError(f'render_mode={mode}: allowed: None, rgb_array')


def _check_render(probe, name):
  problem = f'it renders {probe.render_mode}'
  if probe.render_mode == 'rgb_array':
    try:
      probe.reset(seed=0)
      probe.render()
      return
    except (gymnasium.error.Error, ImportError) as error:
      problem = str(error)
  raise errors.UsageError(
    f'--video of {name}: {problem}; allowed: environments that render rgb_array'
  )


def check_spaces(
  observation_space: gymnasium.Space, action_space: gymnasium.Space, name: str
) -> None:
  """Checks that the learners can use the spaces of an environment.

  Raises:
    UsageError: naming the space that is not supported, and what helps.
  """
  box = isinstance(observation_space, spaces.Box)
  if not box or 0 in observation_space.shape:
    raise errors.UsageError(
      f'--env={name}: observation space {_found(observation_space)} is '
      'not supported; allowed: Box that is not empty'
      + _what_makes_a_box_of(observation_space)
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
    raise errors.UsageError(
      f'--env={name}: action space {_found(action_space)} is not '
      'supported; allowed: Discrete, or a Box of floats of one axis with a '
      'finite least and a larger finite greatest value for each'
      + _what_makes_actions_of(action_space)
    )


def _found(space):
  if space is None:
    return 'None (is it set before the constructor ends?)'
  if isinstance(space, gymnasium.Space):
    return boundary.in_one_line(space)
  if isinstance(space, type):
    return f'{space.__name__}, a class,'
  old = type(space).__module__.split('.')[0] == 'gym'
  of = ' of the old package gym' if old else f', a {type(space).__name__},'
  return f'{boundary.in_one_line(space)}{of}'


def _what_makes_a_box_of(space) -> str:
  """A hint, for spaces that FlattenObservation flattens."""
  if not isinstance(space, gymnasium.Space) or isinstance(space, spaces.Box):
    return ''
  if not space.is_np_flattenable or not spaces.flatdim(space):
    return ''
  numbers = f'{spaces.flatdim(space)} numbers'
  if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
    numbers += ', one-hot'
  return (
    '. A function that returns gymnasium.wrappers.FlattenObservation(env), '
    f'named by --env=module:function, gives {numbers}'
  )


def _what_makes_actions_of(space) -> str:
  """A hint, for spaces whose actions can be numbered or put in a row."""
  wrapper = '. A gymnasium.wrappers.TransformAction with the action space'
  if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
    sizes = getattr(space, 'nvec', np.full(space.shape, 2)).ravel().tolist()
    combinations = math.prod(sizes)
    return f'{wrapper} Discrete({combinations}) can number the combinations'
  if isinstance(space, spaces.Dict | spaces.Tuple):
    return (
      f'{wrapper} gymnasium.spaces.flatten_space(…) helps if all parts are '
      'bounded Boxes, one that is Discrete if all parts are'
    )
  if isinstance(space, spaces.Box):
    return f'{wrapper} Box(-1, 1, [{math.prod(space.shape)}]) can convert them'
  return ''


class _Rendered(gymnasium.Wrapper):
  """Renders MuJoCo in any thread, with a camera that follows the robot."""

  render_mode = 'rgb_array'

  def __init__(self, env, camera, name):
    super().__init__(env)
    self._camera = mujoco.Camera(env, **_FRAME, name=name, camera=camera)
    self.metadata = {
      'render_modes': [self.render_mode],
      'render_fps': round(1 / env.get_wrapper_attr('dt')),
    }

  def render(self):
    return self._camera.picture()

  def close(self):
    self._camera.close()
    super().close()


def _factory(name: str, render: bool, args) -> Callable[[], gymnasium.Env]:
  if name.startswith(_DM_CONTROL):
    if args:
      raise errors.UsageError(
        f'--env_args={json.dumps(args)}: allowed with environments that are '
        'not of dm_control'
      )
    return _dm_control_factory(name)
  env_id = name
  if ':' in name:
    function, env_id = _named_with_module(name, args)
    if function is not None:
      return functools.partial(function, **args)
  entry_point = _registered().get(env_id)
  if entry_point is None:
    raise errors.UsageError(f'--env={name}: {_suggestion(env_id)}')
  # Its checker asks for more than is used; `boundary` checks what is.
  given = {'disable_env_checker': True} | args
  if entry_point.startswith('gymnasium.envs.mujoco'):
    packages.check_installed(f'--env={name}', 'mujoco', extra='mujoco')
    if os.environ.get('MUJOCO_GL'):  # It may not be what MuJoCo takes.
      mujoco.set_backend()
    mujoco.tell_warnings_once()
  elif render:  # MuJoCo is rendered by a camera of ours.
    given['render_mode'] = 'rgb_array'
  return lambda: gymnasium.make(env_id, **given)


def _named_with_module(name, args):
  """The function that module:function names, or the id that package:id does."""
  module, _, env_id = name.partition(':')
  if not re.search('[-/]', env_id):  # A function, or an id without a version.
    try:
      return packages.load_function(name, flag='env', arguments=args), None
    except errors.UsageError:
      if env_id not in gymnasium.registry:
        raise
      return None, env_id
  try:
    found = importlib.util.find_spec(module)
  except (ImportError, ValueError):  # No parent of it, or no name of one.
    found = None
  if found is None:
    raise errors.UsageError(
      f'--env={name}: there is no module {module}; allowed: package:id, where '
      'importing the package registers the id'
    )
  importlib.import_module(module)
  return None, env_id


def _registered() -> dict[str, str]:
  """Ids of environments and where each is, without those of ale-py."""
  entry_points = {
    env_id: str(spec.entry_point) for env_id, spec in gymnasium.registry.items()
  }
  return {
    env_id: entry_point
    for env_id, entry_point in entry_points.items()
    if not entry_point.startswith('ale_py')
  }


def _suggestion(env_id: str) -> str:
  """What to take instead of an id that cannot be had."""
  name = re.sub(r'-v\d+$', '', env_id)
  known = _registered()
  ids = [
    each for each in known if each.rpartition('-v')[0].lower() == name.lower()
  ]
  game = None if ids else atari.game_of(env_id)
  if game is not None:
    return (
      f'allowed: python experiments/atari.py --game={game} for Atari, or '
      'another environment'
    )
  near = ids or difflib.get_close_matches(env_id, known, n=3, cutoff=0.4)
  return 'unknown; ' + (
    f'did you mean {", ".join(near)}?' if near else 'try CartPole-v1'
  )


def _dm_control_factory(name: str) -> Callable[[], gymnasium.Env]:
  packages.check_installed(
    f'--env={name}',
    *('mujoco', 'dm_control', 'shimmy'),
    extra='mujoco',
    needs='Python 3.11 or 3.12',
  )
  mujoco.set_backend()  # Otherwise it looks for a screen.
  from dm_control import suite
  from shimmy import dm_control_compatibility

  mujoco.tell_warnings_once()  # Importing dm_control changed that.
  known = ['-'.join(task) for task in suite.ALL_TASKS]
  task = name.removeprefix(_DM_CONTROL)
  if task not in known:
    near = difflib.get_close_matches(task, known, n=3, cutoff=0.4)
    names = ', '.join(_DM_CONTROL + each for each in near or known[:3])
    raise errors.UsageError(f'--env={name}: unknown; did you mean {names}?')
  if task in _REFUSED:
    raise errors.UsageError(
      f'--env={name}: {_REFUSED[task]}; allowed: other tasks of dm_control'
    )
  domain, task = task.split('-', maxsplit=1)

  def make_task():
    env = dm_control_compatibility.DmControlCompatibilityV0(
      suite.load(domain, task)
    )
    return gymnasium.wrappers.FlattenObservation(env)

  return make_task


def _make(options, request):
  return make(
    options.env,
    args=named.parse_args(options.env_args),
    num_envs=request.num_envs,
    render=request.render,
  )


DOMAIN = domain_lib.Domain(
  name='gym',
  options=Options,
  make=_make,
  env_name=lambda options: options.env,
  defaults=domain_lib.SMALL | {'t_max': (20, 'ours')},
  packages=PACKAGES,
  code_named=named.code_named,
)
