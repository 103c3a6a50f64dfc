"""The defaults of settings, by algorithm and domain, each with its source.

Sources: 'paper' is Mnih et al. 2016, arXiv:1602.01783. 'authors' are their
letters to reimplementers (github.com/muupan/async-rl/wiki and
github.com/miyosuda/async_deep_reinforce/issues/1). 'ours' is our experiments.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import ANY_DOMAIN
from a3c_jax.core import errors
from a3c_jax.envs import domain as domain_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import common, owners

ALGORITHM = 'a3c'  # The paper's best.
RUNTIME = 'asynchronous'
# For every algorithm and domain.
_COMMON: Mapping[str, tuple[Any, str]] = {
  'preset': ('paper', 'ours'),
  'algo': (ALGORITHM, "the paper's best"),
  'device': ('cpu', 'paper'),
  'runtime': (RUNTIME, 'paper, section 4'),
  'envs_per_thread': (1, 'paper, section 4'),
  'frames': (40_000_000, 'ours'),
  'seconds': (0.0, 'ours'),
  'seed': (1, 'ours'),
  'override': ((), 'ours'),
  'log_seconds': (10.0, 'ours'),
  'profile': ('', 'ours'),
  'tracker': ('none', 'ours'),
  't_max': (5, 'paper, section 8'),
  'gamma': (0.99, 'paper, section 8'),
  'reward_clip': (1.0, 'authors'),
  'reward_scale': (1.0, 'paper'),
  'normalize_obs': (False, 'paper'),
  'normalize_images': (False, 'paper'),
  'learning_rate': (7e-4, 'authors'),
  'max_grad_norm': (40.0, 'authors'),
  'optimizer': ('shared_rmsprop', 'paper, section 4'),
  'rms_decay': (0.99, 'paper, section 8'),
  'rms_epsilon': (0.1, 'authors'),
  'rms_start': (0.0, 'paper gives none'),
  'adam_epsilon': (1e-8, 'Kingma and Ba 2015'),
  'adagrad_epsilon': (0.1, 'optax: its sum of squares starts at 0.1'),
  'momentum': (0.99, 'ours, as RMSProp'),
  'network': ('nips', 'paper, section 8'),
  'norm': ('none', 'paper'),
  'init_gain': (1.0, 'authors'),
  'eval_frames': (4_000_000, "the paper's epoch"),
  'eval_episodes': (10, 'ours'),
  'max_eval_episode_frames': (
    common.MAX_EVAL_EPISODE_FRAMES,
    'ours: as in Atari, 30 minutes',
  ),
  'eval_protocol': ('noop30', 'Mnih et al. 2015'),
  'checkpoint_frames': (1_000_000, 'ours'),
  'keep': (3, 'ours'),
  'watchdog_seconds': (300.0, 'ours'),
  'max_env_restarts': (3, 'ours'),
  'max_bad_gradients': (10, 'ours'),
}
_LSTM = {'t_max': (20, 'reproductions of the paper')}


def defaults(
  domain: str,
  algo: str = ALGORITHM,
  *,
  lstm: bool | None = None,
  preset: str = 'paper',
  runtime: str | None = None,
  environment: Any = None,
) -> dict[str, tuple[Any, str]]:
  """Returns default and source of the common settings and the algorithm's.

  Later ones take precedence: defaults of all, of the runtime, of the algorithm,
  of the preset, of networks with an LSTM core, of the domain, of its options,
  of the algorithm in the domain.
  'workdir' and, unless a preset sets it, 'anneal_frames' have no default here.

  Args:
    domain: its name.
    algo: name of the algorithm.
    lstm: whether the network has an LSTM core; None for the default.
    preset: 'paper', or one of the algorithm.
    runtime: name of the runtime; None for the default.
    environment: options of the domain; None ignores their defaults.

  Raises:
    UsageError: if there is no such domain or algorithm, if two of them have a
      setting of the same name, or if one has a default of a setting that does
      not exist, or without a source. It names them.
  """
  of_domain = domain_lib.get(domain)
  algorithm = registry.get(algo)
  owners.check_apart(algorithm, of_domain)
  table: dict[str, tuple[Any, str]] = dict(_COMMON)
  table |= {'algo': (algo, _COMMON['algo'][1])} | _own(algorithm.settings)
  specific = dict(of_domain.defaults)
  if environment is not None:
    specific |= of_domain.option_defaults(environment)
  _check(specific, f'domain {domain}')
  in_domain = algorithm.defaults.get(domain, {})
  in_all = algorithm.defaults.get(ANY_DOMAIN, {})
  of_preset = algorithm.presets.get(preset, {}).get(domain, {})
  _check({**in_all, **of_preset, **in_domain}, f'algorithm {algo}')
  specific |= in_domain
  if 'lstm' not in algorithm.settings:
    lstm = False
  elif lstm is None:
    lstm, _ = (table | specific)['lstm']
  table |= in_all
  table |= of_preset
  table |= _LSTM if lstm else {}
  table |= specific
  of_runtime = runtimes.get(runtime or table['runtime'][0])
  if runtime:
    table['runtime'] = (runtime, _COMMON['runtime'][1])
  _check(of_runtime.defaults, f'runtime {of_runtime.name}')
  for name, default in of_runtime.defaults.items():
    if table[name] == _COMMON[name]:  # All others take precedence.
      table[name] = default
  table = _own(of_runtime.settings) | table
  # Defaults for settings of other algorithms and runtimes are dropped.
  known = {*common.settings(), *algorithm.settings, *of_runtime.settings}
  return {name: default for name, default in table.items() if name in known}


def _own(
  settings: Mapping[str, dataclasses.Field],
) -> dict[str, tuple[Any, str]]:
  return {
    name: (field.default, field.metadata['source'])
    for name, field in settings.items()
  }


def _check(given: Mapping[str, Any], owner: str) -> None:
  """Checks that defaults are those of settings, each with its source."""
  known = common.settings().keys() | owners.all_settings()
  for name, default in given.items():
    if name not in known:
      raise errors.UsageError(
        f'{owner} has a default of {name}; allowed: {", ".join(sorted(known))}'
      )
    if not isinstance(default, tuple) or len(default) != 2:
      raise errors.UsageError(
        f'{owner} has the default {default!r} of {name}; allowed: a value and '
        'its source'
      )
