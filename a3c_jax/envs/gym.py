"""Any Gymnasium environment with Box observations and Discrete actions."""

from __future__ import annotations

from collections.abc import Callable
import difflib

import gymnasium
from gymnasium.vector import AutoresetMode

from a3c_jax import checks


def make(
  env: str | Callable[[], gymnasium.Env], *, envs: int = 1, film: bool = False
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """A function that makes the vector environment of one thread.

  Args:
    env: a registered id such as 'CartPole-v1', 'module:function' where the
      function returns a `gymnasium.Env`, or such a function.
    envs: games per environment.
    film: whether `render` gives a picture of each game; a function must make
      environments with `render_mode='rgb_array'` for this.

  Raises:
    UsageError: for an unknown id, module or function, a missing dependency,
      spaces other than Box observations and Discrete actions, or an environment
      that cannot be filmed.
  """
  make_one = env if callable(env) else _factory(env, film)
  expected = [gymnasium.error.Error]
  if env in gymnasium.registry:
    expected.append(ImportError)  # Of the user's own module it is a bug there.
  try:
    probe = make_one()
  except tuple(expected) as error:
    raise checks.UsageError(f'--env={env}: {error}') from error
  if not isinstance(probe, gymnasium.Env):
    raise checks.UsageError(
      f'--env={env}: returned {type(probe).__name__}; '
      'allowed: module:function that returns a gymnasium.Env'
    )
  if film:
    _check_film(probe, env)
  check_spaces(probe.observation_space, probe.action_space, env)
  probe.close()

  def make_env() -> gymnasium.vector.VectorEnv:
    return gymnasium.vector.SyncVectorEnv(
      [_from_zero(make_one)] * envs, autoreset_mode=AutoresetMode.SAME_STEP
    )

  return make_env


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
  box = isinstance(observation_space, gymnasium.spaces.Box)
  if not box or 0 in observation_space.shape:
    raise checks.UsageError(
      f'--env={name}: observation space {observation_space} is not supported; '
      'allowed: Box that is not empty'
    )
  if not isinstance(action_space, gymnasium.spaces.Discrete):
    raise checks.UsageError(
      f'--env={name}: action space {action_space} is not supported; '
      'allowed: Discrete'
    )


def _from_zero(make_one):
  def make():
    env = make_one()
    first = int(env.action_space.start)
    if not first:
      return env
    return gymnasium.wrappers.TransformAction(
      env,
      lambda action: action + first,
      gymnasium.spaces.Discrete(env.action_space.n),
    )

  return make


def _factory(name: str, film: bool) -> Callable[[], gymnasium.Env]:
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
  mode = {'render_mode': 'rgb_array'} if film else {}
  return lambda: gymnasium.make(name, **mode)
