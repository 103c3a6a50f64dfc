"""The entry point of every script: flags, device, errors and exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import difflib
import faulthandler
import io
import os
import pathlib
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

from absl import command_name, flags, logging
import jax

from a3c_jax import ctrl_c
from a3c_jax.algorithms import registry
from a3c_jax.core import compiled, cpu, errors, files, output, packages
from a3c_jax.core import signals as signals_lib
from a3c_jax.runs import process
from a3c_jax.settings import flags as settings_flags
from a3c_jax.settings.common import Config

if TYPE_CHECKING:
  from a3c_jax.runs import training

_LEAVING_SECONDS = 10.0  # From the end of the script to its process's exit.
_PICTURE_SECONDS = 10.0  # Shorter runs have hardly a curve.
_LONGEST = 500  # Characters of a word in a message.
_FOR_ABSL = ('flagfile', 'undefok')  # It obeys them while it parses.
HELP = ('--help', '-help', '-h', '-?', '--helpshort')


def train(domain: str) -> None:
  """Runs a whole script: flags of a domain and all algorithms, and training.

  Args:
    domain: its name. Domains and algorithms from outside this package must be
      registered before, by the script or by a module that `--import` names.
  """
  with refused_in_one_line():
    import_modules()
    make_config = settings_flags.define_run(domain)
  run(lambda: run_training(make_config()))


def run_training(
  config: Config,
  *,
  signals: signals_lib.Signals | None = None,
  shows_result: bool = True,
  **makers: Any,
) -> training.Result:
  """Trains as a script does: shows progress, handles signals, draws.

  SIGINT, SIGTERM, SIGHUP and SIGUSR1 stop the run early, with a checkpoint. A
  second SIGINT or SIGTERM ends the process at once. If an environment hangs
  before training, the process exits with code 1.

  Args:
    config: everything that the run depends on.
    signals: tells the caller whether one came; by default, one for this run.
    shows_result: whether the result is printed.
    **makers: `make_env`, `make_learner` and `make_eval_env` of `training.run`,
      which replace those of the config.

  Returns:
    As `training.run`. It raises the same errors.
  """
  from a3c_jax.runs import display, training  # Not for scripts that only plot.

  def on_result(result):
    if shows_result:
      shown.print_result(training.describe(result))

  with display.shown() as shown, signals or signals_lib.Signals() as handled:
    result = training.run(
      config,
      **makers,
      signals=handled,
      loggers=[display.ProgressLine(shown)],
      on_result=on_result,
      on_hung=lambda reason: process.end_now(1),
    )
    # Whoever stops a run does not wait for a picture.
    if result.seconds >= _PICTURE_SECONDS and not handled.received:
      _draw(result.workdir)
  return result


def _draw(workdir: str) -> None:
  """Draws a run into its workdir, if the extra plot is installed."""
  from a3c_jax.reproduce import curves, drawing, run_pictures

  if not drawing.can_draw():
    return
  try:
    picture = io.BytesIO()
    groups = curves.group([curves.read(workdir)])
    run_pictures.draw(groups).savefig(picture, dpi=100, format='png')
    files.replace(pathlib.Path(workdir, 'curve.png'), picture.getvalue())
  except (
    Exception
  ) as error:  # The run has ended well, whatever matplotlib does.
    text = errors.in_one_line(str(error) or repr(error))[:200]
    print(f'warning: no picture of the run: {text}', file=sys.stderr)


def _value_of(name) -> str:
  """Returns the text of a flag; '' if it is not given or not defined."""
  return str(flags.FLAGS[name].value or '') if name in flags.FLAGS else ''


def find_users_modules() -> None:
  """Makes modules in the user's folder importable.

  Only a module that the user names justifies this: the folder may hold a
  stranger's run.
  """
  with contextlib.suppress(FileNotFoundError):  # The folder was removed.
    sys.path.insert(0, os.getcwd())


def _define_import(flag_values: flags.FlagValues) -> None:
  if 'import' not in flag_values:
    flags.DEFINE_string(
      'import',
      None,
      'Your modules that register domains, algorithms or runtimes. A run does '
      'not record them: give this flag again to resume, evaluate or plot.\n'
      'Allowed: names of modules, separated by commas.\n'
      'Default: none (ours).',
      flag_values=flag_values,
      module_name='run',
    )


def import_modules() -> None:
  """Imports the modules that `--import` names.

  The flag is read before all others, because its modules decide which other
  flags there are.

  Raises:
    UsageError: naming `--import` and the first module that does not exist or
      raises an error.
  """
  _define_import(flags.FLAGS)
  _check_not_for_absl(sys.argv)
  own = flags.FlagValues()
  _define_import(own)
  own.set_gnu_getopt()  # Values of flags that are not known yet may precede it.
  own(sys.argv, known_only=True)
  value = own['import'].value
  if value:
    find_users_modules()
    for name in value.split(','):
      packages.load_module(name, flag='import', value='' if name else value)


@contextlib.contextmanager
def refused_in_one_line() -> Iterator[None]:
  """Ends the process with exit code 2 and one line if the input is bad."""
  try:
    yield
  except (flags.Error, errors.UsageError) as error:
    _exit_with(error, 2)
  except KeyboardInterrupt:  # While modules of the user are imported.
    _exit_stopped()


def run(
  main: Callable[..., object],
  *,
  takes_arguments: bool = False,
) -> None:
  """Runs a script: parses flags, sets JAX up, prints errors in one line.

  Only scripts set JAX up; importing the library never does. Without
  `--device=gpu` JAX uses the CPU alone, and XLA works in the calling thread.
  The exit code is 2 for bad input and 1 for any other failure. Output that
  cannot be written is lost and does not change the exit code.

  Args:
    main: the script.
    takes_arguments: whether `main` takes the arguments that are not flags.
      Otherwise such arguments are bad input.
  """
  output.set_up()
  _define_import(flags.FLAGS)
  # As `absl.app.run` does, but without its flags: a debugger, a profiler, and
  # other help.
  command_name.make_process_name_useful()
  logging.use_absl_handler()
  logging.set_verbosity(logging.WARNING)
  with contextlib.suppress(OSError, ValueError, RuntimeError):
    faulthandler.enable()  # Only if stderr is a file.

  def checked_main(argv):
    try:
      # That handler was for the imports of the script.
      if signal.getsignal(signal.SIGINT) is ctrl_c.stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
      _set_up_jax(_value_of('device'))
      import_modules()
      if ':' in f'{_value_of("env")} {_value_of("network")}':
        find_users_modules()
      if takes_arguments:
        return main(argv[1:])
      if len(argv) > 1:
        raise errors.UsageError(
          f'{argv[1]}: unexpected; allowed: flags such as --algo=a3c'
        )
      main()
    except errors.UsageError as error:
      _exit_with(error, 2)
    except errors.HungError as error:
      # What Python does at its exit may wait for what hangs.
      _print_error(error)
      process.end_now(1)
    except errors.RunError as error:
      _exit_with(error, 1)
    except errors.StoppedError as error:
      print(error)
      # Environments that are half made can crash Python while it ends.
      process.end_without_teardown(0)
    except KeyboardInterrupt:
      _exit_stopped()

  code: object = 1
  try:
    checked_main(_parse(sys.argv))
    sys.exit()
  except SystemExit as end:
    code = end.code
    raise
  finally:
    if code is None or isinstance(code, int):
      process.end_after(_LEAVING_SECONDS, code or 0)


def _set_up_jax(device: str) -> None:
  """Sets JAX up before the first computation: it ignores later changes.

  Raises:
    UsageError: if the device is a GPU and JAX finds none.
  """
  if device != 'gpu':
    cpu.set_up()
    compiled.keep()
    return
  try:
    jax.devices('gpu')
  except RuntimeError as error:
    raise errors.UsageError(
      f'--device=gpu: JAX finds no GPU, {error}; allowed: cpu, or gpu on a '
      "machine with an NVIDIA GPU after pip install 'a3c_jax[cuda]'"
    ) from error


def _parse(argv):
  own = argv.index('--') if '--' in argv else len(argv)
  rest = [each for each in argv[:own] if each not in HELP]
  try:
    _check_not_for_absl(argv)
    arguments = flags.FLAGS(rest + argv[own:])
    _check_not_of_absl()
    if len(rest) < own:
      print(_help())
      sys.exit(0)
    return arguments
  except (flags.Error, errors.UsageError, ValueError) as error:
    return _exit_with(error, 2)


def _check_not_for_absl(argv) -> None:
  for argument in argv[1:]:
    if argument == '--':
      return
    name = argument.lstrip('-').partition('=')[0]
    if argument.startswith('-') and name in _FOR_ABSL:
      raise flags.UnrecognizedFlagError(name)


def _check_not_of_absl() -> None:
  """Refuses flags that absl defines for itself; --help does not list them."""
  for name in flags.FLAGS:
    flag = flags.FLAGS[name]
    if flag.present and _is_of_absl(name):
      raise flags.UnrecognizedFlagError(flag.name)  # Not its short name.


def _is_of_absl(name) -> bool:
  module = flags.FLAGS.find_module_defining_flag(name)
  return str(module).startswith('absl.')


def _described(error: Exception) -> str:
  """Returns the message; those of absl get the form of ours."""
  text = str(error)
  unknown = re.match("Unknown command line flag '(.*?)'", text, re.DOTALL)
  if unknown:
    (name,) = unknown.groups()
    if name.startswith('help'):
      return f'--{name}: unknown; allowed: --help'
    ours = [each for each in flags.FLAGS if not _is_of_absl(each)]
    near = difflib.get_close_matches(name, ours)
    such_as = ', '.join(f'--{each}' for each in near)
    return (
      f'--{name}: unknown; allowed: flags that --help lists'
      f'{such_as and f", such as {such_as}"}'
    )
  missing = re.fullmatch('Missing value for flag -+(.*)', text, re.DOTALL)
  if missing:
    (name,) = missing.groups()
    return (
      f'--{name}: has no value; allowed: {settings_flags.allowed_values(name)}'
    )
  superfluous = re.fullmatch(
    '-+(.*?)=.* does not take an argument', text, re.DOTALL
  )
  if superfluous:
    (name,) = superfluous.groups()
    return f'--{name}: has a value; allowed: --{name} alone'
  return text.removeprefix('flag ')


def _help() -> str:
  """Returns the script's docstring and flags, or those of `--algo` alone."""
  algo = _value_of('algo') or None
  if algo:
    registry.get(algo)  # Refuses an unknown one.
  return (
    f'{sys.modules["__main__"].__doc__ or ""}\n{settings_flags.describe(algo)}'
  )


def _exit_stopped():
  print('stopped', file=sys.stderr)
  sys.exit(130)


def _exit_with(error, code):
  _print_error(error)
  sys.exit(code)


def _print_error(error):
  """Prints an error and its notes in one line."""
  text = '; '.join([_described(error), *getattr(error, '__notes__', [])])
  words = [
    word if len(word) <= _LONGEST else f'{word[:_LONGEST]}…'
    for word in text.split()
  ]
  # Text of a file may be among them. It must not control the terminal.
  line = ''.join(c if c.isprintable() else '?' for c in ' '.join(words))
  print('error:', line, file=sys.stderr)
