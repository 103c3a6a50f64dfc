"""The command line: absl flags made from Config, once, for every script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import inspect
import os
import signal
import sys
from typing import Any

from absl import app, flags, logging

from a3c_jax import checks, cpu, output, workers
from a3c_jax import config as config_lib
from a3c_jax.envs import domain as domain_lib

_LEAVING_SECONDS = 10.0  # From the end of the script to that of its process.
_LONGEST = 500  # Characters of a word in a message.

# Flags belong to the script that has them defined, and to its --help.
flags.disclaim_key_flags()


class _Parser(flags.ArgumentParser):
  """Says what is allowed where a value cannot be read."""

  def __init__(self, convert: Callable[[str], Any], allowed: str):
    super().__init__()
    self.syntactic_help = allowed
    self._convert = convert

  def parse(self, argument):
    try:
      return self._convert(argument)
    except ValueError:
      raise ValueError(f'allowed: {self.syntactic_help}') from None


class _Boolean(flags.BooleanFlag):
  """Says what is allowed where a value cannot be read."""

  def parse(self, argument):
    try:
      super().parse(argument)
    except flags.IllegalFlagValueError:
      raise flags.IllegalFlagValueError(
        f'flag --{self.name}={argument}: allowed: true, false'
      ) from None


def _whole(text):
  """Also as 40e6 or 40_000_000."""
  try:
    return int(text)
  except ValueError:
    value = float(text)
    if not value.is_integer():
      raise
    return int(value)


_PARSERS = {
  'str': _Parser(str, 'text'),
  'float': _Parser(float, 'a number'),
  'int': _Parser(_whole, 'a whole number'),
  'tuple[float, ...]': _Parser(
    lambda text: tuple(float(part) for part in text.split(',')),
    'numbers, separated by commas',
  ),
  'tuple[int, ...]': _Parser(
    lambda text: tuple(_whole(part) for part in text.split(',')),
    'whole numbers, separated by commas',
  ),
  'tuple[str, ...]': _Parser(
    lambda text: tuple(part for part in text.split(',') if part), 'text'
  ),
}


def _define(
  field: dataclasses.Field, default_text: str, allowed: str = ''
) -> None:
  help_text = field.metadata['help']
  # Of a module without `from __future__ import annotations` it is a type.
  kind = field.type
  if not isinstance(kind, str):
    kind = inspect.formatannotation(kind)
  if kind == 'bool':
    help_text += f' Default: {default_text}.'
    flags.DEFINE_flag(_Boolean(field.name, None, help_text))
  else:
    allowed = allowed or field.metadata['allowed']
    help_text += f' Allowed: {allowed}. Default: {default_text}.'
    flags.DEFINE(_PARSERS[kind], field.name, None, help_text)


def _given(names: Sequence[str]) -> dict[str, Any]:
  values = {name: flags.FLAGS[name].value for name in names}
  return {name: value for name, value in values.items() if value is not None}


def define_options(options: type) -> Callable[[], Any]:
  """Defines a flag for every field of a dataclass.

  Args:
    options: its fields are `checks.setting`s with defaults.

  Returns:
    A function that makes the options, unchecked, once flags are parsed.
  """
  names = _define_options(options)

  def make_options():
    made = options(**_given(names))
    return dataclasses.replace(made, **checks.absolute_paths(made))

  return make_options


def _define_options(options) -> list[str]:
  fields = dataclasses.fields(options)
  for field in fields:
    known = field.default is not None and checks.as_text(field.default)
    default = known or 'nothing'
    _define(field, f'{default} ({field.metadata["source"]})')
  return [field.name for field in fields]


def _define_environment(domain: domain_lib.Domain) -> Callable[[], Any]:
  """Defines a flag for every option of a domain.

  Returns:
    A function that makes the options once flags are parsed. Those that are not
    given are taken from the run that is resumed. It raises a UsageError if that
    run would import an environment that is not given.
  """
  names = _define_options(domain.options)

  def make_environment():
    given = _given(names)
    run = config_lib.of_run(flags.FLAGS.workdir, domain.name)
    if run is None:
      made = domain.options(**given)
    else:
      # The network is checked with the other settings.
      config_lib.check_not_imported(run, {'network', *given})
      made = dataclasses.replace(run.environment, **given)
    return dataclasses.replace(made, **checks.absolute_paths(made))

  return make_environment


def define(domain: str, **instead) -> Callable[..., config_lib.Config]:
  """Defines a flag for every setting of Config.

  Args:
    domain: the name of the one whose defaults the help tells and the Config
      gets.
    **instead: defaults of the script's own.

  Returns:
    A function `(environment=None, **fixed) -> Config` that reads the flags once
    they are parsed. `environment` is as for `config.make`, and `fixed` are
    settings that the command line does not choose.
  """
  own = {name: (value, 'this script') for name, value in instead.items()}
  table = config_lib.defaults(domain) | own
  others = {'--lstm': config_lib.defaults(domain, lstm=True) | own}
  if domain == 'atari':
    others['--preset=quick'] = config_lib.defaults(domain, preset='quick') | own
  protocols = domain_lib.get(domain).protocols
  names = []
  for field in dataclasses.fields(config_lib.Config):
    if not field.metadata['flag']:
      continue
    names.append(field.name)
    default = _describe(field.name, table)
    for flag, other in others.items():
      if table.get(field.name) != other.get(field.name):
        default += f'; with {flag} {_describe(field.name, other)}'
    of_domain = field.name == 'eval_protocol'
    _define(field, default, ', '.join(protocols) if of_domain else '')

  def make_config(environment: Any = None, **fixed) -> config_lib.Config:
    given = _given(names)
    for name, value in fixed.items():
      if given.get(name, value) != value:
        raise checks.UsageError(
          f'--{name}={checks.as_text(given[name])}: allowed here: '
          f'{checks.as_text(value)}'
        )
    settings = {'domain': domain} | given | fixed
    return config_lib.make(environment=environment, instead=instead, **settings)

  return make_config


def _describe(name, table):
  if name == 'workdir' and name not in table:
    return 'runs/ENVIRONMENT-ALGORITHM-SEED-TIME-PROCESS'
  if name == 'anneal_frames' and name not in table:
    return '--frames (paper, section 8)'
  value, source = table[name]
  return f'{checks.as_text(value) or "nothing"} ({source})'


def define_run(domain: str) -> Callable[[], config_lib.Config]:
  """Defines a flag for every option of a domain and every setting of Config.

  Args:
    domain: its name.

  Returns:
    A function that makes the Config once flags are parsed.
  """
  make_environment = _define_environment(domain_lib.get(domain))
  make_config = define(domain)
  return lambda: make_config(make_environment())


def train(domain: str) -> None:
  """A whole script: flags of a domain, and training by them.

  Args:
    domain: its name. One that is not of this package is registered before.
  """
  from a3c_jax import training  # Not for scripts that train nothing.

  make_config = define_run(domain)
  run(lambda: training.train(make_config()))


def _value_of(name) -> str:
  return str(flags.FLAGS[name].value) if name in flags.FLAGS else ''


def find_users_modules() -> None:
  """Has module:function name a file in the user's folder before a script."""
  with contextlib.suppress(FileNotFoundError):  # The folder was removed.
    sys.path.insert(0, os.getcwd())


