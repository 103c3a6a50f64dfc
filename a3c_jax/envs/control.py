"""Continuous control: MuJoCo's tasks, from physical state or from pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import gymnasium
import numpy as np

from a3c_jax import checks, workers
from a3c_jax.envs import boundary, gym, simulations


@dataclasses.dataclass(frozen=True)
class Options:
  """Which task, and what of it is seen."""

  env: str = checks.setting(
    'Task: a Gymnasium id, package:id, dm_control/DOMAIN-TASK, or '
    'module:function that returns a gymnasium.Env.',
    default='HalfCheetah-v5',
    source='ours',
  )
  env_args: str = gym.env_args_setting()
  pixels: bool = checks.setting(
    'Observe pictures of MuJoCo and nothing else.',
    default=False,
    source='ours',
  )
  image_size: int = checks.count(
    'Height and width of pictures, pixels.',
    least=36,
    most=480,
    default=84,
    source='as Atari',
  )
  camera: str = checks.setting(
    'Camera of pictures: a name or number of those that the model has; auto '
    'follows the robot where the model has a camera that does.',
    'auto, or a camera of the model',
    default='auto',
    source='ours',
  )
  action_repeat: int = checks.count(
    'Environment steps per agent step; their rewards are added up.',
    most=1000,
    default=1,
    source='ours',
  )


def describe(options: Options) -> Mapping[str, Any]:
  """Name and options, for the record of a run.

  Raises:
    UsageError: naming the first option whose value is not allowed.
  """
  return gym.describe(options)


def from_record(environment: Mapping[str, Any]) -> Options:
  """The options that `describe` told of."""
  return checks.options_of(Options, gym.options_in(environment))


class Repeat(gymnasium.Wrapper):
  """Takes each action several times, and adds the rewards up."""

  def __init__(self, env: gymnasium.Env, times: int):
    super().__init__(env)
    self._times = times

  @property
  def dt(self) -> float:
    """Seconds of simulation per step."""
    return self._times * self.env.get_wrapper_attr('dt')

  def step(self, action):
    total, life_lost = 0.0, False
    for _ in range(self._times):
      workers.beat()
      obs, reward, terminated, truncated, info = self.env.step(action)
      total += boundary.as_reward(reward)
      life_lost |= boundary.life_loss(info) or False
      if terminated or truncated:
        break
    if life_lost:
      info['life_loss'] = True
    return obs, total, terminated, truncated, info


class Pixels(gymnasium.ObservationWrapper):
  """Observations are pictures, [size, size, 3] uint8, and nothing else."""

  def __init__(self, env: gymnasium.Env, *, size: int, camera: str, name: str):
    super().__init__(env)
    self.observation_space = gymnasium.spaces.Box(
      0, 255, (size, size, 3), np.uint8
    )
    # Each step that is repeated, to go on after a stop, draws a picture.
    self.metadata = env.metadata | {'reseed_steps': 1_000}
    self._camera = simulations.Camera(
      env, height=size, width=size, camera=camera, name=name
    )

  def observation(self, observation):
    del observation
    return self._camera.picture()

  def close(self):
    self._camera.close()
    super().close()


def make(
  options: Options, *, envs: int = 1, film: bool = False
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """A function that makes the vector environment of one thread.

  Args:
    options: which task, and what of it is seen.
    envs: games per environment.
    film: whether `render` gives a picture of each game.

  Raises:
    UsageError: as `gym.make`, and if pictures are wanted that cannot be had.
  """
  checks.check_settings(options)

  def wrap(env):
    if options.action_repeat > 1:
      env = Repeat(env, options.action_repeat)
    if options.pixels:
      env = Pixels(
        env, size=options.image_size, camera=options.camera, name=options.env
      )
    elif options.camera != 'auto':  # It is for videos, later.
      simulations.find_camera(env, options.camera, name=options.env)
    return env

  return gym.make(
    options.env,
    args=gym.parse_args(options.env_args),
    envs=envs,
    film=film,
    camera=options.camera,
    wrap=wrap,
  )
