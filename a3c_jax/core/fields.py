"""Dataclass fields with checks, help and sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import inspect
import re
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from a3c_jax.core import errors
from a3c_jax.core import paths as paths_lib

Settings = TypeVar('Settings')
# Types of settings that a flag can have.
TYPES = (
  'bool',
  'str',
  'float',
  'int',
  'tuple[float, ...]',
  'tuple[int, ...]',
  'tuple[str, ...]',
)
_NONE: Mapping[str, type] = MappingProxyType({})
_BELOW_ONE = 1 - 2**-25  # Smaller values are below 1 as float32 too.
_LEAST = 1e-37  # As float32 it keeps all digits.


def setting(
  help_text: str,
  allowed: str | Callable[[], str] = 'anything',
  check: Callable[[Any], bool] = lambda value: True,
  *,
  default: Any = dataclasses.MISSING,
  source: str = '',
  flag: bool = True,
  may_change: bool = False,
  may_override: bool = True,
  path: bool = False,
  heading: str = '',
) -> Any:
  """Returns a dataclass field that checks its values.

  Args:
    help_text: its meaning, with its unit.
    allowed: the values that `check` accepts, in words; or a function that
      returns these words, called when a message needs them.
    check: whether a value is allowed.
    default: the field's default, if it has its own.
    source: the source of that default.
    flag: whether the command line has a flag for it.
    may_change: whether a run can resume with another value.
    may_override: whether it can if `--override` names the setting. It cannot if
      a checkpoint fits one value alone.
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
    'may_override': may_override,
    'path': path,
    'heading': heading,
  }
  return dataclasses.field(default=default, metadata=metadata)


def changed(owner: type, name: str, **changes: Any) -> Any:
  """Returns a `setting` of another class with another default or source.

  Args:
    owner: the dataclass that has the setting.
    name: of the setting.
    **changes: `default`, `source`, or another argument of `setting`.
  """
  field = {each.name: each for each in dataclasses.fields(owner)}[name]
  arguments: dict[str, Any] = {'default': field.default, **field.metadata}
  help_text = arguments.pop('help')
  return setting(help_text, **arguments | changes)


def one_of(
  help_text: str,
  names: tuple[str, ...] | Callable[[], tuple[str, ...]],
  **kwargs,
) -> Any:
  """Returns a `setting` that is one of some names; a function may give them."""
  given = names if callable(names) else lambda: names
  return setting(
    help_text,
    lambda: ', '.join(given()),
    lambda value: value in given(),
    **kwargs,
  )


def allowed(field: dataclasses.Field) -> str:
  """Returns the allowed values of a `setting`, in words."""
  words = field.metadata['allowed']
  return words if isinstance(words, str) else words()


def path(help_text: str, *, optional: bool = False, **kwargs) -> Any:
  """Returns a `setting` that is a path; '' is allowed if optional."""
  return setting(
    help_text,
    "a path, or '' for none" if optional else 'a path',
    lambda value: _is_path(value) or (optional and value == ''),
    path=True,
    **kwargs,
  )


def paths(help_text: str, **kwargs) -> Any:
  """Returns a `setting` that is one path or several."""
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
  """Returns a `setting` that is true or false."""
  return setting(
    help_text,
    'true, false',
    lambda value: isinstance(value, bool),
    **kwargs,
  )


def count(
  help_text: str, *, least: int = 1, most: int = 2**62, **kwargs
) -> Any:
  """Returns a `setting` that is a whole number from `least` to `most`."""
  limits = f', {least} to {most}' if most < 2**62 else f' >= {least}'
  return setting(
    help_text,
    f'a whole number{limits}',
    lambda value: type(value) is int and least <= value <= most,
    **kwargs,
  )


def positive(help_text: str, *, most: float = 1e9, **kwargs) -> Any:
  """Returns a `setting` that is finite and above 0, also as float32."""
  return setting(
    help_text,
    f'finite and > 0, {_LEAST:g} to {most:g}',
    lambda value: _is_number(value) and _LEAST <= value <= most,
    **kwargs,
  )


