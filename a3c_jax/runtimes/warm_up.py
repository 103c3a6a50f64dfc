"""Compiles what workers call to play, before they start."""

from __future__ import annotations

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import rollout
from a3c_jax.core import types
from a3c_jax.runtimes.runtime import Job, Worker


def acting(worker: Worker, job: Job, actor: actor_lib.Actor) -> types.Segment:
  """Compiles what a worker calls to play; returns a segment of that shape."""
  carry, steps = worker.state.carry, job.spec.steps
  rollout.compile_for(worker.env, actor, carry, steps)
  return rollout.example_segment(actor, carry, steps)
