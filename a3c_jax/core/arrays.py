"""Memory of arrays that JAX uses as it is."""

from __future__ import annotations

import math

import numpy as np


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """Returns an array that JAX on the CPU uses without a copy.

  JAX copies arrays that are not aligned to 64 bytes. It copies large ones on
  another thread, for which the call waits.
  """
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + 64, np.uint8)
  offset = -memory.ctypes.data % 64
  return memory[offset : offset + size].view(dtype).reshape(shape)
