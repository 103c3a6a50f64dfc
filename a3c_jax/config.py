"""Config, and the defaults per domain, each with its source."""

from __future__ import annotations

from collections.abc import Container, Mapping
import dataclasses
import errno
import json
import math
import os
import pathlib
import re
import time
from types import MappingProxyType
from typing import Any, NamedTuple

from a3c_jax import checks, cpu
from a3c_jax.envs import domain as domain_lib

ALGORITHMS = ('a3c', 'nstep_q', 'one_step_q', 'one_step_sarsa')
PRESETS = ('paper', 'quick')
NETWORKS = ('nips', 'nature', 'mlp', 'hidden200', 'linear_conv', 'auto')
MAX_EVAL_EPISODE_FRAMES = 108_000
_OF_ONE_START = {'workdir', 'seconds', 'profile', 'override'}
_MOST_GAMES = 10_000
OPTIMIZERS = ('shared_rmsprop', 'rmsprop', 'momentum_sgd')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """All that a run depends on, apart from the code. Immutable.

  Counts are emulator frames. Make one with `make`, which knows the defaults.
  """

  preset: str = checks.one_of(
    "Whose defaults hold: the paper's, or quick ones, by which Pong is learnt "
    'within an hour on two cores (a3c on Atari).',
    PRESETS,
  )
  algo: str = checks.one_of('Algorithm.', ALGORITHMS)
  threads: int = checks.count(
    'Actor-learner threads, each with its own games.', most=1000
  )
  envs_per_thread: int = checks.count(
    'Games of one thread, which acts in all of them by one call.', most=1000
  )
  frames: int = checks.count('Emulator frames of training, over all threads.')
  seconds: float = checks.not_negative(
    'Seconds of training after which the run stops too; 0 for no limit.',
    may_change=True,
  )
  seed: int = checks.count(
    'Seed of parameters, games and exploration.', least=0, most=2**31 - 1
  )
  workdir: str = checks.path(
    'Folder for the results: new, empty, or of a run to resume, from which '
    'the settings come that are not given.',
    may_change=True,
  )
  t_max: int = checks.count(
    'Agent steps per segment, so per update.', most=10_000
  )
  learning_rate: float = checks.positive(
    "Learning rate at frame 0, per unit of the optimizer's direction.",
    most=1e3,
  )
  anneal_frames: int = checks.count(
    'Emulator frames over which the learning rate falls linearly to 0.'
  )
  gamma: float = checks.fraction('Discount per agent step.')
  optimizer: str = checks.one_of('Optimizer.', OPTIMIZERS)
  rms_decay: float = checks.decay("Decay per update of RMSProp's mean square.")
  rms_epsilon: float = checks.positive(
    "Added to the mean square under RMSProp's root, squared gradient units."
  )
  momentum: float = checks.decay('Decay per update of momentum SGD.')
  max_grad_norm: float = checks.not_negative(
    "Largest L2 norm of a segment's gradient; 0 for no clipping."
  )
  reward_clip: float = checks.not_negative(
    'Largest reward per agent step, in absolute value; 0 for no clipping.'
  )
  reward_scale: float = checks.positive(
    'What rewards are multiplied by, before they are clipped.', most=1e6
  )
  normalize_obs: bool = checks.true_or_false(
    'Normalise observations by the mean and variance of those of all threads '
    'so far, instead of scaling them by the bounds of their space.'
  )
  entropy_cost: float = checks.not_negative(
    'Weight of the entropy, per nat (a3c).', most=1e6
  )
  value_cost: float = checks.not_negative(
    'Weight of the half squared value error (a3c).', most=1e6
  )
  target_period_frames: int = checks.count(
    'Emulator frames between copies into the target network (not a3c).'
  )
  exploration_ends: tuple[float, ...] = checks.setting(
    'Values of epsilon-greedy exploration of which each game draws one to '
    'end at (not a3c).',
    'numbers from 0 to 1, separated by commas',
    lambda value: value and all(0 <= end <= 1 for end in value),
  )
  exploration_probabilities: tuple[float, ...] = checks.setting(
    'Probability of each of --exploration_ends (not a3c).',
    'numbers >= 0 that add up to 1, separated by commas',
    lambda value: all(p >= 0 for p in value) and math.isclose(sum(value), 1),
  )
  exploration_anneal_frames: int = checks.count(
    'Emulator frames over which epsilon falls from 1 to its end (not a3c).'
  )
  network: str = checks.setting(
    'Torso: nips (conv 16, 32, linear 256), nature (conv 32, 64, 64, linear '
    '512), mlp (linear 64, 64), hidden200 (linear 200), linear_conv (conv 16, '
    '32 without non-linearity), auto (nips for images, mlp otherwise; in '
    'continuous_control.py linear_conv with an LSTM core and nips without one '
    'for images, hidden200 otherwise), or module:function returning a flax '
    'module.',
    f'{", ".join(NETWORKS)} or module:function',
    lambda value: value in NETWORKS or ':' in value,
  )
  init_gain: float = checks.positive(
    "What the torso's initial weights, uniform in ±1/√inputs, are multiplied "
    'by, but for biases.',
    most=1e3,
  )
  lstm: bool = checks.true_or_false(
    'Put LSTM cells after the torso (a3c): 256, or 128 if actions are '
    'continuous, for policy and value each.'
  )
  log_seconds: float = checks.positive(
    'Seconds between rows of train.csv.', may_change=True
  )
  checkpoint_frames: int = checks.count(
    'Emulator frames between checkpoints.', may_change=True
  )
  keep: int = checks.count(
    'Checkpoints to keep, the newest ones.', may_change=True
  )
  profile: str = checks.path(
    'Folder for a trace of 2 seconds of training, after the first 5. While it '
    'is written, training nearly stops for some seconds.',
    optional=True,
    may_change=True,
  )
  watchdog_seconds: float = checks.positive(
    'Seconds without a step of a thread after which the run ends, with a '
    'checkpoint and the stack of every thread.',
    may_change=True,
  )
  max_env_restarts: int = checks.count(
    'How many times a thread of one process may make its environment anew '
    'after it raised something.',
    least=0,
    may_change=True,
  )
  max_bad_gradients: int = checks.count(
    'How many gradients in a row may be dropped because they are not finite.',
    least=0,
    may_change=True,
  )
  eval_frames: int = checks.count(
    'Emulator frames between evaluations, which learn nothing and leave '
    'training alone; 0 for none.',
    least=0,
    may_change=True,
  )
  eval_episodes: int = checks.count(
    'Episodes of an evaluation.', may_change=True
  )
  max_eval_episode_frames: int = checks.count(
    'Emulator frames after which an episode of an evaluation is truncated.',
    may_change=True,
  )
  eval_protocol: str = checks.setting(
    'How evaluations are played: noop30 (0 to 30 no-ops first) or sticky '
    '(actions repeat with probability 0.25) for Atari, plain for the rest.',
    'a protocol of the domain',
    lambda value: isinstance(value, str) and value != '',
    may_change=True,
  )
  override: tuple[str, ...] = checks.setting(
    'Settings, separated by commas, that a run in --workdir goes on with '
    'although it has other values.',
    'names of flags',
    lambda value: all(isinstance(name, str) for name in value),
    may_change=True,
  )
  domain: str = checks.setting(
    'Which kind of environment.',
    'the name of a domain',
    lambda value: isinstance(value, str),
    flag=False,
  )
  environment: Any = checks.setting(
    'Options of the environment.',
    "the domain's options",
    dataclasses.is_dataclass,
    flag=False,
  )

  def __post_init__(self):
    absolute = checks.absolute_paths(self)
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


