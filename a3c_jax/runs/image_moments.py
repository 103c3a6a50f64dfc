"""Mean and deviation of images, which random play before training measures."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import logging

import gymnasium
import jax
import numpy as np

from a3c_jax.core import errors, types
from a3c_jax.envs import replayable
from a3c_jax.networks import layers
from a3c_jax.parameters import store as store_lib

STEPS = 10_000  # Agent steps of random play, of all environments together.
_STREAM = 2**32 - 1  # Of random numbers; workers have those of their index.
_logger = logging.getLogger(__name__)


def measure(env: gymnasium.vector.VectorEnv, seed: int) -> layers.Moments:
  """Plays at random, and returns the moments of images divided by 255.

  The same environment and seed give the same numbers. Images that never change
  have deviation 1.

  Args:
    env: K environments with observations of bytes.
    seed: of the run.
  """
  rng = np.random.default_rng([seed, _STREAM])
  seeds = rng.integers(2**31 - env.num_envs, size=2).tolist()
  obs, _ = env.reset(seed=seeds[0] % replayable.TRAINING_SEEDS)
  env.action_space.seed(seeds[1])
  shape = obs.shape[1:]
  total, squares = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
  count = 0
  while count < STEPS:
    obs, *_ = env.step(env.action_space.sample())
    wide = np.asarray(obs).astype(np.uint16)  # Holds the square of a byte.
    total += wide.sum(axis=0, dtype=np.int64)
    squares += (wide * wide).sum(axis=0, dtype=np.int64)
    count += len(wide)
  mean = total / count
  variance = np.mean(squares / count - mean**2)
  deviation = np.sqrt(max(variance, 0.0)) / 255 or 1.0
  return layers.Moments((mean / 255).astype(np.float32), np.float32(deviation))


def with_moments(
  variables: types.Params, moments: layers.Moments
) -> types.Params:
  """Returns a network's variables with other moments of images."""

  def replaced(path, leaf):
    del leaf
    return getattr(moments, path[-1].key)

  found = jax.tree_util.tree_map_with_path(replaced, variables[layers.MOMENTS])
  return variables | {layers.MOMENTS: found}


def prepare(
  store: store_lib.ParameterStore,
  make_env: Callable[[], gymnasium.vector.VectorEnv],
  seed: int,
  *,
  max_env_restarts: int,
) -> None:
  """Gives all parameters of a store moments that it measures.

  Args:
    store: of a run that has not begun; no worker may run meanwhile.
    make_env: makes K environments, which are closed again.
    seed: of the run.
    max_env_restarts: how often an environment that fails is made again, and
      measured from the beginning.

  Raises:
    UsageError: if the network of the run normalises no images.
    Exception: what an environment raised once too often, with a note.
  """
  state, _ = store.capture()
  params, target = state.version.params, state.version.target_params
  if not (isinstance(params, dict) and layers.MOMENTS in params):
    raise errors.UsageError(
      '--normalize_images: the network of the learner normalises none; '
      'allowed: --nonormalize_images, or a network of --network'
    )
  for restarts in range(max_env_restarts + 1):
    try:
      with contextlib.closing(make_env()) as env:
        moments = measure(env, seed)
      break
    except Exception as error:
      if restarts == max_env_restarts:
        error.add_note('in random play that measures images')
        raise
      _logger.warning(
        'an environment failed while images were measured, and is made again: '
        '%s',
        errors.in_one_line(error),
      )
  params = with_moments(params, moments)
  version = state.version._replace(
    params=params, target_params=None if target is None else params
  )
  store.restore(state._replace(version=version, memory=None))