def not_negative(help_text: str, *, most: float = 1e9, **kwargs) -> Any:
  """Returns a `setting` that is a finite number >= 0."""
  return setting(
    help_text,
    f'finite and >= 0, at most {most:g}',
    lambda value: _is_number(value) and 0 <= value <= most,
    **kwargs,
  )


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def fraction(help_text: str, **kwargs) -> Any:
  """Returns a `setting` from 0 to 1."""
  return setting(
    help_text,
    '0 to 1',
    lambda value: _is_number(value) and 0 <= value <= 1,
    **kwargs,
  )


def decay(help_text: str, **kwargs) -> Any:
  """Returns a `setting` from 0 to below 1, also as float32."""
  return setting(
    help_text,
    '0 <= value < 1, also as float32',
    lambda value: _is_number(value) and 0 <= value < _BELOW_ONE,
    **kwargs,
  )


def settings_of(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
  """Returns checked settings; NumPy's numbers become Python's.

  Raises:
    UsageError: naming the flag of the first value that is not allowed.
  """
  settings = kind(
    **{
      name: value.item() if isinstance(value, np.generic) else value
      for name, value in values.items()
    }
  )
  check_settings(settings)
  return settings


def check_settings(settings: Any) -> None:
  """Checks the value of each `setting`.

  Raises:
    UsageError: naming the flag of the first value that is not allowed.
  """
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    if not _is_allowed(field, value):
      if field.metadata['path'] and isinstance(value, str):
        value = paths_lib.as_given(value) if value else value
      raise errors.UsageError(
        f'--{field.name}={errors.as_text(value)}: allowed: {allowed(field)}'
      )


def type_name(field: dataclasses.Field) -> str:
  """Returns the name of a field's type, such as 'tuple[int, ...]'."""
  # A type, unless its module has `from __future__ import annotations`.
  kind = field.type
  return kind if isinstance(kind, str) else inspect.formatannotation(kind)


def check_registered(
  what: str,
  name: str,
  settings: type,
  *,
  taken: Iterable[str],
  beside: Mapping[str, type] = _NONE,
) -> None:
  """Checks a name and the settings that go with it, for a registry.

  Args:
    what: has the name and the settings, such as 'algorithm'.
    name: that it gets.
    settings: the dataclass of its settings.
    taken: names in the registry.
    beside: by name, the settings of those whose flags are defined beside these.

  Raises:
    ValueError: if the name is taken or no word, if a setting is no `setting`
      with a default, a source and one of `TYPES`, if its default is not
      allowed, or if another one of that name has another type.
  """
  if not isinstance(name, str) or not re.fullmatch(r'\w[\w.-]*', name):
    # It is the value of a flag, and a part of the names of folders.
    raise ValueError(f'{what} {name!r}: allowed: letters, digits and _ . -')
  if name in taken:
    raise ValueError(f'{what} {name} is registered already')
  if not dataclasses.is_dataclass(settings):
    raise ValueError(f'{what} {name}: its settings are no dataclass')
  for field in dataclasses.fields(settings):
    problem = _why_no_flag(field)
    for other, kind in beside.items():
      known = {each.name: each for each in dataclasses.fields(kind)}
      its_type = type_name(known.get(field.name, field))
      if not problem and its_type != type_name(field):
        problem = f'is {type_name(field)}, but {its_type} in {other}'
    if problem:
      raise ValueError(f'{what} {name}: {field.name} {problem}')


def _why_no_flag(field: dataclasses.Field) -> str:
  """Returns why a field cannot have a flag; '' if it can."""
  if (
    'check' not in field.metadata
    or not field.metadata['source']
    or field.default is dataclasses.MISSING
  ):
    return 'needs fields.setting, with a default and its source'
  if type_name(field) not in TYPES:
    return f'is {type_name(field)}; allowed: {", ".join(TYPES)}'
  if not _is_allowed(field, field.default):
    return (
      f'has the default {errors.as_text(field.default)}; allowed: '
      f'{allowed(field)}'
    )
  return ''


def _is_allowed(field: dataclasses.Field, value: Any) -> bool:
  try:
    return bool(field.metadata['check'](value))
  except Exception:  # A check of a value of another type may raise anything.
    return False
