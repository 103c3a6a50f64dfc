"""Workers, which own their environments, and the job that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from typing import NamedTuple, Protocol

import jax
import numpy as np

from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.core import events, stopwatch, types
from a3c_jax.core import threads as threads_lib
from a3c_jax.envs import replayable
from a3c_jax.parameters.store import ParameterStore, WorkerState


@dataclasses.dataclass
class Worker:
  """One worker and what it owns. No other thread changes it while it works.

  Attributes:
    index: in [0, number of workers).
    env: K environments.
    exploration_epsilon: ε of each, [K], as a function of emulator frames.
    state: where its work starts; there is none before `start`.
    stopwatch: adds up the seconds of each phase of its work.
  """

  index: int
  env: replayable.Recorded
  exploration_epsilon: Callable[[int], np.ndarray]
  state: WorkerState = dataclasses.field(init=False)
  stopwatch: stopwatch.Stopwatch = dataclasses.field(
    default_factory=stopwatch.Stopwatch
  )

  def start(self, learner: types.Learner, *, seed: int, key: jax.Array) -> None:
    """Resets the environments, which start their first episodes."""
    carry = carry_lib.start(self.env, learner, seed=seed, key=key)
    self.state = WorkerState(carry, self.env.action_log())

  def replace_env(self, make_env: Callable[[], replayable.Recorded]) -> int:
    """Replaces environments that failed; returns the seed of the new ones."""
    seed = replayable.next_seed(int(self.env.action_log().seeds[0]))
    self.env.abandon()
    self.env = make_env()
    return seed


class Job(NamedTuple):
  """What all workers of a run share."""

  learner: types.Learner
  gradients: Callable[..., tuple[types.Params, jax.Array]]  # clipped
  store: ParameterStore
  spec: rollout.RolloutSpec
  frames: int  # emulator frames of all workers, after which they end
  action_repeat: int  # emulator frames per agent step
  make_env: Callable[[], replayable.Recorded]  # replaces one that fails
  incidents: events.EventQueue
  max_env_restarts: int  # of each worker
  max_bad_gradients: int  # in a row


class Runtime(Protocol):
  """How workers are arranged."""

  def __call__(
    self, team: Sequence[Worker], job: Job
  ) -> threads_lib.ThreadGroup:
    """Makes the threads that do the job, and starts none."""
    ...
