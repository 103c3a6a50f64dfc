"""Learning rate and exploration as functions of the global frame count."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Value = TypeVar('Value', float, np.ndarray)


def linear(frames: int, *, start: float, end: Value, over: int) -> Value:
  """Interpolates from `start` to `end` over the first `over` frames.

  >>> linear(25, start=1.0, end=0.0, over=100)
  0.75

  Args:
    frames: emulator frames so far, of all threads.
    start: value at 0 frames.
    end: value from `over` frames on; one number or an array.
    over: emulator frames, positive.

  Returns:
    The value at `frames`.
  """
  fraction = min(frames / over, 1.0)
  return start + fraction * (end - start)