# Sources: 'paper' is Mnih et al. 2016, arXiv:1602.01783; 'authors' is what they
# wrote to reimplementers (github.com/muupan/async-rl/wiki and
# github.com/miyosuda/async_deep_reinforce/issues/1); 'ours' was tried here.
_PAPER = {
  'preset': ('paper', 'ours'),
  'algo': ('a3c', "the paper's best"),
  'threads': (
    min(2 * cpu.cores(), 16),
    "twice the cores, at most the paper's 16",
  ),
  'envs_per_thread': (1, 'paper, section 4'),
  'frames': (40_000_000, 'ours'),
  'seconds': (0.0, 'ours'),
  'seed': (1, 'ours'),
  't_max': (5, 'paper, section 8'),
  'learning_rate': (7e-4, 'authors'),
  'gamma': (0.99, 'paper, section 8'),
  'optimizer': ('shared_rmsprop', 'paper, section 4'),
  'rms_decay': (0.99, 'paper, section 8'),
  'rms_epsilon': (0.1, 'authors'),
  'momentum': (0.99, 'ours, as RMSProp'),
  'max_grad_norm': (40.0, 'authors'),
  'reward_clip': (1.0, 'authors'),
  'reward_scale': (1.0, 'paper'),
  'normalize_obs': (False, 'paper'),
  'entropy_cost': (0.01, 'paper, section 8'),
  'value_cost': (0.5, 'authors'),
  'target_period_frames': (40_000, 'paper, section 8'),
  'exploration_ends': ((0.1, 0.01, 0.5), 'paper, section 8'),
  'exploration_probabilities': ((0.4, 0.3, 0.3), 'paper, section 8'),
  'exploration_anneal_frames': (4_000_000, 'paper, section 8'),
  'network': ('nips', 'paper, section 8'),
  'init_gain': (1.0, 'authors'),
  'lstm': (False, 'paper, section 8'),
  'log_seconds': (10.0, 'ours'),
  'checkpoint_frames': (1_000_000, 'ours'),
  'keep': (3, 'ours'),
  'profile': ('', 'ours'),
  'watchdog_seconds': (300.0, 'ours'),
  'max_env_restarts': (3, 'ours'),
  'max_bad_gradients': (10, 'ours'),
  'eval_frames': (4_000_000, "the paper's epoch"),
  'eval_episodes': (10, 'ours'),
  'max_eval_episode_frames': (
    MAX_EVAL_EPISODE_FRAMES,
    'ours: as in Atari, 30 minutes',
  ),
  'eval_protocol': ('noop30', 'Mnih et al. 2015'),
  'override': ((), 'none'),
}
_LSTM = {'t_max': (20, 'reproductions of the paper')}
# All ours, by runs on Pong: see BUILD.md, "The quick preset".
_QUICK = {
  'threads': (min(cpu.cores(), 16), 'the cores: more get in their way'),
  'envs_per_thread': (8, 'most frames per second'),
  'frames': (30_000_000, 'enough'),
  'rms_epsilon': (1e-5, 'every weight moves; as in synchronous A2C'),
  'max_grad_norm': (20.0, 'half of 40 steps; as in synchronous A2C'),
  'init_gain': (2.45, '√6, by He et al. 2015: more units stay alive'),
  'anneal_frames': (80_000_000, 'so that it is still high at the end'),
}


