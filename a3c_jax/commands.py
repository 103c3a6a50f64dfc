"""The commands of the program: train, evaluate, export, rerun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import pathlib
import sys
from types import MappingProxyType
from typing import Any

from a3c_jax import command_line
from a3c_jax.core import errors
from a3c_jax.envs import domain as domain_lib
from a3c_jax.settings import flags as flags_lib


def train() -> None:
  """Trains an algorithm in a domain.

  a3c-jax train catch --algo=a3c
  a3c-jax train atari --algo=nstep_q --help
  a3c-jax train my_domain --import=my_module
  """
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if not name or name.startswith('-'):
    with command_line.refused_in_one_line():
      command_line.import_modules()
      domains = ', '.join(domain_lib.names())
      if name in command_line.HELP:
        print(f'{_about(train)}\nDomains: {domains}.')
        sys.exit()
      raise errors.UsageError(
        f'the argument after train must be a domain; allowed: {domains}'
      )
  del sys.argv[1]
  command_line.train(name)


def evaluate() -> None:
  """Evaluates the trained policy of a run or a model; learns nothing.

  a3c-jax evaluate --workdir=runs/pong-a3c-... --episodes=30
  """
  from a3c_jax.runs import evaluate_run
  from a3c_jax.runs import workdir as workdir_lib

  def act(options):
    config = workdir_lib.read_config(pathlib.Path(options.workdir))
    _trust(options, config)
    evaluate_run.run(options, config)

  _run(evaluate_run.Options, act)


def export() -> None:
  """Writes the trained policy of a run as a model, a folder to give to others.

  a3c-jax export --workdir=runs/pong-a3c-... --out=models/pong
  """
  from a3c_jax.runs import export as export_lib

  _run(export_lib.Options, export_lib.export)


def rerun() -> None:
  """Repeats a recorded asynchronous run in one thread, bit for bit.

  a3c-jax rerun --workdir=runs/pong-a3c-... --until=1000
  """
  from a3c_jax.runs import rerun as rerun_lib
  from a3c_jax.runs import workdir as workdir_lib

  def act(options):
    _trust(options, workdir_lib.read_config(pathlib.Path(options.workdir)))
    rerun_lib.run(options)

  _run(rerun_lib.Options, act)


COMMANDS: Mapping[str, Callable[[], None]] = MappingProxyType(
  {'train': train, 'evaluate': evaluate, 'export': export, 'rerun': rerun}
)


def _run(options_type: type, act: Callable[[Any], object]) -> None:
  """Runs a command whose flags are the fields of its options."""
  from a3c_jax.runs import display

  options = flags_lib.define_options(options_type)
  command_line.run(display.shown()(lambda: act(options())))


def _trust(options: Any, config: Any) -> None:
  """Finds modules that a trusted workdir names in the current folder."""
  from a3c_jax.settings import config as config_lib

  if options.trust_workdir and config_lib.code_named(config):
    command_line.find_users_modules()


def _about(command: Callable[[], None]) -> str:
  first, _, rest = (command.__doc__ or '').partition('\n')
  return '\n'.join([first, *(line[2:] for line in rest.split('\n'))]).rstrip()


def main() -> None:
  """Runs the command that the first argument names."""
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name in command_line.HELP:
    print('\n\n'.join(map(_about, COMMANDS.values())))
    sys.exit()
  with command_line.refused_in_one_line():
    if name not in COMMANDS:
      raise errors.UsageError(
        f'{name or "no command"}: allowed: {", ".join(COMMANDS)}, first'
      )
  del sys.argv[1]
  # What --help prints first.
  sys.modules['__main__'].__doc__ = _about(COMMANDS[name]) + '\n'
  COMMANDS[name]()
