"""Config: all settings of a run."""

from __future__ import annotations

import dataclasses
from typing import Any

from a3c_jax import networks
from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import Hyperparameters, Recurrent
from a3c_jax.algorithms.replaying import Replaying
from a3c_jax.core import fields, paths
from a3c_jax.envs import domain as domain_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.runtimes import runtime as runtime_lib

NETWORKS = ('nips', 'nature', 'mlp', 'hidden200', 'linear_conv', 'auto')
OPTIMIZERS = (
  'shared_rmsprop',
  'rmsprop',
  'centered_rmsprop',
  'momentum_sgd',
  'adam',
  'per_thread_adam',
  'radam',
  'per_thread_radam',
  'adagrad',
)
DEVICES = ('cpu', 'gpu')
MAX_EVAL_EPISODE_FRAMES = 108_000
TRACKERS = ('none', 'wandb', 'mlflow')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """All that a run depends on, apart from the code. Immutable.

  The fields of this class are settings of every algorithm and domain.
  `algorithm` holds those of the chosen algorithm, `arrangement` those of the
  runtime, `environment` those of the domain. Frames are emulator frames.
  `config.make` makes a Config and fills in defaults.
  """

  preset: str = fields.one_of(
    'Set of defaults. paper: those of the paper. quick: ours, which learn Pong '
    'sooner. paac, ga3c: those of Clemente et al. 2017 and of '
    'Babaeizadeh et al. 2017.',
    registry.presets,
    heading='run',
  )
  algo: str = fields.one_of('Algorithm.', registry.names)
  device: str = fields.one_of(
    'Device on which JAX computes. Emulators always run on the CPU.',
    DEVICES,
    may_change=True,
  )
  runtime: str = fields.one_of('How threads are arranged.', runtimes.names)
  envs_per_thread: int = fields.count(
    'Environments per thread. One forward pass chooses all their actions.',
    most=1000,
  )
  frames: int = fields.count(
    'Emulator frames of training, summed over all threads.'
  )
  seconds: float = fields.not_negative(
    'Seconds of training after which the run stops, even before --frames; 0 '
    'for no limit.',
    may_change=True,
  )
  seed: int = fields.count(
    'Seed of parameters, environments and exploration.',
    least=0,
    most=2**31 - 1,
  )
  workdir: str = fields.path(
    'Folder of the results: new, empty, or that of a run, which resumes. A run '
    'that resumes keeps the settings that are not given.',
    may_change=True,
  )
  override: tuple[str, ...] = fields.setting(
    'Settings whose values may differ from those of the run in --workdir when '
    'it resumes. Its checkpoint must still fit: the parameters keep their '
    'shapes. With algo or runtime, settings that the run lacks are defaults.',
    'names of flags, separated by commas',
    lambda value: all(isinstance(name, str) for name in value),
    may_change=True,
  )
  log_seconds: float = fields.positive(
    'Seconds between two rows of train.csv.', may_change=True
  )
  profile: str = fields.path(
    'Folder for a JAX profiler trace of 2 seconds of training, which starts '
    'after 5 seconds. Training almost stops while the trace is written.',
    optional=True,
    may_change=True,
  )
  tracker: str = fields.one_of(
    'Service that gets rows and evaluations too. wandb: Weights & Biases. '
    'Environment variables of the service name its server and project.',
    TRACKERS,
    may_change=True,
  )

  t_max: int = fields.count(
    'Agent steps per segment, which gives one update. Of dqn and its family, '
    'the n of n-step targets.',
    most=10_000,
    heading='learning',
  )
  gamma: float = fields.fraction('Discount factor per agent step.')
  reward_clip: float = fields.not_negative(
    'Rewards per agent step are clipped to this absolute value; 0 for no '
    'clipping.'
  )
  reward_scale: float = fields.positive(
    'Factor of the rewards, applied before they are clipped.', most=1e6
  )
  normalize_obs: bool = fields.true_or_false(
    'Normalise observations by their running mean and variance over all '
    'threads, instead of scaling them by the bounds of their space.'
  )
  normalize_images: bool = fields.true_or_false(
    'Normalise images of bytes: less the mean of each pixel, divided by the '
    'deviation of all pixels from their means, clipped to [-10, 10]. Both are '
    'measured once, in 10,000 agent steps of random play before training. Only '
    'with nips, nature and linear_conv.',
    may_override=False,
  )
  learning_rate: float = fields.positive(
    "Learning rate at frame 0, per unit of the optimizer's direction.",
    most=1e3,
  )
  anneal_frames: int = fields.count(
    'Emulator frames over which the learning rate falls linearly to 0. '
    'With 0 frames it is constant.',
    least=0,
  )
  max_grad_norm: float = fields.not_negative(
    'The gradient of a segment or a minibatch is scaled down to this L2 norm '
    'if its norm is larger; 0 for no clipping.'
  )

  optimizer: str = fields.one_of(
    'Optimizer. shared_rmsprop: all threads share the mean squares. rmsprop: '
    'each thread has its own. centered_rmsprop: all threads share means and '
    "mean squares, and the variance takes the mean square's place. "
    'momentum_sgd: each thread has its own momentum. adam: all threads share '
    'both moments, whose decays are 0.9 and 0.999. radam: Adam with smaller '
    'steps while its second moment is of few gradients. per_thread_adam, '
    'per_thread_radam: each thread has its own moments. adagrad: all threads '
    'share the sums of squares. Where threads update together, there is one.',
    OPTIMIZERS,
    may_override=False,
    heading='optimizer',
  )
  rms_decay: float = fields.decay(
    "Decay of RMSProp's mean square, and of its mean, per update."
  )
  rms_epsilon: float = fields.positive(
    "Added to the mean square, or to the variance, inside RMSProp's square "
    'root, in squared gradient units.'
  )
  rms_start: float = fields.not_negative(
    'Mean square of shared_rmsprop and rmsprop before the first update, in '
    'squared gradient units. With 0 and a small --rms_epsilon, the first steps '
    'are up to 1 / √(1 - rms_decay) times as long as later ones.'
  )
  adam_epsilon: float = fields.positive(
    'Added to the square root of Adam and RAdam, in gradient units.'
  )
  adagrad_epsilon: float = fields.positive(
    "Added to the sum of squares inside AdaGrad's square root, in squared "
    'gradient units.'
  )
  momentum: float = fields.decay(
    'Decay of the momentum of momentum_sgd per update.'
  )

  network: str = fields.setting(
    'Torso of the network. nips: conv 16, 32, linear 256. nature: conv 32, 64, '
    '64, linear 512. mlp: linear 64, 64. hidden200: linear 200. linear_conv: '
    'conv 16, 32 without non-linearity. auto: nips for images, otherwise mlp; '
    'for continuous control linear_conv (nips without --lstm) for images, '
    'otherwise hidden200. module:function: a function of yours that returns a '
    'flax module.',
    f'{", ".join(NETWORKS)} or module:function',
    lambda value: value in NETWORKS or ':' in value,
    heading='network',
  )
  norm: str = fields.one_of(
    'Normalisation of what each layer of the torso gives, before its ReLU. '
    'layer: of the channels of each pixel, or of all units. none: there is '
    'none. A network of yours decides for itself.',
    networks.NORMS,
    may_override=False,
  )
  init_gain: float = fields.positive(
    "Factor of the torso's initial weights, which are uniform in ±1/√inputs. "
    'It does not apply to biases.',
    most=1e3,
  )

  eval_frames: int = fields.count(
    'Emulator frames between two evaluations; 0 for none. Evaluations do not '
    'influence training.',
    least=0,
    may_change=True,
    heading='evaluation',
  )
  eval_episodes: int = fields.count('Episodes per evaluation.', may_change=True)
  max_eval_episode_frames: int = fields.count(
    'Emulator frames after which an evaluation episode is truncated.',
    may_change=True,
  )
  eval_protocol: str = fields.setting(
    'How evaluations are played.',
    'a protocol of the domain',
    lambda value: isinstance(value, str) and value != '',
    may_change=True,
  )

  checkpoint_frames: int = fields.count(
    'Emulator frames between two checkpoints.',
    may_change=True,
    heading='checkpoints',
  )
  keep: int = fields.count(
    'How many of the newest checkpoints are kept.', may_change=True
  )

  watchdog_seconds: float = fields.positive(
    'If a thread makes no step for so many seconds, the run stops. It writes a '
    'checkpoint and prints the stack of every thread.',
    may_change=True,
    heading='failures',
  )
  max_env_restarts: int = fields.count(
    'How many times a thread may replace an environment that raised an '
    'exception. Resuming restarts the count.',
    least=0,
    may_change=True,
  )
  max_bad_gradients: int = fields.count(
    'How many gradients in a row may be dropped because they are not finite, '
    'before the run stops.',
    least=0,
    may_change=True,
  )

  domain: str = fields.setting(
    'Domain of the environment.',
    'the name of a domain',
    lambda value: isinstance(value, str),
    flag=False,
  )
  environment: Any = fields.setting(
    'Options of the environment.',
    "the domain's options",
    dataclasses.is_dataclass,
    flag=False,
  )
  arrangement: runtime_lib.Settings = fields.setting(
    'Settings of the runtime.',
    "the runtime's settings",
    lambda value: isinstance(value, runtime_lib.Settings),
    flag=False,
  )
  algorithm: Hyperparameters = fields.setting(
    'Hyperparameters of the algorithm.',
    "the algorithm's hyperparameters",
    lambda value: isinstance(value, Hyperparameters),
    flag=False,
  )

  def __post_init__(self):
    absolute = paths.absolute_paths(self)
    for name, value in absolute.items():
      object.__setattr__(self, name, value)

  @property
  def env_name(self) -> str:
    """The name under which results are recorded, such as 'pong'."""
    return domain_lib.get(self.domain).env_name(self.environment)

  @property
  def action_repeat(self) -> int:
    """Emulator frames per agent step."""
    return domain_lib.get(self.domain).action_repeat(self.environment)

  @property
  def num_workers(self) -> int:
    """How many threads own environments."""
    return self.arrangement.num_workers

  @property
  def replay(self) -> Replaying | None:
    """The hyperparameters, if the run has a replay memory."""
    own = self.algorithm
    return own if isinstance(own, Replaying) and own.replays else None

  @property
  def lstm(self) -> bool:
    """Whether the network has an LSTM core."""
    return isinstance(self.algorithm, Recurrent) and self.algorithm.lstm


def settings() -> dict[str, dataclasses.Field]:
  """Returns the settings of every algorithm and domain, by name."""
  return {
    field.name: field
    for field in dataclasses.fields(Config)
    if field.metadata['flag']
  }


def sections() -> dict[str, dict[str, dataclasses.Field]]:
  """Returns `settings`, by their headings in `--help`."""
  found: dict[str, dict[str, dataclasses.Field]] = {}
  section: dict[str, dataclasses.Field] = {}
  for name, field in settings().items():
    if field.metadata['heading']:
      section = found.setdefault(field.metadata['heading'], {})
    section[name] = field
  return found