def defaults(
  domain: str, *, lstm: bool | None = None, preset: str = 'paper'
) -> dict[str, tuple[Any, str]]:
  """Default value and its source, for every setting that has one.

  Args:
    domain: its name.
    lstm: whether the network has an LSTM core; None for the domain's default.
    preset: 'paper' or 'quick'.

  Raises:
    UsageError: if there is no such domain.
  """
  of_domain = domain_lib.get(domain).defaults
  table = _PAPER | of_domain
  if lstm is None:
    lstm, _ = table['lstm']
  return (
    _PAPER
    | (_QUICK if preset == 'quick' else {})
    | (_LSTM if lstm else {})
    | of_domain
  )


class Record(NamedTuple):
  """What config.json of a run holds, checked."""

  config: Config
  changes: list[dict[str, Any]]  # of settings, by earlier resumed runs


def read_record(workdir: str | pathlib.Path) -> Record:
  """The settings of the run in a folder, which may have been moved.

  A setting that did not exist yet when the run began has its default.

  Raises:
    UsageError: if there is no run, its config.json is damaged, or a newer
      version wrote it.
  """
  path = pathlib.Path(workdir)
  problem = 'its config.json is not that of a run'
  try:
    if not (path / 'config.json').is_file():
      (path / 'config.json').stat()
      raise OSError(errno.EINVAL, 'is no file')  # From a pipe nothing comes.
    record = json.loads((path / 'config.json').read_text())
    values, changes = record['config'], [*map(dict, record['changes'])]
    table = defaults(
      values['domain'],
      lstm=values.get('lstm'),
      preset=values.get('preset', 'paper'),
    )
    values = {name: value for name, (value, _) in table.items()} | values
    values['workdir'] = str(path)
    values['environment'] = domain_lib.from_record(
      domain_lib.get(values['domain']).options, values['environment']
    )
    for field in dataclasses.fields(Config):
      if field.type.startswith('tuple'):
        values[field.name] = tuple(values[field.name])
    names = {field.name for field in dataclasses.fields(Config)}
    unknown = ', '.join(sorted(values.keys() - names))
    if unknown:
      problem = (
        'its config.json has settings that this version of a3c_jax does not '
        f'know, {checks.as_text(unknown)}'
      )
    config = Config(**values)
    checks.check_settings(config)
    return Record(config, changes)
  except OSError as error:
    problem = f'config.json: {error.strerror}'
  except checks.UsageError as error:
    problem = f'its config.json is not that of a run, {error}'
  except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
    pass
  raise checks.UsageError(
    f'--workdir={checks.as_given(path)}: {problem}; allowed: the folder of a '
    'run'
  )


def of_run(workdir: str | None, domain: str) -> Config | None:
  """The settings of the run of a domain that is to be resumed, if there is one.

  Raises:
    UsageError: as `read_record`, where there is a config.json.
  """
  if not isinstance(workdir, str) or not workdir:
    return None
  workdir = checks.absolute(workdir)
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return None
  config = read_record(workdir).config
  return config if config.domain == domain else None


def code_named(
  config: Config, *, environment: bool = True, network: bool = True
) -> dict[str, str]:
  """The code that would be imported because a config.json names it, by flag.

  It may be a stranger's: `--network=os:abort` is a name too.

  Args:
    config: of the run.
    environment: whether the environment is made by name.
    network: whether the network is.
  """
  code = {}
  if environment:
    code |= domain_lib.get(config.domain).code_named(config.environment)
  if network and ':' in config.network:
    code['network'] = config.network
  return code


