"""Sets JAX up as the scripts do, before any test computes something."""

import jax

from a3c_jax import cpu

cpu.set_up()
# So that a [T] that meets a [T, 1] fails aloud.
jax.config.update('jax_numpy_rank_promotion', 'raise')
