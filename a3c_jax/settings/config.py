"""Makes a checked Config from settings, a run to resume, and defaults."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
import dataclasses
import os
import re
import time
from types import MappingProxyType
from typing import Any

from a3c_jax.algorithms import registry
from a3c_jax.algorithms.algorithm import Algorithm
from a3c_jax.algorithms.replaying import Replaying
from a3c_jax.core import errors, fields, paths
from a3c_jax.envs import domain as domain_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.runtimes.runtime import Runtime
from a3c_jax.settings import common, owners, record
from a3c_jax.settings.common import Config
from a3c_jax.settings.defaults import ALGORITHM, defaults

_OF_ONE_START = {'workdir', 'seconds', 'profile', 'override', 'device'}
_MOST_ENVS = 10_000
_OF_REPLAY = {field.name for field in dataclasses.fields(Replaying)}


def make(
  domain: str,
  *,
  environment: Any = None,
  instead: Mapping[str, Any] = MappingProxyType({}),
  **given,
) -> Config:
  """Returns a checked Config: the given settings, and defaults for the rest.

  If the given workdir holds a run, its settings replace the defaults, except
  for `seconds`, `profile`, `override` and `device`.

  Args:
    domain: its name, such as 'atari'.
    environment: the domain's options. None takes those of the run to resume,
      or their defaults.
    instead: the caller's own defaults.
    **given: common settings and those of the chosen algorithm. None counts as
      not given.

  Raises:
    UsageError: naming the first setting whose value is not allowed or that
      belongs to another algorithm, or code that the run to resume would import
      and that is not given.
    TypeError: if there is no such setting, or `environment` has another type
      than the domain's options.
  """
  of_domain = domain_lib.get(domain)
  given = {name: value for name, value in given.items() if value is not None}
  run = record.of_run(given.get('workdir'), domain)
  if run:
    named = () if environment is None else dataclasses.asdict(environment)
    check_not_imported(run, {*named, *given})
  if environment is None:
    environment = run.environment if run else of_domain.options()
  _check_environment(environment, of_domain)
  known = dict(instead) | (_of_run(run) if run else {}) | given
  algorithm = registry.get(known.get('algo', ALGORITHM))
  table = defaults(
    domain,
    algorithm.name,
    lstm=known.get('lstm'),
    preset=known.get('preset', 'paper'),
    runtime=known.get('runtime'),
    environment=environment,
  )
  runtime = runtimes.get(table['runtime'][0])
  allowed = {*common.settings(), *algorithm.settings, *runtime.settings}
  _check_names(given, allowed, algorithm, runtime)
  # A run cannot resume with another algorithm or runtime. The error must name
  # that flag, and not settings that nobody gave.
  known = {name: known[name] for name in known if name in allowed}
  values = {name: value for name, (value, _) in table.items()} | known
  own = {name: values.pop(name) for name in algorithm.settings}
  arrangement = {name: values.pop(name) for name in runtime.settings}
  values.setdefault('anneal_frames', values['frames'])
  if 'workdir' not in values:
    label = of_domain.env_name(environment)
    values['workdir'] = _new_folder(label, algorithm.name, values['seed'])
  config = Config(
    **values,
    domain=domain,
    environment=environment,
    arrangement=runtime.settings_type(**arrangement),
    algorithm=algorithm.hyperparameters(**own),
  )
  for each in (config, config.arrangement, config.algorithm):
    fields.check_settings(each)
  _check_together(config)
  return config


def _of_run(run: Config) -> dict[str, Any]:
  names = common.settings().keys() - _OF_ONE_START
  own = {name: getattr(run, name) for name in names}
  return (
    own
    | dataclasses.asdict(run.arrangement)
    | dataclasses.asdict(run.algorithm)
  )


def _new_folder(env_name, algo, seed) -> str:
  label = re.sub(r'[^\w.-]', '-', env_name)
  now = time.strftime('%Y%m%d-%H%M%S')
  # With the process: several runs of a sweep start within one second.
  return f'runs/{label}-{algo}-seed{seed}-{now}-{os.getpid()}'


def _check_environment(environment, domain) -> None:
  if not isinstance(environment, domain.options):
    raise TypeError(
      f'environment={environment!r}: expected {domain.options.__module__}.'
      f'{domain.options.__qualname__}'
    )
  fields.check_settings(environment)


def _check_names(
  given: Iterable[str],
  allowed: Container[str],
  algorithm: Algorithm,
  runtime: Runtime,
) -> None:
  for name in given:
    if name in allowed:
      continue
    if name not in owners.all_settings():
      raise TypeError(f'{name}: there is no such setting')
    flag, chosen, kinds = 'algo', algorithm.name, registry
    if name in owners.of_runtimes():
      flag, chosen, kinds = 'runtime', runtime.name, runtimes
    having = [
      each for each in kinds.names() if name in kinds.get(each).settings
    ]
    why = f'not a setting of --{flag}={chosen}'
    if flag == 'runtime' and name in runtime.without:
      why += f', {runtime.without[name]}'
    if algorithm.on_policy and name in _OF_REPLAY:
      why = (
        f'--algo={algorithm.name} is on-policy, so it cannot learn from a '
        'replay memory of older actions'
      )
    raise errors.UsageError(
      f'--{name}: {why}; allowed with --{flag}={" or ".join(having)}'
    )


def code_named(
  config: Config, *, environment: bool = True, network: bool = True
) -> dict[str, str]:
  """Returns the code that a config.json would have imported, by flag.

  It may be a stranger's config.json, with `--network=os:abort`.

  Args:
    config: of the run.
    environment: whether the environment will be made from its name.
    network: whether the network will be made from its name.
  """
  code = {}
  if environment:
    code |= domain_lib.get(config.domain).code_named(config.environment)
  if network and ':' in config.network:
    code['network'] = config.network
  return code


def check_not_imported(run: Config, given: Container[str]) -> None:
  """Refuses to import code that only the config.json of a run names.

  Args:
    run: the one to resume.
    given: names of the flags that the user has given.

  Raises:
    UsageError: naming the first flag that names code and is not given.
  """
  for name, value in code_named(run).items():
    if name not in given:
      raise errors.UsageError(
        f'--{name}: the run in {paths.as_given(run.workdir)} has {value}, '
        f'which decides what code runs; allowed: --{name}={value}, given again'
      )


def check_protocol(config: Config, protocol: str, *, flag: str) -> None:
  """Checks that a run's domain has a protocol of evaluations.

  Raises:
    UsageError: naming the flag.
  """
  allowed = domain_lib.get(config.domain).protocols
  if protocol not in allowed:
    raise errors.UsageError(
      f'--{flag}={errors.as_text(protocol)}: allowed for {config.env_name}: '
      + ', '.join(allowed)
    )


def _check_together(config: Config) -> None:
  algorithm = registry.get(config.algo)
  presets = algorithm.presets_in(config.domain)
  if config.preset not in presets:
    raise errors.UsageError(
      f'--preset={config.preset}: allowed for {config.env_name} with '
      f'--algo={config.algo}: {", ".join(presets)}'
    )
  of_preset = algorithm.presets.get(config.preset, {}).get(config.domain, {})
  wanted, _ = of_preset.get('runtime', (config.runtime, ''))
  if config.runtime != wanted:
    raise errors.UsageError(
      f'--preset={config.preset} with --runtime={config.runtime}: allowed: '
      f'--runtime={wanted}, which its other settings are for'
    )
  check_protocol(config, config.eval_protocol, flag='eval_protocol')
  if config.device != 'cpu' and runtimes.get(config.runtime).open_elsewhere:
    raise errors.UsageError(
      f'--device={config.device}: the other processes of --runtime='
      f'{config.runtime} compute on the CPU; allowed: cpu'
    )
  if config.arrangement.recorded and config.device != 'cpu':
    raise errors.UsageError(
      f'--record with --device={config.device}: only a CPU repeats the same '
      'bits; allowed: --device=cpu'
    )
  if config.num_workers < 1:
    raise errors.UsageError(
      f'--runtime={config.runtime}: no thread has environments; allowed: '
      'settings with which at least one has'
    )
  if config.num_workers * config.envs_per_thread > _MOST_ENVS:
    raise errors.UsageError(
      f'--envs_per_thread={config.envs_per_thread}: {config.num_workers} '
      f'threads have them; allowed: {_MOST_ENVS} environments in all'
    )
  if domain_lib.get(config.domain).continuous and not algorithm.continuous:
    raise errors.UsageError(
      f'--algo={config.algo}: allowed with continuous actions: '
      f'{registry.continuous()}'
    )
  _check_held(config)
  config.algorithm.check_together()
  config.arrangement.check_together()
  if config.replay:
    _check_replay(config, config.replay)


def _check_held(config: Config) -> None:
  """Checks that a run does not end before its first gradient is applied."""
  held = config.arrangement.held_gradients * config.num_workers
  steps = config.algorithm.segment_steps(config.t_max) * config.envs_per_thread
  segments = config.frames / (steps * config.action_repeat)
  if held and held >= segments:
    raise errors.UsageError(
      f'--inject_lag={config.arrangement.held_gradients}: {config.num_workers} '
      f'threads hold back {held} gradients, and --frames={config.frames} give '
      f'about {segments:.0f}, so nothing would be learnt; allowed: less'
    )


def _check_replay(config: Config, replay: Replaying) -> None:
  if not runtimes.get(config.runtime).replays:
    allowed = [name for name in runtimes.names() if runtimes.get(name).replays]
    raise errors.UsageError(
      f'--runtime={config.runtime}: --algo={config.algo} learns from a replay '
      f'memory; allowed with one: {", ".join(allowed)}'
    )
  if replay.replay_start_frames >= config.frames:
    raise errors.UsageError(
      f'--replay_start_frames={replay.replay_start_frames}: nothing would be '
      f'learnt; allowed: less than --frames={config.frames}'
    )
