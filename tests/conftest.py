"""Sets JAX up as the scripts do, before any test imports it."""

import os

os.environ['NPROC'] = '1'
os.environ['JAX_PLATFORMS'] = 'cpu'

import jax  # noqa: E402  # Reads the environment while it is imported.

jax.config.update('jax_cpu_enable_async_dispatch', False)
# So that a [T] that meets a [T, 1] fails aloud.
jax.config.update('jax_numpy_rank_promotion', 'raise')
