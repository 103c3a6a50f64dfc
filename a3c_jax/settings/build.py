"""Makes environments, the learner and the optimizer that a Config names."""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
import re
from typing import Any

from flax import errors as flax_errors
import flax.linen as nn
import gymnasium
import jax
import numpy as np

from a3c_jax import networks
from a3c_jax.algorithms import registry
from a3c_jax.core import errors, observations, packages, schedules, types
from a3c_jax.envs import domain as domain_lib
from a3c_jax.optim import adagrad, adam, momentum, rmsprop, rule
from a3c_jax.settings.common import Config

_FOR_IMAGES = {
  'nips': networks.NipsTorso,
  'nature': networks.NatureTorso,
  'linear_conv': networks.LinearConvTorso,
}


def make_env(
  config: Config, request: domain_lib.EnvRequest | None = None
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """Returns a function that makes an environment of a Config.

  Args:
    config: whose domain and environment count.
    request: what the environment must offer. None is for a training thread,
      with `envs_per_thread` environments.

  Raises:
    UsageError: if there is no such environment, or it cannot render.
  """
  if request is None:
    request = domain_lib.EnvRequest(num_envs=config.envs_per_thread)
  return domain_lib.get(config.domain).make(config.environment, request)


def make_learner(
  config: Config, env: gymnasium.vector.VectorEnv
) -> types.Learner:
  """Returns the learner of a Config, with a network that fits the spaces.

  Args:
    config: algorithm, network and its hyperparameters.
    env: whose single spaces count: Box observations, and Discrete actions or a
      Box of one axis.

  Raises:
    UsageError: if `--network` cannot be made or does not fit the observations,
      or the algorithm does not support the actions.
  """
  algorithm = registry.get(config.algo)
  network = make_network(config, env)
  return algorithm.make_learner(network, config.algorithm)


def make_network(config: Config, env: gymnasium.vector.VectorEnv) -> Any:
  """Returns the network that `make_learner` gives to the algorithm.

  It is a `nn.Module`. The algorithm decides which methods it has besides.

  Raises:
    UsageError: as `make_learner`.
  """
  algorithm = registry.get(config.algo)
  observations_space = env.single_observation_space
  assert isinstance(observations_space, gymnasium.spaces.Box)  # By `boundary`.
  torso = make_torso(config, observations_space)
  space = env.single_action_space
  if isinstance(space, gymnasium.spaces.Box) and not algorithm.continuous:
    raise errors.UsageError(
      f'--algo={config.algo}: actions of {config.env_name} are continuous, Box '
      f'of {space.shape[0]} numbers; allowed: {registry.continuous()}'
    )
  return algorithm.make_network(torso, space, config.algorithm)


def learning_rate(config: Config) -> Callable[[int], float]:
  """Returns the learning rate as a function of global emulator frames."""
  if not config.anneal_frames:
    return lambda frames: config.learning_rate
  return functools.partial(
    schedules.linear,
    start=config.learning_rate,
    end=0.0,
    over=config.anneal_frames,
  )


def make_update_rule(config: Config) -> rule.UpdateRule:
  """Returns the optimizer of a Config, with its learning-rate schedule."""
  adams = {'epsilon': config.adam_epsilon}
  of_thread = {'per_worker': True}
  rms = {'decay': config.rms_decay, 'epsilon': config.rms_epsilon}
  start = {'start': config.rms_start}
  make, how = {
    'shared_rmsprop': (rmsprop.shared_rmsprop, rms | start),
    'rmsprop': (rmsprop.rmsprop, rms | start),
    'centered_rmsprop': (rmsprop.centered_rmsprop, rms),
    'momentum_sgd': (momentum.momentum_sgd, {'momentum': config.momentum}),
    'adam': (adam.adam, adams),
    'per_thread_adam': (adam.adam, adams | of_thread),
    'radam': (adam.radam, adams),
    'per_thread_radam': (adam.radam, adams | of_thread),
    'adagrad': (adagrad.adagrad, {'epsilon': config.adagrad_epsilon}),
  }[config.optimizer]
  return make(learning_rate(config), **how)


def make_torso(config: Config, space: gymnasium.spaces.Box) -> nn.Module:
  """Returns the part of the network that `--network` names.

  Raises:
    UsageError: if it cannot be made or does not fit the observations.
  """
  dims = len(space.shape)
  name = _name_of_torso(config, space)
  if config.normalize_images:
    _check_normalizes_images(config, name, space)
  scale = None
  # What is normalised has no bounds any more, or needs none.
  if not (config.normalize_obs or config.normalize_images):
    scale = networks.scale_between(space.low, space.high, space.dtype)
  if name == 'mlp':
    torso = networks.MLPTorso(dims, scale=scale, norm=config.norm)
  elif name == 'hidden200':
    torso = networks.MLPTorso(
      dims, hidden=(200,), scale=scale, norm=config.norm
    )
  elif name in _FOR_IMAGES:
    if dims != 3:
      raise errors.UsageError(
        f'--network={name}: needs images, observations are {space}; '
        'allowed: mlp, hidden200 or module:function'
      )
    layout = _channels_first(config, space)
    torso = _FOR_IMAGES[name](
      layout, scale, config.norm, config.normalize_images
    )
  elif config.norm != 'none':
    raise errors.UsageError(
      f'--norm={config.norm} with --network={name}: allowed: none, since a '
      'network of yours decides for itself'
    )
  else:
    torso = _own_torso(name)
  # Normalised observations are floats, whatever their type was.
  obs = observations.as_network_input(np.empty((0, *space.shape), space.dtype))
  dtype = np.dtype(np.float32) if config.normalize_obs else obs.dtype
  _check_features(name, torso, space, dtype)
  return torso


def _check_normalizes_images(config, name, space) -> None:
  """Raises UsageError if nothing would normalise images, or something else."""
  problem = None
  if config.normalize_obs:
    problem = '--normalize_obs, which normalises them too'
  elif space.dtype != np.uint8:
    problem = f'observations {space}, which are no bytes'
  elif name not in _FOR_IMAGES:
    problem = f'--network={name}'
  if problem:
    raise errors.UsageError(
      f'--normalize_images with {problem}; allowed: --nonormalize_images, or '
      'images of bytes with --nonormalize_obs and '
      f'--network={", ".join(_FOR_IMAGES)}'
    )


def describe_layout(config: Config, space: gymnasium.spaces.Box) -> str | None:
  """Describes how observations are read; None if that is evident.

  Args:
    config: whose network and domain count.
    space: of one environment's observations.
  """
  shape = list(space.shape)
  name = _name_of_torso(config, space)
  found = domain_lib.get(config.domain).image_layout(config.environment) is None
  if name in _FOR_IMAGES and len(shape) == 3 and found:
    axes = '[C, H, W]' if _channels_first(config, space) else '[H, W, C]'
    return f'observations {shape} are read as images {axes}, by {name}'
  if (
    name in ('mlp', 'hidden200') and space.dtype == np.uint8 and len(shape) > 1
  ):
    return (
      f'observations {shape} of bytes are read as {math.prod(shape):,} '
      f'numbers, by {name}; for convolutions: images of three axes, or '
      '--network=module:function'
    )
  return None


def _channels_first(config, space) -> bool:
  """Returns whether images are [C, H, W]; if unknown, whether C is smaller."""
  layout = domain_lib.get(config.domain).image_layout(config.environment)
  if layout is None:
    return space.shape[0] < space.shape[2]
  return layout == 'CHW'


def _name_of_torso(config, space) -> str:
  if config.network == 'auto':
    choose = domain_lib.get(config.domain).default_torso
    return choose(len(space.shape), config.lstm)
  return config.network


def _own_torso(name) -> nn.Module:
  function = packages.load_function(name, flag='network')
  try:
    torso = function()
    if isinstance(torso, nn.Module):
      return torso
    problem = f'returned {type(torso).__name__}'
  except SystemExit as error:  # It would end the script as if it were done.
    problem = f'raised {error!r}'
  raise errors.UsageError(
    f'--network={name}: {problem}; '
    'allowed: a function that returns a flax.linen.Module'
  )


def _check_features(name, torso, space, dtype) -> None:
  """Checks the features' shape as in training, without computing any."""
  variables = None
  for lead in ((2, 3), (3,)):  # [T, K] of a segment, and [K] of one step.
    obs = jax.ShapeDtypeStruct(lead + space.shape, dtype)
    try:
      if variables is None:
        variables = jax.eval_shape(torso.init, jax.random.PRNGKey(0), obs)
      # As in training: no random numbers, and no variable may change.
      features = jax.eval_shape(torso.apply, variables, obs)
    except networks.ImageTooSmallError as error:
      raise errors.UsageError(
        f'--network={name}: images of shape {list(space.shape)} are too small, '
        f'{error}; allowed: mlp or module:function'
      ) from error
    except flax_errors.FlaxError as error:
      problem = re.sub(r' \(https:.*', '', errors.in_one_line(error))
      raise errors.UsageError(
        f'--network={name}: {problem.rstrip(".")}; allowed: a module that '
        'draws no random numbers and changes none of its variables where it is '
        'applied, such as nn.BatchNorm with use_running_average=True or '
        'nn.Dropout with deterministic=True'
      ) from error
    shape = getattr(features, 'shape', ())
    if len(shape) != len(lead) + 1 or shape[:-1] != lead:
      found = list(shape) if shape else f'a {type(features).__name__}'
      raise errors.UsageError(
        f'--network={name}: maps observations {list(obs.shape)} to {found}; '
        'allowed: a module that keeps the leading axes and gives '
        f'{list(lead)} + [F]'
      )
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    variables.get('params', {})
  ):
    if leaf.dtype != np.float32:
      parameter = jax.tree_util.keystr(path, simple=True, separator='/')
      raise errors.UsageError(
        f'--network={name}: parameter {parameter} is {leaf.dtype}; allowed: '
        'float32; collections other than params may hold anything'
      )
