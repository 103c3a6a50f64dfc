"""Workers and their job, made without a run."""

import numpy as np

from a3c_jax.acting import rollout
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import events, types
from a3c_jax.runtimes import runtime

# Always chooses action 0, and learns nothing.
IDLE = types.Learner(
  init=None,
  initial_state=lambda num_envs: (),
  act=lambda params, state, obs, key, epsilon: (
    np.zeros(len(obs), np.int32),
    state,
    key,
  ),
  greedy=None,
  bootstrap=None,
  gradients=None,
  acting='snapshot',
)


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
