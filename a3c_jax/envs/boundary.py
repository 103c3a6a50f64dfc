"""Checks and copies what environments return, before learners see it.

An environment may return its own buffers, numbers of any type and an `info` of
any content. The vector environment of this module returns arrays with the shape
and data type of its spaces, which the environment cannot overwrite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import pathlib
import threading
import traceback
from typing import Any
import weakref

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
import numpy as np

from a3c_jax.core import errors, threads
from a3c_jax.envs import spaces as spaces_lib

_LARGEST = float(np.finfo(np.float32).max)  # Learners see float32.
_RESET = 'reset(seed=…, options=…) that returns observation and info'
_STEP = (
  'step(action) that returns observation, reward, terminated, truncated and '
  'info'
)
_CALLERS = [
  pathlib.Path(__file__).with_name(name)
  for name in (
    'boundary.py',
    'control.py',
    'factories.py',
    'gym.py',
    'mujoco.py',
  )
]
_GYMNASIUM = pathlib.Path(gymnasium.__file__).parent
_NUMBERS = {float, int, bool, np.float64, np.float32, np.int64, np.bool_}
# Environments that some `CheckedVectorEnv` has, by their id().
_in_use: weakref.WeakValueDictionary[int, gymnasium.Env] = (
  weakref.WeakValueDictionary()
)


class MisfitError(errors.RunError):
  """An environment returned what its spaces or Gymnasium do not allow."""


class CheckedVectorEnv(gymnasium.vector.VectorEnv):
  """K environments, stepped one after another, with same-step autoreset.

  It takes a learner's actions: discrete ones count from 0, continuous ones have
  no bounds. `spaces.to_native` converts them to the units and the data type of
  each environment.

  Observations are copied before their environment is called again. They are
  converted to the data type of the space if no value is lost by that. Bounds of
  the Box are not checked. Of each `info`, only 'life_loss' is read.

  Attributes:
    envs: the K environments.
    native_action_space: action space of each, in its own units.
  """

  def __init__(
    self,
    make_env: Callable[[], gymnasium.Env],
    num_envs: int,
    *,
    name: str,
    observation_space: spaces.Box,
    action_space: spaces.Discrete | spaces.Box,
  ):
    """Makes the environments.

    Args:
      make_env: makes one of them.
      num_envs: K.
      name: of the environment, for messages.
      observation_space: that each must have.
      action_space: that each must have.

    Raises:
      UsageError: if one has other spaces, or was returned before.
    """
    self._name = name
    self.envs: list[gymnasium.Env] = []
    try:
      for _ in range(num_envs):
        self._add(make_env(), observation_space, action_space)
    except BaseException:
      with contextlib.suppress(Exception):  # The first error counts.
        self.close()
      raise
    self.num_envs = num_envs
    first = self.envs[0]
    known = first.metadata if isinstance(first.metadata, dict) else {}
    self.metadata = dict(known)
    self.metadata['autoreset_mode'] = AutoresetMode.SAME_STEP
    self.render_mode = first.render_mode
    self.native_action_space = action_space
    self._to_native = spaces_lib.to_native(action_space)
    self.single_observation_space = observation_space
    self.single_action_space = (
      spaces.Box(-np.inf, np.inf, action_space.shape, np.float32)
      if isinstance(action_space, spaces.Box)
      else spaces.Discrete(action_space.n)
    )
    batch = gymnasium.vector.utils.batch_space
    self.observation_space = batch(observation_space, num_envs)
    self.action_space = batch(self.single_action_space, num_envs)
    self._shape = observation_space.shape
    self._dtype: np.dtype[Any] = observation_space.dtype
    self._largest = None
    if np.issubdtype(self._dtype, np.floating):
      limit = min(_LARGEST, float(np.finfo(self._dtype).max))
      self._largest = self._dtype.type(limit)
    self._obs = np.zeros((num_envs, *self._shape), self._dtype)

  def _add(self, env, observation_space, action_space):
    base = env.unwrapped
    if _in_use.get(id(base)) is base:
      raise errors.UsageError(
        f'--env={self._name}: returned the same environment twice; allowed: a '
        'function that makes a new one each time'
      )
    _in_use[id(base)] = base
    self.envs.append(env)
    for found, expected in (
      (env.observation_space, observation_space),
      (env.action_space, action_space),
    ):
      if found != expected:
        raise errors.UsageError(
          f'--env={self._name}: made one environment with '
          f'{in_one_line(expected)} and one with {in_one_line(found)}; '
          'allowed: the same spaces each time'
        )

  def reset(self, *, seed=None, options=None):
    """Resets all environments, or those of `options['reset_mask']` [K] bool.

    Args:
      seed: an int, of which environment k gets `seed + k`; or a list of K; or
        None.
      options: passed on to the environments without 'reset_mask', as None if
        nothing else is in them.

    Returns:
      Observations [K, ...] of all environments, and an empty info.
    """
    options = dict(options or {})
    mask = options.pop('reset_mask', np.ones(self.num_envs, bool))
    seeds: Sequence[int | None]
    if seed is None:
      seeds = [None] * self.num_envs
    elif isinstance(seed, int | np.integer):
      seeds = [seed + k for k in range(self.num_envs)]
    else:
      seeds = seed
    with self._naming():
      for k in np.flatnonzero(mask):
        self._obs[k] = self._first(k, seed=seeds[k], options=options or None)
    return self._obs.copy(), {}

  @contextlib.contextmanager
  def _naming(self):
    try:
      yield
    except MisfitError as error:
      raise MisfitError(f'--env={self._name}: {error}') from error
    except ValueError as error:
      if not str(error).startswith('signal only works in main thread'):
        raise
      raise errors.RunError(
        f'--env={self._name}: {error}, and this is thread '
        f'{threading.current_thread().name}; allowed: handlers that the '
        'constructor sets'
      ) from error

  def _first(self, k, *, seed=None, options=None):
    threads.beat()
    outcome = self.envs[k].reset(seed=seed, options=options)
    if not isinstance(outcome, tuple | list) or len(outcome) != 2:
      raise MisfitError(f'reset returned {_kind(outcome)}; allowed: {_RESET}')
    return self._checked(outcome[0], 'reset')

  def step(self, actions):
    """Steps all environments, and resets those whose episode ended.

    Returns:
      Observations [K, ...]; rewards [K] float64; terminated and truncated [K]
      bool; and an info. It has 'final_obs' [K] of object if an episode ended,
      and 'life_loss' [K] bool if an environment gave one.
    """
    rewards = np.empty(self.num_envs)
    terminated = np.zeros(self.num_envs, bool)
    truncated = np.zeros(self.num_envs, bool)
    infos = {}
    with self._naming():
      for k, env in enumerate(self.envs):
        threads.beat()
        outcome = env.step(self._to_native(actions[k]))
        if not isinstance(outcome, tuple | list) or len(outcome) != 5:
          raise MisfitError(f'step returned {_kind(outcome)}; allowed: {_STEP}')
        obs, reward, is_terminal, is_truncated, info = outcome
        obs = self._checked(obs, 'step')
        rewards[k] = as_reward(reward)
        terminated[k] = as_flag(is_terminal, 'terminated')
        truncated[k] = as_flag(is_truncated, 'truncated')
        lost = life_loss(info)
        if lost is not None:
          flags = infos.setdefault('life_loss', np.zeros(self.num_envs, bool))
          flags[k] = lost
        if terminated[k] or truncated[k]:
          if 'final_obs' not in infos:
            infos['final_obs'] = np.full(self.num_envs, None, object)
          infos['final_obs'][k] = obs.copy()  # The reset may overwrite it.
          obs = self._first(k)
        self._obs[k] = obs
    return self._obs.copy(), rewards, terminated, truncated, infos

  def _checked(self, obs, by):
    """The observation in the space's shape and type; not always a copy."""
    if (
      type(obs) is not np.ndarray
      or obs.dtype != self._dtype
      or obs.shape != self._shape
    ):
      obs = self._converted(obs, by)
    if self._largest is not None and not (np.abs(obs) <= self._largest).all():
      index = np.argwhere(~(np.abs(obs) <= self._largest))[0]
      raise MisfitError(
        f'observation{index.tolist()} is {obs[tuple(index)]}, of the space '
        f'{in_one_line(self.single_observation_space)}; allowed: finite '
        'observations'
      )
    return obs

  def _converted(self, obs, by):
    what = _kind(obs)
    with contextlib.suppress(ValueError, TypeError, RuntimeError):
      values = np.asarray(obs)
      if values.dtype.kind != 'O':
        what = _kind(values)
      if values.shape == self._shape and values.dtype.kind in 'biuf':
        with np.errstate(all='ignore'):
          converted = values.astype(self._dtype)
        lost = converted != values
        if self._largest is not None:  # Rounding is no loss.
          lost = np.isinf(converted) & np.isfinite(values)
        if not lost.any():
          return converted
        what = f'{values.dtype} with {values[lost].flat[0]}'
    raise MisfitError(
      f'{by} returned an observation that is {what}; allowed: an array of the '
      f'space {in_one_line(self.single_observation_space)}'
    )

  def render(self):
    return tuple(env.render() for env in self.envs)

  def close_extras(self):
    with contextlib.ExitStack() as stack:  # Closes all, even if one raises.
      for env in self.envs:
        _in_use.pop(id(env.unwrapped), None)
        stack.callback(env.close)