def run(
  main: Callable[..., None],
  *,
  takes_arguments: bool = False,
) -> None:
  """Runs a script: parses flags, sets JAX up, tells errors in one line.

  Sets the process up for training with threads, which is the script's business
  and never a library import's: no GPU, and XLA's work on the calling thread.
  Exit code 2 for bad input, 1 for any other failure. Output that cannot be
  written is lost, and changes no exit code.

  Args:
    main: the script.
    takes_arguments: whether `main` is called with the arguments that are no
      flags; otherwise there must not be any.
  """
  output.set_up()
  cpu.set_up()
  logging.set_verbosity(logging.WARNING)

  def checked_main(argv):
    try:
      # It was for the time in which the script imported its modules.
      handler = signal.getsignal(signal.SIGINT)
      if getattr(handler, '__module__', None) == 'ctrl_c':
        signal.signal(signal.SIGINT, signal.default_int_handler)
      # Otherwise nothing is imported from there: it may be a stranger's run.
      if ':' in f'{_value_of("env")} {_value_of("network")}':
        find_users_modules()
      if takes_arguments:
        return main(argv[1:])
      if len(argv) > 1:
        raise checks.UsageError(
          f'{argv[1]}: unexpected; allowed: flags such as --algo=a3c'
        )
      main()
    except checks.UsageError as error:
      _exit_with(error, 2)
    except checks.RunError as error:
      _exit_with(error, 1)
    except checks.StoppedError as error:
      print(error)
    except KeyboardInterrupt:
      print('stopped', file=sys.stderr)
      sys.exit(130)

  code: object = 1
  try:
    app.run(checked_main, flags_parser=_parse)
  except SystemExit as end:
    code = end.code
    raise
  finally:
    if code is None or isinstance(code, int):
      workers.end_process_after(_LEAVING_SECONDS, code or 0)


def _parse(argv):
  own = argv.index('--') if '--' in argv else len(argv)
  argv = ['--help' if each == '-h' else each for each in argv[:own]] + argv[
    own:
  ]
  try:
    return flags.FLAGS(argv)
  except (flags.Error, ValueError) as error:
    return _exit_with(error, 2)
  except SystemExit:  # After --help, which absl takes for a failure.
    sys.exit(0)


def _exit_with(error, code):
  words = [
    word if len(word) <= _LONGEST else f'{word[:_LONGEST]}…'
    for word in str(error).split()
  ]
  # They may be text of a file, which must not control the terminal.
  line = ''.join(c if c.isprintable() else '?' for c in ' '.join(words))
  print('error:', line, file=sys.stderr)
  sys.exit(code)
