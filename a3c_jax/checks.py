"""Checks that speak in the caller's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib
import importlib.util
import inspect
import math
import os
import pathlib
import re
import stat
from typing import Any, TypeVar

import jax
import numpy as np

Settings = TypeVar('Settings')


class UsageError(ValueError):
  """What the user asked for cannot be done; the message is one clear line."""


class RunError(RuntimeError):
  """A run cannot go on, for a reason outside it; the message is one line."""


class StoppedError(RuntimeError):
  """The user stopped a run before it trained; the message says what is left."""


def check_shapes(**arrays: tuple[jax.Array, str]) -> None:
  """Checks that arrays agree on the axes that their letters name.

  Works on tracers, so inside `jax.jit` it costs nothing once compiled.

  >>> check_shapes(q_tm1=(np.zeros([5, 3]), 'TA'), a_tm1=(np.zeros([5]), 'T'))
  >>> check_shapes(q_tm1=(np.zeros([5, 3]), 'TA'), a_tm1=(np.zeros([4]), 'T'))
  Traceback (most recent call last):
  ...
  ValueError: a_tm1 has shape [4], expected [T] with T = 5 as in q_tm1

  Args:
    **arrays: for each argument's name, the array and one letter per axis. A 1
      after the letter adds one: 'T1' is one axis of length T + 1.

  Raises:
    ValueError: naming the first argument that has another number of axes, or
      disagrees with an earlier one about the length of an axis.
  """
  known: dict[str, tuple[int, str]] = {}
  for name, (array, axes) in arrays.items():
    shape = list(np.shape(array))
    letters = re.findall('([A-Z])(1?)', axes)
    expected = ', '.join(axis + '+1' * bool(extra) for axis, extra in letters)
    problem = f'{name} has shape {shape}, expected [{expected}]'
    if len(shape) != len(letters):
      raise ValueError(problem)
    for (axis, extra), size in zip(letters, shape, strict=True):
      length, owner = known.setdefault(axis, (size - len(extra), name))
      if size - len(extra) != length:
        raise ValueError(f'{problem} with {axis} = {length} as in {owner}')


def make_folder(path: str, *, flag: str) -> pathlib.Path:
  """The folder at a path, made if it is not there yet.

  Raises:
    UsageError: naming the flag, if it cannot be made or written to.
  """
  folder = pathlib.Path(path)
  problem = None
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    problem = error.strerror
  else:
    if not os.access(folder, os.W_OK | os.X_OK):
      problem = 'no permission to write to it'
  if problem:
    raise UsageError(
      f'--{flag}={path}: {problem}; allowed: a folder that can be written to'
    )
  return folder


def check_links(
  folder: pathlib.Path, *, flag: str, below: Sequence[str] = ()
) -> None:
  """Checks that what is written to files of a folder stays in the folder.

  Args:
    folder: existing.
    flag: that names it.
    below: names of folders in it whose entries count too, where they exist.

  Raises:
    UsageError: naming the first link that leads out of the folder, or the first
      entry that is neither a file, a folder nor a link, such as a pipe.
  """
  inside = os.path.realpath(folder)
  parts = [folder, *(folder / name for name in below)]
  try:
    entries = [
      entry
      for part in parts
      if part.is_dir()
      for entry in sorted(part.iterdir())
    ]
    problems = [_leads_out(entry, inside) for entry in entries]
  except OSError as error:
    raise UsageError(
      f'--{flag}={folder}: {error.strerror}; allowed: a folder that can be read'
    ) from error
  for entry, problem in zip(entries, problems, strict=True):
    if problem:
      raise UsageError(
        f'--{flag}={folder}: {entry.relative_to(folder)} {problem}; allowed: '
        'a folder without such entries'
      )


def _leads_out(path, inside) -> str:
  mode = path.lstat().st_mode
  if stat.S_ISLNK(mode):
    target = os.path.realpath(path)
    if os.path.commonpath([inside, target]) != inside:
      return f'is a link that leads out of it, to {target}'
  elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    return 'is neither a file nor a folder'
  return ''


def check_installed(
  what: str, *modules: str, extra: str, needs: str = ''
) -> None:
  """Checks that modules can be imported, without importing them.

  Args:
    what: begins the message: who wants them.
    *modules: names of packages.
    extra: of ours, that installs them.
    needs: what it needs besides, in words.

  Raises:
    UsageError: naming the first one that is not there.
  """
  for module in modules:
    if importlib.util.find_spec(module) is None:
      raise UsageError(
        f'{what}: {module} is not installed; '
        f"pip install -e '.[{extra}]'{needs and f', {needs}'}"
      )


def load_function(
  name: str, *, flag: str, arguments: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
  """The function that 'module:function' names, to be called with arguments.

  What the module raises while it is imported is the caller's to see.

  Raises:
    UsageError: naming the flag, if there is no such module or function, or the
      function does not take these arguments by their names.
  """
  problem = 'is not a name of that form'
  if re.fullmatch(r'[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*', name):
    module_name, function_name = name.split(':')
    try:
      module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
      # Not one that the module itself wants and does not find.
      if not f'{module_name}.'.startswith(f'{error.name}.'):
        raise
      problem = str(error)
    else:
      function = getattr(module, function_name, None)
      problem = _why_not_called(
        function, module_name, function_name, arguments or {}
      )
      if not problem:
        return function
  with_what = f'that takes --{flag}_args' if arguments else 'without arguments'
  raise UsageError(
    f'--{flag}={name}: {problem}; '
    f'allowed: module:function, a function {with_what}'
  )


def _why_not_called(function, module_name, function_name, arguments) -> str:
  if function is None:
    return f'module {module_name} has no {function_name}'
  if not callable(function):
    return 'is not a function'
  try:
    inspect.signature(function).bind(**arguments)
  except TypeError as error:
    return str(error)
  except ValueError:  # A builtin that does not tell.
    return ''
  return ''


def setting(
  help_text: str,
  allowed: str = 'anything',
  check: Callable[[Any], bool] = lambda value: True,
  *,
  default: Any = dataclasses.MISSING,
  source: str = '',
  flag: bool = True,
  may_change: bool = False,
) -> Any:
  """A dataclass field that knows what may be in it.

  Args:
    help_text: what it is, with its unit.
    allowed: what `check` lets through, in words.
    check: whether a value is allowed.
    default: the field's default, if it has one of its own.
    source: where that default comes from.
    flag: whether the command line has a flag for it.
    may_change: whether a run can go on with another value.
  """
  metadata = {
    'help': help_text,
    'allowed': allowed,
    'check': check,
    'source': source,
    'flag': flag,
    'may_change': may_change,
  }
  return dataclasses.field(default=default, metadata=metadata)


def one_of(help_text: str, names: tuple[str, ...], **kwargs) -> Any:
  """A `setting` that is one of some names."""
  return setting(
    help_text, ', '.join(names), lambda value: value in names, **kwargs
  )


def count(
  help_text: str, *, least: int = 1, most: int = 2**62, **kwargs
) -> Any:
  """A `setting` that is a whole number from `least` to `most`."""
  limits = f', {least} to {most}' if most < 2**62 else f' >= {least}'
  return setting(
    help_text,
    f'a whole number{limits}',
    lambda value: type(value) is int and least <= value <= most,
    **kwargs,
  )


def positive(help_text: str, **kwargs) -> Any:
  """A `setting` that is a finite number above 0, also as float32."""
  return setting(
    help_text,
    'finite and > 0',
    lambda value: 0 < value <= float(np.finfo(np.float32).max),
    **kwargs,
  )


def not_negative(help_text: str, **kwargs) -> Any:
  """A `setting` that is a finite number from 0 on."""
  return setting(
    help_text, 'finite and >= 0', lambda value: 0 <= value < math.inf, **kwargs
  )


def fraction(help_text: str, **kwargs) -> Any:
  """A `setting` from 0 to 1."""
  return setting(help_text, '0 to 1', lambda value: 0 <= value <= 1, **kwargs)


def decay(help_text: str, **kwargs) -> Any:
  """A `setting` from 0 to below 1."""
  return setting(
    help_text, '0 <= value < 1', lambda value: 0 <= value < 1, **kwargs
  )


def as_text(value: Any) -> str:
  """A setting's value as it is written on the command line."""
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def settings_of(kind: type[Settings], *values: Any) -> Settings:
  """Checked settings; numbers of NumPy count as Python's.

  Raises:
    UsageError: as `check_settings`.
  """
  settings = kind(
    *(each.item() if isinstance(each, np.generic) else each for each in values)
  )
  check_settings(settings)
  return settings


def check_settings(settings: Any) -> None:
  """Checks every field that `setting` made.

  Raises:
    UsageError: naming the flag of the first value that is not allowed.
  """
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    try:
      allowed = bool(field.metadata['check'](value))
    except (TypeError, ValueError):  # None, text or an array for a number.
      allowed = False
    if not allowed:
      raise UsageError(
        f'--{field.name}={as_text(value)}: allowed: {field.metadata["allowed"]}'
      )
