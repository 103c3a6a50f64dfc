"""Any Gymnasium environment with Box observations, and tasks of dm_control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
import json
import re
from typing import Any

import gymnasium

from a3c_jax.core import errors, fields, threads
from a3c_jax.envs import boundary, factories, mujoco, named, space_checks
from a3c_jax.envs import domain as domain_lib

# Distributions that some environments need, for config.json.
PACKAGES = ('mujoco', 'dm-control', 'shimmy')


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

  Discrete actions are 0 to A - 1. Continuous actions [K, D] have no bounds: -1
  to 1 spans the environment's box, and actions outside it are clipped.

  To check the environment, `make` makes one, resets and steps it once, and
  closes it.

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
    wrap: wraps each environment.

  Raises:
    UsageError: for an unknown id, module or function, refused arguments, a
      missing dependency, spaces that `check_spaces` refuses, a first reset or
      step that does not fit them, or an environment that cannot be rendered.
  """
  args = dict(args or {})
  make_bare = (
    functools.partial(env, **args)
    if callable(env)
    else factories.factory(env, args, render=render)
  )

  def make_one():
    threads.beat()
    made = make_bare()
    _check_kind(made, env)
    if mujoco.simulation(made):
      mujoco.log_warnings_once()
    made = wrap(made)
    if render and mujoco.simulation(made):
      made = mujoco.Rendered(made, camera, str(env))
    return made

  try:
    probe = make_one()
  except (Exception, SystemExit) as error:
    problem = _why_not_made(error, env, args)
    if problem is None:
      raise
    raise errors.UsageError(problem) from error
  make_vector = _check_probe(probe, env, args, render=render)
  return functools.partial(make_vector, make_one, num_envs)


def _check_probe(
  probe, env, args, *, render
) -> Callable[..., boundary.CheckedVectorEnv]:
  """Resets, steps and closes an environment once, and raises as `make`.

  Returns:
    `CheckedVectorEnv` with its name and spaces given.
  """
  to_close = probe
  try:
    if render:
      _check_render(probe, env)
    observation_space, action_space = space_checks.check_spaces(
      getattr(probe, 'observation_space', None),
      getattr(probe, 'action_space', None),
      str(env),
    )
    make_vector = functools.partial(
      boundary.CheckedVectorEnv,
      name=str(env),
      observation_space=observation_space,
      action_space=action_space,
    )
    to_close = make_vector(lambda: probe, 1)
    error = boundary.check_first_step(to_close, str(env))
    if args and isinstance(error, TypeError):
      problem = _why_not_made(error, env, args)
      if problem is not None:
        raise errors.UsageError(problem) from error
  finally:
    # What closing raises does not count here. A run reports it at its end.
    threads.call_all([to_close.close], seconds=threads.CLOSE_SECONDS)
  return make_vector


def _check_kind(made, name):
  if isinstance(made, gymnasium.Env):
    return
  kind = type(made)
  found = kind.__name__
  if isinstance(made, type):
    found = f'the class {made.__name__} and no environment of it'
  elif isinstance(made, gymnasium.vector.VectorEnv):
    found = f'{found}, several environments: --envs_per_thread makes them'
  elif any(each.__module__.split('.')[0] == 'gym' for each in kind.__mro__):
    found = f'{found}, of the old package gym'
  raise errors.UsageError(
    f'--env={name}: returned {found}; '
    'allowed: module:function that returns a gymnasium.Env'
  )


def _why_not_made(error, env, args) -> str | None:
  """One line for what the user can fix; None for a bug in the environment."""
  if isinstance(error, errors.UsageError | errors.RunError):
    return None
  description = boundary.describe(error)
  registered = not callable(env) and (
    env in gymnasium.registry or env.split(':')[-1] in gymnasium.registry
  )
  refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
  if args and (registered or (refused and refused[1] in args)):
    return (
      f'--env_args={json.dumps(args)}: {description}; allowed: arguments that '
      f'{env} takes'
    )
  if isinstance(error, gymnasium.error.Error) or (
    registered and isinstance(error, ImportError)
  ):  # Of the user's own module, ImportError is a bug there.
    return f'--env={env}: {error}'
  if isinstance(error, SystemExit) or boundary.raised_by_a_call(error):
    return (
      f'--env={env}: cannot be made, {description}; allowed: a gymnasium.Env'
    )
  return None


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


def make_own(
  kind: Callable[..., gymnasium.Env],
  options: Any,
  request: domain_lib.EnvRequest = domain_lib.SINGLE,
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """As `make`, for a class whose arguments are the fields of its options.

  Args:
    kind: takes the fields of the options, and `render_mode`.
    options: a dataclass.
    request: how many, and whether rendered.

  Raises:
    UsageError: as `make`; and whatever the class raises.
  """
  mode = 'rgb_array' if request.render else None
  make_bare = functools.partial(
    kind, **dataclasses.asdict(options), render_mode=mode
  )
  return make(make_bare, num_envs=request.num_envs, render=request.render)


def check_render_mode(mode: str | None) -> None:
  """Checks the render mode of an environment that only renders rgb_array.

  Raises:
    UsageError: naming what is allowed.
  """
  if mode not in (None, 'rgb_array'):
    raise errors.UsageError(f'render_mode={mode}: allowed: None, rgb_array')


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
