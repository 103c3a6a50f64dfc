"""Packages and functions, given by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import traceback
import types
from typing import Any

from a3c_jax.core import errors

_loaded: list[str] = []
_NAME = r'[^\W\d]\w*'
_MODULES = 'modules in this folder or installed ones, separated by commas'


def check_installed(
  what: str, *modules: str, extra: str, needs: str = ''
) -> None:
  """Checks that modules can be imported, without importing them.

  Args:
    what: the setting that needs them; the message begins with it.
    *modules: names of packages.
    extra: of this package, that installs them.
    needs: other requirements, in words.

  Raises:
    UsageError: naming the first one that is missing.
  """
  for module in modules:
    if importlib.util.find_spec(module) is None:
      raise errors.UsageError(
        f'{what}: {module} is not installed; '
        f"pip install 'a3c_jax[{extra}]'{needs and f', {needs}'}"
      )


def versions(names: Iterable[str]) -> dict[str, str]:
  """Returns the versions of those packages that are installed."""
  found = {}
  for name in names:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def load_module(
  name: str,
  *,
  flag: str,
  value: str = '',
  allowed: str = _MODULES,
) -> types.ModuleType:
  """Imports the module of a name.

  Args:
    name: of the module.
    flag: that names it.
    value: of the flag, if it is more than the name.
    allowed: values of the flag, in words.

  Raises:
    UsageError: naming the flag, if there is no such module or importing it
      raises anything, `SystemExit` included.
  """
  problem = 'is not the name of a module'
  if re.fullmatch(rf'{_NAME}(\.{_NAME})*', name):
    module, problem = _import(name)
    if module is not None:
      _loaded.append(name)
      return module
  elif value:
    problem = f'{name!r} {problem}'
  raise errors.UsageError(
    f'--{flag}={errors.as_text(value or name)}: {problem}; allowed: {allowed}'
  )


def loaded() -> tuple[str, ...]:
  """Returns the names that `load_module` has imported, in their order."""
  return tuple(dict.fromkeys(_loaded))


def _import(name: str) -> tuple[types.ModuleType | None, str]:
  """Returns the module, or None and why there is none."""
  try:
    return importlib.import_module(name), ''
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # Also SystemExit, which would look like ours.
    # Not one that the module itself wants and does not find.
    if isinstance(error, ModuleNotFoundError) and f'{name}.'.startswith(
      f'{error.name}.'
    ):
      return None, str(error)
    return None, f'importing it raised {_described(error)}'


def _described(error: BaseException) -> str:
  """Returns the type, the message and the place of an error of an import."""
  places = [
    f'{frame.filename}:{frame.lineno}'
    for frame in traceback.extract_tb(error.__traceback__)
    if frame.name == '<module>'  # The line of a module that was imported.
  ]
  text = repr(error)
  if isinstance(error, SyntaxError):
    text = f'{type(error).__name__}({error.msg!r})'
    if error.lineno is not None:
      places.append(f'{error.filename}:{error.lineno}')
  return f'{text} at {places[-1]}' if places else text


def load_function(
  name: str, *, flag: str, arguments: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
  """Returns the function that 'module:function' names.

  Args:
    name: 'module:function'.
    flag: that names it.
    arguments: the keyword arguments that the function will get.

  Raises:
    UsageError: naming the flag, if there is no such module or function,
      importing the module raises anything, or the function does not accept
      these arguments.
  """
  problem = 'is not of that form'
  if re.fullmatch(rf'{_NAME}(\.{_NAME})*:{_NAME}', name):
    module_name, function_name = name.split(':')
    module, problem = _import(module_name)
    if module is not None:
      function = getattr(module, function_name, None)
      if function is None:
        problem = f'module {module_name} has no {function_name}'
      elif not callable(function):
        problem = 'is not a function'
      else:
        problem = _why_not_called(function, arguments or {})
        if not problem:
          return function
  with_what = (
    f'that accepts --{flag}_args' if arguments else 'without arguments'
  )
  raise errors.UsageError(
    f'--{flag}={name}: {problem}; '
    f'allowed: module:function, a function {with_what}'
  )


def _why_not_called(function, arguments) -> str:
  try:
    inspect.signature(function).bind(**arguments)
  except TypeError as error:
    return str(error)
  except ValueError:  # A builtin without a signature.
    return ''
  return ''