def as_reward(reward: Any) -> float:
  """A reward as a float.

  Raises:
    MisfitError: if it is no number, or not finite as a float32.
  """
  try:
    if type(reward) not in _NUMBERS and (
      isinstance(reward, str | bytes)
      or np.ndim(reward)
      or np.iscomplexobj(reward)
    ):
      raise TypeError
    number = float(reward)
  except (TypeError, ValueError, OverflowError):
    problem = f'a reward is {_kind(reward)}; allowed: one number'
    raise MisfitError(problem) from None
  if not abs(number) <= _LARGEST:
    raise MisfitError(f'a reward is {reward}; allowed: finite rewards')
  return number


def as_flag(value: Any, name: str) -> bool:
  """A flag as a bool.

  Raises:
    MisfitError: naming it, if it is neither true nor false.
  """
  if type(value) is bool or type(value) is np.bool_:
    return bool(value)
  if np.isscalar(value) or hasattr(value, '__array__'):
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in 'biuf' and array in (0, 1):
      return bool(array)
  raise MisfitError(f'{name} is {_kind(value)}; allowed: True or False')


def life_loss(info: Any) -> bool | None:
  """The flag 'life_loss' of an `info`; None if it has none.

  Raises:
    MisfitError: if the flag is neither true nor false.
  """
  flag = info.get('life_loss') if isinstance(info, dict) else None
  return None if flag is None else as_flag(flag, "info['life_loss']")