def check_not_imported(run: Config, given: Container[str]) -> None:
  """Refuses to import what nobody but the config.json of a run names.

  Args:
    run: to be resumed.
    given: names of the flags that the user has given.

  Raises:
    UsageError: naming the first flag that would decide what is imported and is
      not given.
  """
  for name, value in code_named(run).items():
    if name not in given:
      raise checks.UsageError(
        f'--{name}: the run in {checks.as_given(run.workdir)} has {value}, '
        f'which decides what code runs; allowed: --{name}={value}, given again'
      )


def make(
  domain: str,
  *,
  environment: Any = None,
  instead: Mapping[str, Any] = MappingProxyType({}),
  **given,
) -> Config:
  """A checked Config: what is given, and defaults for the rest.

  Where the workdir that is given holds a run, its settings take the place of
  the defaults, but for `seconds`, `profile` and `override`.

  Args:
    domain: its name, such as 'atari'.
    environment: the domain's options; None for those of the run to be resumed,
      or their defaults.
    instead: defaults of the caller's own.
    **given: fields of `Config`; None counts as not given.

  Raises:
    UsageError: naming the first setting whose value is not allowed, or code
      that the run to be resumed would import and that is not given.
  """
  of_domain = domain_lib.get(domain)
  given = {name: value for name, value in given.items() if value is not None}
  run = of_run(given.get('workdir'), domain)
  known = dict(instead)
  if run:
    named = () if environment is None else dataclasses.asdict(environment)
    check_not_imported(run, {*named, *given})
    names = {field.name for field in dataclasses.fields(Config)}
    known |= {name: getattr(run, name) for name in names - _OF_ONE_START}
  elif (known | given).get('algo', 'a3c') != 'a3c':
    known.setdefault('lstm', False)  # A domain's default is that of its a3c.
  if environment is None:
    environment = run.environment if run else of_domain.options()
  _check_environment(environment, of_domain)
  known |= given
  table = defaults(
    domain, lstm=known.get('lstm'), preset=known.get('preset', 'paper')
  ) | of_domain.option_defaults(environment)
  values = {name: value for name, (value, _) in table.items()} | known
  values |= {'domain': domain, 'environment': environment}
  values.setdefault('anneal_frames', values['frames'])
  if 'workdir' not in values:
    name = re.sub(r'[^\w.-]', '-', of_domain.env_name(environment))
    label = f'{name}-{values["algo"]}-seed{values["seed"]}'
    now = time.strftime('%Y%m%d-%H%M%S')
    # The process too: of a sweep, several runs begin within one second.
    values['workdir'] = f'runs/{label}-{now}-{os.getpid()}'
  config = Config(**values)
  checks.check_settings(config)
  _check_together(config)
  return config


def _check_environment(environment, domain) -> None:
  if not isinstance(environment, domain.options):
    raise TypeError(
      f'environment={environment!r}: expected {domain.options.__module__}.'
      f'{domain.options.__qualname__}'
    )
  checks.check_settings(environment)


def check_protocol(config: Config, protocol: str, *, flag: str) -> None:
  """Checks that a run can be evaluated by a protocol.

  Raises:
    UsageError: naming the flag.
  """
  allowed = domain_lib.get(config.domain).protocols
  if protocol not in allowed:
    raise checks.UsageError(
      f'--{flag}={checks.as_text(protocol)}: allowed for {config.env_name}: '
      + ', '.join(allowed)
    )


def _check_together(config: Config) -> None:
  if config.preset == 'quick' and (config.domain, config.algo) != (
    'atari',
    'a3c',
  ):
    raise checks.UsageError(
      f'--preset=quick: allowed for {config.env_name} with '
      f'--algo={config.algo}: paper'
    )
  check_protocol(config, config.eval_protocol, flag='eval_protocol')
  if config.threads * config.envs_per_thread > _MOST_GAMES:
    raise checks.UsageError(
      f'--threads={config.threads} with --envs_per_thread='
      f'{config.envs_per_thread}: allowed: {_MOST_GAMES} games in all'
    )
  if domain_lib.get(config.domain).continuous and config.algo != 'a3c':
    raise checks.UsageError(
      f'--algo={config.algo}: allowed with continuous actions: a3c'
    )
  if config.lstm and config.algo != 'a3c':
    raise checks.UsageError(
      f'--lstm with --algo={config.algo}: allowed with --algo=a3c only'
    )
  ends, probabilities = (
    config.exploration_ends,
    config.exploration_probabilities,
  )
  if len(ends) != len(probabilities):
    raise checks.UsageError(
      f'--exploration_ends={checks.as_text(ends)} with '
      f'--exploration_probabilities={checks.as_text(probabilities)}: '
      'allowed: as many of one as of the other'
    )
