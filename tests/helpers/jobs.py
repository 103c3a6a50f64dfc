"""Workers and their job, made without a run."""

import numpy as np

from a3c_jax.acting import rollout
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import events
from a3c_jax.runtimes import runtime


def worker_of(env, carry, exploration=lambda frames: np.zeros(1), *, index=0):
  worker = runtime.Worker(index, env, exploration)
  worker.state = WorkerState(carry, env.action_log())
  return worker


def job_of(
  learner,
  gradients,
  store,
  *,
  frames=10**9,
  max_bad_gradients=0,
  steps=3,
  **changes,
):
  job = runtime.Job(
    learner=learner,
    gradients=gradients,
    store=store,
    max_grad_norm=None,
    seed=0,
    spec=rollout.RolloutSpec(steps, gamma=0.99),
    frames=frames,
    action_repeat=1,
    make_env=None,
    incidents=events.EventQueue(),
    max_env_restarts=0,
    max_bad_gradients=max_bad_gradients,
  )
  return job._replace(**changes)
