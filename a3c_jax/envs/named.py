"""Arguments of environments as text, and the code that text names."""

from __future__ import annotations

import ast
from collections.abc import Mapping
import contextlib
import json
import re
from typing import Any

import gymnasium

from a3c_jax.core import fields

# To make environments of these, no code of others is imported.
_OWN_PACKAGES = ('gymnasium', 'a3c_jax')


def env_args_setting() -> Any:
  """The field `env_args` of the options of a domain."""
  return fields.setting(
    'Arguments of the environment, as gymnasium.make or the function takes '
    'them: level=3,render=false or a JSON object.',
    'name=value, separated by commas, each name once; or a JSON object',
    lambda text: parse_args(text) is not None,
    default='',
    source='none',
  )


def normalise_args(options: Any) -> None:
  """Brings `env_args` of frozen options to the form that config.json has.

  This is a JSON object with sorted names, or '' without arguments. So equal
  arguments are equal text. Text that cannot be parsed stays;
  `fields.check_settings` refuses it.

  Args:
    options: a dataclass with `env_args`, in its `__post_init__`.
  """
  with contextlib.suppress(Exception):  # The value may have any type.
    args = parse_args(options.env_args)
    text = json.dumps(args, sort_keys=True) if args else ''
    object.__setattr__(options, 'env_args', text)


def parse_args(text: str) -> dict[str, Any]:
  """The arguments in the text of `--env_args`, as JSON has them.

  Values are literals of JSON or Python (3, 0.5, true, None, [1, 2], 'a, b').
  Any other value is text.

  Raises:
    ValueError: if the text has neither of its forms, or has a name twice.
  """
  if text.lstrip().startswith('{'):
    args = json.loads(text, object_pairs_hook=_without_doubles)
  else:
    parts = re.split(r',(?=\s*\w+\s*=)', text) if text.strip() else []
    if not all('=' in part for part in parts):
      raise ValueError(f'no name=value: {text}')
    pairs = [part.split('=', maxsplit=1) for part in parts]
    args = _without_doubles(
      [(name.strip(), _read_value(value.strip())) for name, value in pairs]
    )
    if not all(map(str.isidentifier, args)):
      raise ValueError(f'not all are names: {list(args)}')
  return json.loads(json.dumps(args, allow_nan=False))  # Tuples become lists.


def _without_doubles(pairs):
  values = dict(pairs)
  if len(values) < len(pairs):
    raise ValueError('a name is given twice')
  return values


def _read_value(text):
  for read in (json.loads, ast.literal_eval):
    with contextlib.suppress(ValueError, SyntaxError):
      return read(text)
  if re.search(r'[,\[\]{}]', text):  # Likely a part of a list or an object.
    raise ValueError(f'{text}: needs quotation marks')
  return text


def code_named(options: Any) -> dict[str, str]:
  """Flags whose values name code that making the environment imports.

  Empty for environments of Gymnasium, of this package and of dm_control.

  Args:
    options: with `env` and `env_args`, perhaps from someone else's config.json.

  Returns:
    The value of each such flag.
  """
  code = {}
  if not _is_known(options.env):
    code['env'] = options.env
    # Environments such as Shimmy's import code that their arguments name.
    if _holds_text(parse_args(options.env_args)):
      code['env_args'] = options.env_args
  return code


def _holds_text(value) -> bool:
  if isinstance(value, Mapping):
    value = [*value.values()]
  if isinstance(value, list):
    return any(map(_holds_text, value))
  return isinstance(value, str) and value != ''


def _is_known(name) -> bool:
  """Whether only Gymnasium's code and this package's makes it."""
  if ':' in name:
    return False
  spec = gymnasium.registry.get(name)
  if spec is None:
    return True  # It is of dm_control, or will be refused as unknown.
  entry_points = [
    spec.entry_point,
    *(wrapper.entry_point for wrapper in spec.additional_wrappers),
  ]
  return all(
    isinstance(each, str)
    and each.partition(':')[0].partition('.')[0] in _OWN_PACKAGES
    for each in entry_points
  )
