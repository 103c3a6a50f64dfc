"""The command line: absl flags made from Config, once, for every script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import os
import sys
import time
from typing import Any

from absl import app, flags

from a3c_jax import checks
from a3c_jax import config as config_lib


class _Whole(flags.ArgumentParser):
  """Whole numbers, also as 40e6 or 40_000_000."""

  syntactic_help = 'a whole number'

  def parse(self, argument):
    try:
      return int(argument)
    except ValueError:
      value = float(argument)
      if not value.is_integer():
        raise ValueError('not a whole number') from None
      return int(value)

  def flag_type(self):
    return 'int'


class _Numbers(flags.ArgumentParser):
  """Numbers, separated by commas."""

  syntactic_help = 'numbers, separated by commas'

  def parse(self, argument):
    if not isinstance(argument, str):
      return tuple(argument)
    return tuple(float(part) for part in argument.split(','))

  def flag_type(self):
    return 'comma separated list of numbers'


_DEFINE = {
  'str': flags.DEFINE_string,
  'bool': flags.DEFINE_boolean,
  'float': flags.DEFINE_float,
  'int': lambda *args: flags.DEFINE(_Whole(), *_name_default_help(*args)),
  'tuple[float, ...]': lambda *args: flags.DEFINE(
    _Numbers(), *_name_default_help(*args)
  ),
}


def _name_default_help(name, default, help_text):
  return name, default, help_text


def define(domain: str) -> Callable[..., config_lib.Config]:
  """Defines a flag for every setting of Config.

  Args:
    domain: whose defaults the help tells and the Config gets.

  Returns:
    A function `(environment) -> Config` that reads the flags once they are
    parsed; `environment` has at least a 'name'.
  """
  table = config_lib.defaults(domain)
  lstm_table = config_lib.defaults(domain, lstm=True)
  names = []
  for field in dataclasses.fields(config_lib.Config):
    if not field.metadata['flag']:
      continue
    names.append(field.name)
    default = _describe(field.name, table)
    if table.get(field.name) != lstm_table.get(field.name):
      default += f'; with --lstm {_describe(field.name, lstm_table)}'
    help_text = (
      f'{field.metadata["help"]} Allowed: {field.metadata["allowed"]}. '
      f'Default: {default}.'
    )
    _DEFINE[field.type](field.name, None, help_text)

  def make_config(environment: Mapping[str, Any]) -> config_lib.Config:
    given = {name: flags.FLAGS[name].value for name in names}
    if given['workdir'] is None:
      label = f'{environment["name"]}-{given["algo"] or table["algo"][0]}'
      label = label.replace('/', '-').replace(':', '-')
      given['workdir'] = f'runs/{label}-{time.strftime("%Y%m%d-%H%M%S")}'
    return config_lib.make(domain, environment=environment, **given)

  return make_config


def _describe(name, table):
  if name == 'workdir':
    return 'runs/ENVIRONMENT-ALGORITHM-TIME'
  if name == 'anneal_frames':
    return '--frames (paper, section 8)'
  value, source = table[name]
  shown = ','.join(map(str, value)) if isinstance(value, tuple) else value
  return f'{shown} ({source})'


def run(main: Callable[[], None]) -> None:
  """Runs a script: parses flags, sets JAX up, tells errors in one line.

  Sets the process up for training with threads, which is the script's business
  and never a library import's: no GPU, and XLA's work on the calling thread.
  Exit code 2 for bad input, 1 for any other failure.
  """
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['NPROC'] = '1'  # XLA's own pool would fight the actor-learners.
  import jax

  # Only before the backend starts, and only this way, does it take effect.
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  # So that module:function can name a file in the user's folder.
  sys.path.append(os.getcwd())

  def checked_main(argv):
    try:
      if len(argv) > 1:
        raise checks.UsageError(
          f'{argv[1]}: unexpected; allowed: flags such as --algo=a3c'
        )
      main()
    except checks.UsageError as error:
      _exit_with(error)
    except KeyboardInterrupt:
      print('stopped', file=sys.stderr)
      sys.exit(130)

  app.run(checked_main, flags_parser=_parse)


def _parse(argv):
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    return _exit_with(error)


def _exit_with(error):
  print(f'error: {error}', file=sys.stderr)
  sys.exit(2)
