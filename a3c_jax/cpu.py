"""Sets JAX up for many Python threads on the CPU."""

from __future__ import annotations

import os

import jax


def set_up() -> None:
  """Makes every computation run on the CPU, in the thread that calls it.

  XLA's own pool of threads would fight the actor-learners: it gets one thread,
  and nothing to do. Only a program's entry point should call this, before the
  first computation, since JAX ignores it later; the library itself never does.
  """
  os.environ['NPROC'] = '1'
  os.environ['XLA_FLAGS'] = (
    '--xla_cpu_enable_concurrency_optimized_scheduler=false '
    + os.environ.get('XLA_FLAGS', '')
  )
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  # Of the default's many loops, in a program of many steps, XLA would hand
  # half to that thread.
  jax.config.update('jax_default_prng_impl', 'unsafe_rbg')
  jax.config.update('jax_platforms', 'cpu')
