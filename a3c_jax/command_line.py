"""The entry point of every script: flags, device, errors and exit codes."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging
import jax

from a3c_jax.algorithms import registry
from a3c_jax.core import cpu, errors, output
from a3c_jax.core import signals as signals_lib
from a3c_jax.runs import process
from a3c_jax.settings import flags as settings_flags
from a3c_jax.settings.common import Config

if TYPE_CHECKING:
  from a3c_jax.runs import training

_LEAVING_SECONDS = 10.0  # From the end of the script to that of its process.
_LONGEST = 500  # Characters of a word in a message.
_HELP = ('--help', '-help', '-h', '-?', '--helpshort')


def train(domain: str) -> None:
  """A whole script: flags of a domain and all algorithms, and training by them.

  Args:
    domain: its name. Domains and algorithms that are not of this package are
      registered before.
  """
  make_config = settings_flags.define_run(domain)
  run(lambda: run_training(make_config()))


def run_training(config: Config, **makers: Any) -> training.Result:
  """Trains as a script does: shows progress, and obeys signals.

  SIGINT, SIGTERM, SIGHUP and SIGUSR1 end the run early and in good order; a
  second SIGINT or SIGTERM ends the process at once. If an environment hangs
  before training, the process exits with code 1.

  Args:
    config: everything that the run depends on.
    **makers: `make_env`, `make_learner` and `make_eval_env` of `training.run`,
      unless they are those of the config.

  Returns:
    As `training.run`, which says what it raises too.
  """
  from a3c_jax.runs import display, training  # Not for scripts that only plot.

  with display.shown() as shown, signals_lib.Signals() as signals:
    return training.run(
      config,
      **makers,
      signals=signals,
      on_progress=shown.progress,
      on_result=lambda result: shown.print_result(training.describe(result)),
      on_hung=lambda reason: process.end_now(1),
    )


def _value_of(name) -> str:
  """The text of a flag; empty if it is not given or there is none."""
  return str(flags.FLAGS[name].value or '') if name in flags.FLAGS else ''


def find_users_modules() -> None:
  """Has module:function name a file in the user's folder before a script."""
  with contextlib.suppress(FileNotFoundError):  # The folder was removed.
    sys.path.insert(0, os.getcwd())


def run(
  main: Callable[..., None],
  *,
  takes_arguments: bool = False,
) -> None:
  """Runs a script: parses flags, sets JAX up, prints errors in one line.

  Setting JAX up is the script's business and never a library import's: without
  `--device=gpu` it is for training with threads, on the CPU alone, with XLA's
  work on the calling thread. The exit code is 2 for bad input, and 1 for any
  other failure. Output that cannot be written is lost, and changes no exit
  code.

  Args:
    main: the script.
    takes_arguments: whether `main` is called with the arguments that are no
      flags; otherwise there must not be any.
  """
  output.set_up()
  logging.set_verbosity(logging.WARNING)

  def checked_main(argv):
    try:
      # It was for the time in which the script imported its modules.
      handler = signal.getsignal(signal.SIGINT)
      if getattr(handler, '__module__', None) == 'ctrl_c':
        signal.signal(signal.SIGINT, signal.default_int_handler)
      _set_up_jax(_value_of('device'))
      # Otherwise nothing is imported from there: it may be a stranger's run.
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
      process.end_after(_LEAVING_SECONDS, code or 0)


def _set_up_jax(device: str) -> None:
  """Before the first computation: JAX ignores later changes.

  Raises:
    UsageError: if the device is a GPU and JAX finds none.
  """
  if device != 'gpu':
    cpu.set_up()
    return
  try:
    jax.devices('gpu')
  except RuntimeError as error:
    raise errors.UsageError(
      f'--device=gpu: JAX finds no GPU, {error}; allowed: cpu'
    ) from error


def _parse(argv):
  own = argv.index('--') if '--' in argv else len(argv)
  rest = [each for each in argv[:own] if each not in _HELP]
  try:
    arguments = flags.FLAGS(rest + argv[own:])
    if len(rest) < own:
      print(_help())
      sys.exit(0)
    return arguments
  except (flags.Error, errors.UsageError, ValueError) as error:
    return _exit_with(error, 2)


def _help() -> str:
  """What the script is, and its flags; with `--algo` those of one algorithm."""
  algo = _value_of('algo') or None
  if algo:
    registry.get(algo)  # Refuses an unknown one.
  return (
    f'{sys.modules["__main__"].__doc__ or ""}\n{settings_flags.describe(algo)}'
  )


def _exit_with(error, code):
  _print_error(error)
  sys.exit(code)


def _print_error(error):
  """Prints an error and its notes in one line."""
  text = '; '.join([str(error), *getattr(error, '__notes__', [])])
  words = [
    word if len(word) <= _LONGEST else f'{word[:_LONGEST]}…'
    for word in text.split()
  ]
  # They may be text of a file, which must not control the terminal.
  line = ''.join(c if c.isprintable() else '?' for c in ' '.join(words))
  print('error:', line, file=sys.stderr)
