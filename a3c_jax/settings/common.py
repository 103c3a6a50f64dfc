"""Config: all settings of a run."""

from __future__ import annotations

import dataclasses
from typing import Any

from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import Hyperparameters, Recurrent
from a3c_jax.core import fields, paths
from a3c_jax.envs import domain as domain_lib

NETWORKS = ('nips', 'nature', 'mlp', 'hidden200', 'linear_conv', 'auto')
OPTIMIZERS = ('shared_rmsprop', 'rmsprop', 'momentum_sgd')
DEVICES = ('cpu', 'gpu')
MAX_EVAL_EPISODE_FRAMES = 108_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """All that a run depends on, apart from the code. Immutable.

  Every algorithm and domain has the settings of this class. Those of one
  algorithm are in `algorithm`, those of one domain in `environment`. Counts are
  emulator frames. Make one with `config.make`, which knows the defaults.
  """

  preset: str = fields.one_of(
    "Whose defaults hold: the paper's, or quick ones, by which Pong is learnt "
    'within an hour on two cores (a3c on Atari).',
    registry.presets,
    heading='run',
  )
  algo: str = fields.one_of('Algorithm.', registry.names)
  device: str = fields.one_of(
    'Where JAX computes. The emulators run on the CPU in any case.',
    DEVICES,
    may_change=True,
  )
  threads: int = fields.count(
    'Actor-learner threads, each with its own environments.', most=1000
  )
  envs_per_thread: int = fields.count(
    'Environments of one thread, which acts in all of them by one call.',
    most=1000,
  )
  frames: int = fields.count('Emulator frames of training, over all threads.')
  seconds: float = fields.not_negative(
    'Seconds of training after which the run stops too; 0 for no limit.',
    may_change=True,
  )
  seed: int = fields.count(
    'Seed of parameters, environments and exploration.',
    least=0,
    most=2**31 - 1,
  )
  workdir: str = fields.path(
    'Folder for the results: new, empty, or of a run to resume, from which '
    'the settings come that are not given.',
    may_change=True,
  )
  override: tuple[str, ...] = fields.setting(
    'Settings, separated by commas, with which a run in --workdir resumes '
    'although it has other values.',
    'names of flags',
    lambda value: all(isinstance(name, str) for name in value),
    may_change=True,
  )
  log_seconds: float = fields.positive(
    'Seconds between rows of train.csv.', may_change=True
  )
  profile: str = fields.path(
    'Folder for a trace of 2 seconds of training, after the first 5. While it '
    'is written, training nearly stops for some seconds.',
    optional=True,
    may_change=True,
  )

  t_max: int = fields.count(
    'Agent steps per segment, so per update.', most=10_000, heading='learning'
  )
  gamma: float = fields.fraction('Discount per agent step.')
  reward_clip: float = fields.not_negative(
    'Largest reward per agent step, in absolute value; 0 for no clipping.'
  )
  reward_scale: float = fields.positive(
    'What rewards are multiplied by, before they are clipped.', most=1e6
  )
  normalize_obs: bool = fields.true_or_false(
    'Normalise observations by the mean and variance of those of all threads '
    'so far, instead of scaling them by the bounds of their space.'
  )
  learning_rate: float = fields.positive(
    "Learning rate at frame 0, per unit of the optimizer's direction.",
    most=1e3,
  )
  anneal_frames: int = fields.count(
    'Emulator frames over which the learning rate falls linearly to 0.'
  )
  max_grad_norm: float = fields.not_negative(
    "Largest L2 norm of a segment's gradient; 0 for no clipping."
  )

  optimizer: str = fields.one_of('Optimizer.', OPTIMIZERS, heading='optimizer')
  rms_decay: float = fields.decay("Decay per update of RMSProp's mean square.")
  rms_epsilon: float = fields.positive(
    "Added to the mean square under RMSProp's root, squared gradient units."
  )
  momentum: float = fields.decay('Decay per update of momentum SGD.')

  network: str = fields.setting(
    'Torso: nips (conv 16, 32, linear 256), nature (conv 32, 64, 64, linear '
    '512), mlp (linear 64, 64), hidden200 (linear 200), linear_conv (conv 16, '
    '32 without non-linearity), auto (nips for images, mlp otherwise; in '
    'continuous_control.py linear_conv with an LSTM core and nips without one '
    'for images, hidden200 otherwise), or module:function returning a flax '
    'module.',
    f'{", ".join(NETWORKS)} or module:function',
    lambda value: value in NETWORKS or ':' in value,
    heading='network',
  )
  init_gain: float = fields.positive(
    "What the torso's initial weights, uniform in ±1/√inputs, are multiplied "
    'by, but for biases.',
    most=1e3,
  )

  eval_frames: int = fields.count(
    'Emulator frames between evaluations, which learn nothing and leave '
    'training alone; 0 for none.',
    least=0,
    may_change=True,
    heading='evaluation',
  )
  eval_episodes: int = fields.count(
    'Episodes of an evaluation.', may_change=True
  )
  max_eval_episode_frames: int = fields.count(
    'Emulator frames after which an episode of an evaluation is truncated.',
    may_change=True,
  )
  eval_protocol: str = fields.setting(
    'How evaluations are played: noop30 (0 to 30 no-ops first) or sticky '
    '(actions repeat with probability 0.25) for Atari, plain for the rest.',
    'a protocol of the domain',
    lambda value: isinstance(value, str) and value != '',
    may_change=True,
  )

  checkpoint_frames: int = fields.count(
    'Emulator frames between checkpoints.',
    may_change=True,
    heading='checkpoints',
  )
  keep: int = fields.count(
    'Checkpoints to keep, the newest ones.', may_change=True
  )

  watchdog_seconds: float = fields.positive(
    'Seconds without a step of a thread after which the run ends, with a '
    'checkpoint and the stack of every thread.',
    may_change=True,
    heading='failures',
  )
  max_env_restarts: int = fields.count(
    'How many times a thread of one process may make its environment again '
    'after it raised something.',
    least=0,
    may_change=True,
  )
  max_bad_gradients: int = fields.count(
    'How many gradients in a row may be dropped because they are not finite.',
    least=0,
    may_change=True,
  )

  domain: str = fields.setting(
    'Which kind of environment.',
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
  def lstm(self) -> bool:
    """Whether the network has an LSTM core."""
    return isinstance(self.algorithm, Recurrent) and self.algorithm.lstm


def settings() -> dict[str, dataclasses.Field]:
  """The settings that every algorithm and domain has, by name."""
  return {
    field.name: field
    for field in dataclasses.fields(Config)
    if field.metadata['flag']
  }


def sections() -> dict[str, dict[str, dataclasses.Field]]:
  """The same, by the headings that `--help` has them under."""
  found: dict[str, dict[str, dataclasses.Field]] = {}
  section: dict[str, dataclasses.Field] = {}
  for name, field in settings().items():
    if field.metadata['heading']:
      section = found.setdefault(field.metadata['heading'], {})
    section[name] = field
  return found
