"""The state of a worker between two segments."""

from __future__ import annotations

from typing import NamedTuple

from a3c_jax.acting import carry as carry_lib
from a3c_jax.envs import replayable


class ReplayErrors(NamedTuple):
  """Running mean and variance of mean |δ| of a worker's minibatches."""

  count: int = 0
  mean: float = 0.0
  variance: float = 0.0


class WorkerState(NamedTuple):
  """What a worker needs to resume. Its arrays are never edited."""

  carry: carry_lib.Carry
  action_log: replayable.ActionLog  # of its environment
  minibatches_due: int = 0  # to learn from memory before its next segment
  replay_errors: ReplayErrors = ReplayErrors()  # to find outliers
