"""What can go wrong, by kind, and how messages show values."""

from __future__ import annotations

from typing import Any

_LONGEST = 200  # Characters of a value in a message.


class UsageError(ValueError):
  """What the user asked for cannot be done; the message is one clear line."""


class RunError(RuntimeError):
  """A run cannot go on, for a reason outside it; the message is one line."""


class HungError(RunError):
  """A thread made no progress, so the run ended; the thread still runs."""


class StoppedError(RuntimeError):
  """The user stopped a run before it trained; the message says what is left."""


def as_text(value: Any) -> str:
  """A setting's value as on the command line, or the beginning of it."""
  values = value if isinstance(value, tuple) else (value,)
  try:
    text = ','.join(map(str, values))
  except ValueError:  # Python refuses to write a number of 5,000 digits.
    text = 'a number of too many digits'
  return text if len(text) <= _LONGEST else text[:_LONGEST] + '…'


class BadGradientError(FloatingPointError):
  """Too many gradients in a row were not finite."""
