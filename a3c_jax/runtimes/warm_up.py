"""Compiles what workers call to play, before they start."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib

from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import rollout
from a3c_jax.core import threads, types
from a3c_jax.runtimes.runtime import Job, Worker


@contextlib.contextmanager
def acting(
  worker: Worker, job: Job, actor: actor_lib.Actor
) -> Iterator[types.Segment]:
  """Compiles what a worker calls to play, while a block compiles the rest.

  XLA compiles without the GIL, so the time is that of the slower one.

  Yields:
    A segment of the shape of the worker's.
  """
  carry, steps = worker.state.carry, job.spec.steps
  segment = rollout.example_segment(actor, carry, steps)
  with threads.beside(
    'compile-acting',
    lambda: rollout.compile_for(worker.env, actor, carry, steps),
  ):
    yield segment
