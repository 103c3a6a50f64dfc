"""Checks that speak in the caller's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib
import importlib.util
import inspect
import os
import pathlib
import re
import stat
from typing import Any, TypeVar

import jax
import numpy as np

Settings = TypeVar('Settings')

_BELOW_ONE = 1 - 2**-25  # What is less is less than 1 as float32 too.
_LEAST = 1e-37  # Of float32, without a loss of digits.
_LONGEST = 200  # Characters of a value in a message.
_GIVEN: dict[str, str] = {}  # What the user wrote, by the absolute path.


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


def absolute(path: str) -> str:
  """The absolute form of a path, with ~ for the home folder.

  It stays the same path when an environment changes the working directory.
  `as_given` gives the text back.

  Raises:
    UsageError: if it begins in a working directory that was removed.
  """
  if '\0' in path:  # Refused later, and not what these functions take.
    return path
  try:
    whole = os.path.abspath(os.path.expanduser(path))
  except FileNotFoundError as error:
    raise UsageError(
      f'{path}: the current folder is not there any more; allowed: a path '
      'that begins with /'
    ) from error
  if whole != path:
    _GIVEN[whole] = path
  return whole


def as_given(path: str | pathlib.Path) -> str:
  """A path in the user's words, if `absolute` has made it or a parent of it."""
  path = pathlib.Path(path)
  for folder in (path, *path.parents):
    given = _GIVEN.get(str(folder))
    if given is not None:
      rest = path.relative_to(folder)
      return os.path.join(given, rest) if rest.parts else given
  return str(path)


def absolute_paths(settings: Any) -> dict[str, Any]:
  """The settings that are paths, by name, `absolute` unless empty."""

  def made(value):
    if isinstance(value, tuple):
      return tuple(map(made, value))
    return absolute(value) if isinstance(value, str) and value else value

  return {
    field.name: made(getattr(settings, field.name))
    for field in dataclasses.fields(settings)
    if field.metadata['path']
  }


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
      f'--{flag}={as_text(as_given(path))}: {problem}; allowed: a folder that '
      'can be written to'
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
      f'--{flag}={as_given(folder)}: {error.strerror}; allowed: a folder that '
      'can be read'
    ) from error
  for entry, problem in zip(entries, problems, strict=True):
    if problem:
      raise UsageError(
        f'--{flag}={as_given(folder)}: {entry.relative_to(folder)} {problem}; '
        'allowed: a folder without such entries'
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


def check_file(path: str, *, flag: str) -> None:
  """Checks that a file can be written, and leaves it as it is.

  Raises:
    UsageError: naming the flag, if it cannot.
  """
  file = pathlib.Path(path)
  problem = None
  try:
    there = file.exists()
    if not file.parent.is_dir():
      problem = f'{as_given(file.parent)} is no folder'
    elif file.is_dir():
      problem = 'is a folder'
    elif not os.access(file if there else file.parent, os.W_OK):
      problem = 'no permission to write to it'
  except (OSError, ValueError) as error:  # Too long, or with a null byte.
    problem = getattr(error, 'strerror', None) or str(error)
  if problem:
    raise UsageError(
      f'--{flag}={as_text(as_given(path))}: {problem}; allowed: a file to write'
    )


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
  allowed: str | Callable[[], str] = 'anything',
  check: Callable[[Any], bool] = lambda value: True,
  *,
  default: Any = dataclasses.MISSING,
  source: str = '',
  flag: bool = True,
  may_change: bool = False,
  path: bool = False,
  heading: str = '',
) -> Any:
  """A dataclass field that knows what may be in it.

  Args:
    help_text: what it is, with its unit.
    allowed: what `check` lets through, in words, or a function that says so
      later, when all that can be chosen is known.
    check: whether a value is allowed.
    default: the field's default, if it has one of its own.
    source: where that default comes from.
    flag: whether the command line has a flag for it.
    may_change: whether a run can go on with another value.
    path: whether it is a path, or several, for `absolute_paths`.
    heading: in `--help`, above this setting and those that follow.
  """
  metadata = {
    'help': help_text,
    'allowed': allowed,
    'check': check,
    'source': source,
    'flag': flag,
    'may_change': may_change,
    'path': path,
    'heading': heading,
  }
  return dataclasses.field(default=default, metadata=metadata)


def one_of(
  help_text: str,
  names: tuple[str, ...] | Callable[[], tuple[str, ...]],
  **kwargs,
) -> Any:
  """A `setting` that is one of some names, which a function may give."""
  given = names if callable(names) else lambda: names
  return setting(
    help_text,
    lambda: ', '.join(given()),
    lambda value: value in given(),
    **kwargs,
  )


def allowed(field: dataclasses.Field) -> str:
  """What may be in a `setting`, in words."""
  told = field.metadata['allowed']
  return told() if callable(told) else told


def path(help_text: str, *, optional: bool = False, **kwargs) -> Any:
  """A `setting` that is the path of a file or folder; if optional, or ''."""
  return setting(
    help_text,
    "a path, or '' for none" if optional else 'a path',
    lambda value: _is_path(value) or (optional and value == ''),
    path=True,
    **kwargs,
  )


def paths(help_text: str, **kwargs) -> Any:
  """A `setting` that is one path or several."""
  return setting(
    help_text,
    'paths, separated by commas',
    lambda value: value and all(map(_is_path, value)),
    path=True,
    **kwargs,
  )


def _is_path(value) -> bool:
  return isinstance(value, str) and value != '' and '\0' not in value


def true_or_false(help_text: str, **kwargs) -> Any:
  """A `setting` that is either."""
  return setting(
    help_text,
    'true, false',
    lambda value: isinstance(value, bool),
    **kwargs,
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


def positive(help_text: str, *, most: float = 1e9, **kwargs) -> Any:
  """A `setting` that is a finite number above 0, also as float32."""
  return setting(
    help_text,
    f'finite and > 0, {_LEAST:g} to {most:g}',
    lambda value: _is_number(value) and _LEAST <= value <= most,
    **kwargs,
  )


def not_negative(help_text: str, *, most: float = 1e9, **kwargs) -> Any:
  """A `setting` that is a finite number from 0 on."""
  return setting(
    help_text,
    f'finite and >= 0, at most {most:g}',
    lambda value: _is_number(value) and 0 <= value <= most,
    **kwargs,
  )


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def fraction(help_text: str, **kwargs) -> Any:
  """A `setting` from 0 to 1."""
  return setting(
    help_text,
    '0 to 1',
    lambda value: _is_number(value) and 0 <= value <= 1,
    **kwargs,
  )


def decay(help_text: str, **kwargs) -> Any:
  """A `setting` from 0 to below 1, also as float32."""
  return setting(
    help_text,
    '0 <= value < 1, also as float32',
    lambda value: _is_number(value) and 0 <= value < _BELOW_ONE,
    **kwargs,
  )


def as_text(value: Any) -> str:
  """A setting's value as on the command line, or the beginning of it."""
  values = value if isinstance(value, tuple) else (value,)
  try:
    text = ','.join(map(str, values))
  except ValueError:  # Python refuses to write a number of 5,000 digits.
    text = 'a number of too many digits'
  return text if len(text) <= _LONGEST else text[:_LONGEST] + '…'


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
      is_allowed = bool(field.metadata['check'](value))
    except Exception:  # Whatever a value of another type makes a check raise.
      is_allowed = False
    if not is_allowed:
      if field.metadata['path'] and isinstance(value, str):
        value = as_given(value) if value else value
      raise UsageError(
        f'--{field.name}={as_text(value)}: allowed: {allowed(field)}'
      )