def _kind(value: Any) -> str:
  """A short description of a value."""
  if value is None:
    return 'None'
  if isinstance(value, tuple | list):
    return f'a {type(value).__name__} of {len(value)}'
  if hasattr(value, 'dtype') and hasattr(value, 'shape'):
    of = f'of shape {list(value.shape)}' if value.shape else value
    return f'{value.dtype} {of}'
  kind = type(value).__name__
  return f'{kind} {value!r:.40}' if np.isscalar(value) else kind


def in_one_line(space: Any) -> str:
  """A space as text without line breaks."""
  return ' '.join(str(space).split())


def check_first_step(envs: CheckedVectorEnv, name: str) -> BaseException | None:
  """Resets and steps environments once, each with its first or middle action.

  Returns:
    What an environment itself raised, or None. The run will raise it again, and
    may then replace the environment.

  Raises:
    UsageError: if what they return does not fit their spaces, or they cannot be
      called as Gymnasium's.
  """
  action = np.zeros(*spaces_lib.shape_and_dtype(envs.action_space))
  for allowed, call in (
    (_RESET, lambda: envs.reset(seed=0)),
    (_STEP, lambda: envs.step(action)),
  ):
    try:
      call()
    except MisfitError as error:
      raise errors.UsageError(str(error)) from error
    except (Exception, SystemExit) as error:
      if raised_by_a_call(error):
        raise errors.UsageError(
          f'--env={name}: {describe(error)}; allowed: {allowed}'
        ) from error
      return error
  return None


def raised_by_a_call(error: BaseException) -> bool:
  """Whether this package or Gymnasium raised it, not an environment's code.

  Then the error is about how a function was called, or what it returned.
  """
  files = [
    pathlib.Path(frame.filename)
    for frame in traceback.extract_tb(error.__traceback__)
  ]
  file = next(file for file in reversed(files) if 'numpy' not in file.parts)
  if file in _CALLERS:
    return True
  environments = [
    folder for folder in (_GYMNASIUM / 'envs').iterdir() if folder.is_dir()
  ]
  return _GYMNASIUM in file.parents and not any(
    folder in file.parents for folder in environments
  )


def describe(error: BaseException) -> str:
  """Type and text of what was raised, in one line."""
  return ' '.join(f'{type(error).__name__}: {error}'.split())
