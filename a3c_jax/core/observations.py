"""Observations as networks take them."""

from __future__ import annotations

import numpy as np


def as_network_input(obs: np.ndarray) -> np.ndarray:
  """uint8 stays as it is, everything else becomes float32."""
  return obs if obs.dtype == np.uint8 else np.asarray(obs, np.float32)
