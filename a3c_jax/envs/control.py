"""Continuous control: MuJoCo's tasks, from physical state or from pixels."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses

import gymnasium
import numpy as np

from a3c_jax.core import cpu, fields, threads
from a3c_jax.envs import boundary, gym, mujoco, named
from a3c_jax.envs import domain as domain_lib


@dataclasses.dataclass(frozen=True)
class Options:
  """Which task, and what the agent observes."""

  env: str = fields.setting(
    'Task: a Gymnasium id, package:id, dm_control/DOMAIN-TASK, or '
    'module:function that returns a gymnasium.Env.',
    'a name of one of these forms',
    lambda value: isinstance(value, str),
    default='HalfCheetah-v5',
    source='ours',
  )
  env_args: str = named.env_args_setting()
  pixels: bool = fields.setting(
    'Observe rendered images and nothing else.',
    default=False,
    source='ours',
  )
  image_size: int = fields.count(
    'Height and width of observed images, pixels.',
    least=36,
    most=480,
    default=84,
    source='as Atari',
  )
  camera: str = fields.setting(
    'Camera of images: its name or number in the model. auto follows the robot '
    'if the model has a camera that does.',
    'auto, or a camera of the model',
    default='auto',
    source='ours',
  )
  action_repeat: int = fields.count(
    'Environment steps per agent step; their rewards are summed.',
    most=1000,
    default=1,
    source='ours',
  )

  def __post_init__(self):
    named.normalise_args(self)


class Repeat(gymnasium.Wrapper):
  """Repeats each action, and sums the rewards."""

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
      threads.beat()
      obs, reward, terminated, truncated, info = self.env.step(action)
      total += boundary.as_reward(reward)
      life_lost |= boundary.life_loss(info) or False
      if terminated or truncated:
        break
    if life_lost:
      info['life_loss'] = True
    return obs, total, terminated, truncated, info


class Pixels(gymnasium.ObservationWrapper):
  """Observations are rendered images, [size, size, 3] uint8, nothing else."""

  def __init__(self, env: gymnasium.Env, *, size: int, camera: str, name: str):
    super().__init__(env)
    self.observation_space = gymnasium.spaces.Box(
      0, 255, (size, size, 3), np.uint8
    )
    # Each step that is replayed to resume a run renders an image.
    self.metadata = env.metadata | {'reseed_steps': 1_000}
    self._camera = mujoco.Camera(
      env, height=size, width=size, camera=camera, name=name
    )

  def observation(self, observation):
    del observation
    return self._camera.render()

  def close(self):
    self._camera.close()
    super().close()


def make(
  options: Options, request: domain_lib.EnvRequest = domain_lib.SINGLE
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """A function that makes the vector environment of one thread.

  Args:
    options: which task, and what the agent observes.
    request: how many, and whether rendered.

  Raises:
    UsageError: as `gym.make`, and if images are asked for but cannot be
      rendered.
  """
  fields.check_settings(options)

  def wrap(env):
    if options.action_repeat > 1:
      env = Repeat(env, options.action_repeat)
    if options.pixels:
      env = Pixels(
        env, size=options.image_size, camera=options.camera, name=options.env
      )
    elif options.camera != 'auto':  # Videos will use it: fail now.
      mujoco.find_camera(env, options.camera, name=options.env)
    return env

  return gym.make(
    options.env,
    args=named.parse_args(options.env_args),
    num_envs=request.num_envs,
    render=request.render,
    camera=options.camera,
    wrap=wrap,
  )


def _default_torso(dims: int, lstm: bool) -> str:
  if dims != 3:
    return 'hidden200'
  # Without an LSTM core, the network would be linear.
  return 'linear_conv' if lstm else 'nips'


def _option_defaults(options):
  if not options.pixels:
    return {}
  return {'normalize_obs': (False, 'ours: the bounds of pixels are known')}


DOMAIN = domain_lib.Domain(
  name='control',
  options=Options,
  make=make,
  env_name=lambda options: options.env,
  defaults=domain_lib.SMALL
  | {
    'frames': (1_000_000, 'ours'),
    'threads': (min(cpu.cores(), 16), 'the cores'),
    'envs_per_thread': (8, 'ours: a call takes longer than a step'),
    't_max': (20, 'ours; the paper updates once per episode'),
    'learning_rate': (5e-4, 'ours, by random search'),
    'lstm': (True, 'paper, section 9'),
    'normalize_obs': (True, 'ours'),
    'checkpoint_frames': (100_000, 'ours'),
    'eval_frames': (100_000, 'ours'),
  },
  option_defaults=_option_defaults,
  action_repeat=lambda options: options.action_repeat,
  image_layout=lambda options: 'HWC' if options.pixels else None,
  default_torso=_default_torso,
  continuous=True,
  packages=gym.PACKAGES,
  code_named=named.code_named,
)
