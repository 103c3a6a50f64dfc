"""Errors by kind, and values in messages."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from typing import Any

_LONGEST = 200  # Characters of a value in a message.


class UsageError(ValueError):
  """The user asked for something impossible; the message is one line."""


class RunError(RuntimeError):
  """A run cannot continue, for an outside reason; the message is one line."""


class HungError(RunError):
  """A thread made no progress, so the run ended; the thread still runs."""


class LostError(RunError):
  """A process that holds a part of a run has ended; its checkpoint remains."""


class StoppedError(RuntimeError):
  """The user stopped a run before it trained; the message says what remains."""


class BadGradientError(FloatingPointError):
  """Too many gradients in a row were not finite."""


@contextlib.contextmanager
def naming(what: str, hint: str = '') -> Iterator[None]:
  """Raises an OSError of a block as a RunError.

  Args:
    what: failed, such as '--out=curves.png'; the message begins with it.
    hint: ends the message.
  """
  try:
    yield
  except OSError as error:
    raise RunError(f'{what}: {error.strerror or error}{hint}') from error


def in_one_line(problem: object) -> str:
  """Returns an error or a text without its line breaks."""
  return ' '.join(str(problem).split())


def as_text(value: Any) -> str:
  """Returns a setting's value as on the command line, shortened if long."""
  values = value if isinstance(value, tuple) else (value,)
  try:
    text = ','.join(map(str, values))
  except ValueError:  # Python does not convert an int of 5,000 digits.
    text = 'a number with too many digits'
  return text if len(text) <= _LONGEST else text[:_LONGEST] + '…'
