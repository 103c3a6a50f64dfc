"""Types of observations."""

from __future__ import annotations

import numpy as np


def as_network_input(obs: np.ndarray) -> np.ndarray:
  """Returns uint8 unchanged, and everything else as float32."""
  return obs if obs.dtype == np.uint8 else np.asarray(obs, np.float32)
