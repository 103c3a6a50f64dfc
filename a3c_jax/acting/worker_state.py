"""Where a worker stands between two segments."""

from __future__ import annotations

from typing import NamedTuple

from a3c_jax import rollout
from a3c_jax.envs import recorded


class WorkerState(NamedTuple):
  """All that a worker needs to resume. Its arrays are never edited."""

  carry: rollout.Carry
  action_log: recorded.Past  # of its environment
