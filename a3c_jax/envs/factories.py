"""From the name of an environment to a function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import difflib
import functools
import json
import os
import re
from typing import Any

import gymnasium

from a3c_jax.core import errors, packages
from a3c_jax.envs import atari, mujoco

_DM_CONTROL = 'dm_control/'
# Tasks of suite.ALL_TASKS that are refused, and why.
_REFUSED = {
  'quadruped-escape': 'draws in a way that threads cannot share',
  'lqr-lqr_2_1': 'has actions without bounds',
  'lqr-lqr_6_2': 'has actions without bounds',
}

Factory = Callable[..., gymnasium.Env]


def factory(name: str, args: Mapping[str, Any], *, render: bool) -> Factory:
  """A function without arguments that makes the environment of this name.

  Args:
    name: as `gym.make` takes it.
    args: for `gymnasium.make` or the function that is named.
    render: whether it is made with `render_mode='rgb_array'`. MuJoCo's
      environments are not: `mujoco.Rendered` renders them.

  Raises:
    UsageError: for an unknown id, module or function, or a missing dependency.
  """
  if name.startswith(_DM_CONTROL):
    if args:
      raise errors.UsageError(
        f'--env_args={json.dumps(args)}: allowed with environments that are '
        'not of dm_control'
      )
    return _dm_control_factory(name)
  env_id = name
  if ':' in name:
    found = _named_with_module(name, args)
    if not isinstance(found, str):
      return functools.partial(found, **args)
    env_id = found
  entry_point = _registered().get(env_id)
  if entry_point is None:
    raise errors.UsageError(f'--env={name}: {_suggestion(env_id)}')
  # `boundary` checks what is used. Gymnasium's own checker asks for more.
  given: dict[str, Any] = {'disable_env_checker': True, **args}
  if entry_point.startswith('gymnasium.envs.mujoco'):
    packages.check_installed(f'--env={name}', 'mujoco', extra='mujoco')
    if os.environ.get('MUJOCO_GL'):  # MuJoCo may not know its value.
      mujoco.set_backend()
    mujoco.log_warnings_once()
  elif render:
    given['render_mode'] = 'rgb_array'
  return lambda: gymnasium.make(env_id, **given)


def _named_with_module(name: str, args: Mapping[str, Any]) -> Factory | str:
  """The function that module:function names, or the id of package:id."""
  module, _, env_id = name.partition(':')
  if not re.search('[-/]', env_id):  # A function, or an id without a version.
    try:
      return packages.load_function(name, flag='env', arguments=args)
    except errors.UsageError:
      if env_id not in gymnasium.registry:
        raise
      return env_id
  packages.load_module(
    module,
    flag='env',
    value=name,
    allowed='package:id, where importing the package registers the id',
  )
  return env_id


def _registered() -> dict[str, str]:
  """The entry point of each registered id, without those of ale-py."""
  entry_points = {
    env_id: str(spec.entry_point) for env_id, spec in gymnasium.registry.items()
  }
  return {
    env_id: entry_point
    for env_id, entry_point in entry_points.items()
    if not entry_point.startswith('ale_py')
  }


def _suggestion(env_id: str) -> str:
  """What to use instead of an unknown id, in words."""
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


def _dm_control_factory(name: str) -> Factory:
  packages.check_installed(
    f'--env={name}',
    *('mujoco', 'dm_control', 'shimmy'),
    extra='mujoco',
    needs='Python 3.11 or 3.12',
  )
  mujoco.set_backend()  # Otherwise dm_control looks for a screen.
  from dm_control import suite
  from shimmy import dm_control_compatibility

  mujoco.log_warnings_once()  # Importing dm_control changed that.
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
