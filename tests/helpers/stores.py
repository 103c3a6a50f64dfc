"""All parameter stores, and what their tests share.

A new store joins `STORES`, and the tests of `parameters_*_test.py` are its own.
"""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
from remotes import Remote

from a3c_jax.optim import rule
from a3c_jax.parameters.hogwild import HogwildStore
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.parameters.per_leaf import PerLeafStore
from a3c_jax.parameters.store import Contribution, Played

LOCKED = [LockedStore, Remote]  # One update at a time.
EXACT = [*LOCKED, PerLeafStore]  # No number of an update is lost.
STORES = [*EXACT, HogwildStore]
WAIT_SECONDS = 60.0


def plain(learning_rate=lambda frames: 1.0):
  """The rule θ ← θ - η Δθ."""
  return rule.of_optax(optax.identity(), learning_rate)


def maker(store):
  """Makes a store, whose workers' states are 'at 0' in the beginning."""

  def make(params=None, update_rule=None, *, workers=1, **changes):
    arguments = {
      'worker_states': ['at 0'] * workers,
      'target_period': None,
    }
    return store(
      jnp.zeros(()) if params is None else params,
      update_rule or plain(),
      **arguments | changes,
    )

  return make


def push(store, worker, grads, frames, **given):
  return store.push(contribution(worker, grads, frames, **given))


def contribution(
  worker,
  grads,
  frames,
  *,
  read_version=0,
  worker_state=None,
  acted_versions=(0,),
  of_gradient=(),
  **played,
):
  """What a worker of the asynchronous runtime pushes after one segment."""
  acted_versions = np.array(acted_versions)
  segment = Played(worker, worker_state, acted_versions, **played)
  return Contribution(
    grads, frames, read_version, (segment,), of_gradient, optimizer=worker
  )


def in_threads(*bodies):
  """Runs functions at the same time; raises what the first one raised."""
  barrier = threading.Barrier(len(bodies))
  errors = []

  def run(body):
    try:
      barrier.wait(WAIT_SECONDS)
      body()
    except BaseException as error:
      errors.append(error)

  threads = [
    threading.Thread(target=run, args=(body,), daemon=True) for body in bodies
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(WAIT_SECONDS)
  assert not any(thread.is_alive() for thread in threads)
  if errors:
    raise errors[0]


def for_each(workers, body):
  in_threads(*[lambda worker=worker: body(worker) for worker in range(workers)])


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)
